"""What the true pose says about two clouds: which superpoints overlap, which points correspond. Training only.

Overlaps come from geometry alone, never from the predicted mask: a mask that drops a superpoint does not change what is
right, and the loss can still ask for it back.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from end2reg_ros.network.kpconv import gather_rows
from end2reg_ros.network.matching import SuperpointPairs


class TruePose(NamedTuple):
    """T_scene_model in network units: ``rotation`` (3, 3), ``translation`` (3,)."""

    rotation: Tensor
    translation: Tensor


class PatchCloud(NamedTuple):
    """One cloud's patches: ``points`` (F, 3), ``real`` (F,) 1 for points that are no padding, ``patches`` (N, P)."""

    points: Tensor
    real: Tensor
    patches: Tensor


@torch.no_grad()
def superpoint_overlap(model: PatchCloud, scene: PatchCloud, pose: TruePose, radius: float) -> Tensor:
    """(N, M) overlap of every pair of patches: the share of points with a partner nearer than ``radius``.

    Mean of both sides' shares, as GeoTransformer's training code defines it; 0 for empty patches.
    """
    moved = model.points @ pose.rotation.T + pose.translation
    x, x_real = _members(PatchCloud(moved, model.real, model.patches))
    y, y_real = _members(scene)
    overlap = torch.zeros(len(x), len(y), device=x.device)
    # Only pairs whose bounding balls meet can overlap: a few in a hundred.
    x_centre, x_reach = _ball(x, x_real)
    y_centre, y_reach = _ball(y, y_real)
    meets = torch.cdist(x_centre, y_centre) <= x_reach[:, None] + y_reach[None] + radius
    meets &= x_real.any(dim=1)[:, None] & y_real.any(dim=1)[None]
    for chunk in meets.nonzero().split(2048):
        i, j = chunk.unbind(dim=1)
        near = _near(x[i], y[j], radius) & x_real[i][:, :, None] & y_real[j][:, None]
        x_share = near.any(dim=2).sum(dim=1) / x_real[i].sum(dim=1)
        y_share = near.any(dim=1).sum(dim=1) / y_real[j].sum(dim=1)
        overlap[i, j] = 0.5 * (x_share + y_share)
    return overlap


@torch.no_grad()
def true_pairs(
    overlap: Tensor, usable: Tensor, count: int, threshold: float, generator: torch.Generator | None = None
) -> SuperpointPairs:
    """``count`` pairs drawn from those that overlap by more than ``threshold``; fewer are filled up with valid = 0.

    Args:
        overlap: (N, M); also the score of the pairs.
        usable: (N, M) bool, pairs that may be drawn (both sides in use).
        generator: of the draw, on the CPU; None draws from torch's own.
    """
    found = ((overlap > threshold) & usable).nonzero()
    chosen = found[torch.randperm(len(found), generator=generator)[:count].to(found.device)]
    rows = torch.zeros(count, 2, dtype=torch.int64, device=overlap.device)
    valid = torch.zeros(count, device=overlap.device)
    rows[: len(chosen)], valid[: len(chosen)] = chosen, 1.0
    return SuperpointPairs(rows[:, 0], rows[:, 1], overlap[rows[:, 0], rows[:, 1]] * valid, valid)


@torch.no_grad()
def point_labels(
    model: Tensor, scene: Tensor, model_mask: Tensor, scene_mask: Tensor, radius: float
) -> Tensor:
    """(k, P + 1, Q + 1) of 0 and 1: pairs nearer than ``radius``; the dustbins hold points in use without a partner.

    Args:
        model: (k, P, 3) patch points under the true pose, scene: (k, Q, 3).
        model_mask, scene_mask: (k, P), (k, Q) of 1 and 0.
    """
    near = _near(model, scene, radius).to(model.dtype) * model_mask[:, :, None] * scene_mask[:, None]
    lonely_rows = model_mask * (1.0 - near.amax(dim=2))
    lonely_columns = scene_mask * (1.0 - near.amax(dim=1))
    corner = torch.zeros_like(lonely_rows[:, :1])
    right = torch.cat([lonely_rows, corner], dim=1)[:, :, None]
    return torch.cat([torch.cat([near, lonely_columns[:, None]], dim=1), right], dim=2)


def _near(x: Tensor, y: Tensor, radius: float) -> Tensor:
    """(k, P, Q) whether points of (k, P, 3) and (k, Q, 3) are nearer than the radius."""
    # Exact differences: the product form of cdist loses what is left of small distances far from the origin.
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") < radius


def _members(cloud: PatchCloud) -> tuple[Tensor, Tensor]:
    """Points (N, P, 3) of all patches and whether each is real (N, P)."""
    capacity = len(cloud.points)
    index = cloud.patches.clamp(max=capacity - 1).reshape(-1)
    real = (cloud.patches < capacity) & (gather_rows(cloud.real, index) > 0).reshape(cloud.patches.shape)
    return gather_rows(cloud.points, index).reshape(*cloud.patches.shape, 3), real


def _ball(points: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Centre (N, 3) and reach (N,) of each patch's real points."""
    weight = real.to(points.dtype)[:, :, None]
    centre = (points * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
    reach = ((points - centre[:, None]).norm(dim=2) * real).amax(dim=1)
    return centre, reach
