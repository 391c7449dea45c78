"""One step of training: forward, loss, gradients; and the ablations' ways to a mask."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from end2reg_ros.network.gumbel import gumbel_noise
from end2reg_ros.network.losses import LossSettings, registration_loss
from end2reg_ros.network.model import End2Reg
from end2reg_ros.network.outputs import Sampling, Segmentation, TrainingOutput
from end2reg_ros.training.config import Strategy
from end2reg_ros.training.data.loader import PairTensors

WEAK_LABEL_UNITS = 3.0 / 95.0  # a scene point within 3 mm of the posed model counts as bone (Warner 2025)
HALF_CELL_UNITS = 0.025  # model points are means of cells: so far from one may a point on the surface be


@dataclass(frozen=True)
class StepResult:
    """Figures of one step.

    Attributes:
        total: the loss, for ``backward``; detached once that is done.
        coarse, fine: its parts.
        mask_share: share of label 1 among the scene's points; mask_iou: its overlap with the true bone.
    """

    total: Tensor
    coarse: float
    fine: float
    mask_share: float
    mask_iou: float

    @property
    def loss(self) -> float:
        """The loss as a number."""
        return float(self.total.detach())

    def detached(self) -> StepResult:
        """The figures without the graph behind the loss, which holds the step's memory."""
        return replace(self, total=self.total.detach())


def registration_step(
    network: End2Reg,
    pair: PairTensors,
    strategy: Strategy,
    tau: float,
    settings: LossSettings,
    generator: torch.Generator,
) -> StepResult:
    """Loss of one pair, ready for ``backward``.

    ``end_to_end`` draws the mask by straight-through Gumbel-softmax and lets the loss train it; ``two_step`` takes the
    frozen segmentation's plain argmax; ``all_ones`` and ``true_mask`` put a constant in its place.
    """
    if strategy == "end_to_end":
        finest = (pair.scene.segmentation or pair.scene.registration).attributes
        noise = gumbel_noise((finest.shape[0], 2), generator).to(finest.device)
        output = network.training_pass(pair.model, pair.scene, Sampling(noise, tau))
    else:
        output = fixed_mask_pass(network, pair, strategy)
    loss = registration_loss(network, output, pair.pose, settings, generator)
    share, iou = mask_figures(output.segmentation.mask.detach(), pair)
    return StepResult(loss.total, float(loss.coarse.detach()), float(loss.fine.detach()), share, iou)


def fixed_mask_pass(network: End2Reg, pair: PairTensors, strategy: Strategy) -> TrainingOutput:
    """A pass whose mask takes no gradient."""
    model_side = network.encode_model(pair.model)
    geometry = network.geometry(pair.scene.registration)
    real = geometry[0].mask[:, 0]
    if strategy == "two_step":
        with torch.no_grad():
            segmentation = network.segment(pair.scene, geometry)
    else:
        mask = real if strategy == "all_ones" else real * (pair.bone > 0.5).to(real.dtype)
        logits = torch.zeros(len(mask), 2, device=mask.device)
        segmentation = Segmentation(logits, mask)
    scene_side = network.encode_masked(pair.scene.registration, geometry, segmentation.mask)
    return TrainingOutput(segmentation, model_side, scene_side, *network.relate(model_side, scene_side))


def segmentation_step(network: End2Reg, pair: PairTensors) -> StepResult:
    """First step of the two-step training: cross-entropy against weak labels from the true pose (paper, section 3)."""
    geometry = network.geometry(pair.scene.registration)
    segmentation = network.segment(pair.scene, geometry)
    cloud = pair.scene.segmentation or pair.scene.registration
    labels = weak_labels(pair, cloud.levels[0].points)
    real = cloud.levels[0].mask[:, 0] > 0
    loss = F.cross_entropy(segmentation.logits[real], labels[real])
    share, iou = mask_figures(segmentation.mask.detach(), pair)
    return StepResult(loss, 0.0, 0.0, share, iou)


@torch.no_grad()
def weak_labels(pair: PairTensors, points: Tensor) -> Tensor:
    """(C,) 1 for scene points (C, 3) within 3 mm of the model under the true pose, else 0."""
    level = pair.model.levels[0]
    moved = level.points[level.mask[:, 0] > 0] @ pair.pose.rotation.T + pair.pose.translation
    distance = torch.cdist(points, moved).amin(dim=1)
    return (distance < (WEAK_LABEL_UNITS**2 + HALF_CELL_UNITS**2) ** 0.5).to(torch.int64)


def mask_figures(mask: Tensor, pair: PairTensors) -> tuple[float, float]:
    """Share of label 1 and intersection over union with the simulator's bone, over the scene's points."""
    level = pair.scene.registration.levels[0].mask[:, 0] > 0
    chosen, bone = (mask > 0.5)[level], (pair.bone > 0.5)[: int(level.sum())]
    union = (chosen | bone).sum().clamp(min=1)
    return float(chosen.float().mean()), float((chosen & bone).sum() / union)
