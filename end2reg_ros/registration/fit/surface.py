"""The part of a case that a camera behind the patient can see, as points with normals that scene points are looked up on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from end2reg_ros.se3_batch import dot, in_columns

Array = NDArray[np.float64]

# A camera over a prone patient looks along +y (anterior) of the model; it tilts by up to about 49 degrees.
VIEW_TILTS_DEG = ((0, 0), (25, 0), (-25, 0), (0, 25), (0, -25), (35, 35), (35, -35), (-35, 35), (-35, -35))
POINT, NORMAL, LEVEL = slice(0, 3), slice(3, 6), 6  # columns of a surface's table


@dataclass(frozen=True)
class Lattice:
    """A regular grid in the model frame: corner (3,) and cell edge in metres, cells along x, y, z.

    The outermost cells are a border: they stand for all that lies outside, too.
    """

    origin: NDArray[np.float32]
    cell: float
    shape: tuple[int, int, int]

    def cells(self, points: NDArray[np.floating]) -> NDArray[np.uint32]:
        """Flat index (N,) of the cell of each point (N, 3); of one of the border for points outside."""
        columns = np.ascontiguousarray(points.T)
        place = (columns - self.origin[:, None]) * (1.0 / self.cell)
        # What lies below the border comes to its cells by truncation, or turns into a large number that is cut off.
        cell = place.astype(np.int32).view(np.uint32)
        np.minimum(cell, np.array(self.shape, dtype=np.uint32)[:, None] - np.uint32(1), out=cell)
        _, ny, nz = self.shape
        flat: NDArray[np.uint32] = (cell[0] * ny + cell[1]) * nz + cell[2]
        return flat

    @property
    def count(self) -> int:
        """Number of cells."""
        return int(np.prod(self.shape))

    @property
    def neighbours(self) -> NDArray[np.int64]:
        """(27,) what to add to the flat index of a cell, none of the border's, for itself and those beside it."""
        _, ny, nz = self.shape
        steps = np.arange(-1, 2)
        return np.asarray((steps[:, None, None] * ny + steps[:, None]) * nz + steps).ravel()

    @property
    def border(self) -> NDArray[np.bool_]:
        """(x, y, z) whether a cell is one of the border."""
        border = np.ones(self.shape, dtype=bool)
        border[1:-1, 1:-1, 1:-1] = False
        return border

    def centres(self, flat: NDArray[np.int64]) -> Array:
        """Centres (N, 3) of flat cell indices (N,), metres."""
        return np.asarray(
            self.origin + (np.stack(np.unravel_index(flat, self.shape), axis=1) + 0.5) * self.cell
        )


def lattice_around(points: Array, cell: float, margin: float) -> Lattice:
    """The lattice over points (N, 3) and ``margin`` metres around them, and its border."""
    low = points.min(axis=0) - margin - cell
    nx, ny, nz = (int(n) + 1 for n in np.ceil((points.max(axis=0) + margin - low) / cell))
    return Lattice(low.astype(np.float32), cell, (nx, ny, nz))


@dataclass(frozen=True)
class DistanceGrid:
    """``distance`` (cells,) in metres from each cell to the surface, right within one cell; infinite in the border."""

    lattice: Lattice
    distance: NDArray[np.float32]

    def __call__(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """(N,) distances of (N, 3) points, model frame; infinite outside the grid."""
        return np.asarray(self.distance.take(self.lattice.cells(points)))


@dataclass(frozen=True)
class NearestGrid:
    """``sample`` (cells,): index of the surface sample nearest to each cell's centre; -1 further than the reach.

    All of the border is further than that.
    """

    lattice: Lattice
    sample: NDArray[np.int32]

    def at(self, points: NDArray[np.floating]) -> NDArray[np.int32]:
        """(N,) index of a near sample of points (N, 3), -1 beyond the reach."""
        return np.asarray(self.sample.take(self.lattice.cells(points)))

    def query(self, points: Array, samples: Array, limit: float) -> tuple[Array, NDArray[np.int64]]:
        """Distance (N,) and index (N,) of a near sample of points (N, 3); infinite beyond ``limit`` or the reach.

        ``samples`` (S, 3): those that the grid is of.
        """
        index = self.at(points)
        found = index >= 0
        index = np.maximum(index, np.int64(0))
        distance = np.linalg.norm(points - samples[index], axis=1)
        return np.where(found & (distance < limit), distance, np.inf), index


@dataclass(frozen=True)
class LookUp:
    """The samples that points were looked up at.

    Attributes:
        found: (N,) whether there is a sample within the limit; what follows means nothing where there is none.
        rows: (N, 8) of the surface's table.
        offset: (3, N) from the sample to the point, metres.
        squared: (N,) its length, squared.
    """

    found: NDArray[np.bool_]
    rows: Array
    offset: Array
    squared: Array


def offsets_from(rows: Array, columns: Array) -> Array:
    """(3, N) from the samples in the rows (N, 8) of a table to points in columns (3, N)."""
    offset = np.empty(columns.shape)
    for axis in range(3):
        np.subtract(columns[axis], rows[:, axis], out=offset[axis])
    return offset


@dataclass(frozen=True)
class PointSurface:
    """A surface as points with normals: what scene points are held against.

    Attributes:
        points: (N, 3) metres, model frame.
        normals: (N, 3) outward unit normals.
        tree: nearest-neighbour structure over ``points``.
    """

    points: Array
    normals: Array
    tree: cKDTree

    def nearest(self, points: Array, limit: float) -> tuple[Array, NDArray[np.int64]]:
        """Distance (N,) and index (N,) of the sample nearest to each point (N, 3); infinite beyond ``limit`` metres."""
        distance, index = self.tree.query(points, distance_upper_bound=limit)
        return distance, np.where(np.isfinite(distance), index, 0)

    def look_up(self, columns: Array, limit: float) -> LookUp:
        """The same for points in columns (3, N), with all that is known of the samples."""
        distance, index = self.nearest(columns.T, limit)
        rows = self.table.take(index, axis=0)
        return LookUp(np.isfinite(distance), rows, offsets_from(rows, columns), distance * distance)

    @cached_property
    def table(self) -> Array:
        """(N, 8) point, normal, level of each sample: one line of the processor's cache."""
        table = np.zeros((len(self.points), 8))
        table[:, POINT], table[:, NORMAL] = self.points, self.normals
        return table


@dataclass(frozen=True)
class ModelSurface(PointSurface):
    """Samples of the surface of a case that can be seen from behind.

    Attributes:
        level_index: (N,) index into the case's levels.
        near: distance to the samples on a coarse grid.
        grid: nearest samples on a fine grid.
        coarse: (M,) indices of a thin, even subset, for quality checks.
        coarse_seen_from: (M, 9) which of the view directions sees each sample of the subset.
    """

    level_index: NDArray[np.int32]
    near: DistanceGrid
    grid: NearestGrid
    coarse: NDArray[np.int64]
    coarse_seen_from: NDArray[np.bool_]

    def nearest(self, points: Array, limit: float) -> tuple[Array, NDArray[np.int64]]:
        """As the tree's, from the grid: the sample nearest to the cell's centre, up to a cell off."""
        found = self.look_up(in_columns(points), limit)
        index = np.maximum(self.grid.at(points), np.int64(0))
        return np.where(found.found, np.sqrt(found.squared), np.inf), index

    def look_up(self, columns: Array, limit: float) -> LookUp:
        """See ``PointSurface.look_up``."""
        index = self.grid.at(columns.T)
        rows = self.table.take(index, axis=0, mode="clip")
        offset = offsets_from(rows, columns)
        squared = dot(offset, offset)
        found = squared < limit * limit
        found &= index >= 0
        return LookUp(found, rows, offset, squared)

    @cached_property
    def table(self) -> Array:
        """See ``PointSurface.table``."""
        table = np.zeros((len(self.points), 8))
        table[:, POINT], table[:, NORMAL], table[:, LEVEL] = self.points, self.normals, self.level_index
        return table

    @cached_property
    def middle(self) -> Array:
        """(3,) mean of the samples of ``coarse``."""
        return np.asarray(self.points[self.coarse].mean(axis=0))

    @cached_property
    def level_bounds(self) -> list[tuple[Array, Array]]:
        """Lowest and highest corner (3,) of each level's samples."""
        of_level = [self.points[self.level_index == k] for k in range(int(self.level_index.max()) + 1)]
        return [(p.min(axis=0), p.max(axis=0)) if len(p) else (np.zeros(3), np.zeros(3)) for p in of_level]


def view_directions() -> Array:
    """(9, 3) unit vectors from the spine towards the cameras considered, model frame."""
    tilts = np.radians(np.array(VIEW_TILTS_DEG, dtype=np.float64))
    directions = np.stack([np.tan(tilts[:, 0]), -np.ones(len(tilts)), np.tan(tilts[:, 1])], axis=1)
    return np.asarray(directions / np.linalg.norm(directions, axis=1, keepdims=True))
