"""Settings of the classical registration: what is asked of a fit before it may be called a pose. Metres, degrees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from end2reg_ros.registration.fit.articulated import ArticulationSettings
from end2reg_ros.registration.fit.refine import RefineSettings

NetworkPasses = Literal["auto", "every_frame", "background"]


@dataclass(frozen=True)
class AcceptSettings:
    """A fit below any of these is no pose.

    Attributes:
        min_inliers: scene points (thinned to the voxel) on the model surface.
        min_inlier_ratio: supported share of the surface that is not covered.
        max_free_space_violation: share of the camera-facing surface that the camera sees through.
        min_level_inlier_ratio: supported share of each single level that is seen well enough to tell; a spine that is
            right at one end and tilted at the other shows there first.
        min_level_inlier_ratio_following: supported share of each level in a fit that continues a track: an instrument's
            edge may cost one level a few samples, and from so near no fit tilts away.
        min_normal_agreement: share of the points on the model whose surface is turned as the model's is: the best
            single sign of a fit to the wrong place (right fits: 0.77 and more; wrong ones: 0.64 and less).
        min_visible_fraction: share of the camera-facing surface that is not covered.
        max_residual_rmse_m: root mean square distance of the inliers from the surface.
        max_position_stddev_m: largest standard deviation of the spine's centre along any axis.
    """

    min_inliers: int = 250
    min_inlier_ratio: float = 0.95
    min_level_inlier_ratio: float = 0.95
    min_level_inlier_ratio_following: float = 0.88
    max_free_space_violation: float = 0.04
    min_normal_agreement: float = 0.68
    min_visible_fraction: float = 0.10
    max_residual_rmse_m: float = 0.00135
    max_position_stddev_m: float = 0.002


@dataclass(frozen=True)
class RegistrationSettings:
    """Settings of ``icp`` and ``ransac_icp``.

    Attributes:
        voxel: scene points are thinned to this distance.
        crop_margin: scene points further than this from the posed model's bounding box are not looked at.
        near: scene points further than this from the posed surface are not registered.
        refine: gates and weights.
        accept: what a fit must reach.
        articulation: how the levels are held to one another; None takes the spine as one rigid body.
        prior_move_m, prior_move_stddevs: a fit that moves any vertebra away from the prior by more than this plus so
            many of the prior's standard deviations is no pose.
        ransac_voxel: point distance of the FPFH features.
        ransac_iterations: hypotheses drawn.
        threads: of neighbour searches.
        network_passes: of the learned method, while it follows a track. every_frame: each pose waits for the network's.
            background: refinement alone leads to the pose, the network looks at the newest cloud whenever it is free, and
            what it says of an earlier cloud is held against the pose that was found there. auto: every_frame on a GPU.
        network_period_s: in the background, least time from one cloud that the network sees to the next, by their stamps:
            what it computes is missing to the next pose, and a track does not drift within a second.
    """

    voxel: float = 0.002
    crop_margin: float = 0.012
    near: float = 0.008
    refine: RefineSettings = field(default_factory=RefineSettings)
    accept: AcceptSettings = field(default_factory=AcceptSettings)
    articulation: ArticulationSettings | None = field(default_factory=ArticulationSettings)
    prior_move_m: float = 0.006
    prior_move_stddevs: float = 2.5
    ransac_voxel: float = 0.004
    ransac_iterations: int = 200_000
    threads: int = 1
    network_passes: NetworkPasses = "every_frame"
    network_period_s: float = 1.0
