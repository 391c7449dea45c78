"""From the whole view to the scene points near the posed model: crop, thin.

Arrays of points are (N, 3) and lie in memory column by column: most of the time of a followed frame goes in here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.registration.fit.thin_cloud import ThinCloud
from end2reg_ros.se3 import apply, inverse

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Region:
    """Scene points around the posed model, camera frame, metres.

    Attributes:
        index: (M,) indices into the cloud of the points kept by the crop.
        dense: (M, 3) float32, those points, at the sensor's resolution.
        window: (K, 3) float32, all points in front of, within and behind the box, as the camera sees it.
        thin: those near the surface, thinned to the voxel size.
    """

    index: NDArray[np.int64]
    dense: NDArray[np.float32]
    window: NDArray[np.float32]
    thin: ThinCloud

    @property
    def points(self) -> Array:
        """(N, 3) the thinned points."""
        return self.thin.points

    @property
    def normals(self) -> Array:
        """(N, 3) their unit normals, towards the camera."""
        return self.thin.normals_at(np.arange(len(self.thin)))


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
        points: (M, 3) float32, themselves, camera frame, metres.
        local: (M, 3) float32, the same in the model frame.
        window: (K, 3) float32, those that the camera sees in the box's direction, at whatever depth.
    """

    index: NDArray[np.int64]
    points: NDArray[np.float32]
    local: NDArray[np.float32]
    window: NDArray[np.float32]


MIN_DEPTH_M = 0.05
MIN_NEAR = 30  # fewer points are none
ROUGH_STRIDE = 64  # of the points that tell where in the cloud a window begins and ends


def crop(points: NDArray[np.float32], T_camera_model: Array, box: Box, margin: float) -> Cropped:
    """Camera points (N, 3) within ``margin`` (metres) of the box, box in the model frame, and all in its direction.

    What lies far behind the box matters too: it tells that the camera saw through where bone is posed.
    """
    index, window = direction_window(points, T_camera_model, box, margin)
    T = inverse(T_camera_model)
    R, t = T[:3, :3].astype(np.float32), T[:3, 3].astype(np.float32)
    local = R @ window.T
    local += t[:, None]
    low, high = (box.low - margin).astype(np.float32), (box.high + margin).astype(np.float32)
    inside = local > low[:, None]
    inside &= local < high[:, None]
    keep = np.flatnonzero(inside[0] & inside[1] & inside[2])
    return Cropped(index[keep], taken(window, keep), taken(local.T, keep), window)


def taken(points: NDArray[np.float32], index: NDArray[np.int64]) -> NDArray[np.float32]:
    """(K, 3) some of the points (N, 3), column by column in memory."""
    if points.T.flags.c_contiguous:
        return np.asarray(points.T.take(index, axis=1).T)
    return np.asfortranarray(points[index])


def direction_window(
    points: NDArray[np.float32], T_camera_model: Array, box: Box, margin: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The points whose line of sight may meet the box, index (K,) and themselves (K, 3); all when it reaches the camera's plane.

    Clouds come row by row, and then a window is a run of rows: some of the points tell where it begins and ends. Of a cloud
    in any other order a few points before the first and after the last of those may be missed.
    """
    low, high = box.low - margin, box.high + margin
    ends = np.stack([low, high])
    corners = apply(
        T_camera_model,
        np.array([[ends[i, 0], ends[j, 1], ends[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)]),
    )
    if corners[:, 2].min() < MIN_DEPTH_M:
        index = np.flatnonzero(points[:, 2] > MIN_DEPTH_M)
        return index, taken(points, index)
    slopes = (corners[:, :2] / corners[:, 2:]).astype(np.float32)
    (u0, v0), (u1, v1) = slopes.min(axis=0), slopes.max(axis=0)
    some = points[::ROUGH_STRIDE]
    rough = np.flatnonzero((some[:, 1] >= v0 * some[:, 2]) & (some[:, 1] <= v1 * some[:, 2]))
    if len(rough) == 0:
        first, last = 0, len(points)  # a window of less than a row, or none
    else:
        first = max(0, (int(rough[0]) - 1) * ROUGH_STRIDE)
        last = (int(rough[-1]) + 1) * ROUGH_STRIDE
    x, y, z = points[first:last].T
    inside = x >= u0 * z
    inside &= x <= u1 * z
    index = np.flatnonzero(inside) + first
    # Few points are left for the rest, and of those few lie outside.
    window = taken(points, index)
    _, y, z = window.T
    keep = np.flatnonzero((y >= v0 * z) & (y <= v1 * z) & (z > MIN_DEPTH_M))
    return (index, window) if len(keep) == len(index) else (index[keep], taken(window, keep))


def make_region(cropped: Cropped, near: NDArray[np.bool_], settings: ThinSettings) -> Region:
    """Thin the cropped points that are ``near`` (M,) the surface."""
    some = np.flatnonzero(near)
    if len(some) < MIN_NEAR:
        some = some[:0]
    thin = ThinCloud(taken(cropped.points, some), settings.voxel, settings.neighbours, settings.threads)
    return Region(cropped.index, cropped.points, cropped.window, thin)
