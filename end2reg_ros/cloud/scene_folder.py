"""A scene folder: one view with its truth, the unit of evaluation; ``scene.json`` and ``cloud.ply``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.cloud.files import valid_cloud
from end2reg_ros.cloud.ply import PlyPoints, read_ply, write_ply
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CloudError
from end2reg_ros.reasons import Reason

Array = NDArray[np.float64]
SCENE_FILE, CLOUD_FILE = "scene.json", "cloud.ply"
_OPTIONAL: dict[str, tuple[type | tuple[type, ...], str]] = {
    "T_camera_levels": (dict, "map level names to 16 numbers each"),
    "tags": (dict, "map names to values"),
    "case": ((str, NoneType), "be a path"),
    "case_hash": (str, "be a text"),
    "cloud": (str, "be a file name"),
}
_FAR_M = 50.0


@dataclass(frozen=True)
class StoredScene:
    """One view with its truth.

    Attributes:
        name: name of its folder.
        cloud: what the camera sees; its ``frame_id`` is stored, its stamp is not.
        bone: (N,) truth label of the cloud's points, or None; never an input of a registration.
        T_camera_model: (4, 4) true registration, metres.
        T_camera_levels: level -> (4, 4) true vertebra pose, metres; empty where only the whole is known.
        tags: what kind of scene it is ("occlusion": 0.3), for grouping results.
        case_path: case folder that it belongs to, or None.
        case_hash: ``Case.hash`` of the case that it was made with; empty where unknown.
    """

    name: str
    cloud: Cloud
    bone: NDArray[np.bool_] | None
    T_camera_model: Array
    T_camera_levels: dict[str, Array] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    case_path: Path | None = None
    case_hash: str = ""


def write_scene(folder: Path, scene: StoredScene) -> None:
    """Write scene.json and cloud.ply into ``folder`` (made if missing); the case's path becomes relative."""
    folder.mkdir(parents=True, exist_ok=True)
    write_ply(folder / CLOUD_FILE, PlyPoints(scene.cloud.points, scene.cloud.colours, scene.bone))
    content: dict[str, Any] = {"cloud": CLOUD_FILE, "frame_id": scene.cloud.frame_id}
    if scene.case_path is not None:
        content["case"] = Path(os.path.relpath(scene.case_path.resolve(), folder.resolve())).as_posix()
    if scene.case_hash:
        content["case_hash"] = scene.case_hash
    content["T_camera_model"] = _numbers(scene.T_camera_model)
    if scene.T_camera_levels:
        content["T_camera_levels"] = {level: _numbers(T) for level, T in scene.T_camera_levels.items()}
    if scene.tags:
        content["tags"] = scene.tags
    (folder / SCENE_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_scene(folder: Path) -> StoredScene:
    """Read and check one scene folder. Invalid points (NaN, Inf, zero) are dropped, with their labels.

    Raises:
        CloudError: ``no_scene`` (no scene.json), ``bad_scene`` (a fault in it), the codes of ``read_ply``.
    """
    content = _read_json(folder / SCENE_FILE)
    frame_id = content.get("frame_id")
    if not isinstance(frame_id, str) or not frame_id:
        raise _fault(folder, "frame_id must be a non-empty text")
    for name, (kind, text) in _OPTIONAL.items():
        if name in content and not isinstance(content[name], kind):
            raise _fault(folder, f"{name} must {text}")
    for name in ("cloud", "case"):
        value = str(content.get(name) or "")
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise _fault(folder, f"{name} has a character that no path can have")
    levels, case = content.get("T_camera_levels", {}), content.get("case")
    file = folder / content.get("cloud", CLOUD_FILE)
    T_camera_model = _transform(folder, "T_camera_model", content.get("T_camera_model"))
    T_camera_levels = {name: _transform(folder, f"T_camera_levels.{name}", T) for name, T in levels.items()}
    stored = read_ply(file)
    cloud, valid = valid_cloud(file, stored, frame_id)
    return StoredScene(
        name=folder.resolve().name,
        cloud=cloud,
        bone=None if stored.bone is None else stored.bone[valid],
        T_camera_model=T_camera_model,
        T_camera_levels=T_camera_levels,
        tags=content.get("tags", {}),
        case_path=None if case is None else Path(os.path.normpath(folder / case)),
        case_hash=content.get("case_hash", ""),
    )


def find_scenes(folder: Path) -> list[Path]:
    """Scene folders of a benchmark: every folder at or below ``folder`` with a scene.json, sorted by path.

    Raises:
        CloudError: ``no_scene``.
    """
    if not folder.is_dir():
        raise CloudError(Reason.NO_SCENE, f"{folder}: is not a folder")
    found = sorted(path.parent for path in folder.rglob(SCENE_FILE))
    if not found:
        raise CloudError(Reason.NO_SCENE, f"{folder}: holds no scene folder (a folder with a {SCENE_FILE})")
    return found


def _read_json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise CloudError(Reason.NO_SCENE, f"{path.parent}: is not a scene folder (no {SCENE_FILE})")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CloudError(Reason.BAD_SCENE, f"{path}: is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise CloudError(Reason.BAD_SCENE, f"{path}: must hold one JSON object")
    return content


def _transform(folder: Path, name: str, value: Any) -> Array:
    try:
        T = np.asarray(value, dtype=np.float64).reshape(4, 4)
    except (TypeError, ValueError, OverflowError):
        raise _fault(folder, f"{name} must be 16 numbers (4x4, row-major, metres)") from None
    if not se3.is_rigid(T):
        text = "is not a rigid transform (rotation orthonormal and right-handed, last row 0 0 0 1)"
        raise _fault(folder, f"{name} {text}")
    distance = float(np.linalg.norm(T[:3, 3]))
    if distance > _FAR_M:
        text = f"is {distance:.0f} m from the camera: it seems to be in mm, metres are needed"
        raise _fault(folder, f"{name} {text}")
    return T


def _fault(folder: Path, text: str) -> CloudError:
    return CloudError(Reason.BAD_SCENE, f"{folder / SCENE_FILE}: {text}")


def _numbers(T: Array) -> list[float]:
    return [float(v) for v in np.asarray(T).reshape(16)]
