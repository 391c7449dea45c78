"""The registration loss, the only one there is (End2Reg eq. 5; GeoTransformer, section 3.6). No segmentation labels.

L = L_coarse + L_fine. Both are means over what there is and 0 where there is nothing: never NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from end2reg_ros.network.kpconv import gather_rows
from end2reg_ros.network.model import End2Reg
from end2reg_ros.network.outputs import TrainingOutput
from end2reg_ros.network.targets import PatchCloud, TruePose, point_labels, superpoint_overlap, true_pairs

MASKED = -1e4


@dataclass(frozen=True)
class LossSettings:
    """Published values.

    Attributes:
        positive_margin, negative_margin: of the distance of unit features (0..2).
        scale: sharpness of the circle loss.
        positive_overlap: a pair overlapping by more is positive.
        pairs: true superpoint pairs a step for the fine loss.
        coarse_weight, fine_weight: of the sum.
    """

    positive_margin: float = 0.1
    negative_margin: float = 1.4
    scale: float = 24.0
    positive_overlap: float = 0.1
    pairs: int = 128
    coarse_weight: float = 1.0
    fine_weight: float = 1.0


class RegistrationLoss(NamedTuple):
    """``total`` = coarse_weight * ``coarse`` + fine_weight * ``fine``; ``positives`` () superpoint pairs that overlap."""

    total: Tensor
    coarse: Tensor
    fine: Tensor
    positives: Tensor


def circle_loss(
    model: Tensor, scene: Tensor, overlap: Tensor, real: Tensor, settings: LossSettings
) -> Tensor:
    """Overlap-aware circle loss of superpoint features, mean of both directions (GeoTransformer eq. 13, 14).

    Anchors are superpoints with a positive and a negative partner. Positives weigh sqrt(overlap); negatives are pairs
    with no overlap at all; what lies between is ignored.

    Args:
        model, scene: (N, C), (M, C) features of any length.
        overlap: (N, M) of ``superpoint_overlap``.
        real: (N, M) 1 for pairs of real superpoints, 0 for padding.
    """
    x, y = F.normalize(model, dim=1, eps=1e-6), F.normalize(scene, dim=1, eps=1e-6)
    distance = (2.0 - 2.0 * (x @ y.T)).clamp(min=1e-6).sqrt()
    positive = (overlap > settings.positive_overlap).to(x.dtype) * real
    negative = (overlap == 0).to(x.dtype) * real
    # Self-paced weights: a pair that is already where it should be no longer pulls.
    pull = (distance - settings.positive_margin).clamp(min=0.0).detach() * overlap.sqrt()
    push = (settings.negative_margin - distance).clamp(min=0.0).detach()
    near = settings.scale * pull * (distance - settings.positive_margin) + (1.0 - positive) * MASKED
    far = settings.scale * push * (settings.negative_margin - distance) + (1.0 - negative) * MASKED
    sides = []
    for dim in (1, 0):
        anchor = positive.amax(dim=dim) * negative.amax(dim=dim)
        loss = F.softplus(torch.logsumexp(near, dim=dim) + torch.logsumexp(far, dim=dim)) / settings.scale
        sides.append((loss * anchor).sum() / anchor.sum().clamp(min=1.0))
    return 0.5 * (sides[0] + sides[1])


def matching_loss(assignment: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log assignment of the true point pairs and of the points without a partner (eq. 15).

    Args:
        assignment, labels: (k, P + 1, Q + 1); ``labels`` of ``point_labels``.
    """
    return -(assignment * labels).sum() / labels.sum().clamp(min=1.0)


def registration_loss(
    network: End2Reg,
    output: TrainingOutput,
    pose: TruePose,
    settings: LossSettings,
    generator: torch.Generator | None = None,
) -> RegistrationLoss:
    """Both losses of one pair of clouds. The true pose enters here, after the forward pass, and nowhere else."""
    radius = network.profile.positive_radius
    model, scene = output.model, output.scene
    overlap = superpoint_overlap(
        PatchCloud(model.fine_points, model.fine_real, model.patches),
        PatchCloud(scene.fine_points, scene.fine_real, scene.patches),
        pose,
        radius,
    )
    real = model.node_real[:, None] * scene.node_real[None]
    coarse = circle_loss(output.model_features, output.scene_features, overlap, real, settings)

    usable = (model.node_mask[:, None] * scene.node_mask[None]) > 0
    pairs = true_pairs(overlap, usable, settings.pairs, settings.positive_overlap, generator)
    assignment, (model_rows, model_mask), (scene_rows, scene_mask) = network.assign(model, scene, pairs)
    shape = (settings.pairs, -1, 3)
    moved = model.fine_points @ pose.rotation.T + pose.translation
    labels = point_labels(
        gather_rows(moved, model_rows).reshape(shape),
        gather_rows(scene.fine_points, scene_rows).reshape(shape),
        model_mask,
        scene_mask,
        radius,
    )
    fine = matching_loss(assignment, labels)
    total = settings.coarse_weight * coarse + settings.fine_weight * fine
    return RegistrationLoss(total, coarse, fine, (overlap > settings.positive_overlap).sum())
