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


class Pose(NamedTuple):
    """T_scene_model in network units.

    Attributes:
        rotation: (3, 3), translation: (3,): scene = R model + t. The identity when nothing was proposed.
        inliers: () correspondences within the radius; 0 when nothing was proposed.
        total: () correspondences.
        support: (k,) inliers of each patch pair's own proposal, 0 for those rejected: the margin between hypotheses.
    """

    rotation: Tensor
    translation: Tensor
    inliers: Tensor
    total: Tensor
    support: Tensor


@torch.no_grad()
def local_to_global(found: Correspondences, inlier_radius: float, refinements: int) -> Pose:
    """The pose with the most inliers among the patch pairs' own, refined by re-weighted fits to its inliers.

    Proposals from fewer than three correspondences, or from points on one line, are rejected.
    """
    pairs = found.weight.shape[0]
    proposals = fit_rigid(found.model, found.scene, found.weight)
    enough = (found.weight > 0).to(found.weight.dtype).sum(dim=1) >= MIN_CORRESPONDENCES
    usable = (enough & (proposals.spread > LINE)).to(found.weight.dtype)

    model, scene = found.model.reshape(1, -1, 3), found.scene.reshape(1, -1, 3)
    weight = found.weight.reshape(1, -1)
    votes = _inliers(proposals, model, scene, weight, inlier_radius)
    support = votes.sum(dim=1) * usable
    best = support.argmax().reshape(1)
    any_usable = usable.amax(dim=0)

    inlying = gather_rows(votes, best) * any_usable
    fit = RigidFit(*(gather_rows(part, best) for part in proposals))
    for _ in range(refinements):
        fit = fit_rigid(model, scene, weight * inlying)
        inlying = _inliers(fit, model, scene, weight, inlier_radius) * any_usable
    identity = torch.eye(3, device=weight.device, dtype=weight.dtype)
    return Pose(
        rotation=fit.rotation[0] * any_usable + identity * (1.0 - any_usable),
        translation=fit.translation[0] * any_usable,
        inliers=inlying.sum(),
        total=(weight > 0).to(weight.dtype).sum(),
        support=support.reshape(pairs),
    )


def _inliers(fit: RigidFit, model: Tensor, scene: Tensor, weight: Tensor, radius: float) -> Tensor:
    """(B, C) 1 where a correspondence (weight above 0) ends within the radius under each of B poses."""
    offset = model @ fit.rotation.transpose(1, 2) + fit.translation[:, None] - scene
    near = (offset * offset).sum(dim=2) < radius * radius
    return (near & (weight > 0)).to(weight.dtype)
