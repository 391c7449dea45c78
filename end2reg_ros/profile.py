"""Every number of the network in one place, under two names: ``paper`` (as published) and ``realtime``. No torch here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Literal

from end2reg_ros.cloud.pyramid import PyramidSpec


@dataclass(frozen=True)
class Profile:
    """Sizes and constants of one network. Lengths are network units (1 unit = 95 mm) unless the name says otherwise.

    Attributes:
        name: what checkpoints and the command line call it.
        model: sizes of the model side's pyramid.
        scene: sizes of the scene's pyramid; same voxels, tables and radius as ``model``.
        small_capacities: a second padding of the scene, for the many views that fit it: same result, less work.
        segmentation: sizes of the segmentation's own pyramid; None when it shares the scene's.
        kernel_points: kernel points of the registration backbone.
        segmentation_kernel_points: kernel points of the segmentation.
        sigma_voxels: reach of a kernel point, voxels.
        kernel_shell: mean distance of the kernel points from the centre, as a share of the radius (KPConv: 0.66).
        count: what a convolution's sum is divided by: neighbours with a positive feature sum, as GeoTransformer does,
            or the neighbours that are there (smooth, half-precision safe). The first layer of the scene counts
            mask = 1 in both.
        width: channels of the backbone's first layer.
        fine_channels: channels of the point features.
        segmentation_width: channels of the segmentation's first layer.
        segmentation_normals: the segmentation sees [1, r, g, b, normal] rather than [1, r, g, b].
        registration_normals: the registration sees mask * [1, normal] rather than mask.
        mask_and: points with label 0 also leave patches and superpoints, not only the input feature.
        groups: groups of a GroupNorm (the greatest common divisor with its channels).
        logit_bias: added to the logit of "relevant" at the start, so that training begins with most points kept.
        transformer_channels, heads, transformer_layers: of the geometric transformer.
        sigma_distance: distance of one embedding step.
        sigma_angle_deg: angle of one embedding step, degrees.
        angle_neighbours: superpoints that span the angles.
        embedding_channels: of a superpoint pair; a quarter of the transformer's costs a quarter of the memory traffic.
        embedding_bins: rows of the lookup table that stands for the embedding; 0 computes it exactly.
        pairs: superpoint pairs matched point by point.
        sinkhorn_iterations: row and column normalisations.
        sinkhorn_limit: scores are clamped to +- this, and matrices of exponentials are scaled (five times faster, float32
            only); 0 keeps to the log domain.
        mutual_top: a correspondence is among the best so many of its row and of its column.
        confidence: smallest assignment that counts as correspondence.
        inlier_radius: of the local-to-global pose.
        refinements: re-weighted pose steps.
        positive_radius: fine points nearer than this under the true pose correspond (training only).
    """

    name: str
    model: PyramidSpec
    scene: PyramidSpec
    segmentation: PyramidSpec | None
    kernel_points: int
    segmentation_kernel_points: int
    count: Literal["positive", "present"]
    width: int
    fine_channels: int
    segmentation_width: int
    segmentation_normals: bool
    registration_normals: bool
    mask_and: bool
    groups: int
    logit_bias: float
    transformer_channels: int
    heads: int
    transformer_layers: int
    embedding_channels: int
    embedding_bins: int
    pairs: int
    sinkhorn_iterations: int
    inlier_radius: float
    sigma_voxels: float = 2.0
    kernel_shell: float = 0.66
    sigma_distance: float = 0.2
    sigma_angle_deg: float = 15.0
    angle_neighbours: int = 3
    mutual_top: int = 3
    confidence: float = 0.05
    refinements: int = 5
    sinkhorn_limit: float = 0.0
    positive_radius: float = 0.05
    small_capacities: tuple[int, ...] | None = None

    @cached_property
    def scene_specs(self) -> tuple[PyramidSpec, ...]:
        """The scene's paddings, the smallest first."""
        if self.small_capacities is None:
            return (self.scene,)
        return replace(self.scene, capacities=self.small_capacities), self.scene


def paper() -> Profile:
    """The published values.

    The paper gives no table widths for radius 7: these hold 80 % of a lumbar spine's neighbourhoods in full (measured on
    two real spines and a procedural one), the share that GeoTransformer calibrates to.
    """
    registration = PyramidSpec(
        voxels=(0.025, 0.05, 0.1, 0.2),
        radius_voxels=7.0,
        capacities=(13312, 3840, 1024, 256),
        neighbours=(320, 512, 464, 224),
        fine_level=1,
        patch_points=64,
    )
    return Profile(
        name="paper",
        model=registration,
        scene=registration,
        segmentation=PyramidSpec(
            voxels=(0.04, 0.08, 0.16, 0.32, 0.64),
            radius_voxels=2.5,
            capacities=(8192, 2304, 576, 160, 48),
            neighbours=(24, 40, 34, 35, 34),
        ),
        kernel_points=20,
        segmentation_kernel_points=15,
        count="positive",
        width=64,
        fine_channels=256,
        segmentation_width=64,
        segmentation_normals=False,
        registration_normals=False,
        mask_and=False,
        groups=32,
        logit_bias=0.0,
        transformer_channels=256,
        heads=4,
        transformer_layers=3,
        embedding_channels=256,
        embedding_bins=0,
        pairs=256,
        sinkhorn_iterations=100,
        inlier_radius=0.1,
    )


def realtime() -> Profile:
    """One pyramid for both networks, at a fifth of the neighbours: for a CPU at several frames a second."""
    scene = PyramidSpec(
        voxels=(0.05, 0.1, 0.2),
        radius_voxels=2.5,
        capacities=(3072, 896, 240),
        neighbours=(26, 26, 26),
        fine_level=0,
        patch_points=32,
    )
    return Profile(
        name="realtime",
        model=replace(scene, capacities=(3840, 1024, 256)),
        scene=scene,
        segmentation=None,
        kernel_points=15,
        segmentation_kernel_points=15,
        count="present",
        width=32,
        fine_channels=64,
        segmentation_width=24,
        segmentation_normals=True,
        registration_normals=True,
        mask_and=True,
        groups=8,
        logit_bias=1.0,
        transformer_channels=128,
        heads=4,
        transformer_layers=3,
        embedding_channels=32,
        embedding_bins=1024,
        pairs=64,
        sinkhorn_iterations=20,
        inlier_radius=0.05,
        sinkhorn_limit=30.0,
        small_capacities=(2048, 608, 168),
    )


_PROFILES = {"paper": paper, "realtime": realtime}


def get_profile(name: str) -> Profile:
    """The profile of that name.

    Raises:
        ValueError: unknown name; the text lists the known ones.
    """
    if name not in _PROFILES:
        raise ValueError(f"unknown profile {name!r}: choose one of {', '.join(sorted(_PROFILES))}")
    return _PROFILES[name]()


def profile_hash(profile: Profile) -> str:
    """16 hex digits over every number of a profile that weights depend on: all but the padding."""
    numbers = asdict(profile)
    del numbers["small_capacities"]
    for side in ("model", "scene", "segmentation"):
        if numbers[side] is not None:
            del numbers[side]["capacities"]
    document = json.dumps(numbers, sort_keys=True)
    return hashlib.sha256(document.encode()).hexdigest()[:16]
