"""Slow, obvious twin of ``pyramid``: one point at a time, for the test that holds the two together.

``tables_by_query`` is the middle way, a sorted search of a k-d tree for every row: for tests with a whole cloud.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from end2reg_ros.cloud.pyramid_types import Cells, PyramidSpec

Points = NDArray[np.floating]


def cell_means(points: Points, voxel: float) -> list[NDArray[np.float64]]:
    """Means of the occupied cells, ordered by cell (z, then y, then x)."""
    cells: dict[tuple[int, int, int], list[NDArray[np.float64]]] = {}
    for point in points.astype(np.float64):
        x, y, z = (math.floor(value / voxel) for value in point)
        cells.setdefault((z, y, x), []).append(point)
    return [np.mean(cells[key], axis=0) for key in sorted(cells)]


def within(supports: Points, query: Points, radius: float, width: int) -> list[int]:
    """Indices of at most ``width`` supports nearer than the radius, nearest first."""
    distances = [math.dist(query, support) for support in supports]
    near = sorted((d, i) for i, d in enumerate(distances) if d < radius)
    return [i for _, i in near[:width]]


def nearest(supports: Points, query: Points) -> int:
    """Index of the nearest support."""
    return min(range(len(supports)), key=lambda i: math.dist(query, supports[i]))


def patches(fine: Points, nodes: Points, width: int) -> list[list[int]]:
    """For each node at most ``width`` of the fine points whose nearest node it is, nearest first."""
    owners: Sequence[int] = [nearest(nodes, point) for point in fine]
    result = []
    for n, node in enumerate(nodes):
        mine = sorted((math.dist(fine[i], node), i) for i, owner in enumerate(owners) if owner == n)
        result.append([i for _, i in mine[:width]])
    return result


def tables_by_query(cells: Cells, spec: PyramidSpec) -> dict[str, list[NDArray[np.int64]]]:
    """Unpadded tables of all levels: ``neighbours``, ``pool``, ``upsample``, and the node of every fine point.

    Rows of the first two are one entry wider than the pyramid's, to tell what was cut; the number of rows of the level
    looked into is what marks a missing entry. Equally near points come in any order.
    """
    trees = [cKDTree(points) for points in cells.points]
    tables: dict[str, list[NDArray[np.int64]]] = {"neighbours": [], "pool": [], "upsample": [], "node": []}
    for i, (tree, width) in enumerate(zip(trees, spec.neighbours, strict=True)):
        radius, k = spec.radius_voxels * spec.voxels[i], np.arange(1, width + 2)
        for name, queries in zip(("neighbours", "pool"), cells.points[i : i + 2], strict=False):
            tables[name].append(tree.query(queries, k, distance_upper_bound=radius)[1])
        if i + 1 < len(trees):
            tables["upsample"].append(trees[i + 1].query(cells.points[i])[1])
    tables["node"].append(trees[-1].query(cells.points[spec.fine_level])[1])
    return tables
