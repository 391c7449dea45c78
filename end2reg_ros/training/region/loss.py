"""What the region network learns from: bone and directions of a batch of pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from end2reg_ros.training.region.data import RegionBatch


@dataclass(frozen=True)
class RegionLoss:
    """Parts of the loss, each a scalar tensor."""

    bone: Tensor
    dice: Tensor
    line: Tensor
    superior: Tensor
    anterior: Tensor

    def total(self, direction_weight: float) -> Tensor:
        """Their weighted sum."""
        return self.bone + self.dice + direction_weight * (self.line + self.superior + self.anterior)


def region_loss(output: Tensor, batch: RegionBatch, bone_weight: float) -> RegionLoss:
    """Losses of the network's maps (B, OUTPUTS, H, W).

    Cross-entropy over cells with points and soft Dice for bone. Directions over bone cells: squared error, whose best
    answer is the mean over what is possible, so that length tells confidence; for superior 1 - cos on top.
    """
    logit, bone, known = output[:, 0], batch.bone, batch.known
    weight = known * (1.0 + (bone_weight - 1.0) * bone)
    entropy = functional.binary_cross_entropy_with_logits(logit, bone, weight, reduction="sum")
    probability = torch.sigmoid(logit) * known
    dice = 1.0 - (2.0 * (probability * bone).sum() + 1.0) / (probability.sum() + bone.sum() + 1.0)
    true = batch.directions
    share = bone / bone.sum().clamp(min=1.0)
    x, y = true[:, 0], true[:, 1]
    line = (
        (output[:, 1:3] - torch.stack([x * x - y * y, 2.0 * x * y], dim=1)).square().sum(dim=1) * share
    ).sum()
    superior = ((output[:, 3:5] - true[:, :2]).square().sum(dim=1) * share).sum()
    cosine = functional.cosine_similarity(output[:, 3:5], true[:, :2], dim=1, eps=1e-4)
    anterior = ((output[:, 5:7] - true[:, 2:]).square().sum(dim=1) * share).sum()
    return RegionLoss(
        20.0 * entropy / weight.sum().clamp(min=1.0),
        dice,
        line,
        superior + 0.5 * ((1.0 - cosine) * share).sum(),
        4.0 * anterior,
    )
