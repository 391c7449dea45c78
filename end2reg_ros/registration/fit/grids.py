"""Distance to a surface, and its nearest sample, looked up on grids: a search tree is the reference, and ten times slower."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


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
