"""Simulated views of one case as it is: thousands of seeds away from benchmarks, from training and from each other."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import TrainingError
from end2reg_ros.training.data.recipe import CaseBase, ShardRecipe
from end2reg_ros.training.data.samples import Arrays, LabelledView, read_sample, save_arrays, scene_path
from end2reg_ros.training.data.shards import make_scenes
from end2reg_ros.training.data.variation import VariationSettings
from end2reg_ros.training.progress import ProgressBar

# Shards of the shipped weights start at 1 000 000 and stay far below these; benchmarks lie below 1 000 000.
TRAIN_SEED, HELD_OUT_SEED = 500_000_000, 700_000_000
SEEDS = 10_000  # fields that a run's seed may use; run seeds are below as well


def training_recipe(case: Path, count: int, seed: int) -> ShardRecipe:
    """At least ``count`` views to train on: the case folder's anatomy itself, never varied, and always a spine."""
    views = 6  # a field costs as much as several of its views
    return ShardRecipe(
        first_seed=TRAIN_SEED + SEEDS * seed,
        cases=(CaseBase(str(case)),),
        variants_per_base=1,
        fields_per_variant=-(-count // views),
        views_per_field=views,
        empty_share=0.0,
        suites={"easy": 0.1, "standard": 0.3, "hard": 0.3, "training": 0.3},
        sensors={"d435": 0.7, "d405": 0.1, "structured_light": 0.1, "d435_720p": 0.1},
        variation=VariationSettings(plain_share=1.0),
    )


def held_out_recipe(case: Path, count: int, seed: int) -> ShardRecipe:
    """At least ``count`` views to measure on, in fields that no other seed's training has, as the benchmarks draw them."""
    views = 2
    return replace(
        training_recipe(case, count, seed),
        first_seed=HELD_OUT_SEED + SEEDS * seed,
        fields_per_variant=-(-count // views),
        views_per_field=views,
        suites={"easy": 0.15, "standard": 0.45, "hard": 0.4},
        sensors={"d435": 1.0},
    )


@dataclass(frozen=True)
class ViewsFolder:
    """A shard folder of a case's simulated views.

    Attributes:
        title: for the progress bar.
        out: the folder; what is there is kept.
        recipe: what to make.
        count: so many of the recipe's views.
        whole: whether all that the camera measured is kept, too.
    """

    title: str
    out: Path
    recipe: ShardRecipe
    count: int
    whole: bool = False

    def fill(self, until: float, progress: bool) -> bool:
        """Make the views that are missing; False when the time (of ``time.monotonic``) is up before.

        Raises:
            TrainingError: the folder holds other scenes, or nothing of the case can be seen.
            CaseError: the case cannot be loaded.
        """
        there = sum(scene_path(self.out, n).is_file() for n in range(self.count))
        keep = self._keep if self.whole else None
        making = make_scenes(self.recipe, self.out, 0, self.count, keep=keep)
        with ProgressBar(self.title, self.count, progress) as bar:
            while there < self.count:
                if time.monotonic() > until:
                    return False
                next(making)
                there += 1
                bar.step(there)
        return True

    def _keep(self, number: int, view: LabelledView) -> None:
        assert view.colours is not None and view.T_camera_model is not None
        arrays: Arrays = {
            "points": view.points,
            "colours": view.colours,
            "T_camera_model": view.T_camera_model,
        }
        save_arrays(_whole_path(self.out, number), arrays)


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
