"""End2Reg: two clouds in, a mask and a rigid transform out. No ground truth comes near ``forward``.

The model side depends on the case only: ``encode_model`` runs once, ``encode_scene`` and ``match`` run every frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from end2reg_ros.cloud.pyramid import PyramidSpec
from end2reg_ros.network.backbone import Decoder, Encoder, level_channels
from end2reg_ros.network.blocks import BlockSettings
from end2reg_ros.network.embedding import GeometricEmbedding
from end2reg_ros.network.gumbel import argmax_mask, straight_through_mask
from end2reg_ros.network.kpconv import KernelGeometry, LevelGeometry, gather_rows
from end2reg_ros.network.local_to_global import local_to_global
from end2reg_ros.network.matching import (
    SuperpointPairs,
    best_pairs,
    correspondences,
    mutual_weights,
    patch_rows,
    patch_scores,
    superpoint_scores,
)
from end2reg_ros.network.outputs import (
    CloudEncoding,
    End2RegOutput,
    Matching,
    Sampling,
    Segmentation,
    TrainingOutput,
)
from end2reg_ros.network.segmentation import SegmentationNet
from end2reg_ros.network.sinkhorn import Sinkhorn
from end2reg_ros.network.tables import CloudTables, SceneTables
from end2reg_ros.network.transformer import GeometricTransformer
from end2reg_ros.profile import Profile


class End2Reg(nn.Module):
    """The whole network of one profile."""

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        self.profile = profile
        spec = profile.scene
        levels = len(spec.voxels)
        settings = BlockSettings(profile.kernel_points, profile.groups, profile.count)
        self.geometry = _geometry(spec, profile.kernel_points, profile)
        self.segmentation_geometry = (
            None
            if profile.segmentation is None
            else _geometry(profile.segmentation, profile.segmentation_kernel_points, profile)
        )
        self.segmentation = SegmentationNet(profile)
        self.encoder = Encoder(4 if profile.registration_normals else 1, profile.width, levels, settings)
        self.decoder = Decoder(profile.width, levels, settings, spec.fine_level, profile.fine_channels)
        self.embedding = GeometricEmbedding(
            profile.embedding_channels,
            profile.sigma_distance,
            profile.sigma_angle_deg,
            profile.angle_neighbours,
            profile.embedding_bins,
        )
        self.transformer = GeometricTransformer(level_channels(profile.width, levels)[-1], profile)
        self.sinkhorn = Sinkhorn(profile.sinkhorn_iterations, profile.sinkhorn_limit)

    def forward(self, model: CloudTables, scene: SceneTables) -> End2RegOutput:
        """One pass as at run time: the mask is the plain argmax."""
        model_side = self.encode_model(model)
        segmentation, scene_side = self.encode_scene(scene)
        return End2RegOutput(segmentation, model_side, scene_side, self.match(model_side, scene_side))

    def training_pass(self, model: CloudTables, scene: SceneTables, sampling: Sampling) -> TrainingOutput:
        """All that the losses need, with a mask drawn by Gumbel-softmax; matches and pose only run time wants."""
        model_side = self.encode_model(model)
        segmentation, scene_side = self.encode_scene(scene, sampling)
        return TrainingOutput(segmentation, model_side, scene_side, *self.relate(model_side, scene_side))

    def encode_model(self, model: CloudTables) -> CloudEncoding:
        """The model side: every point counts. A constant of the case and the weights."""
        geometry = self.geometry(model)
        return self.encode_masked(model, geometry, geometry[0].mask[:, 0])

    def encode_scene(
        self, scene: SceneTables, sampling: Sampling | None = None
    ) -> tuple[Segmentation, CloudEncoding]:
        """Mask and encoding of one frame."""
        geometry = self.geometry(scene.registration)
        segmentation = self.segment(scene, geometry, sampling)
        return segmentation, self.encode_masked(scene.registration, geometry, segmentation.mask)

    def segment(
        self, scene: SceneTables, geometry: list[LevelGeometry], sampling: Sampling | None = None
    ) -> Segmentation:
        """Logits and hard mask of the scene's points; ``geometry`` is that of ``scene.registration``."""
        if scene.segmentation is None or self.segmentation_geometry is None or scene.transfer is None:
            logits = self.segmentation(scene.registration.attributes, geometry)
        else:
            logits = self.segmentation(
                scene.segmentation.attributes, self.segmentation_geometry(scene.segmentation)
            )
        mask = (
            argmax_mask(logits)
            if sampling is None
            else straight_through_mask(logits, sampling.noise, sampling.tau)
        )
        if scene.transfer is not None:
            mask = gather_rows(mask, scene.transfer.clamp(max=mask.shape[0] - 1))
        return Segmentation(logits, mask * geometry[0].mask[:, 0])

    def encode_masked(self, cloud: CloudTables, geometry: list[LevelGeometry], mask: Tensor) -> CloudEncoding:
        """Backbone and first self-attention of one cloud, its (C0,) mask being the input feature (eq. 4)."""
        near = geometry[0].near
        features = mask[:, None]
        if self.profile.registration_normals:
            features = torch.cat([features, features * cloud.attributes[:, 3:6]], dim=1)
        # Only label-1 neighbours take part in the first layer: they alone are counted.
        labels = gather_rows(mask.detach(), near.rows).reshape(near.present.shape) * near.present
        count = labels.sum(dim=1, keepdim=True).clamp(min=1.0)
        encoded = self.encoder(features, geometry, count)
        fine_features = self.decoder(encoded, geometry)

        node_real, fine_real = geometry[-1].mask[:, 0], geometry[self.profile.scene.fine_level].mask[:, 0]
        node_mask, fine_mask = node_real, fine_real
        if self.profile.mask_and:
            # The hard label, without gradient: what takes part is a decision, what is felt is the feature.
            fine_mask = self._fine_labels(mask.detach(), geometry) * fine_real
            every = torch.arange(cloud.patches.shape[0], device=mask.device)
            _, members = patch_rows(cloud.patches, every, fine_mask, node_real)
            node_mask = node_real * members.amax(dim=1)
        level = cloud.levels[self.profile.scene.fine_level]
        node_points = cloud.levels[-1].points
        embedding = self.embedding(node_points, node_mask)
        return CloudEncoding(
            node_points=node_points,
            node_mask=node_mask,
            node_real=node_real,
            node_features=self.transformer.begin(encoded[-1], embedding, node_mask),
            embedding=embedding,
            fine_points=level.points,
            fine_mask=fine_mask,
            fine_real=fine_real,
            fine_features=fine_features,
            patches=cloud.patches,
        )

    def _fine_labels(self, mask: Tensor, geometry: list[LevelGeometry]) -> Tensor:
        """The label on the fine level: 1 when a point pooled into it has label 1."""
        for level in geometry[: self.profile.scene.fine_level]:
            assert level.down is not None
            pooled = gather_rows(mask, level.down.rows).reshape(level.down.present.shape) * level.down.present
            mask = pooled.amax(dim=1)
        return mask

    def relate(self, model: CloudEncoding, scene: CloudEncoding) -> tuple[Tensor, Tensor]:
        """Superpoint features (N, C) and (M, C) after the transformer."""
        related: tuple[Tensor, Tensor] = self.transformer(
            (model.node_features, model.embedding, model.node_mask),
            (scene.node_features, scene.embedding, scene.node_mask),
        )
        return related

    def match(self, model: CloudEncoding, scene: CloudEncoding) -> Matching:
        """Superpoint pairs, point assignments and pose from two encodings."""
        profile = self.profile
        model_features, scene_features = self.relate(model, scene)
        scores = superpoint_scores(model_features, scene_features, model.node_mask, scene.node_mask)
        pairs = best_pairs(scores, profile.pairs)
        assignment, (model_rows, model_mask), (scene_rows, scene_mask) = self.assign(model, scene, pairs)
        shape = (pairs.model.shape[0], -1, 3)
        weights = mutual_weights(
            assignment[:, :-1, :-1].detach().exp(),
            model_mask,
            scene_mask,
            profile.mutual_top,
            profile.confidence,
        )
        found = correspondences(
            weights,
            gather_rows(model.fine_points, model_rows).reshape(shape),
            gather_rows(scene.fine_points, scene_rows).reshape(shape),
            profile.mutual_top,
        )
        pose = local_to_global(found, profile.inlier_radius, profile.refinements)
        return Matching(model_features, scene_features, pairs, assignment, found, pose)

    def assign(
        self, model: CloudEncoding, scene: CloudEncoding, pairs: SuperpointPairs
    ) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Log assignment (k, P + 1, P + 1) of given superpoint pairs, and each side's point rows (k * P,) and mask.

        Training calls it with pairs that truly overlap; run time with the best ones.
        """
        model_rows, model_mask = patch_rows(model.patches, pairs.model, model.fine_mask, pairs.valid)
        scene_rows, scene_mask = patch_rows(scene.patches, pairs.scene, scene.fine_mask, pairs.valid)
        shape = (pairs.model.shape[0], model.patches.shape[1], -1)
        scores = patch_scores(
            gather_rows(model.fine_features, model_rows).reshape(shape),
            gather_rows(scene.fine_features, scene_rows).reshape(shape),
        )
        assignment = self.sinkhorn(scores, model_mask, scene_mask)
        return assignment, (model_rows, model_mask), (scene_rows, scene_mask)


def _geometry(spec: PyramidSpec, kernel: int, profile: Profile) -> KernelGeometry:
    return KernelGeometry(kernel, spec.radius_voxels, profile.kernel_shell, profile.sigma_voxels, spec.voxels)


def parameter_count(network: nn.Module) -> int:
    """Learned numbers of a network."""
    return sum(p.numel() for p in network.parameters())
