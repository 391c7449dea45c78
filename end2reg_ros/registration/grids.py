"""Distance to a surface, and its nearest sample, looked up on grids: a search tree is the reference, and ten times slower."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

Array = NDArray[np.float64]

CHUNK = 1 << 17  # cells looked up at a time


@dataclass(frozen=True)
class Lattice:
    """A regular grid in the model frame: corner (3,) and cell edge in metres, cells along x, y, z."""

    origin: NDArray[np.float32]
    cell: float
    shape: tuple[int, int, int]

    def flat_index(self, points: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Flat cell index (N,) of points (N, 3), 0 for those outside, and whether each is inside (N,)."""
        cell = np.floor((points - self.origin) * (1.0 / self.cell)).astype(np.int64)
        x, y, z = cell[:, 0], cell[:, 1], cell[:, 2]
        nx, ny, nz = self.shape
        inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny) & (z >= 0) & (z < nz)
        return np.where(inside, (x * ny + y) * nz + z, 0), inside

    def centres(self, flat: NDArray[np.int64]) -> Array:
        """Centres (N, 3) of flat cell indices (N,), metres."""
        return np.asarray(
            self.origin + (np.stack(np.unravel_index(flat, self.shape), axis=1) + 0.5) * self.cell
        )


def lattice_around(points: Array, cell: float, margin: float) -> Lattice:
    """The lattice over points (N, 3) and ``margin`` metres around them."""
    low = points.min(axis=0) - margin
    nx, ny, nz = (int(n) for n in np.ceil((points.max(axis=0) + margin - low) / cell))
    return Lattice(low.astype(np.float32), cell, (nx, ny, nz))


@dataclass(frozen=True)
class DistanceGrid:
    """``distance`` (cells,) in metres from each cell to the surface, right within one cell."""

    lattice: Lattice
    distance: NDArray[np.float32]

    def __call__(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """(N,) distances of (N, 3) points, model frame; infinite outside the grid."""
        flat, inside = self.lattice.flat_index(points)
        return np.where(inside, self.distance[flat], np.float32(np.inf))


def distance_grid(points: Array, cell: float = 0.003, margin: float = 0.045) -> DistanceGrid:
    """Distance grid around surface samples (N, 3); ``cell`` and ``margin`` in metres."""
    lattice = lattice_around(points, cell, margin)
    empty = np.ones(int(np.prod(lattice.shape)), dtype=bool)
    empty[lattice.flat_index(points)[0]] = False
    distance = distance_transform_edt(empty.reshape(lattice.shape), sampling=cell)
    return DistanceGrid(lattice, np.asarray(distance, dtype=np.float32).ravel())


@dataclass(frozen=True)
class NearestGrid:
    """``sample`` (cells,): index of the surface sample nearest to each cell's centre; -1 further than the reach."""

    lattice: Lattice
    sample: NDArray[np.int32]

    def query(self, points: Array, samples: Array, limit: float) -> tuple[Array, NDArray[np.int64]]:
        """Distance (N,) and index (N,) of a near sample of points (N, 3); infinite beyond ``limit`` or the reach."""
        flat, inside = self.lattice.flat_index(points)
        index = np.where(inside, self.sample[flat], -1)
        found = index >= 0
        index = np.where(found, index, 0)
        offset = points - samples[index]
        distance = np.sqrt(np.einsum("ij,ij->i", offset, offset))
        return np.where(found & (distance < limit), distance, np.inf), index


def nearest_grid(points: Array, tree: cKDTree, cell: float = 0.001, reach: float = 0.006) -> NearestGrid:
    """Nearest-sample grid around surface samples (N, 3); ``cell`` and ``reach`` in metres.

    Args:
        points: samples.
        tree: search tree over them.
        cell: edge of a cell.
        reach: largest distance looked up; bounds the largest gate of the refinement.
    """
    lattice = lattice_around(points, cell, reach)
    coarse = distance_grid(points, 3 * cell, reach)
    sample = np.full(int(np.prod(lattice.shape)), -1, dtype=np.int32)
    for first in range(0, len(sample), CHUNK):  # all at once takes 200 MB
        flat = np.arange(first, min(first + CHUNK, len(sample)))
        rough = coarse(lattice.centres(flat).astype(np.float32))
        flat = flat[rough < reach + 3 * cell]
        distance, index = tree.query(lattice.centres(flat), distance_upper_bound=reach)
        found = np.isfinite(distance)
        sample[flat[found]] = index[found]
    return NearestGrid(lattice, sample)
