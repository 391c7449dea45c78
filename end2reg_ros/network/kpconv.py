"""Kernel point convolution on padded tables (Thomas 2019; End2Reg eq. 4) as one matrix product.

The geometry of a table (who is whose neighbour, how near to which kernel point) is worked out once and shared by every
convolution on it. A table's missing entries repeat a real row and are given the weight 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from end2reg_ros.network.tables import CloudTables

ABSENT = 1e4  # squared distance, in units of sigma, of an entry that is missing
FLOOR = 1e-3  # voxels; keeps the slope of the distance's root finite
DESCENT_STEPS = 300  # that spread the kernel points


class Neighbourhood(NamedTuple):
    """Geometry of one table of M queries, H neighbours, K kernel points.

    Attributes:
        rows: (M * H,) rows of the support; a missing entry repeats the first of its row.
        present: (M, H) 1 where there is a neighbour, 0 where the entry is missing.
        influence: (M, H, K) max(0, 1 - |y - k| / sigma), 0 where missing.
        size: (M, 1) neighbours present, at least 1.
    """

    rows: Tensor
    present: Tensor
    influence: Tensor
    size: Tensor


class LevelGeometry(NamedTuple):
    """One level's neighbourhoods and what the norms need.

    Attributes:
        mask: (C, 1) 1 for points, 0 for padding.
        share: (1, C) mask / number of points: a product with it is a mean over the points.
        near: neighbourhood within the level.
        down: neighbourhood of the next level's points in this one.
        up: (C,) nearest row of the next level, clamped.
    """

    mask: Tensor
    share: Tensor
    near: Neighbourhood
    down: Neighbourhood | None
    up: Tensor | None


def gather_rows(values: Tensor, index: Tensor) -> Tensor:
    """Rows of (C, ...) at (M,) int32 indices: Gather on axis 0."""
    return torch.index_select(values, 0, index)


def kernel_points(count: int, shell: float) -> NDArray[np.float32]:
    """(count, 3) points: the first at the origin, the others at mean distance ``shell``, spread evenly (KPConv, section 3.2).

    Gradient descent on the energy sum 1/|a - b| over all pairs plus sum |a|^2 from a fixed random start; ``count`` is at least 2.
    """
    rng = np.random.default_rng(0)
    outer = rng.normal(size=(count - 1, 3))
    outer /= np.linalg.norm(outer, axis=1, keepdims=True)
    for step in range(DESCENT_STEPS):
        everyone = np.concatenate([np.zeros((1, 3)), outer])
        apart = outer[:, None] - everyone[None]
        cubed = np.linalg.norm(apart, axis=2, keepdims=True) ** 3
        push = np.divide(apart, cubed, out=np.zeros_like(apart), where=cubed > 1e-9).sum(axis=1)
        move = push - 2.0 * outer
        length = np.linalg.norm(move, axis=1, keepdims=True)
        # Steps shrink to nothing: no point may jump over another, and the end is a rest.
        outer += move * np.minimum(0.05, 0.1 / np.maximum(length, 1e-9)) * (1.0 - step / DESCENT_STEPS)
    outer *= shell / np.linalg.norm(outer, axis=1).mean()
    return np.concatenate([np.zeros((1, 3)), outer]).astype(np.float32)


class KernelGeometry(nn.Module):
    """Turns tables into neighbourhoods; holds the kernel points, no weights.

    Args:
        count: kernel points.
        radius_voxels: neighbourhood radius in voxels; the points sit at ``shell`` times this.
        shell: see ``Profile.kernel_shell``.
        sigma_voxels: reach of a kernel point in voxels.
        voxels: width of the cells of each level.
    """

    points: Tensor
    expansion: Tensor
    squared: Tensor

    def __init__(
        self, count: int, radius_voxels: float, shell: float, sigma_voxels: float, voxels: tuple[float, ...]
    ) -> None:
        super().__init__()
        points = torch.from_numpy(kernel_points(count, shell * radius_voxels))
        # Follows from the profile: not part of a checkpoint.
        self.register_buffer("points", points, persistent=False)
        scaled = points / sigma_voxels
        rows = [-2.0 * scaled.T, torch.ones(3, count), torch.full((1, count), ABSENT)]
        self.register_buffer("expansion", torch.cat(rows), persistent=False)
        self.register_buffer("squared", (scaled * scaled).sum(dim=1), persistent=False)
        self.sigma = sigma_voxels
        self.voxels = voxels

    def forward(self, cloud: CloudTables) -> list[LevelGeometry]:
        """Geometry of every level of a cloud, fine to coarse."""
        result = []
        for i, level in enumerate(cloud.levels):
            down = up = None
            if level.pool is not None and level.upsample is not None:
                coarser = cloud.levels[i + 1].points
                down = self.neighbourhood(coarser, level.points, level.pool, self.voxels[i])
                up = level.upsample.clamp(max=coarser.shape[0] - 1)
            result.append(
                LevelGeometry(
                    mask=level.mask,
                    share=level.mask.transpose(0, 1) / level.mask.sum().clamp(min=1.0),
                    near=self.neighbourhood(level.points, level.points, level.neighbours, self.voxels[i]),
                    down=down,
                    up=up,
                )
            )
        return result

    def neighbourhood(self, queries: Tensor, supports: Tensor, table: Tensor, voxel: float) -> Neighbourhood:
        """Neighbourhood of (M, 3) queries in (C, 3) supports by an (M, H) table.

        Written for engines that run one operation after another: every elementwise step is on tables of the same shape, as
        broadcasts over a short last axis cost ten times as much.
        """
        capacity, width = supports.shape[0], table.shape[1]
        missing = table >= capacity
        # A missing entry repeats the nearest neighbour: no maximum changes by it, and its influence is 0 (below).
        nearest = table[:, :1].clamp(max=capacity - 1).expand(-1, width)
        index = torch.where(missing, nearest, table).reshape(-1)
        near = gather_rows(supports, index).reshape(-1, 3 * width)
        offset = ((near - queries.repeat(1, width)) / (voxel * self.sigma)).reshape(-1, 3)
        # |y - k|^2 = |y|^2 - 2 y.k + |k|^2 as one product, without an (M, H, K, 3) tensor; in units of sigma.
        absent = missing.to(supports.dtype).reshape(-1, 1)
        squared = torch.cat([offset, offset * offset, absent], dim=1) @ self.expansion + self.squared
        floor = (FLOOR / self.sigma) ** 2
        influence = torch.relu(1.0 - squared.clamp(min=floor).sqrt()).reshape(-1, width, self.points.shape[0])
        present = 1.0 - absent.reshape(-1, width)
        return Neighbourhood(index, present, influence, present.sum(dim=1, keepdim=True).clamp(min=1.0))


def positive_count(features: Tensor, near: Neighbourhood) -> Tensor:
    """(M, 1) neighbours whose feature sum is above 0, at least 1: the divisor of GeoTransformer's convolution."""
    positive = (features.detach().sum(dim=1) > 0).to(features.dtype)
    counted = gather_rows(positive, near.rows).reshape(near.present.shape) * near.present
    return counted.sum(dim=1, keepdim=True).clamp(min=1.0)


class KPConv(nn.Module):
    """Kernel point convolution, C -> D channels: (M, K, H) x (M, H, C) -> (M, K C) x (K C, D)."""

    def __init__(self, kernel: int, channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(kernel * channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        # As a linear layer over K C inputs would start (He 2015, a = sqrt 5).
        bound = (kernel * channels) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, features: Tensor, near: Neighbourhood, count: Tensor | None = None) -> Tensor:
        """(M, D) from the support's (C0, C) features; ``count`` (M, 1) replaces the number of neighbours."""
        queries, width = near.present.shape
        gathered = gather_rows(features, near.rows).reshape(queries, width, -1)
        weighted = torch.bmm(near.influence.transpose(1, 2), gathered)
        summed = weighted.reshape(queries, -1) @ self.weight
        return summed / (near.size if count is None else count) + self.bias


def max_pool(features: Tensor, near: Neighbourhood) -> Tensor:
    """(M, C) largest feature among each query's neighbours; 0 where there is none."""
    queries, width = near.present.shape
    # Missing entries repeat a real one (see ``KernelGeometry.neighbourhood``).
    gathered = gather_rows(features, near.rows).reshape(queries, width, -1)
    # max rather than amax: its gradient follows one index instead of comparing everything with the result.
    return gathered.max(dim=1).values * near.present[:, :1]
