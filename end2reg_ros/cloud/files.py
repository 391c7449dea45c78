"""A cloud from a file, of whatever common kind: what ``end2reg register --cloud`` takes."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.ply import PlyPoints, read_ply
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CloudError
from end2reg_ros.reasons import Reason

SUFFIXES = (".ply", ".pcd", ".npy", ".xyz")
_LARGEST_SCENE_M = 50.0


def read_cloud(path: str | Path, frame_id: str = "camera") -> Cloud:
    """Read a point file in metres: .ply, .pcd, .npy ((N, 3), or (N, 6) with colours 0..255), .xyz (text).

    Invalid points (NaN, Inf, zero) are dropped. The stamp is 0: a file has none.

    Raises:
        CloudError: ``unreadable``, ``truncated``, ``no_xyz_fields``, ``empty_cloud``, ``all_invalid``,
            ``unit_mm``.
    """
    path = Path(path)
    if not path.is_file():
        raise CloudError(Reason.UNREADABLE, f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix == ".ply":
        content = read_ply(path)
    elif suffix == ".pcd":
        content = _read_pcd(path)
    elif suffix in (".npy", ".xyz"):
        content = _from_columns(path, _read_columns(path, suffix))
    else:
        raise CloudError(
            Reason.UNREADABLE, f"{path}: unknown kind of point file (known: {', '.join(SUFFIXES)})"
        )
    if len(content.points) == 0:
        raise CloudError(Reason.EMPTY_CLOUD, f"{path}: has no points")
    cloud, _ = valid_cloud(path, content, frame_id)
    check_metres(path, cloud.points)
    return cloud


def valid_cloud(path: Path, content: PlyPoints, frame_id: str) -> tuple[Cloud, NDArray[np.intp]]:
    """The cloud of a file's valid points (not NaN, Inf, zero), and their (N,) indices in the file.

    Raises:
        CloudError: ``all_invalid``.
    """
    valid = np.flatnonzero(np.isfinite(content.points).all(axis=1) & content.points.any(axis=1))
    if valid.size == 0:
        raise CloudError(Reason.ALL_INVALID, f"{path}: none of its {len(content.points)} points is valid")
    colours = None if content.colours is None else content.colours[valid]
    return Cloud(content.points[valid], colours, frame_id, 0, received=len(content.points)), valid


def check_metres(path: Path, points: NDArray[np.floating]) -> None:
    """Refuse points that can only be millimetres.

    Raises:
        CloudError: ``unit_mm``.
    """
    # Percentiles, because a depth camera's few wild points reach 65 m (65535 mm).
    low, high = np.percentile(points, [1.0, 99.0], axis=0)
    extent = float((high - low).max())
    if extent > _LARGEST_SCENE_M:
        text = f"{path}: extends over {extent:.0f} m: its unit seems to be mm, metres are needed"
        raise CloudError(Reason.UNIT_MM, text)


def _read_pcd(path: Path) -> PlyPoints:
    import open3d as o3d

    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        cloud = o3d.io.read_point_cloud(path, remove_nan_points=False, remove_infinite_points=False)
    points = np.asarray(cloud.points, dtype=np.float32)
    if len(points) == 0:
        raise CloudError(Reason.UNREADABLE, f"{path}: is not a PCD file with points")
    colours = np.rint(np.asarray(cloud.colors) * 255.0).astype(np.uint8) if cloud.has_colors() else None
    return PlyPoints(points, colours)


def _read_columns(path: Path, suffix: str) -> NDArray:
    try:
        if suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        text = path.read_text(encoding="utf-8").replace(",", " ")
        return np.loadtxt(text.splitlines(), ndmin=2) if text.strip() else np.zeros((0, 3))
    # numpy reads the header of a .npy file as Python: MemoryError of its size, the others of its grammar.
    except (ValueError, OSError, EOFError, MemoryError, SyntaxError, TokenError, RecursionError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise CloudError(Reason.UNREADABLE, f"{path}: cannot be read ({why})") from error


def _from_columns(path: Path, columns: NDArray) -> PlyPoints:
    if columns.ndim != 2 or columns.shape[1] not in (3, 6) or columns.dtype.kind not in "fiu":
        shape = "x".join(str(n) for n in columns.shape)
        raise CloudError(
            Reason.NO_XYZ_FIELDS, f"{path}: must hold (N, 3) or (N, 6) numbers, not {shape} {columns.dtype}"
        )
    colours = None
    if columns.shape[1] == 6:
        colours = np.clip(np.rint(np.nan_to_num(columns[:, 3:6])), 0, 255).astype(np.uint8)
    return PlyPoints(columns[:, :3].astype(np.float32), colours)
