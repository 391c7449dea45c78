"""Voxel pyramid of one cloud with padded neighbour tables: all the geometry the network sees, at fixed sizes.

Grids are anchored at the frame's origin, so a point's cell never depends on the other points, and cells of one level
nest in those of the next when the voxel doubles. Rows beyond a level's count are padding. A missing entry of a table
holds the capacity of the level it points into: the reader clamps it to a real row and masks it out. No far-away
sentinel point is ever made up: 1e6 overflows half precision.

Network units: lengths are divided by one fixed scale, 1 unit = 95 mm (L1-L5 fits the unit sphere; End2Reg, section 3).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from end2reg_ros.cloud.pyramid_types import (
    ATTRIBUTES,
    COLOUR,
    NORMAL,
    UNIT_M,
    Floats,
    Level,
    Pyramid,
    PyramidSpec,
    Table,
    Truncation,
)
from end2reg_ros.cloud.voxel import voxel_keys

__all__ = ["COLOUR", "NORMAL", "UNIT_M", "Floats", "Level", "Pyramid", "PyramidSpec", "Table", "Truncation",
           "build_pyramid", "nearest_rows", "point_attributes"]  # fmt: skip


def point_attributes(
    count: int, colours: NDArray[np.uint8] | None, normals: NDArray[np.floating] | None
) -> Floats:
    """(count, 6) float32: colours / 255 and unit normals, zeros where the sensor has none."""
    attributes = np.zeros((count, ATTRIBUTES), np.float32)
    if colours is not None:
        attributes[:, COLOUR] = colours / np.float32(255)
    if normals is not None:
        attributes[:, NORMAL] = normals
    return attributes


def build_pyramid(points: NDArray[np.floating], attributes: Floats | None, spec: PyramidSpec) -> Pyramid:
    """The pyramid of one cloud. The same points in any order give the same pyramid.

    Args:
        points: (M, 3) network units, finite; M may be 0.
        attributes: (M, 6) as ``point_attributes`` gives them; None for a sensor without.
        spec: sizes.

    Raises:
        ValueError: points or attributes of a wrong shape, or not finite.
    """
    points = np.asarray(points)
    attributes = np.zeros((len(points), ATTRIBUTES), np.float32) if attributes is None else attributes
    if points.ndim != 2 or points.shape[1] != 3 or attributes.shape != (len(points), ATTRIBUTES):
        raise ValueError(f"points must be (M, 3), attributes (M, 6), not {points.shape}, {attributes.shape}")
    if not np.isfinite(points).all() or not np.isfinite(attributes).all():
        raise ValueError("points or attributes are not finite")

    means, cell_of_point, dropped = _cells(points, attributes, spec.voxels[0], spec.capacities[0])
    clouds, dropped_points = [means[:, :3]], [dropped]
    for voxel, capacity in zip(spec.voxels[1:], spec.capacities[1:], strict=True):
        coarser, _, dropped = _cells(clouds[-1], None, voxel, capacity)
        clouds.append(coarser)
        dropped_points.append(dropped)

    trees = [cKDTree(cloud) for cloud in clouds]
    levels, cut_neighbours, cut_pool = [], [], []
    for i in range(len(clouds)):
        level, cut, cut_down = _level(i, clouds, trees, spec)
        levels.append(level)
        cut_neighbours.append(cut)
        cut_pool.append(cut_down)
    patches, cut_patches = _patches(clouds[spec.fine_level], clouds[-1], trees[-1], spec)
    truncation = Truncation(tuple(dropped_points), tuple(cut_neighbours), tuple(cut_pool), cut_patches)
    return Pyramid(
        tuple(levels),
        _padded(_unit_normals(means[:, 3:]), spec.capacities[0]),
        patches,
        cell_of_point,
        truncation,
    )


def nearest_rows(from_level: Level, to_level: Level) -> Table:
    """(C,) for each row of one pyramid's level the nearest row of another's; the latter's capacity where missing."""
    capacity = len(to_level.points)
    rows = np.full(len(from_level.points), capacity, np.int32)
    if to_level.count:
        tree = cKDTree(to_level.points[: to_level.count])
        rows[: from_level.count] = tree.query(from_level.points[: from_level.count])[1]
    return rows


def _cells(
    points: NDArray[np.floating], attributes: Floats | None, voxel: float, capacity: int
) -> tuple[Floats, Table, int]:
    """Means of the occupied cells (at most ``capacity``, ordered by cell), each point's cell, cells dropped."""
    columns = [points] if attributes is None else [points, attributes]
    values = np.concatenate(columns, axis=1, dtype=np.float64)
    keys = voxel_keys(points, voxel)
    order = np.argsort(keys, kind="stable")
    new = np.diff(keys[order], prepend=-1) != 0
    starts = np.flatnonzero(new)
    cell_of_point = np.empty(len(points), np.int32)
    cell_of_point[order] = np.cumsum(new) - 1
    if len(starts) == 0:
        return np.zeros((0, values.shape[1]), np.float32), cell_of_point, 0
    counts = np.diff(starts, append=len(points))
    means = (np.add.reduceat(values[order], starts, axis=0) / counts[:, None]).astype(np.float32)
    dropped = max(0, len(means) - capacity)
    if dropped:
        # Thinned evenly along the order of the cells: no side of the cloud is lost.
        kept = np.arange(capacity) * len(means) // capacity
        row = np.full(len(means), -1, np.int32)
        row[kept] = np.arange(capacity)
        means, cell_of_point = means[kept], row[cell_of_point]
    return means, cell_of_point, dropped


def _level(i: int, clouds: list[Floats], trees: list[cKDTree], spec: PyramidSpec) -> tuple[Level, int, int]:
    """Level i with its tables, rows whose neighbours did not fit, and the same of the pool table."""
    capacity, width, count = spec.capacities[i], spec.neighbours[i], len(clouds[i])
    radius = spec.radius_voxels * spec.voxels[i]
    neighbours, cut = _within(trees[i], clouds[i], radius, width, (capacity, capacity))
    pool = upsample = None
    cut_pool = 0
    if i + 1 < len(clouds):
        below = spec.capacities[i + 1]
        pool, cut_pool = _within(trees[i], clouds[i + 1], radius, width, (below, capacity))
        upsample = np.full(capacity, below, np.int32)
        if len(clouds[i + 1]):
            upsample[:count] = trees[i + 1].query(clouds[i])[1]
    mask = np.arange(capacity) < count
    return Level(_padded(clouds[i], capacity), mask, neighbours, pool, upsample, count), cut, cut_pool


def _within(
    tree: cKDTree, queries: Floats, radius: float, width: int, sizes: tuple[int, int]
) -> tuple[Table, int]:
    """Table (sizes[0], width) of the nearest points within a radius, sizes[1] where missing; rows that had more."""
    rows, missing = sizes
    table = np.full((rows, width), missing, np.int32)
    if tree.n == 0 or len(queries) == 0:
        return table, 0
    # One more than fits tells whether something was cut; the tree itself marks the missing with n.
    _, index = tree.query(queries, k=np.arange(1, width + 2), distance_upper_bound=radius)
    cut = int((index[:, width] < tree.n).sum())
    table[: len(queries)] = np.where(index[:, :width] < tree.n, index[:, :width], missing)
    return table, cut


def _patches(fine: Floats, nodes: Floats, tree: cKDTree, spec: PyramidSpec) -> tuple[Table, int]:
    """Patch table (capacity of the nodes, patch_points) and the number of fine points that no patch holds."""
    missing = spec.capacities[spec.fine_level]
    table = np.full((spec.capacities[-1], spec.patch_points), missing, np.int32)
    if spec.patch_points == 0 or len(nodes) == 0:
        return table, 0
    distance, node = tree.query(fine)
    order = np.lexsort((distance, node))
    ordered = node[order]
    rank = np.arange(len(fine)) - np.searchsorted(ordered, ordered)
    held = rank < spec.patch_points
    table[ordered[held], rank[held]] = order[held]
    return table, int((~held).sum())


def _unit_normals(attributes: Floats) -> Floats:
    """The mean of unit normals is shorter than one where they disagree: made unit again, zero where there is none."""
    result = attributes.copy()
    length = np.linalg.norm(result[:, NORMAL], axis=1, keepdims=True)
    result[:, NORMAL] = np.where(length > 1e-3, result[:, NORMAL] / np.maximum(length, 1e-3), 0.0)
    return result


def _padded(values: Floats, capacity: int) -> Floats:
    """Rows of zeros up to the capacity."""
    result = np.zeros((capacity, values.shape[1]), np.float32)
    result[: len(values)] = values
    return result
