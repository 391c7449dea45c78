"""One crop of a cloud around a posed model, thinned: once for the network and for the refinement.

Arrays of points are (N, 3) and lie in memory column by column: most of the time of a followed frame goes in here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import small_gicp
from numpy.typing import NDArray

from end2reg_ros.cloud.types import Cloud
from end2reg_ros.cloud.voxel import cell_means, occupied_cells
from end2reg_ros.registration.fit.surface import lattice_around
from end2reg_ros.registration.types import Stopwatch
from end2reg_ros.se3 import apply, inverse
from end2reg_ros.se3_batch import dot, in_columns, moved

Array = NDArray[np.float64]

MIN_DEPTH_M = 0.05
ROUGH_STRIDE = 64  # of the points that tell where in the cloud a window begins and ends
NEIGHBOURS = 12  # that a normal is fitted to
MIN_NEIGHBOURS = 5  # no plane is told from fewer points
VOXEL_M = 0.002  # what clouds are thinned to: the network was trained on it


@dataclass(frozen=True)
class Box:
    """Axis-aligned bounds in the frame of a model or of a found region, metres."""

    low: Array
    high: Array


class ThinCloud:
    """One mean point a voxel, with a search tree. Normals are fitted when somebody asks for them: most of the time goes there.

    Attributes:
        points: (N, 3) camera frame, metres, in memory column by column.
        cell_of_point: (M,) which of them each of the points given went into.
    """

    def __init__(self, points: NDArray[np.floating], voxel: float, threads: int = 1) -> None:
        """Thin points (M, 3).

        Args:
            points: camera frame, metres.
            voxel: distance of the points afterwards, metres.
            threads: of the searches; they change the time only.
        """
        self.cell_of_point, self._counts = occupied_cells(points, voxel)
        self._rows = cell_means(points, self.cell_of_point, self._counts) if len(points) else np.zeros((0, 3))
        self._tree = small_gicp.KdTree(self._rows, num_threads=threads) if len(self._rows) else None
        self._columns = np.ascontiguousarray(self._rows.T)
        self.points: Array = self._columns.T
        self._neighbours, self._threads = min(NEIGHBOURS, len(self.points)), threads
        self._normals = np.zeros(self._columns.shape)
        self._has_normal = np.zeros(len(self.points), dtype=bool)

    def __len__(self) -> int:
        return len(self.points)

    def means(self, values: NDArray[np.generic]) -> Array:
        """(N, C) mean of what is known of the points given, ``values`` (M, C)."""
        return cell_means(values, self.cell_of_point, self._counts)

    def near(self, places: Array, limit: float) -> NDArray[np.bool_]:
        """(K,) whether a point lies within ``limit`` metres of each of the places (K, 3)."""
        if self._tree is None or len(places) == 0:
            return np.zeros(len(places), dtype=bool)
        # A search that finds nothing near takes long: most of those places are told by empty cells around them.
        lattice = lattice_around(self.points, limit, limit)
        busy = np.zeros(lattice.count, dtype=bool)
        busy[lattice.cells(self.points)] = True
        around = lattice.cells(places).astype(np.int64) + lattice.neighbours[:, None]
        some = np.flatnonzero(busy.take(around, mode="clip").any(axis=0))
        found = np.zeros(len(places), dtype=bool)
        if len(some):
            asked = np.ascontiguousarray(in_columns(places).take(some, axis=1).T)
            _, squared = self._tree.batch_nearest_neighbor_search(asked, self._threads)
            found[some] = np.asarray(squared) < limit * limit
        return found

    def normals_at(self, rows: NDArray[np.integer]) -> Array:
        """(K, 3) unit normals, towards the camera, of some of the points (K,); zeros where there are too few points."""
        missing = rows[~self._has_normal[rows]]
        if len(missing):
            self._normals[:, missing] = self._fit(missing)
            self._has_normal[missing] = True
        return np.asarray(self._normals.take(rows, axis=1).T)

    def _fit(self, rows: NDArray[np.integer]) -> Array:
        """(3, K) normals fitted to the nearest points of each."""
        if self._tree is None or self._neighbours < MIN_NEIGHBOURS:
            return np.zeros((3, len(rows)))
        near, _ = self._tree.batch_knn_search(self._rows[rows], self._neighbours, self._threads)
        near = np.ascontiguousarray(near.T.astype(np.int64))
        centre = self._columns.take(rows, axis=1)
        # From the point itself: numbers of a few millimetres lose nothing when they are squared.
        offsets = self._columns.take(near, axis=1) - centre[:, None]
        offsets -= offsets.mean(axis=1, keepdims=True)
        normals = flattest_direction(*(
            (offsets[i] * offsets[j]).sum(axis=0) for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
        ))  # fmt: skip
        normals *= np.where(dot(normals, centre) > 0, -1.0, 1.0)
        return normals


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
        crop_ms: what it took to make, milliseconds.
    """

    cloud: Cloud
    T_camera_box: Array
    index: NDArray[np.int64]
    dense: NDArray[np.float32]
    window: NDArray[np.float32]
    thin: ThinCloud
    crop_ms: float = 0.0

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
    clock = Stopwatch()
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
    thin = ThinCloud(dense, voxel, threads)
    clock.lap("crop")
    return Scene(cloud, T_camera_box, index[keep], dense, window, thin, clock.laps["crop"])


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


def flattest_direction(xx: Array, xy: Array, xz: Array, yy: Array, yz: Array, zz: Array) -> Array:
    """(3, N) unit eigenvectors of the smallest eigenvalue of symmetric 3x3 matrices, entries (N,) each.

    In closed form: ``np.linalg.eigh`` takes ten times as long. A matrix with no single smallest eigenvalue has any of its
    directions; one of zeros the x axis.
    """
    trace = xx + yy + zz
    scale = 1.0 / np.where(trace > 0, trace, 1.0)
    xx, xy, xz, yy, yz, zz = (entry * scale for entry in (xx, xy, xz, yy, yz, zz))
    mean = (xx + yy + zz) / 3
    # The smallest root of the characteristic polynomial of (A - mean I) / p, a cosine by Viete.
    a, b, c = xx - mean, yy - mean, zz - mean
    off = xy * xy + xz * xz + yz * yz
    p = np.sqrt((a * a + b * b + c * c + 2 * off) / 6)
    det = a * (b * c - yz * yz) - xy * (xy * c - yz * xz) + xz * (xy * yz - b * xz)
    half = np.clip(det / np.maximum(2 * p * p * p, 1e-300), -1.0, 1.0)
    smallest = mean + 2 * p * np.cos((np.arccos(half) + 2 * np.pi) / 3)
    # The adjugate of A - smallest I is the eigenvector times itself: the column of its largest diagonal entry.
    a, b, c = xx - smallest, yy - smallest, zz - smallest
    x2, y2, z2 = b * c - yz * yz, a * c - xz * xz, a * b - xy * xy
    x_y, x_z, y_z = xz * yz - xy * c, xy * yz - xz * b, xy * xz - a * yz
    x_first, y_second = (x2 >= y2) & (x2 >= z2), y2 >= z2
    found = np.array([
        np.where(x_first, x2, np.where(y_second, x_y, x_z)),
        np.where(x_first, x_y, np.where(y_second, y2, y_z)),
        np.where(x_first, x_z, np.where(y_second, y_z, z2)),
    ])  # fmt: skip
    length = np.sqrt(dot(found, found))
    nowhere = length == 0
    length[nowhere] = 1.0
    found /= length
    found[0, nowhere] = 1.0
    return found
