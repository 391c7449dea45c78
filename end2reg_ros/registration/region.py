"""From the whole view to the scene points near the posed model: crop, thin, estimate normals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import small_gicp
from numpy.typing import NDArray

from end2reg_ros.se3 import apply, inverse

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Region:
    """Scene points around the posed model, camera frame, metres.

    Attributes:
        index: (M,) indices into the cloud of the points kept by the crop.
        dense: (M, 3) float32, those points, at the sensor's resolution.
        window: (K, 3) float32, all points in front of, within and behind the box, as the camera sees it.
        points: (N, 3) those near the surface, thinned to the voxel size.
        normals: (N, 3) unit normals of ``points``, towards the camera.
    """

    index: NDArray[np.int64]
    dense: NDArray[np.float32]
    window: NDArray[np.float32]
    points: Array
    normals: Array


@dataclass(frozen=True)
class ThinSettings:
    """Point distance after thinning (metres), neighbours that a normal is fitted to, threads."""

    voxel: float
    neighbours: int = 10
    threads: int = 1


@dataclass(frozen=True)
class Box:
    """Axis-aligned bounds in the model frame, metres."""

    low: Array
    high: Array


@dataclass(frozen=True)
class Cropped:
    """Points of a cloud around a box.

    Attributes:
        index: (M,) those inside the box.
        local: (M, 3) float32, themselves in the model frame, metres.
        window: (K,) those that the camera sees in the box's direction, at whatever depth.
    """

    index: NDArray[np.int64]
    local: NDArray[np.float32]
    window: NDArray[np.int64]


MIN_DEPTH_M = 0.05


def crop(points: NDArray[np.float32], T_camera_model: Array, box: Box, margin: float) -> Cropped:
    """Camera points (N, 3) within ``margin`` (metres) of the box, box in the model frame, and all in its direction.

    What lies far behind the box matters too: it tells that the camera saw through where bone is posed.
    """
    window = direction_window(points, T_camera_model, box, margin)
    T = inverse(T_camera_model)
    R, t = T[:3, :3].astype(np.float32), T[:3, 3].astype(np.float32)
    local = points[window] @ R.T + t
    low, high = (box.low - margin).astype(np.float32), (box.high + margin).astype(np.float32)
    keep = np.ones(len(local), dtype=bool)
    for axis in range(3):
        keep &= (local[:, axis] > low[axis]) & (local[:, axis] < high[axis])
    return Cropped(window[keep], local[keep], window)


def direction_window(
    points: NDArray[np.float32], T_camera_model: Array, box: Box, margin: float
) -> NDArray[np.int64]:
    """Indices of the points whose line of sight may meet the box; of all when the box reaches the camera's plane."""
    low, high = box.low - margin, box.high + margin
    ends = np.stack([low, high])
    corners = apply(
        T_camera_model,
        np.array([[ends[i, 0], ends[j, 1], ends[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)]),
    )
    if corners[:, 2].min() < MIN_DEPTH_M:
        return np.flatnonzero(points[:, 2] > MIN_DEPTH_M)
    slopes = (corners[:, :2] / corners[:, 2:]).astype(np.float32)
    (u0, v0), (u1, v1) = slopes.min(axis=0), slopes.max(axis=0)
    z = points[:, 2]
    index = np.flatnonzero((points[:, 1] >= v0 * z) & (points[:, 1] <= v1 * z) & (z > MIN_DEPTH_M))
    x, z = points[index, 0], z[index]
    return index[(x >= u0 * z) & (x <= u1 * z)]


def make_region(
    points: NDArray[np.float32], cropped: Cropped, near: NDArray[np.bool_], settings: ThinSettings
) -> Region:
    """Thin the cropped points that are ``near`` (M,) the surface, and give them normals."""
    dense, window = points[cropped.index], points[cropped.window]
    if int(near.sum()) < 30:
        empty = np.zeros((0, 3))
        return Region(cropped.index, dense, window, empty, empty)
    cloud, _ = small_gicp.preprocess_points(
        dense[near].astype(np.float64),
        downsampling_resolution=settings.voxel,
        num_neighbors=settings.neighbours,
        num_threads=settings.threads,
    )
    thinned = cloud.points()[:, :3]
    normals = cloud.normals()[:, :3]
    away = np.einsum("ij,ij->i", normals, thinned) > 0
    normals = np.where(away[:, None], -normals, normals)
    return Region(cropped.index, dense, window, np.ascontiguousarray(thinned), np.ascontiguousarray(normals))
