"""How good a network is on fixed pairs it never trains on: landmark error of its own pose, and its mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from end2reg_ros.cloud.pyramid import UNIT_M
from end2reg_ros.network.local_to_global import PoseEstimate
from end2reg_ros.network.model import End2Reg
from end2reg_ros.training.config import Strategy
from end2reg_ros.training.data.loader import PairTensors
from end2reg_ros.training.steps import fixed_mask_pass, mask_figures


@dataclass(frozen=True)
class Validation:
    """Target registration error (mean over the landmarks of a scene) in mm, and the mask.

    Attributes:
        scenes: how many.
        tre_median_mm, tre_q1_mm, tre_q3_mm: over the scenes.
        outlier_share: scenes above 10 mm.
        mask_share, mask_iou: means.
    """

    scenes: int
    tre_median_mm: float
    tre_q1_mm: float
    tre_q3_mm: float
    outlier_share: float
    mask_share: float
    mask_iou: float

    def as_row(self) -> dict[str, float]:
        """Name -> figure, for logs."""
        return {name: float(value) for name, value in asdict(self).items()}


@torch.no_grad()
def validate(network: End2Reg, pairs: Sequence[PairTensors], strategy: Strategy = "end_to_end") -> Validation:
    """One pass over all pairs with the plain argmax mask (or the strategy's own)."""
    errors, shares, overlaps = [], [], []
    for pair in pairs:
        if strategy in ("end_to_end", "two_step"):
            output = network(pair.model, pair.scene)
            pose, mask = output.matching.pose, output.segmentation.mask
        else:
            encoded = fixed_mask_pass(network, pair, strategy)
            pose, mask = network.match(encoded.model, encoded.scene).pose, encoded.segmentation.mask
        errors.append(landmark_error_mm(pose, pair))
        share, iou = mask_figures(mask, pair)
        shares.append(share)
        overlaps.append(iou)
    q1, median, q3 = np.percentile(errors, [25, 50, 75])
    return Validation(
        len(errors), float(median), float(q1), float(q3), float(np.mean(np.array(errors) > 10.0)),
        float(np.mean(shares)), float(np.mean(overlaps)),
    )  # fmt: skip


def landmark_error_mm(pose: PoseEstimate, pair: PairTensors) -> float:
    """Mean distance of the landmarks under the found and the true pose, mm."""
    found = pair.landmarks @ pose.rotation.T + pose.translation
    true = pair.landmarks @ pair.pose.rotation.T + pair.pose.translation
    return float((found - true).norm(dim=1).mean()) * UNIT_M * 1e3
