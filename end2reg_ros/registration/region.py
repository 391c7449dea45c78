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
        points: (N, 3) those near the surface, thinned to the voxel size.
        normals: (N, 3) unit normals of ``points``, towards the camera.
    """

    index: NDArray[np.int64]
    dense: NDArray[np.float32]
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
    """Points of a cloud inside a box: their indices (M,), and themselves (M, 3) in the model frame, metres."""

    index: NDArray[np.int64]
    local: NDArray[np.float32]


def crop(points: NDArray[np.float32], T_camera_model: Array, box: Box, margin: float) -> Cropped:
    """Camera points (N, 3) within ``margin`` (metres) of the box, box in the model frame."""
    T = inverse(T_camera_model)
    R, t = T[:3, :3].astype(np.float32), T[:3, 3].astype(np.float32)
    # A cube around the box first: most of a view is far away, and cheap tests leave little for the exact one.
    centre = apply(T_camera_model, (box.low + box.high) / 2).astype(np.float32)
    radius = float(np.linalg.norm((box.high - box.low) / 2) + margin)
    index = np.flatnonzero(np.abs(points[:, 2] - centre[2]) < radius)
    for axis in (0, 1):
        index = index[np.abs(points[index, axis] - centre[axis]) < radius]
    local = points[index] @ R.T + t
    low, high = (box.low - margin).astype(np.float32), (box.high + margin).astype(np.float32)
    keep = np.ones(len(local), dtype=bool)
    for axis in range(3):
        keep &= (local[:, axis] > low[axis]) & (local[:, axis] < high[axis])
    return Cropped(index[keep], local[keep])


def make_region(
    points: NDArray[np.float32], index: NDArray[np.int64], near: NDArray[np.bool_], settings: ThinSettings
) -> Region:
    """Thin the points that are ``near`` (M,) the surface, out of the cropped ones (``index`` (M,)), with normals."""
    dense = points[index]
    if int(near.sum()) < 30:
        empty = np.zeros((0, 3))
        return Region(index, dense, empty, empty)
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
    return Region(index, dense, np.ascontiguousarray(thinned), np.ascontiguousarray(normals))
