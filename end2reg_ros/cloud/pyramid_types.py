"""What a voxel pyramid is made of, and the fixed sizes it is built to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNIT_M = 0.095
ATTRIBUTES = 6
COLOUR = slice(0, 3)
NORMAL = slice(3, 6)

Floats = NDArray[np.float32]
Table = NDArray[np.int32]


@dataclass(frozen=True)
class PyramidSpec:
    """Fixed sizes of a pyramid.

    Attributes:
        voxels: width of the cells of each level, fine to coarse, network units.
        radius_voxels: neighbourhood radius in voxels of the level that is looked into.
        capacities: rows of each level.
        neighbours: width of each level's tables (its own neighbours, and those pooled from it).
        fine_level: level whose points make up the patches.
        patch_points: width of the patch table; 0 when there are no patches.
    """

    voxels: tuple[float, ...]
    radius_voxels: float
    capacities: tuple[int, ...]
    neighbours: tuple[int, ...]
    fine_level: int = 0
    patch_points: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError when the tuples do not fit together."""
        if not len(self.voxels) == len(self.capacities) == len(self.neighbours) >= 1:
            raise ValueError("voxels, capacities and neighbours of a pyramid must name the same levels")
        if min(self.voxels) <= 0 or min(self.capacities) < 1 or min(self.neighbours) < 1:
            raise ValueError("voxels, capacities and neighbours of a pyramid must be positive")
        if not 0 <= self.fine_level < len(self.voxels):
            raise ValueError(f"fine_level {self.fine_level} is not one of {len(self.voxels)} levels")


@dataclass(frozen=True)
class Cells:
    """The occupied cells of one cloud, level by level, before any table: cheap, and it tells which padding is enough.

    Attributes:
        voxels: width of the cells of each level, network units.
        points: (count, 3) means of each level's cells, network units.
        attributes: (count of level 0, 6) mean colour (0..1) and unit normal; zeros where unknown.
        cell_of_point: (points given,) row of level 0 of each point; -1 where it was dropped.
        dropped: cells dropped, per level.
    """

    voxels: tuple[float, ...]
    points: tuple[Floats, ...]
    attributes: Floats
    cell_of_point: Table
    dropped: tuple[int, ...]


@dataclass(frozen=True)
class Level:
    """One level; C is its capacity, H the width of its tables, D the capacity of the next coarser level.

    Attributes:
        points: (C, 3) means of the cells, network units; zeros beyond ``count``.
        mask: (C,) true for the first ``count`` rows.
        neighbours: (C, H) rows of this level within the radius, nearest first; C where missing.
        pool: (D, H) for each row of the next level, rows of this level within this level's radius; C where missing.
        upsample: (C,) nearest row of the next level; D where missing.
        count: rows in use.
    """

    points: Floats
    mask: NDArray[np.bool_]
    neighbours: Table
    pool: Table | None
    upsample: Table | None
    count: int


@dataclass(frozen=True)
class Truncation:
    """What the fixed sizes cut off: to be told, never to be hidden.

    Attributes:
        points: cells dropped, per level.
        neighbours: rows with more neighbours than fit, per level.
        pool: the same of the pool tables.
        patch_points: fine points that no patch holds.
    """

    points: tuple[int, ...]
    neighbours: tuple[int, ...]
    pool: tuple[int, ...]
    patch_points: int

    @property
    def dropped_points(self) -> int:
        """Cells dropped over all levels."""
        return sum(self.points)


@dataclass(frozen=True)
class Pyramid:
    """All levels of one cloud; N is the capacity of the coarsest level (superpoints), F that of the fine level.

    Attributes:
        levels: fine to coarse.
        attributes: (capacity of level 0, 6) mean colour (0..1) and unit normal; zeros where unknown or padding.
        patches: (N, P) fine rows whose nearest superpoint this is, nearest first; F where missing.
        cell_of_point: (points given,) row of level 0 of each point; -1 where it was dropped.
        truncation: what did not fit.
    """

    levels: tuple[Level, ...]
    attributes: Floats
    patches: Table
    cell_of_point: Table
    truncation: Truncation
