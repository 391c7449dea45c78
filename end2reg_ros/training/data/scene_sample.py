"""One training scene and one anatomy: what they hold, and their files."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.errors import TrainingError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AnatomySample:
    """The model side of training scenes, metres, model frame (CT RAS).

    Attributes:
        points: (M, 3) float32 samples of the surface that can be seen from behind.
        normals: (M, 3) float32 outward unit normals.
        level_index: (M,) uint8 index into the levels, cranial to caudal.
        landmarks: (3 * L, 3) float32 spinous tip, left and right transverse tip of each level.
        T_model_levels: (L, 4, 4) vertebra frames.
        levels: their names.
        source: individuals it is made of, joined by "+".
        group: their groups ("procedural", "vhm_lumbosacral"), joined by "+".
    """

    points: NDArray[np.float32]
    normals: NDArray[np.float32]
    level_index: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    T_model_levels: Array
    levels: tuple[str, ...]
    source: str
    group: str


@dataclass(frozen=True)
class ThinCloud:
    """A thinned cloud, camera frame.

    Attributes:
        points: (N, 3) float32 metres, mean of each voxel.
        colours: (N, 3) uint8, or None for a camera without.
        normals: (N, 3) int8, unit normals times 127, towards the camera; (0, 3) where nobody asked for them.
        bone: (N,) uint8, 1 where most of the voxel is bone.
    """

    points: NDArray[np.float32]
    colours: NDArray[np.uint8] | None
    normals: NDArray[np.int8]
    bone: NDArray[np.uint8]


@dataclass(frozen=True)
class SceneSample:
    """One view with its truth. The plain arrays are those around the model, ``view_*`` the whole view.

    Attributes:
        points, colours, normals, bone: as in ``ThinCloud``, voxels of 2 mm; empty without a spine.
        view_points, view_colours, view_bone: voxels of 5 mm; without normals.
        T_camera_model: (4, 4) truth; the identity without a spine.
        anatomy: id of its anatomy; empty without a spine.
        suite, seed: what it was drawn from.
        tags: what kind of scene it is.
    """

    points: NDArray[np.float32]
    colours: NDArray[np.uint8] | None
    normals: NDArray[np.int8]
    bone: NDArray[np.uint8]
    view_points: NDArray[np.float32]
    view_colours: NDArray[np.uint8] | None
    view_bone: NDArray[np.uint8]
    T_camera_model: Array
    anatomy: str = ""
    suite: str = ""
    seed: int = 0
    tags: dict[str, Any] = field(default_factory=dict)


def save_scene(path: Path, scene: SceneSample) -> None:
    """Write a scene; a reader never sees half of it. Equal scenes give equal bytes."""
    none = np.zeros((0, 3), np.uint8)
    _save(
        path,
        {
            "points": scene.points,
            "colours": none if scene.colours is None else scene.colours,
            "normals": scene.normals,
            "bone": scene.bone,
            "view_points": scene.view_points,
            "view_colours": none if scene.view_colours is None else scene.view_colours,
            "view_bone": scene.view_bone,
            "T_camera_model": scene.T_camera_model,
            "anatomy": np.array(scene.anatomy),
            "suite": np.array(scene.suite),
            "seed": np.array(scene.seed, np.int64),
            "tags": np.array(json.dumps(scene.tags, sort_keys=True)),
        },
    )


def save_anatomy(path: Path, anatomy: AnatomySample) -> None:
    """Write an anatomy, as ``save_scene`` does."""
    _save(
        path,
        {
            "points": anatomy.points,
            "normals": anatomy.normals,
            "level_index": anatomy.level_index,
            "landmarks": anatomy.landmarks,
            "T_model_levels": anatomy.T_model_levels,
            "levels": np.array(anatomy.levels),
            "source": np.array(anatomy.source),
            "group": np.array(anatomy.group),
        },
    )


def load_scene(path: Path) -> SceneSample:
    """A scene of a shard.

    Raises:
        TrainingError: missing, cut short, or not a scene.
    """
    data = _load(path, "training scene")
    with _faults(path, "training scene"):
        anatomy, tags = str(data["anatomy"]), json.loads(str(data["tags"]))
        fine = _thin_part(data, "")
        whole = _thin_part(data, "view_")
        coloured = whole.colours is not None
        return SceneSample(
            fine.points, fine.colours if len(fine.points) or not coloured else np.zeros((0, 3), np.uint8),
            fine.normals, fine.bone,
            whole.points, whole.colours, whole.bone,
            _shaped(data["T_camera_model"], (4, 4), np.float64), anatomy, str(data["suite"]), int(data["seed"]), tags,
        )  # fmt: skip


def load_anatomy(path: Path) -> AnatomySample:
    """An anatomy of a shard.

    Raises:
        TrainingError: missing, cut short, or not an anatomy.
    """
    data = _load(path, "training anatomy")
    with _faults(path, "training anatomy"):
        levels = tuple(str(level) for level in data["levels"])
        points = _shaped(data["points"], (-1, 3), np.float32)
        return AnatomySample(
            points,
            _shaped(data["normals"], points.shape, np.float32),
            _shaped(data["level_index"], (len(points),), np.uint8),
            _shaped(data["landmarks"], (-1, 3), np.float32),
            _shaped(data["T_model_levels"], (len(levels), 4, 4), np.float64),
            levels,
            str(data["source"]),
            str(data["group"]),
        )


def _thin_part(data: Mapping[str, NDArray[Any]], prefix: str) -> ThinCloud:
    points = _shaped(data[prefix + "points"], (-1, 3), np.float32)
    colours = data[prefix + "colours"]
    return ThinCloud(
        points,
        _shaped(colours, points.shape, np.uint8) if len(colours) else None,
        _shaped(data["normals"], points.shape, np.int8) if not prefix else np.zeros((0, 3), np.int8),
        _shaped(data[prefix + "bone"], (len(points),), np.uint8),
    )


def _shaped(values: NDArray[Any], shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """``values`` if they have this shape (-1: any) and type.

    Raises:
        ValueError: otherwise.
    """
    fits = len(shape) == values.ndim and all(w in (-1, n) for w, n in zip(shape, values.shape, strict=True))
    if not fits or values.dtype != dtype:
        raise ValueError(f"{values.dtype} array of shape {values.shape}")
    return values


class _faults:
    """Turns what a foreign file provokes into one line."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, fault: BaseException | None, __: object) -> None:
        if isinstance(fault, KeyError):
            raise TrainingError(f"{self.path}: not a {self.kind} (no '{fault.args[0]}' in it)") from None
        if isinstance(fault, ValueError | TypeError):
            raise TrainingError(f"{self.path}: not a {self.kind} ({fault})") from None


def _load(path: Path, kind: str) -> dict[str, NDArray[Any]]:
    try:
        data = np.load(path, allow_pickle=False)
        if not isinstance(data, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with data:
            return {name: data[name] for name in data.files}
    except FileNotFoundError:
        raise TrainingError(f"{path}: no such {kind}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as fault:
        text = " ".join(str(fault).split())
        raise TrainingError(f"{path}: not a {kind}, or cut short ({text})") from None


def _save(path: Path, arrays: dict[str, Any]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(part, path)
