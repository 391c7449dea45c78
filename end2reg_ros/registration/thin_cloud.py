"""Scene points at an even distance, and what is asked of their neighbourhoods: normals, the nearest one."""

from __future__ import annotations

import numpy as np
import small_gicp
from numpy.typing import NDArray

from end2reg_ros.cloud.voxel import cell_means, occupied_cells
from end2reg_ros.registration.fit.grids import lattice_around
from end2reg_ros.se3_batch import dot, in_columns

Array = NDArray[np.float64]

NEIGHBOURS = 12  # that a normal is fitted to
MIN_NEIGHBOURS = 5  # no plane is told from fewer points


class ThinCloud:
    """One mean point a voxel, with a search tree. Normals are fitted when somebody asks for them: most of the time goes there.

    Two threads may ask at once: what both write is the same.

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
