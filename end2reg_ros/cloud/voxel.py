"""Voxel grid down-sampling, anchored at the frame's origin: a point's cell never depends on the other points.

A grid anchored at the cloud's own corner moves with its outermost point, and every cell's mean jitters from
frame to frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# 21 bits per axis, as three fit into one 64-bit key.
_BITS = 21
_HALF = 1 << (_BITS - 1)


@dataclass(frozen=True)
class VoxelGrid:
    """Occupied cells, ordered by cell (z, then y, then x): the same points in any order give the same cells.

    Attributes:
        points: (M, 3) float32 mean of each cell's points, metres.
        colours: (M, 3) uint8 mean colours, or None.
        counts: (M,) points in each cell.
        cell_of_point: (N,) index of each input point's cell.
    """

    points: NDArray[np.float32]
    colours: NDArray[np.uint8] | None
    counts: NDArray[np.int64]
    cell_of_point: NDArray[np.int64]


def voxel_keys(points: NDArray[np.floating], voxel: float) -> NDArray[np.int64]:
    """(N,) key of each point's cell; cells are ``voxel`` metres wide and start at the frame's origin.

    Raises:
        ValueError: ``voxel`` not above zero, or a point more than a million cells from the origin.
    """
    if not voxel > 0.0:
        raise ValueError(f"voxel must be above 0 m, not {voxel}")
    keys = np.zeros(len(points), np.int64)
    for axis in (2, 1, 0):
        cells = np.floor(points[:, axis].astype(np.float64) / voxel).astype(np.int64) + _HALF
        if cells.size and (cells.min() < 0 or cells.max() >= 2 * _HALF):
            raise ValueError(
                f"points lie more than {_HALF * voxel:g} m from the origin: too far for voxel {voxel} m"
            )
        keys = (keys << _BITS) | cells
    return keys


def occupied_cells(points: NDArray[np.floating], voxel: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) index of each point's cell among the M occupied ones, in the order of their keys; (M,) points in each.

    Raises:
        ValueError: see ``voxel_keys``.
    """
    keys = voxel_keys(points, voxel)
    order = np.argsort(keys)  # what the order is within a cell does not matter to ``cell_means``
    ordered = keys[order]
    first = np.ones(len(keys), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    cell_of_point = np.empty(len(keys), np.int64)
    cell_of_point[order] = np.cumsum(first) - 1
    return cell_of_point, np.bincount(cell_of_point)


def cell_means(
    values: NDArray[np.generic], cell_of_point: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(M, C) mean of each cell's rows of ``values`` (N, C), summed in the order in which they come."""
    sums = [np.bincount(cell_of_point, values[:, c], len(counts)) for c in range(values.shape[1])]
    return np.stack(sums, axis=1) / counts[:, None]


def voxel_downsample(
    points: NDArray[np.float32], voxel: float, colours: NDArray[np.uint8] | None = None
) -> VoxelGrid:
    """Mean point and colour of every occupied cell.

    Args:
        points: (N, 3) metres, finite.
        voxel: width of a cell, metres.
        colours: (N, 3) or None.

    Raises:
        ValueError: see ``voxel_keys``.
    """
    cell_of_point, counts = occupied_cells(points, voxel)
    means = cell_means(points, cell_of_point, counts).astype(np.float32)
    if colours is None:
        return VoxelGrid(means, None, counts, cell_of_point)
    mean_colours = np.rint(cell_means(colours, cell_of_point, counts)).astype(np.uint8)
    return VoxelGrid(means, mean_colours, counts, cell_of_point)
