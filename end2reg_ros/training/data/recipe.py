"""What a shard folder is made from: individuals, variants, wounds, cameras; a YAML file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from end2reg_ros.errors import TrainingError
from end2reg_ros.simulation.camera.sensor import SENSORS
from end2reg_ros.training.data.field_views import KINDS
from end2reg_ros.training.data.variation import VariationSettings

SEED_MIN = 1_000_000  # below are the scenes of benchmarks, which must stay unseen


@dataclass(frozen=True)
class CaseBase:
    """A case folder as an individual; ``weight`` times the usual number of variants."""

    path: str
    weight: float = 1.0


@dataclass(frozen=True)
class ShardRecipe:
    """What to make.

    Attributes:
        first_seed: of the first field; counts up from there.
        procedural_first, procedural_count: seeds of the procedural individuals.
        procedural_weight: times the usual number of variants for each of them.
        cases: further individuals.
        mix: whether variants may have levels of other individuals of the recipe.
        variants_per_base: variants of each individual.
        fields_per_variant: wounds of each variant.
        views_per_field: views of each wound.
        empty_share: share of fields without a spine.
        suites: share of each kind of scene.
        sensors: share of each sensor.
        variation: how far variants go.
    """

    first_seed: int = SEED_MIN
    procedural_first: int = 1000
    procedural_count: int = 0
    procedural_weight: float = 1.0
    cases: tuple[CaseBase, ...] = ()
    mix: bool = False
    variants_per_base: int = 8
    fields_per_variant: int = 2
    views_per_field: int = 5
    empty_share: float = 0.03
    suites: dict[str, float] = field(default_factory=lambda: {"easy": 0.15, "standard": 0.45, "hard": 0.4})
    sensors: dict[str, float] = field(default_factory=lambda: {"d435": 1.0})
    variation: VariationSettings = field(default_factory=VariationSettings)

    def weights(self) -> list[float]:
        """Weight of each individual, procedural ones first."""
        return [self.procedural_weight] * self.procedural_count + [c.weight for c in self.cases]


def read_recipe(path: Path) -> ShardRecipe:
    """A recipe file; paths of cases are relative to the working directory.

    Raises:
        TrainingError: unreadable, an unknown setting, or a value that makes no sense.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        text = " ".join(str(fault).split())
        raise TrainingError(f"cannot read the recipe {path}: {text}") from None
    if not isinstance(document, dict):
        raise TrainingError(f"{path}: a recipe is a list of 'name: value' lines")
    values = dict(document)
    seeds = _settings(
        values.pop("procedural", None) or {}, ("first", "count", "weight"), f"{path}: procedural"
    )
    values |= {f"procedural_{name}": value for name, value in seeds.items()}
    values = _settings(values, tuple(f.name for f in dataclasses.fields(ShardRecipe)), str(path))
    cases = values.pop("cases", None) or []
    if not isinstance(cases, list):
        raise TrainingError(f"{path}: 'cases' must be a list")
    known = tuple(f.name for f in dataclasses.fields(VariationSettings))
    variation = _settings(values.pop("variation", None) or {}, known, f"{path}: variation")
    try:
        recipe = ShardRecipe(
            **values,
            cases=tuple(CaseBase(**_settings(c, ("path", "weight"), f"{path}: cases")) for c in cases),
            variation=VariationSettings(**variation),
        )
        check_recipe(recipe)
    except TypeError as fault:
        raise TrainingError(f"{path}: {fault}") from None
    except TrainingError as fault:
        raise TrainingError(f"{path}: {fault}") from None
    return recipe


def check_recipe(recipe: ShardRecipe) -> None:
    """See that a recipe can be made.

    Raises:
        TrainingError: a value of the wrong kind or out of range.
    """
    for name, least in (
        ("first_seed", SEED_MIN), ("procedural_first", 0), ("procedural_count", 0),
        ("variants_per_base", 1), ("fields_per_variant", 1), ("views_per_field", 1),
    ):  # fmt: skip
        value = getattr(recipe, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise TrainingError(f"'{name}' must be a whole number of at least {least}, not {value!r}")
    if not recipe.weights():
        raise TrainingError("no individuals: give 'procedural' or 'cases'")
    if not isinstance(recipe.empty_share, int | float) or not 0 <= recipe.empty_share <= 1:
        raise TrainingError(f"'empty_share' must be between 0 and 1, not {recipe.empty_share!r}")
    for name, shares, known in (
        ("suites", recipe.suites, KINDS),
        ("sensors", recipe.sensors, tuple(SENSORS)),
    ):
        if not isinstance(shares, dict) or not shares:
            raise TrainingError(f"'{name}' must map names to shares")
        for key, share in shares.items():
            if key not in known:
                raise TrainingError(f"'{name}': unknown '{key}'; one of {', '.join(known)}")
            if not isinstance(share, int | float) or share < 0:
                raise TrainingError(f"'{name}': the share of {key} must be 0 or more, not {share!r}")
        if not sum(shares.values()) > 0:
            raise TrainingError(f"'{name}': all shares are 0")


def recipe_document(recipe: ShardRecipe) -> dict[str, Any]:
    """The recipe for shards.json, cases without their place on this machine."""
    document = dataclasses.asdict(recipe)
    document["cases"] = [{"name": Path(c.path).name, "weight": c.weight} for c in recipe.cases]
    return document


def recipe_hash(recipe: ShardRecipe, case_hashes: Sequence[str]) -> str:
    """Digest of a recipe and its individuals: equal for equal scenes."""
    document = recipe_document(recipe)
    document["cases"] = [c.weight for c in recipe.cases]
    text = json.dumps([document, list(case_hashes)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _settings(document: Any, known: tuple[str, ...], where: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise TrainingError(f"{where}: must be a list of 'name: value' lines")
    unknown = [str(name) for name in document if name not in known]
    if unknown:
        raise TrainingError(f"{where}: unknown setting '{unknown[0]}'; known: {', '.join(known)}")
    return dict(document)
