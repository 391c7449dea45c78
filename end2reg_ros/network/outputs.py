"""What the network hands from stage to stage and to its caller: nested tuples of tensors of fixed shapes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from end2reg_ros.network.local_to_global import PoseEstimate
from end2reg_ros.network.matching import Correspondences, SuperpointPairs


class CloudEncoding(NamedTuple):
    """All that matching needs of one cloud: N superpoints, F fine points, P points a patch.

    Attributes:
        node_points: (N, 3), node_mask: (N,) superpoints in use; node_real: (N,) superpoints that are no padding,
            whatever their label.
        node_features: (N, C) after the first self-attention.
        embedding: (N, N, C).
        fine_points: (F, 3), fine_mask: (F,) in use, fine_real: (F,) no padding, fine_features: (F, D).
        patches: (N, P) int32.
    """

    node_points: Tensor
    node_mask: Tensor
    node_real: Tensor
    node_features: Tensor
    embedding: Tensor
    fine_points: Tensor
    fine_mask: Tensor
    fine_real: Tensor
    fine_features: Tensor
    patches: Tensor


class Segmentation(NamedTuple):
    """``logits`` (C0, 2) on the segmentation's finest level; ``mask`` (C0',) of 0 and 1 on the registration's."""

    logits: Tensor
    mask: Tensor


class Sampling(NamedTuple):
    """Randomness of a training step: Gumbel ``noise`` (C0, 2) and temperature ``tau`` above 0."""

    noise: Tensor
    tau: float


class Matching(NamedTuple):
    """What ``match`` finds: refined superpoint features (N, C), their pairs, log assignments, correspondences, pose."""

    model_features: Tensor
    scene_features: Tensor
    pairs: SuperpointPairs
    assignment: Tensor
    found: Correspondences
    pose: PoseEstimate


class TrainingOutput(NamedTuple):
    """What the losses look at: mask, both encodings, superpoint features (N, C) and (M, C) after the transformer."""

    segmentation: Segmentation
    model: CloudEncoding
    scene: CloudEncoding
    model_features: Tensor
    scene_features: Tensor


class End2RegOutput(NamedTuple):
    """Everything of one pass at run time: mask, encodings of both clouds, matches and pose."""

    segmentation: Segmentation
    model: CloudEncoding
    scene: CloudEncoding
    matching: Matching
