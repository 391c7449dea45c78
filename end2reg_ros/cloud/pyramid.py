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

from end2reg_ros.cloud.neighbours import TableSize, nearest, nearest_first, within_itself, within_other
from end2reg_ros.cloud.pyramid_types import (
    ATTRIBUTES,
    COLOUR,
    NORMAL,
    UNIT_M,
    Cells,
    Floats,
    Level,
    Pyramid,
    PyramidSpec,
    Table,
    Truncation,
)
from end2reg_ros.cloud.voxel import cell_means, occupied_cells

__all__ = ["COLOUR", "NORMAL", "UNIT_M", "Cells", "Floats", "Level", "Pyramid", "PyramidSpec", "Table", "Truncation",
           "build_pyramid", "cells_of", "counts", "fit", "nearest_rows", "point_attributes", "tables_of"]  # fmt: skip


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
    return tables_of(cells_of(points, attributes, spec), spec)


def cells_of(points: NDArray[np.floating], attributes: Floats | None, spec: PyramidSpec) -> Cells:
    """The first step of ``build_pyramid``, a sixth of its time: the tables may then have any size that these cells ``fit``."""
    points = np.asarray(points)
    shape = (len(points), ATTRIBUTES) if attributes is None else attributes.shape
    if points.ndim != 2 or points.shape[1] != 3 or shape != (len(points), ATTRIBUTES):
        raise ValueError(f"points must be (M, 3), attributes (M, 6), not {points.shape}, {shape}")
    if not np.isfinite(points).all() or not (attributes is None or np.isfinite(attributes).all()):
        raise ValueError("points or attributes are not finite")
    means, attribute_means, cell_of_point, dropped = _cells(
        points, attributes, spec.voxels[0], spec.capacities[0]
    )
    clouds, dropped_cells = [means], [dropped]
    for voxel, capacity in zip(spec.voxels[1:], spec.capacities[1:], strict=True):
        coarser, _, _, dropped = _cells(clouds[-1], None, voxel, capacity)
        clouds.append(coarser)
        dropped_cells.append(dropped)
    normal = _unit_normals(attribute_means)
    return Cells(spec.voxels, tuple(clouds), normal, cell_of_point, tuple(dropped_cells))


def tables_of(cells: Cells, spec: PyramidSpec) -> Pyramid:
    """The second step of ``build_pyramid``: neighbours, pooling, patches, and padding to the sizes of ``spec``.

    Args:
        cells: of ``cells_of``, from this ``spec`` or from another one with the same voxels.
        spec: sizes.

    Raises:
        ValueError: the cells do not fit ``spec``.
    """
    if not fit(cells, spec):
        raise ValueError(
            f"cells of {cells.voxels} in numbers of {counts(cells)} do not fit "
            f"a pyramid of {spec.voxels} with room for {spec.capacities}"
        )
    trees = [cKDTree(cloud) for cloud in cells.points]
    own, between = _own_neighbours(cells, trees, spec), _between_levels(cells, trees, spec)
    patches, cut_patches = _patches(cells, spec)
    levels = []
    for points, capacity, (neighbours, _), (pool, upsample, _) in zip(
        cells.points, spec.capacities, own, between, strict=True
    ):
        mask = np.arange(capacity) < len(points)
        levels.append(Level(_padded(points, capacity), mask, neighbours, pool, upsample, len(points)))
    cut_neighbours, cut_pool = tuple(cut for _, cut in own), tuple(cut for _, _, cut in between)
    attributes = _padded(cells.attributes, spec.capacities[0])
    truncation = Truncation(cells.dropped, cut_neighbours, cut_pool, cut_patches)
    return Pyramid(tuple(levels), attributes, patches, cells.cell_of_point, truncation)


def counts(cells: Cells) -> tuple[int, ...]:
    """Rows in use, per level."""
    return tuple(len(points) for points in cells.points)


def fit(cells: Cells, spec: PyramidSpec) -> bool:
    """Whether the sizes of ``spec`` hold all these cells, which are of its own widths."""
    small = all(count <= most for count, most in zip(counts(cells), spec.capacities, strict=False))
    return cells.voxels == spec.voxels and small


def nearest_rows(from_level: Level, to_level: Level) -> Table:
    """(C,) for each row of one pyramid's level the nearest row of another's; the latter's capacity where missing."""
    queries, points = from_level.points[: from_level.count], to_level.points[: to_level.count]
    return _nearest_table(points, queries, len(to_level.points), len(from_level.points))


def _cells(
    points: NDArray[np.floating], attributes: Floats | None, voxel: float, capacity: int
) -> tuple[Floats, Floats, Table, int]:
    """Mean points and attributes of the occupied cells, at most ``capacity``; each point's cell; cells dropped."""
    cell, counts = occupied_cells(points, voxel)
    means = cell_means(points, cell, counts).astype(np.float32)
    attribute_means = np.zeros((len(means), ATTRIBUTES), np.float32)
    if attributes is not None:
        attribute_means = cell_means(attributes, cell, counts).astype(np.float32)
    cell_of_point = cell.astype(np.int32)
    dropped = max(0, len(means) - capacity)
    if dropped:
        # Thinned evenly along the order of the cells: no side of the cloud is lost.
        kept = np.arange(capacity) * len(means) // capacity
        row = np.full(len(means), -1, np.int32)
        row[kept] = np.arange(capacity)
        means, attribute_means, cell_of_point = means[kept], attribute_means[kept], row[cell_of_point]
    return means, attribute_means, cell_of_point, dropped


def _own_neighbours(cells: Cells, trees: list[cKDTree], spec: PyramidSpec) -> list[tuple[Table, int]]:
    """Each level's neighbours within itself, and its rows whose neighbours did not fit."""
    result = []
    for points, tree, voxel, capacity, width in zip(
        cells.points, trees, spec.voxels, spec.capacities, spec.neighbours, strict=True
    ):
        size = TableSize(capacity, width, capacity)
        table, found = within_itself(tree, points, spec.radius_voxels * voxel, size)
        result.append((table, int((found > width).sum())))
    return result


def _between_levels(
    cells: Cells, trees: list[cKDTree], spec: PyramidSpec
) -> list[tuple[Table | None, Table | None, int]]:
    """Each level's pool and upsample table, and the rows that did not fit into the pool table; none of the last level."""
    result: list[tuple[Table | None, Table | None, int]] = []
    for i, width in enumerate(spec.neighbours[:-1]):
        capacity, below = spec.capacities[i : i + 2]
        radius = spec.radius_voxels * spec.voxels[i]
        pool, found = within_other(trees[i + 1], trees[i], radius, TableSize(below, width, capacity))
        upsample = _nearest_table(cells.points[i + 1], cells.points[i], below, capacity)
        result.append((pool, upsample, int((found > width).sum())))
    return [*result, (None, None, 0)]


def _patches(cells: Cells, spec: PyramidSpec) -> tuple[Table, int]:
    """Patch table (capacity of the nodes, patch_points) and the number of fine points that no patch holds."""
    fine, nodes = cells.points[spec.fine_level], cells.points[-1]
    size = TableSize(spec.capacities[-1], spec.patch_points, spec.capacities[spec.fine_level])
    if spec.patch_points == 0 or len(nodes) == 0:
        return np.full((size.rows, size.width), size.missing, np.int32), 0
    node, squared = nearest(nodes, fine)
    table, members = nearest_first(node, np.arange(len(fine)), squared, size)
    return table, int(np.maximum(members - spec.patch_points, 0).sum())


def _nearest_table(points: Floats, queries: Floats, missing: int, rows: int) -> Table:
    """(rows,) row of the point nearest to each query; ``missing`` beyond the queries, or without points."""
    table = np.full(rows, missing, np.int32)
    if len(points):
        table[: len(queries)] = nearest(points, queries)[0]
    return table


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
