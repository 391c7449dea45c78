"""Whole views of shards with their truth, and their split by individuals."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.errors import TrainingError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """A whole view, thinned, with its truth.

    Attributes:
        points: (N, 3) float32 metres, camera frame.
        colours: (N, 3) uint8, or None.
        bone: (N,) bool.
        T_camera_model: (4, 4); None without a spine.
        anatomy, suite: names.
    """

    points: NDArray[np.float32]
    colours: NDArray[np.uint8] | None
    bone: NDArray[np.bool_]
    T_camera_model: Array | None
    anatomy: str
    suite: str


def scene_files(shards: Sequence[Path]) -> list[Path]:
    """All scenes of these shard folders, in order.

    Raises:
        TrainingError: a folder without scenes.
    """
    files: list[Path] = []
    for folder in shards:
        found = sorted((folder / "scene").glob("*.npz"))
        if not found:
            raise TrainingError(
                f"{folder}: no scenes (scene/*.npz); make some with end2reg_ros.training.data.shards"
            )
        files += found
    return files


def load_view(path: Path) -> View:
    """The whole view of a scene of a shard.

    Raises:
        TrainingError: a file that is cut short, or none of a shard.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            anatomy = str(data["anatomy"])
            suite = (
                str(data["suite"]) if "suite" in data else str(json.loads(str(data["tags"])).get("suite", ""))
            )
            return View(
                data["view_points"],
                data["view_colours"] if len(data["view_colours"]) else None,
                data["view_bone"].astype(bool),
                np.asarray(data["T_camera_model"], np.float64) if anatomy else None,
                anatomy,
                suite,
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path}: not a scene of a shard, or cut short ({error})") from error


def held_out(source: str, every: int = 8) -> bool:
    """Whether an individual is kept for validation: by its name alone, so that all its variants and scenes are."""
    digits = "".join(c for c in source if c.isdigit())
    return (int(digits) if digits else crc32(source.encode())) % every == 0


def split_by_anatomy(files: Sequence[Path], every: int = 8) -> tuple[list[Path], list[Path]]:
    """Scenes to train on and to validate on; mixed anatomies with donors on both sides are in neither.

    Scenes without a spine go to either by their number.
    """
    train: list[Path] = []
    validation: list[Path] = []
    sides: dict[tuple[Path, str], set[bool]] = {}
    for path in files:
        with np.load(path, allow_pickle=False) as data:
            anatomy = str(data["anatomy"])
        if not anatomy:
            (validation if int(path.stem) % every == 0 else train).append(path)
            continue
        key = (path.parent.parent, anatomy)
        if key not in sides:
            sides[key] = {held_out(donor, every) for donor in _donors(*key)}
        if sides[key] == {True}:
            validation.append(path)
        elif sides[key] == {False}:
            train.append(path)
    return train, validation


def _donors(shards: Path, anatomy: str) -> list[str]:
    """Individuals that an anatomy is made of; its own name where the shard does not say."""
    file = shards / "anatomy" / f"{anatomy}.npz"
    if not file.is_file():
        return [anatomy]
    with np.load(file, allow_pickle=False) as data:
        return str(data["source"]).split("+") if "source" in data else [anatomy]
