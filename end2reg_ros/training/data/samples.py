"""Training scenes and anatomies: what they hold, and their files in a shard folder."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cache import write_atomically
from end2reg_ros.errors import TrainingError

Array = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]
Sample = TypeVar("Sample")


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
class LabelledView:
    """What a camera measured, or a whole view of a scene, with its truth; camera frame.

    Attributes:
        points: (N, 3) float32 metres.
        colours: (N, 3) uint8, or None for a camera without.
        bone: (N,) bool.
        T_camera_model: (4, 4); None without a spine.
        anatomy: id of the anatomy; empty without a spine.
        suite: kind of scene.
    """

    points: NDArray[np.float32]
    colours: NDArray[np.uint8] | None
    bone: NDArray[np.bool_]
    T_camera_model: Array | None = None
    anatomy: str = ""
    suite: str = ""

    def part(self, chosen: NDArray[Any]) -> LabelledView:
        """The points of a mask (N,) or of indices."""
        colours = None if self.colours is None else self.colours[chosen]
        return replace(self, points=self.points[chosen], colours=colours, bone=self.bone[chosen])


@dataclass(frozen=True)
class SceneSample:
    """One view with its truth, camera frame. The plain arrays are those around the model, ``view_*`` the whole view.

    Attributes:
        points: (N, 3) float32 metres, means of voxels of 2 mm; empty without a spine.
        colours: (N, 3) uint8, or None for a camera without.
        normals: (N, 3) int8, unit normals times 127, towards the camera.
        bone: (N,) uint8, 1 where most of the voxel is bone.
        view_points: (M, 3) float32 metres, means of voxels of 5 mm; view_colours, view_bone: theirs.
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


def scene_path(shards: Path, number: int) -> Path:
    """File of a scene of a shard folder."""
    return shards / "scene" / f"{number:06d}.npz"


def anatomy_path(shards: Path, anatomy: str) -> Path:
    """File of an anatomy of a shard folder."""
    return shards / "anatomy" / f"{anatomy}.npz"


def scene_files(*shards: Path) -> list[Path]:
    """All scenes of shard folders, in order.

    Raises:
        TrainingError: a folder without scenes.
    """
    files: list[Path] = []
    for folder in shards:
        found = sorted((folder / "scene").glob("*.npz"))
        if not found:
            text = "no training scenes (folder 'scene' with .npz files) in it"
            raise TrainingError(f"{folder}: {text}; end2reg_ros.training.data.shards makes some")
        files += found
    return files


def save_sample(path: Path, sample: SceneSample | AnatomySample) -> None:
    """Write a scene or an anatomy, never half of it; its folder is made. Equal samples give equal bytes."""
    save_arrays(path, {name: _stored(value) for name, value in vars(sample).items()})


def save_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays as one .npz file that is there whole or not at all; its folder is made."""
    content = io.BytesIO()
    np.savez(content, **cast(dict[str, Any], arrays))
    write_atomically(path, content.getvalue())


def read_sample(
    path: Path, kind: str, build: Callable[[Arrays], Sample], names: tuple[str, ...] | None = None
) -> Sample:
    """What ``build`` makes of the arrays of a .npz file.

    Args:
        kind: what it should be, for the errors: "training scene".
        build: may raise KeyError, ValueError or TypeError for arrays that it cannot use.
        names: the arrays to read; None for all.

    Raises:
        TrainingError: missing, cut short, or not of this kind.
    """
    try:
        data = np.load(path, allow_pickle=False)
        if not isinstance(data, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with data:
            arrays = {name: data[name] for name in data.files if names is None or name in names}
    except FileNotFoundError:
        raise TrainingError(f"{path}: no such {kind}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as fault:
        text = " ".join(str(fault).split())
        raise TrainingError(f"{path}: not a {kind}, or cut short ({text})") from None
    try:
        return build(arrays)
    except KeyError as fault:
        raise TrainingError(f"{path}: not a {kind} (no '{fault.args[0]}' in it)") from None
    except (ValueError, TypeError) as fault:
        raise TrainingError(f"{path}: not a {kind} ({fault})") from None


def load_scene(path: Path) -> SceneSample:
    """A scene of a shard.

    Raises:
        TrainingError: missing, cut short, or not a scene.
    """

    def scene(data: Arrays) -> SceneSample:
        points, view_points = (_shaped(data[n], (-1, 3), np.float32) for n in ("points", "view_points"))
        view_colours = _colours(data["view_colours"], view_points)
        return SceneSample(
            points,
            None if view_colours is None else _shaped(data["colours"], points.shape, np.uint8),
            _shaped(data["normals"], points.shape, np.int8),
            _shaped(data["bone"], (len(points),), np.uint8),
            view_points,
            view_colours,
            _shaped(data["view_bone"], (len(view_points),), np.uint8),
            _shaped(data["T_camera_model"], (4, 4), np.float64),
            str(data["anatomy"]),
            str(data["suite"]),
            int(data["seed"]),
            json.loads(str(data["tags"])),
        )

    return read_sample(path, "training scene", scene)


def load_view(path: Path) -> LabelledView:
    """The whole view of a scene of a shard; the rest of the file is not read.

    Raises:
        TrainingError: missing, cut short, or not a scene.
    """

    def view(data: Arrays) -> LabelledView:
        points, anatomy = _shaped(data["view_points"], (-1, 3), np.float32), str(data["anatomy"])
        return LabelledView(
            points,
            _colours(data["view_colours"], points),
            _shaped(data["view_bone"], (len(points),), np.uint8).astype(bool),
            _shaped(data["T_camera_model"], (4, 4), np.float64) if anatomy else None,
            anatomy,
            str(data["suite"]),
        )

    names = ("view_points", "view_colours", "view_bone", "T_camera_model", "anatomy", "suite")
    return read_sample(path, "training scene", view, names)


def load_anatomy(path: Path) -> AnatomySample:
    """An anatomy of a shard.

    Raises:
        TrainingError: missing, cut short, or not an anatomy.
    """

    def anatomy(data: Arrays) -> AnatomySample:
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

    return read_sample(path, "training anatomy", anatomy)


def load_text(path: Path, name: str) -> str:
    """One text of a scene or an anatomy (``anatomy``, ``source``); the rest of the file is not read.

    Raises:
        TrainingError: missing, cut short, or without it.
    """
    return read_sample(path, "training file", lambda data: str(data[name]), (name,))


def _stored(value: Any) -> NDArray[Any]:
    if value is None:  # no colours
        return np.zeros((0, 3), np.uint8)
    if isinstance(value, dict):
        return np.array(json.dumps(value, sort_keys=True))
    return np.array(value, np.int64) if isinstance(value, int) else np.asarray(value)


def _colours(colours: NDArray[Any], points: NDArray[np.float32]) -> NDArray[np.uint8] | None:
    return _shaped(colours, points.shape, np.uint8) if len(colours) else None


def _shaped(values: NDArray[Any], shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """``values`` if they have this shape (-1: any) and type.

    Raises:
        ValueError: otherwise.
    """
    fits = len(shape) == values.ndim and all(w in (-1, n) for w, n in zip(shape, values.shape, strict=True))
    if not fits or values.dtype != dtype:
        raise ValueError(f"{values.dtype} array of shape {values.shape}")
    return values
