"""Superpoint matching and point correspondences (GeoTransformer, sections 3.3 and 3.4). Fixed sizes throughout."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from end2reg_ros.network.kpconv import gather_rows


class SuperpointPairs(NamedTuple):
    """The k best superpoint pairs, best first.

    Attributes:
        model, scene: (k,) superpoint rows.
        score: (k,) matching score.
        valid: (k,) 1 for a pair of two superpoints in use, else 0.
    """

    model: Tensor
    scene: Tensor
    score: Tensor
    valid: Tensor


class Correspondences(NamedTuple):
    """Point correspondences of all patch pairs; most rows are empty (weight 0).

    Attributes:
        model, scene: (k, P * t, 3) points.
        weight: (k, P * t) confidence, 0 where there is none.
    """

    model: Tensor
    scene: Tensor
    weight: Tensor


def superpoint_scores(model: Tensor, scene: Tensor, model_mask: Tensor, scene_mask: Tensor) -> Tensor:
    """(N, M) scores exp(-|x - y|^2) of unit features, normalised over rows and over columns; 0 where masked."""
    x, y = F.normalize(model, dim=1, eps=1e-6), F.normalize(scene, dim=1, eps=1e-6)
    score = torch.exp(2.0 * (x @ y.T) - 2.0) * model_mask[:, None] * scene_mask[None]
    rows = score / score.sum(dim=1, keepdim=True).clamp(min=1e-6)
    columns = score / score.sum(dim=0, keepdim=True).clamp(min=1e-6)
    return rows * columns


def best_pairs(scores: Tensor, count: int) -> SuperpointPairs:
    """The ``count`` largest of (N, M) scores; fewer when the table is smaller."""
    columns = scores.shape[1]
    score, flat = scores.detach().reshape(-1).topk(min(count, scores.numel()))
    rows = torch.div(flat, columns, rounding_mode="floor")
    return SuperpointPairs(rows, flat - rows * columns, score, (score > 0).to(scores.dtype))


def patch_rows(
    patches: Tensor, superpoints: Tensor, point_mask: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """Point rows (k * P,) of each chosen superpoint's patch, clamped, and their mask (k, P).

    Args:
        patches: (N, P) rows of the fine level; its capacity where missing.
        superpoints: (k,) rows of ``patches``.
        point_mask: (F,) 1 for points in use.
        valid: (k,) 1 for pairs in use.
    """
    capacity = point_mask.shape[0]
    rows = gather_rows(patches, superpoints)
    index = rows.clamp(max=capacity - 1).reshape(-1)
    present = (rows < capacity).to(point_mask.dtype) * valid[:, None]
    return index, present * gather_rows(point_mask, index).reshape(rows.shape)


def patch_scores(model: Tensor, scene: Tensor) -> Tensor:
    """(k, P, Q) similarity of (k, P, C) and (k, Q, C) point features: x . y / sqrt(C)."""
    return torch.bmm(model, scene.transpose(1, 2)) * (model.shape[2] ** -0.5)


def mutual_weights(
    assignment: Tensor, row_mask: Tensor, column_mask: Tensor, top: int, confidence: float
) -> Tensor:
    """(k, P, Q) assignments that are among the ``top`` of their row and of their column and confident enough; else 0.

    Args:
        assignment: (k, P, Q) probabilities without the dustbins.
        row_mask, column_mask: (k, P), (k, Q).
    """
    masked = assignment * row_mask[:, :, None] * column_mask[:, None]
    of_row = masked.topk(min(top, masked.shape[2]), dim=2).values[:, :, -1:]
    of_column = masked.topk(min(top, masked.shape[1]), dim=1).values[:, -1:]
    kept = (masked >= of_row) & (masked >= of_column) & (masked > confidence)
    return masked * kept.to(masked.dtype)


def correspondences(weights: Tensor, model: Tensor, scene: Tensor, top: int) -> Correspondences:
    """The at most ``top`` correspondences of each patch row, as points.

    Args:
        weights: (k, P, Q) of ``mutual_weights``.
        model: (k, P, 3), scene: (k, Q, 3) points of the patches.
    """
    pairs, rows, columns = weights.shape
    top = min(top, columns)
    weight, index = weights.topk(top, dim=2)
    offset = torch.arange(pairs, device=weights.device)[:, None, None] * columns
    seen = gather_rows(scene.reshape(-1, 3), (index + offset).reshape(-1)).reshape(pairs, rows * top, 3)
    own = model[:, :, None].expand(pairs, rows, top, 3).reshape(pairs, rows * top, 3)
    return Correspondences(own, seen, weight.reshape(pairs, rows * top))
