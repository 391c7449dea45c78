"""What a shard folder is made from: individuals, variants, wounds, cameras; a YAML file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from end2reg_ros.errors import TrainingError
from end2reg_ros.simulation.camera.sensor import SENSORS
from end2reg_ros.training.data.field_views import KINDS
from end2reg_ros.training.data.variation import VariationSettings
from end2reg_ros.training.settings_file import build_settings, read_document

SEED_MIN = 1_000_000  # below are the scenes of benchmarks, which must stay unseen


@dataclass(frozen=True)
class CaseBase:
    """A case folder as an individual; ``weight`` times the usual number of variants."""

    path: str
    weight: float = 1.0


@dataclass(frozen=True)
class Procedural:
    """Procedural individuals as a recipe file names them: see ``ShardRecipe``'s settings of these names."""

    first: int = 1000
    count: int = 0
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
    document = read_document(path, "recipe")
    seeds = build_settings(Procedural, document.pop("procedural", None) or {}, f"{path}: procedural")
    given = {name: value for name, value in document.items() if value is not None}
    given |= {f"procedural_{name}": value for name, value in vars(seeds).items()}
    recipe = build_settings(ShardRecipe, given, str(path))
    try:
        check_recipe(recipe)
    except TrainingError as fault:
        raise TrainingError(f"{path}: {fault}") from None
    return recipe


def check_recipe(recipe: ShardRecipe) -> None:
    """See that a recipe can be made.

    Raises:
        TrainingError: a value out of range.
    """
    for name, least in (
        ("first_seed", SEED_MIN), ("procedural_first", 0), ("procedural_count", 0),
        ("variants_per_base", 1), ("fields_per_variant", 1), ("views_per_field", 1),
    ):  # fmt: skip
        if getattr(recipe, name) < least:
            raise TrainingError(f"'{name}' must be at least {least}, not {getattr(recipe, name)}")
    if not recipe.weights():
        raise TrainingError("no individuals: give 'procedural' or 'cases'")
    if not 0 <= recipe.empty_share <= 1:
        raise TrainingError(f"'empty_share' must be between 0 and 1, not {recipe.empty_share}")
    for name, shares, known in (
        ("suites", recipe.suites, KINDS),
        ("sensors", recipe.sensors, tuple(SENSORS)),
    ):
        for key, share in shares.items():
            if key not in known:
                raise TrainingError(f"'{name}': unknown '{key}'; one of {', '.join(known)}")
            if share < 0:
                raise TrainingError(f"'{name}': the share of {key} must be 0 or more, not {share}")
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
