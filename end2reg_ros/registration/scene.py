"""One crop of a cloud around a posed model: thinned, with normals, once for the network and for the refinement.

Arrays of points are (N, 3) and lie in memory column by column: most of the time of a followed frame goes in here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.thin_cloud import ThinCloud
from end2reg_ros.se3 import apply, inverse
from end2reg_ros.se3_batch import in_columns, moved

Array = NDArray[np.float64]

MIN_DEPTH_M = 0.05
ROUGH_STRIDE = 64  # of the points that tell where in the cloud a window begins and ends
VOXEL_M = 0.002  # what clouds are thinned to: the network was trained on it


@dataclass(frozen=True)
class Box:
    """Axis-aligned bounds in the frame of a model or of a found region, metres."""

    low: Array
    high: Array


@dataclass(frozen=True)
class Scene:
    """The points of a cloud around a posed box, camera frame, metres.

    Attributes:
        cloud: that they are of.
        T_camera_box: (4, 4) of the box: the pose of the model around which the cloud was cropped, or of a found region.
        index: (M,) indices of the cloud's points inside the box.
        dense: (M, 3) float32, those points, at the sensor's resolution.
        window: (K, 3) float32, all points in front of, within and behind the box, as the camera sees it.
        thin: the dense points, thinned.
    """

    cloud: Cloud
    T_camera_box: Array
    index: NDArray[np.int64]
    dense: NDArray[np.float32]
    window: NDArray[np.float32]
    thin: ThinCloud

    def near(
        self, distance: Callable[[NDArray[np.float32]], NDArray[np.float32]], limit: float
    ) -> NDArray[np.int64]:
        """(K,) thinned points within ``limit`` metres of what ``distance`` tells, for points (N, 3) in the box's frame."""
        local = moved(inverse(self.T_camera_box), in_columns(self.thin.points))
        return np.flatnonzero(distance(local.astype(np.float32).T) < limit)


def crop(
    cloud: Cloud, T_camera_box: Array, box: Box, margin: float, voxel: float = VOXEL_M, threads: int = 1
) -> Scene:
    """The points of a cloud within ``margin`` (metres) of a posed box, thinned, and all in its direction.

    What lies far behind the box matters too: it tells that the camera saw through where bone is posed.

    Args:
        cloud: whole.
        T_camera_box: (4, 4).
        box: bounds in its frame.
        margin: on every side, metres.
        voxel: width of the cells that are thinned to one point each, metres.
        threads: of the searches among the thinned points; they change the time only.
    """
    index, window = direction_window(cloud.points, T_camera_box, box, margin)
    T = inverse(T_camera_box)
    R, t = T[:3, :3].astype(np.float32), T[:3, 3].astype(np.float32)
    local = R @ window.T
    local += t[:, None]
    low, high = (box.low - margin).astype(np.float32), (box.high + margin).astype(np.float32)
    inside = local > low[:, None]
    inside &= local < high[:, None]
    keep = np.flatnonzero(inside[0] & inside[1] & inside[2])
    dense = taken(window, keep)
    return Scene(cloud, T_camera_box, index[keep], dense, window, ThinCloud(dense, voxel, threads))


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
