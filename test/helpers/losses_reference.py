"""Slow, obvious twins of the losses: one pair at a time, in plain Python; tests hold the two together."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.network.losses import LossSettings

Array = NDArray[np.floating]


def circle_loss_reference(model: Array, scene: Array, overlap: Array, settings: LossSettings) -> float:
    """The circle loss of unpadded (N, C) and (M, C) features with (N, M) overlaps."""
    x = [row / np.linalg.norm(row) for row in model.astype(np.float64)]
    y = [row / np.linalg.norm(row) for row in scene.astype(np.float64)]
    one_way = _anchored(x, y, overlap, settings)
    return 0.5 * (one_way + _anchored(y, x, overlap.T, settings))


def _anchored(anchors: list[Array], others: list[Array], overlap: Array, settings: LossSettings) -> float:
    losses = []
    for i, anchor in enumerate(anchors):
        near, far = [], []
        for j, other in enumerate(others):
            d = float(np.linalg.norm(anchor - other))
            if overlap[i, j] > settings.positive_overlap:
                pull = settings.scale * math.sqrt(overlap[i, j]) * max(0.0, d - settings.positive_margin)
                near.append(math.exp(pull * (d - settings.positive_margin)))
            elif overlap[i, j] == 0:
                push = settings.scale * max(0.0, settings.negative_margin - d)
                far.append(math.exp(push * (settings.negative_margin - d)))
        if near and far:
            losses.append(math.log(1.0 + sum(near) * sum(far)) / settings.scale)
    return sum(losses) / len(losses) if losses else 0.0


def matching_loss_reference(
    assignment: Array, model: Array, scene: Array, masks: tuple[Array, Array], radius: float
) -> float:
    """The fine loss of (k, P + 1, Q + 1) log assignments for points (k, P, 3) under the true pose and (k, Q, 3)."""
    terms = []
    model_mask, scene_mask = masks
    for k in range(len(model)):
        rows = [p for p in range(model.shape[1]) if model_mask[k, p]]
        columns = [q for q in range(scene.shape[1]) if scene_mask[k, q]]
        pairs = [(p, q) for p in rows for q in columns if math.dist(model[k, p], scene[k, q]) < radius]
        terms += [-float(assignment[k, p, q]) for p, q in pairs]
        terms += [-float(assignment[k, p, -1]) for p in rows if p not in {a for a, _ in pairs}]
        terms += [-float(assignment[k, -1, q]) for q in columns if q not in {b for _, b in pairs}]
    return sum(terms) / len(terms) if terms else 0.0


def overlap_reference(
    model: Array, model_patches: list[list[int]], scene: Array, scene_patches: list[list[int]], radius: float
) -> Array:
    """(N, M) overlaps of patches of points, the model's under the true pose."""
    result = np.zeros((len(model_patches), len(scene_patches)))
    for i, own in enumerate(model_patches):
        for j, seen in enumerate(scene_patches):
            if own and seen:
                own_near = [any(math.dist(model[a], scene[b]) < radius for b in seen) for a in own]
                seen_near = [any(math.dist(model[a], scene[b]) < radius for a in own) for b in seen]
                result[i, j] = 0.5 * (sum(own_near) / len(own) + sum(seen_near) / len(seen))
    return result
