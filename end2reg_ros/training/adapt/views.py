"""Simulated views of one case as it is: thousands of seeds away from benchmarks, from training and from each other."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import TrainingError
from end2reg_ros.training.data.field_views import FieldViews, draw_field
from end2reg_ros.training.data.recipe import CaseBase, ShardRecipe
from end2reg_ros.training.data.samples import (
    Arrays,
    anatomy_path,
    load_anatomy,
    read_sample,
    save_arrays,
    save_sample,
    scene_path,
)
from end2reg_ros.training.data.scene_making import make_scene
from end2reg_ros.training.data.shards import VariantJob, build_shards, labelled_view, load_bases
from end2reg_ros.training.data.variation import VariationSettings
from end2reg_ros.training.progress import ProgressBar

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
    with ProgressBar("views for training", request.count, request.progress) as bar:
        for group in _by_field(missing, TRAIN_VIEWS):
            if time.monotonic() > request.until:
                return False
            job.make(group)
            bar.step(request.count - len(missing) + missing.index(group[-1]) + 1)
    return True


def make_held_out_views(request: ViewsRequest, case: Case, training: Path) -> bool:
    """Make the views to measure on, whole and as training scenes; False when the time was up before.

    Args:
        request: which; ``case`` is not read.
        case: what they show, its meshes thinned.
        training: shards of the same case, whose anatomy file serves here too.
    """
    out = request.out
    anatomy = load_anatomy(anatomy_path(training, ANATOMY))
    save_sample(anatomy_path(out, ANATOMY), anatomy)
    missing = [n for n in range(request.count) if not scene_path(out, n).is_file()]
    suites = {"easy": 0.15, "standard": 0.45, "hard": 0.4}
    with ProgressBar("views held out", request.count, request.progress) as bar:
        for group in _by_field(missing, HELD_OUT_VIEWS):
            if time.monotonic() > request.until:
                return False
            seed = HELD_OUT_SEED + SEEDS * request.seed + group[0] // HELD_OUT_VIEWS
            draw = draw_field(seed, suites, {"d435": 1.0}, empty_share=0.0)
            views = FieldViews(case, draw)
            for n in group:
                frame, tags = views.view(n % HELD_OUT_VIEWS)
                seen = labelled_view(frame, ANATOMY, draw.suite)
                assert seen.colours is not None
                save_arrays(
                    _whole_path(out, n),
                    {"points": seen.points, "colours": seen.colours, "T_camera_model": frame.T_camera_model},
                )
                # Last: it tells that the view is whole.
                save_sample(scene_path(out, n), make_scene(seen, anatomy, seed, tags))
                bar.step(request.count - len(missing) + missing.index(n) + 1)
    return True


def _by_field(numbers: Sequence[int], views: int) -> list[list[int]]:
    fields: dict[int, list[int]] = {}
    for n in numbers:
        fields.setdefault(n // views, []).append(n)
    return list(fields.values())


def load_whole(out: Path, number: int) -> tuple[Cloud, NDArray[np.float64]]:
    """All that the camera measured of a held-out view, metres, and the true T_camera_model (4, 4).

    Raises:
        TrainingError: missing or cut short.
    """

    def view(data: Arrays) -> tuple[Cloud, NDArray[np.float64]]:
        return Cloud(data["points"], data["colours"], "held_out", number), data["T_camera_model"]

    try:
        return read_sample(_whole_path(out, number), "held-out view", view)
    except TrainingError as fault:
        raise TrainingError(f"{fault}; remove its folder") from None


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
