"""``python -m end2reg_ros.training.data.shards --config FILE --out SHARDS``: make training scenes, any part of them, resumable.

Scene n is view n % V of field (n // V) % F of variant n // (F V): everything in it follows from the recipe and n.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from end2reg_ros.cache import write_atomically
from end2reg_ros.errors import TrainingError
from end2reg_ros.simulation.sequence import SimulatedFrame
from end2reg_ros.training.command import main
from end2reg_ros.training.data.anatomies import (
    Individual,
    load_individual,
    make_anatomy,
    procedural_folder,
)
from end2reg_ros.training.data.field_views import FieldViews, draw_field
from end2reg_ros.training.data.recipe import ShardRecipe, read_recipe, recipe_document, recipe_hash
from end2reg_ros.training.data.samples import (
    AnatomySample,
    LabelledView,
    anatomy_path,
    load_anatomy,
    save_sample,
    scene_path,
)
from end2reg_ros.training.data.scene_making import make_scene
from end2reg_ros.training.data.variation import CaseVariant, vary_case

FORMAT = 1
DEFAULT_CASES = Path.home() / ".cache" / "end2reg_ros" / "training_cases"


def variant_order(recipe: ShardRecipe) -> list[tuple[int, int]]:
    """(individual, number of its variant) of each variant: spread so that any first part has all individuals alike."""
    counts = [max(1, round(recipe.variants_per_base * w)) for w in recipe.weights()]
    order = [((k + 0.5) / n, i, k) for i, n in enumerate(counts) for k in range(n)]
    return [(i, k) for _, i, k in sorted(order)]


def make_scenes(
    recipe: ShardRecipe,
    out: Path,
    first: int = 0,
    end: int | None = None,
    cases_folder: Path = DEFAULT_CASES,
    keep: Callable[[int, LabelledView], None] | None = None,
) -> Iterator[int]:
    """Make the scenes ``first`` to ``end`` (without it; None for all) that ``out`` lacks, and yield the number of each.

    Several processes may each make a part of the same folder.

    Args:
        out: the shard folder; made when it is not there.
        cases_folder: where procedural individuals are kept, made there when missing.
        keep: takes each scene's number and whole view before the scene is written.

    Raises:
        TrainingError: the folder holds scenes of another recipe, or a range outside the recipe's scenes.
        CaseError: a base that cannot be loaded.
    """
    order = variant_order(recipe)
    per_variant = recipe.fields_per_variant * recipe.views_per_field
    total = len(order) * per_variant
    end = total if end is None else end
    if not 0 <= first < end <= total:
        raise TrainingError(f"scenes {first} to {end}: the recipe makes scenes 0 to {total}")
    individuals = load_bases(recipe, cases_folder)
    _claim(out, recipe, individuals, total)
    for number in range(first // per_variant, -(-end // per_variant)):
        wanted = range(max(first, number * per_variant), min(end, (number + 1) * per_variant))
        missing = [n for n in wanted if not scene_path(out, n).is_file()]
        if missing:
            yield from VariantJob(recipe, individuals, order[number], number, out).make(missing, keep)


def load_bases(recipe: ShardRecipe, cases_folder: Path) -> list[Individual]:
    """All individuals of a recipe, procedural ones first.

    Raises:
        CaseError: one that cannot be loaded.
    """
    seeds = range(recipe.procedural_first, recipe.procedural_first + recipe.procedural_count)
    paths = [procedural_folder(cases_folder, seed) for seed in seeds]
    return [load_individual(path) for path in (*paths, *(Path(c.path) for c in recipe.cases))]


@dataclass(frozen=True)
class VariantJob:
    """One variant with its scenes; ``place`` is its individual and which of that one's variants it is."""

    recipe: ShardRecipe
    individuals: list[Individual]
    place: tuple[int, int]
    number: int
    out: Path

    def make(self, scenes: list[int], keep: Callable[[int, LabelledView], None] | None) -> Iterator[int]:
        """Write these scenes, and the anatomy where it is missing; yields each scene's number."""
        variant = self.variant()
        name = f"v{self.number:05d}"
        anatomy = self.anatomy(variant, anatomy_path(self.out, name))
        r, field = self.recipe, -1
        for scene in scenes:
            if scene // r.views_per_field != field:
                field = scene // r.views_per_field
                draw = draw_field(r.first_seed + field, r.suites, r.sensors, r.empty_share)
                views = FieldViews(variant.case, draw)
            frame, tags = views.view(scene % r.views_per_field)
            view = labelled_view(frame, name if draw.spine else "", draw.suite)
            if keep is not None:
                keep(scene, view)
            save_sample(scene_path(self.out, scene), make_scene(view, anatomy, draw.seed, tags))
            yield scene

    def variant(self) -> CaseVariant:
        """The varied case."""
        base = self.individuals[self.place[0]]
        others = [i.case for k, i in enumerate(self.individuals) if k != self.place[0]]
        seed = (self.recipe.first_seed, self.number)
        return vary_case(base.case, seed, self.recipe.variation, others if self.recipe.mix else ())

    def anatomy(self, variant: CaseVariant, path: Path) -> AnatomySample:
        """Its visible surface; read where it is already there."""
        if path.is_file():
            return load_anatomy(path)
        group_of = {i.case.name: i.group for i in self.individuals}
        groups = "+".join(dict.fromkeys(group_of[name] for name in variant.donors))
        sample = make_anatomy(variant.case, "+".join(variant.donors), groups)
        save_sample(path, sample)
        return sample


def labelled_view(frame: SimulatedFrame, anatomy: str, suite: str) -> LabelledView:
    """The measured points of a frame with their truth; ``anatomy`` is the id of what it shows, empty without a spine."""
    valid = np.isfinite(frame.points[..., 2])
    T = frame.T_camera_model if anatomy else None
    return LabelledView(frame.points[valid], frame.colours[valid], frame.bone[valid], T, anatomy, suite)


def _claim(out: Path, recipe: ShardRecipe, individuals: list[Individual], total: int) -> None:
    """Make the folder for a recipe, or see that it is this recipe's."""
    digest = recipe_hash(recipe, [i.case.hash for i in individuals])
    path = out / "shards.json"
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["hash"]
        except (ValueError, KeyError, TypeError):
            raise TrainingError(f"{path}: is not the description of a shard folder") from None
        if found != digest:
            raise TrainingError(f"{out}: holds scenes of another recipe; choose another folder")
        return
    content = {
        "format": FORMAT,
        "recipe": recipe_document(recipe),
        "bases": [{"name": i.case.name, "group": i.group, "hash": i.case.hash} for i in individuals],
        "scenes": total,
        "scenes_per_anatomy": recipe.fields_per_variant * recipe.views_per_field,
        "hash": digest,
    }
    write_description(out, content)


def write_description(shards: Path, content: dict[str, Any]) -> None:
    """Write ``shards.json``, which tells what a shard folder is made from."""
    write_atomically(shards / "shards.json", (json.dumps(content, indent=1) + "\n").encode())


@dataclass(frozen=True)
class MakeShards:
    """Make training scenes (docs/training_data.md).

    Attributes:
        config: the recipe, a YAML file.
        out: the shard folder.
        first: first scene to make.
        end: the scene to stop before; all when not given.
        cases_folder: where procedural individuals are kept.
    """

    config: Path
    out: Path
    first: Annotated[int, tyro.conf.arg(name="from")] = 0
    end: Annotated[int | None, tyro.conf.arg(name="to")] = None
    cases_folder: Path = DEFAULT_CASES

    def execute(self) -> str:
        """Make the scenes."""
        made, start = 0, time.monotonic()
        recipe = read_recipe(self.config)
        for number in make_scenes(recipe, self.out, self.first, self.end, self.cases_folder):
            made += 1
            if made % 10 == 0:
                print(f"scene {number}: {(time.monotonic() - start) / made:.2f} s each", flush=True)
        return f"{made} scenes made in {self.out}"


if __name__ == "__main__":
    main(MakeShards)
