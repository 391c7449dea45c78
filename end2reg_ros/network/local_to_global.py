"""From correspondences to one pose (GeoTransformer, section 3.5): every patch pair proposes one, all vote, the best is
refined. RANSAC without the random part.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from end2reg_ros.network.kpconv import gather_rows
from end2reg_ros.network.matching import Correspondences
from end2reg_ros.network.pose import LINE, RigidFit, fit_rigid

MIN_CORRESPONDENCES = 3


class PoseEstimate(NamedTuple):
    """T_scene_model in network units.

    Attributes:
        rotation: (3, 3), translation: (3,): scene = R model + t. The identity when nothing was proposed.
        inliers: () correspondences within the radius; 0 when nothing was proposed.
        total: () correspondences.
        support: (k,) inliers of each patch pair's own proposal, 0 for those rejected: the margin between hypotheses.
        candidates: each patch pair's own proposal, a batch of k.
    """

    rotation: Tensor
    translation: Tensor
    inliers: Tensor
    total: Tensor
    support: Tensor
    candidates: RigidFit


@torch.no_grad()
def local_to_global(found: Correspondences, inlier_radius: float, refinements: int) -> PoseEstimate:
    """The pose with the most inliers among the patch pairs' own, refined by re-weighted fits to its inliers.

    Proposals from fewer than three correspondences, or from points on one line, are rejected.
    """
    pairs = found.weight.shape[0]
    proposals = fit_rigid(found.model, found.scene, found.weight)
    enough = (found.weight > 0).to(found.weight.dtype).sum(dim=1) >= MIN_CORRESPONDENCES
    usable = (enough & (proposals.spread > LINE)).to(found.weight.dtype)

    model, scene = found.model.reshape(1, -1, 3), found.scene.reshape(1, -1, 3)
    weight = found.weight.reshape(1, -1)
    present = (weight > 0).to(weight.dtype)
    near = (squared_residuals(proposals, model[0], scene[0]) < inlier_radius**2).to(weight.dtype)
    support = (near @ present[0]) * usable
    # A matrix of one row: TensorRT takes the largest of no vector.
    best = support.unsqueeze(0).argmax(dim=1)
    any_usable = usable.amax(dim=0)

    inlying = gather_rows(near, best) * present * any_usable
    fit = RigidFit(*(gather_rows(part, best) for part in proposals))
    for _ in range(refinements):
        fit = fit_rigid(model, scene, weight * inlying)
        inlying = _inliers(fit, model, scene, weight, inlier_radius) * any_usable
    identity = torch.eye(3, device=weight.device, dtype=weight.dtype)
    return PoseEstimate(
        rotation=fit.rotation[0] * any_usable + identity * (1.0 - any_usable),
        translation=fit.translation[0] * any_usable,
        inliers=inlying.sum(),
        total=present.sum(),
        support=support.reshape(pairs),
        candidates=proposals,
    )


def squared_residuals(fit: RigidFit, model: Tensor, scene: Tensor) -> Tensor:
    """(B, C) squared distances |R x + t - y|^2 of (C, 3) correspondences under each of B poses.

    Multiplied out it is linear in what depends on the correspondence alone: one matrix product for all poses. The
    error is that of float32 at squared coordinates, about 1e-6.
    """
    turned = (scene[:, :, None] * model[:, None]).reshape(-1, 9)
    size = (model * model + scene * scene).sum(dim=1, keepdim=True)
    known = torch.cat([size, torch.ones_like(size), turned, model, scene], dim=1)
    t = fit.translation
    back = (fit.rotation * t[:, :, None]).sum(dim=1)
    one = torch.ones_like(t[:, :1])
    pose = [one, (t * t).sum(dim=1, keepdim=True), -2.0 * fit.rotation.reshape(-1, 9), 2.0 * back, -2.0 * t]
    return torch.cat(pose, dim=1) @ known.transpose(0, 1)


def _inliers(fit: RigidFit, model: Tensor, scene: Tensor, weight: Tensor, radius: float) -> Tensor:
    """(B, C) 1 where a correspondence (weight above 0) ends within the radius under each of B poses."""
    offset = model @ fit.rotation.transpose(1, 2) + fit.translation[:, None] - scene
    near = (offset * offset).sum(dim=2) < radius * radius
    return (near & (weight > 0)).to(weight.dtype)
