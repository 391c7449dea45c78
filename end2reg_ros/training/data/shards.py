"""``python -m end2reg_ros.training.data.shards --config FILE --out SHARDS``: make training scenes, any part of them, resumable.

Scene n is view n % V of field (n // V) % F of variant n // (F V): everything in it follows from the recipe and n.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from end2reg_ros.errors import End2RegError, TrainingError
from end2reg_ros.training.data.anatomies import (
    Individual,
    load_individual,
    procedural_folder,
    visible_surface,
)
from end2reg_ros.training.data.scene_making import LabelledView, make_anatomy, make_scene
from end2reg_ros.training.data.scene_sample import AnatomySample, load_anatomy, save_anatomy, save_scene
from end2reg_ros.training.data.shard_recipe import ShardRecipe, read_recipe, recipe_document, recipe_hash
from end2reg_ros.training.data.shard_views import FieldViews, draw_field
from end2reg_ros.training.data.variation import Variant, vary_case

FORMAT = 1
DEFAULT_CASES = Path.home() / ".cache" / "end2reg_ros" / "training_cases"


def scene_path(shards: Path, number: int) -> Path:
    """File of a scene."""
    return shards / "scene" / f"{number:06d}.npz"


def anatomy_path(shards: Path, anatomy: str) -> Path:
    """File of an anatomy."""
    return shards / "anatomy" / f"{anatomy}.npz"


def variant_order(recipe: ShardRecipe) -> list[tuple[int, int]]:
    """(individual, number of its variant) of each variant: spread so that any first part has all individuals alike."""
    counts = [max(1, round(recipe.variants_per_base * w)) for w in recipe.weights()]
    order = [((k + 0.5) / n, i, k) for i, n in enumerate(counts) for k in range(n)]
    return [(i, k) for _, i, k in sorted(order)]


def build_shards(
    recipe: ShardRecipe,
    out: Path,
    first: int = 0,
    end: int | None = None,
    cases_folder: Path = DEFAULT_CASES,
    say: bool = False,
) -> int:
    """Make the scenes ``first`` to ``end`` (without it; None for all) that ``out`` lacks.

    Several processes may each make a part of the same folder.

    Args:
        recipe: what to make.
        out: the shard folder; made when it is not there.
        cases_folder: where procedural individuals are kept, made there when missing.
        say: print progress.

    Returns:
        How many scenes were made.

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
    made, start = 0, time.monotonic()
    for number in range(first // per_variant, -(-end // per_variant)):
        job = VariantJob(recipe, individuals, order[number], number, out)
        wanted = range(max(first, number * per_variant), min(end, (number + 1) * per_variant))
        made += job.make([n for n in wanted if not scene_path(out, n).is_file()])
        if say and made:
            rate = (time.monotonic() - start) / made
            print(f"variant {number}: {made} scenes made, {rate:.2f} s each", flush=True)
    return made


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

    def make(self, scenes: list[int]) -> int:
        """Write these scenes and the anatomy, as far as they are missing; returns how many scenes."""
        if not scenes:
            return 0
        variant = self.variant()
        anatomy = self.anatomy(variant)
        views: dict[int, FieldViews] = {}
        for scene in scenes:
            field, view = divmod(scene, self.recipe.views_per_field)
            if field not in views:
                r = self.recipe
                draw = draw_field(r.first_seed + field, r.suites, r.sensors, r.empty_share)
                views = {field: FieldViews(variant.case, draw)}
            self._write(scene, views[field], view, anatomy)
        return len(scenes)

    def variant(self) -> Variant:
        """The varied case."""
        base = self.individuals[self.place[0]]
        others = [i.case for k, i in enumerate(self.individuals) if k != self.place[0]]
        seed = (self.recipe.first_seed, self.number)
        return vary_case(base.case, seed, self.recipe.variation, others if self.recipe.mix else ())

    def anatomy(self, variant: Variant) -> AnatomySample:
        """Its visible surface; read where it is already there."""
        path = anatomy_path(self.out, self.anatomy_id)
        if path.is_file():
            return load_anatomy(path)
        group_of = {i.case.name: i.group for i in self.individuals}
        groups = "+".join(dict.fromkeys(group_of[name] for name in variant.donors))
        surface = visible_surface(variant.case)
        sample = make_anatomy(variant.case, surface, "+".join(variant.donors), groups)
        save_anatomy(path, sample)
        return sample

    @property
    def anatomy_id(self) -> str:
        """Name of its file."""
        return f"v{self.number:05d}"

    def _write(self, scene: int, views: FieldViews, view: int, anatomy: AnatomySample) -> None:
        frame, tags = views.view(view)
        valid = np.isfinite(frame.points[..., 2])
        labelled = LabelledView(frame.points[valid], frame.colours[valid], frame.bone[valid])
        draw = views.draw
        sample = make_scene(
            labelled, frame.T_camera_model, anatomy if draw.spine else None, self.anatomy_id, draw.suite, draw.seed, tags
        )  # fmt: skip
        save_scene(scene_path(self.out, scene), sample)


def _claim(out: Path, recipe: ShardRecipe, individuals: list[Individual], total: int) -> None:
    """Make the folder for a recipe, or see that it is this recipe's."""
    digest = recipe_hash(recipe, [i.case.hash for i in individuals])
    path = out / "shards.json"
    for folder in ("scene", "anatomy"):
        (out / folder).mkdir(parents=True, exist_ok=True)
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
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)


@dataclass(frozen=True)
class Arguments:
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


def main(arguments: Arguments) -> int:
    """Make the scenes; 0 on success, 1 with one line on stderr otherwise."""
    try:
        a = arguments
        made = build_shards(read_recipe(a.config), a.out, a.first, a.end, a.cases_folder, say=True)
    except End2RegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{made} scenes made in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments)))
