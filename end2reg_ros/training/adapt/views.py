"""Simulated views of one case as it is: thousands of seeds away from benchmarks, from training and from each other."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.errors import TrainingError
from end2reg_ros.training.data.anatomies import Individual
from end2reg_ros.training.data.scene_making import LabelledView, make_scene
from end2reg_ros.training.data.scene_sample import load_anatomy, save_anatomy, save_scene
from end2reg_ros.training.data.shard_recipe import CaseBase, ShardRecipe
from end2reg_ros.training.data.shard_views import FieldViews, draw_field
from end2reg_ros.training.data.shards import VariantJob, anatomy_path, build_shards, load_bases, scene_path
from end2reg_ros.training.data.variation import VariationSettings
from end2reg_ros.training.progress import make_bar

# Shards of the shipped weights start at 1 000 000 and stay far below these; benchmarks lie below 1 000 000.
TRAIN_SEED, HELD_OUT_SEED = 500_000_000, 700_000_000
SEEDS = 10_000  # fields that a run's seed may use; run seeds are below as well
TRAIN_VIEWS, HELD_OUT_VIEWS = 6, 2  # of a field: a field costs as much as several of its views
ANATOMY = "v00000"


@dataclass(frozen=True)
class ViewsRequest:
    """Which views to make.

    Attributes:
        case: the case folder.
        out: the folder to make them in; what is there is kept.
        count: how many.
        seed: of the run.
        until: when to stop, of ``time.monotonic``; what is begun is finished.
        progress: show a bar.
    """

    case: Path
    out: Path
    count: int
    seed: int
    until: float = math.inf
    progress: bool = False

    def recipe(self) -> ShardRecipe:
        """The recipe of the training views: the case itself, never varied, and always a spine."""
        return ShardRecipe(
            first_seed=TRAIN_SEED + SEEDS * self.seed,
            cases=(CaseBase(str(self.case)),),
            variants_per_base=1,
            fields_per_variant=-(-self.count // TRAIN_VIEWS),
            views_per_field=TRAIN_VIEWS,
            empty_share=0.0,
            suites={"easy": 0.1, "standard": 0.3, "hard": 0.3, "training": 0.3},
            sensors={"d435": 0.7, "d405": 0.1, "structured_light": 0.1, "d435_720p": 0.1},
            variation=VariationSettings(plain_share=1.0),
        )


def make_training_views(request: ViewsRequest) -> bool:
    """Make the shards of a case's views that are missing; False when the time was up before.

    Raises:
        TrainingError: the folder holds other scenes, or nothing of the case can be seen.
        CaseError: the case cannot be loaded.
    """
    recipe, out = request.recipe(), request.out
    missing = [n for n in range(request.count) if not scene_path(out, n).is_file()]
    build_shards(recipe, out, 0, 1)  # sees to the folder, the anatomy and the first scene
    missing = [n for n in missing if n > 0]
    if not missing:
        return True
    job = VariantJob(recipe, load_bases(recipe, out), (0, 0), 0, out)
    bar = make_bar("views for training", request.count, request.progress)
    try:
        for group in _by_field(missing, TRAIN_VIEWS):
            if time.monotonic() > request.until:
                return False
            job.make(group)
            bar.step(request.count - len(missing) + missing.index(group[-1]) + 1, "")
    finally:
        bar.close()
    return True


def make_held_out_views(request: ViewsRequest, individual: Individual, training: Path) -> bool:
    """Make the views to measure on, whole and as training scenes; False when the time was up before.

    Args:
        request: which; ``case`` is not read.
        individual: the case.
        training: shards of the same case, whose anatomy file serves here too.
    """
    out = request.out
    for folder in ("scene", "anatomy", "view"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    anatomy = load_anatomy(anatomy_path(training, ANATOMY))
    save_anatomy(anatomy_path(out, ANATOMY), anatomy)
    missing = [n for n in range(request.count) if not scene_path(out, n).is_file()]
    if not missing:
        return True
    suites = {"easy": 0.15, "standard": 0.45, "hard": 0.4}
    recipe = replace(request.recipe(), suites=suites, sensors={"d435": 1.0})
    bar = make_bar("views held out", request.count, request.progress)
    try:
        for group in _by_field(missing, HELD_OUT_VIEWS):
            if time.monotonic() > request.until:
                return False
            seed = HELD_OUT_SEED + SEEDS * request.seed + group[0] // HELD_OUT_VIEWS
            draw = draw_field(seed, recipe.suites, recipe.sensors, recipe.empty_share)
            views = FieldViews(individual.case, draw)
            for n in group:
                frame, tags = views.view(n % HELD_OUT_VIEWS)
                valid = np.isfinite(frame.points[..., 2])
                seen = LabelledView(frame.points[valid], frame.colours[valid], frame.bone[valid])
                save_whole(out, n, WholeView(seen.points, frame.colours[valid], frame.T_camera_model))
                scene = make_scene(seen, frame.T_camera_model, anatomy, ANATOMY, draw.suite, seed, tags)
                save_scene(scene_path(out, n), scene)  # last: it tells that the view is whole
                bar.step(request.count - len(missing) + missing.index(n) + 1, "")
    finally:
        bar.close()
    return True


def _by_field(numbers: Sequence[int], views: int) -> list[list[int]]:
    fields: dict[int, list[int]] = {}
    for n in numbers:
        fields.setdefault(n // views, []).append(n)
    return list(fields.values())


@dataclass(frozen=True)
class WholeView:
    """All that a camera measured: points (N, 3) float32 metres camera frame, colours (N, 3), truth (4, 4)."""

    points: NDArray[np.float32]
    colours: NDArray[np.uint8]
    T_camera_model: NDArray[np.float64]


def save_whole(out: Path, number: int, view: WholeView) -> None:
    """Write a whole view; a reader never sees half of it."""
    path = _whole_path(out, number)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, points=view.points, colours=view.colours, T_camera_model=view.T_camera_model)
    os.replace(part, path)


def load_whole(out: Path, number: int) -> WholeView:
    """A whole view.

    Raises:
        TrainingError: missing or cut short.
    """
    path = _whole_path(out, number)
    try:
        with np.load(path, allow_pickle=False) as data:
            return WholeView(data["points"], data["colours"], data["T_camera_model"])
    except (OSError, ValueError, EOFError, KeyError) as fault:
        text = " ".join(str(fault).split())
        raise TrainingError(f"{path}: not a view, or cut short ({text}); remove its folder") from None


def _whole_path(out: Path, number: int) -> Path:
    return out / "view" / f"{number:06d}.npz"


def claim(work: Path, case_hash: str) -> None:
    """Make a work folder for a case, or see that it is this case's.

    Raises:
        TrainingError: it is of another case, holds something else, or cannot be written.
    """
    path = work / "adaptation_of.json"
    try:
        if path.is_file():
            if json.loads(path.read_text(encoding="utf-8")) != {"case_hash": case_hash}:
                raise TrainingError(f"{work}: holds the adaptation of another case; choose another --out")
            return
        if work.is_dir() and any(work.iterdir()):
            raise TrainingError(f"{work}: is not empty and holds no adaptation; choose another --out")
        work.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"case_hash": case_hash}) + "\n", encoding="utf-8")
    except OSError as fault:
        raise TrainingError(f"{work}: cannot be written ({fault.strerror})") from None
    except ValueError:
        raise TrainingError(f"{path}: cannot be read; choose another --out") from None
