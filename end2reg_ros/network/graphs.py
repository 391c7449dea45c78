"""The two halves of the network as functions of flat, named tensors: what an export writes down and an engine runs.

``ModelGraph`` is run once a case, ``SceneGraph`` every frame; the torch engine runs the same two, so that it is the reference
of every other one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from end2reg_ros.network.kpconv import gather_rows
from end2reg_ros.network.model import End2Reg
from end2reg_ros.network.outputs import CloudEncoding
from end2reg_ros.network.region_net import RegionNet
from end2reg_ros.network.tables import CloudTables, SceneTables


class EncodedModel(NamedTuple):
    """The part of the pre-operative side's encoding that matching looks at; fields as in ``CloudEncoding``."""

    node_mask: Tensor
    node_features: Tensor
    embedding: Tensor
    fine_points: Tensor
    fine_mask: Tensor
    fine_features: Tensor
    patches: Tensor


class SceneResult(NamedTuple):
    """What one pass gives, C0 cells of the scene's level 0, k patch pairs, n correspondences a pair.

    Attributes:
        mask: (C0,) label 0 or 1; margin: (C0,) logit of label 1 minus that of label 0.
        rotation: (3, 3), translation: (3,), inliers: (), total: (), support: (k,) see ``PoseEstimate``.
        candidate_rotation: (k, 3, 3), candidate_translation: (k, 3) each pair's own proposal.
        matched_model, matched_scene: (k, n, 3) corresponding points, network units; matched_weight: (k, n), 0 for none.
    """

    mask: Tensor
    margin: Tensor
    rotation: Tensor
    translation: Tensor
    inliers: Tensor
    total: Tensor
    support: Tensor
    candidate_rotation: Tensor
    candidate_translation: Tensor
    matched_model: Tensor
    matched_scene: Tensor
    matched_weight: Tensor


class ModelGraph(nn.Module):
    """Tables of the pre-operative side to its encoding."""

    def __init__(self, network: End2Reg) -> None:
        super().__init__()
        self.network = network

    def forward(self, tables: CloudTables) -> EncodedModel:
        """Encode."""
        e = self.network.encode_model(tables)
        return EncodedModel(
            e.node_mask, e.node_features, e.embedding, e.fine_points, e.fine_mask, e.fine_features, e.patches
        )


class SceneGraph(nn.Module):
    """Tables of a scene and the model's encoding to mask, correspondences and pose."""

    def __init__(self, network: End2Reg) -> None:
        super().__init__()
        self.network = network

    def forward(self, tables: SceneTables, model: EncodedModel, labels: Tensor | None = None) -> SceneResult:
        """One pass; ``labels`` (C0,) stands in for the learned mask (studies of what the mask is worth)."""
        network = self.network
        geometry = network.geometry(tables.registration)
        segmentation = network.segment(tables, geometry)
        mask = segmentation.mask if labels is None else labels
        matching = network.match(whole(model), network.encode_masked(tables.registration, geometry, mask))
        margin = segmentation.logits[:, 1] - segmentation.logits[:, 0]
        if tables.transfer is not None:  # the segmentation has cells of its own
            margin = gather_rows(margin, tables.transfer.clamp(max=margin.shape[0] - 1))
        pose, found = matching.pose, matching.found
        return SceneResult(
            mask,
            margin,
            pose.rotation,
            pose.translation,
            pose.inliers,
            pose.total,
            pose.support,
            pose.candidates.rotation,
            pose.candidates.translation,
            found.model,
            found.scene,
            found.weight,
        )


class RegionGraph(nn.Module):
    """The region finder under the name that its numbers have in a weights file."""

    def __init__(self, region: RegionNet) -> None:
        super().__init__()
        self.region = region

    def forward(self, picture: Tensor) -> Tensor:
        """Maps of where in a view the spine may lie, from a batch of view grids."""
        maps: Tensor = self.region(picture)
        return maps


def whole(model: EncodedModel) -> CloudEncoding:
    """The encoding that ``match`` takes; the fields that it does not look at are filled with others."""
    return CloudEncoding(
        node_points=model.fine_points,
        node_mask=model.node_mask,
        node_real=model.node_mask,
        node_features=model.node_features,
        embedding=model.embedding,
        fine_points=model.fine_points,
        fine_mask=model.fine_mask,
        fine_real=model.fine_mask,
        fine_features=model.fine_features,
        patches=model.patches,
    )


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Learned numbers and running statistics by name: what a weights file holds and a graph takes as its weights."""
    return {
        name: value for name, value in module.state_dict().items() if not name.endswith("num_batches_tracked")
    }


def stateless(module: nn.Module, state: dict[str, Tensor], *arguments: object) -> object:
    """A module's result with other numbers than its own."""
    return torch.func.functional_call(module, state, arguments)
