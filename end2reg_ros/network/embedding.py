"""Geometric structure embedding of superpoint pairs (GeoTransformer, section 3.2): distances and triplet angles.

Unchanged by any rigid motion of the cloud. The sinusoids are functions of one scalar, so a lookup table of projected
bins can stand for them: the weights are applied to the bins, and pairs gather their row.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

from end2reg_ros.network.kpconv import gather_rows

# Far beyond two unit spheres side by side, and the largest angle.
MAX_DISTANCE = 4.0
MAX_ANGLE_DEG = 180.0
FAR = 1e3


def sinusoid(values: Tensor, channels: int) -> Tensor:
    """(..., channels) sine and cosine of the values at falling frequencies, interleaved (Vaswani 2017)."""
    steps = torch.arange(0, channels, 2, device=values.device, dtype=values.dtype)
    angles = values[..., None] * torch.exp(steps * (-math.log(10000.0) / channels))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def pair_geometry(points: Tensor, mask: Tensor, neighbours: int) -> tuple[Tensor, list[Tensor]]:
    """Distances (N, N) and k tables (N, N) of angles in radians: at i between j and each of i's k nearest points.

    Padding is never a nearest point; where there are fewer than k others, the angle is 0.

    Args:
        points: (N, 3).
        mask: (N,) 1 for points, 0 for padding.
        neighbours: k.
    """
    count = points.shape[0]
    # Coordinate by coordinate on (N, N) tables: a last axis of three makes every step ten times as dear.
    x = [points[:, i] for i in range(3)]
    offset = [c[None] - c[:, None] for c in x]
    distance = _length(offset)
    same = torch.eye(count, device=points.device, dtype=points.dtype)
    near, index = (distance + FAR * ((1.0 - mask)[None] + same)).topk(
        min(neighbours, count), dim=1, largest=False
    )
    present = (near < FAR).to(points.dtype)
    elsewhere = 1.0 - same  # from i to itself there is no direction
    angles = []
    for k in range(index.shape[1]):
        reference = gather_rows(points, index[:, k]) - points
        r = [reference[:, i : i + 1] for i in range(3)]
        cosine = offset[0] * r[0] + offset[1] * r[1] + offset[2] * r[2]
        cosine = cosine / (distance * _length(r)).clamp(min=1e-6)
        # acos, as static graphs know no atan2; its error near 0 is 0.03 degrees.
        angles.append(torch.acos(cosine.clamp(min=-1.0, max=1.0)) * (elsewhere * present[:, k : k + 1]))
    return distance, angles


def _length(parts: list[Tensor]) -> Tensor:
    """Length of vectors given by their three coordinates."""
    return (parts[0] * parts[0] + parts[1] * parts[1] + parts[2] * parts[2]).clamp(min=1e-12).sqrt()


class GeometricEmbedding(nn.Module):
    """Embedding (N, N, C) of all superpoint pairs of one cloud.

    Args:
        channels: C.
        sigma_distance: distance of one step of the sinusoid.
        sigma_angle_deg: angle of one step.
        neighbours: points that span angles.
        bins: rows of the lookup table (nearest row); 0 computes every pair exactly.
    """

    def __init__(
        self, channels: int, sigma_distance: float, sigma_angle_deg: float, neighbours: int, bins: int = 0
    ) -> None:
        super().__init__()
        self.channels, self.neighbours, self.bins = channels, neighbours, bins
        self.sigma_distance = sigma_distance
        self.sigma_angle = math.radians(sigma_angle_deg)
        self.distance = nn.Linear(channels, channels)
        self.angle = nn.Linear(channels, channels)

    def forward(self, points: Tensor, mask: Tensor) -> Tensor:
        """(N, N, C) of (N, 3) points; no gradient flows to the points."""
        distance, angles = pair_geometry(points.detach(), mask.detach(), self.neighbours)
        near = self._embed(self.distance, [distance], MAX_DISTANCE, self.sigma_distance)[0]
        turned = self._embed(self.angle, angles, math.radians(MAX_ANGLE_DEG), self.sigma_angle)
        return near + functools.reduce(_larger, turned)

    def _embed(
        self, projection: nn.Module, values: list[Tensor], largest: float, sigma: float
    ) -> list[Tensor]:
        """Projected sinusoids (N, N, C) of each (N, N) table of values."""
        if not self.bins:
            return [projection(sinusoid(value / sigma, self.channels)) for value in values]
        step = largest / (self.bins - 1)
        grid = torch.arange(self.bins, device=values[0].device, dtype=values[0].dtype) * (step / sigma)
        table = projection(sinusoid(grid, self.channels))
        rows = [(value / step + 0.5).clamp(min=0.0, max=self.bins - 1.0).to(torch.int32) for value in values]
        return [gather_rows(table, row.reshape(-1)).reshape(*row.shape, self.channels) for row in rows]


def _larger(a: Tensor, b: Tensor) -> Tensor:
    """Element-wise maximum; for training in the form whose gradient does not look for ties (a third cheaper)."""
    return torch.where(a > b, a, b) if torch.is_grad_enabled() else torch.maximum(a, b)
