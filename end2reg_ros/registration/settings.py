"""Settings of the registration, all of them: how a fit moves, and what is asked of it before it may be called a pose.

Metres, degrees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol

NetworkPasses = Literal["auto", "every_frame", "background"]
# Of a running track, of a start, of a start whose vertebrae may stand far from where they are looked for.
FitMode = Literal["following", "start", "flexed"]


@dataclass(frozen=True)
class ArticulationSettings:
    """How the levels are held to one another. Metres, degrees.

    Attributes:
        loose_turn_stddev_deg, loose_shift_stddev: motion between neighbours against the CT that is allowed for at first.
        turn_stddev_deg, shift_stddev: motion from which the springs give way in the end (Cauchy, at what the loose springs
            let happen): most segments stand as in the CT, and those that do not may have moved by much more, up to 8
            degrees and 4 mm.
        doubt: how much of the stated variance of that motion speaks against it: variances are stated with a margin.
        step_turn_deg, step_shift: motion between neighbours from one frame of a track to the next. Where the points tell
            much it is taken up within two frames; where an instrument covers most of a level, that level stays as it was.
        point_stddev: error of one scene point, metres; ``correlation_points`` of them share one.
        min_level_points: scene points on a level's surface from which they have a say in its pose.
        iterations: of each mode, look-ups with loose springs; one with the final ones follows.
        flexed_gates: as ``RefineSettings.gates``, where levels may lie far from where they are looked for.
    """

    loose_turn_stddev_deg: float = 5.0
    loose_shift_stddev: float = 0.003
    turn_stddev_deg: float = 0.8
    shift_stddev: float = 0.0004
    doubt: float = 0.25
    step_turn_deg: float = 0.6
    step_shift: float = 0.0003
    point_stddev: float = 0.0008
    correlation_points: float = 12.0
    min_level_points: int = 60
    iterations: Mapping[FitMode, int] = field(
        default_factory=lambda: MappingProxyType({"following": 1, "start": 2, "flexed": 9})
    )
    flexed_gates: tuple[float, ...] = (0.006, 0.006, 0.005, 0.005, 0.004, 0.004, 0.003)


@dataclass(frozen=True)
class RefineSettings:
    """How the refinement gates and weighs. Metres, degrees.

    Attributes:
        gates: largest point-to-surface distance of each look-up; the last one repeats until convergence.
        max_iterations: look-ups until then, at most.
        settle_points: about so many of the points are looked up until then; the last look-ups take all.
        weighings: times that the points of one look-up are weighed anew and the pose is solved for.
        normal_angle_deg: largest angle between the scene's and the model's normal.
        scale: residual at which a point's weight falls to a quarter (Geman-McClure).
        outside_weight: weight of a point outside the model's surface against one inside it, in the last steps. What is
            left on bone (film, blood, periosteum) lies outside it, never inside: equal weights pull the model towards the
            camera by the mean film.
        outside_iterations: look-ups with that weight, after convergence with equal weights; 0: one with equal weights.
        converged: stop when a look-up moves the model by less than this; twice that before the last look-ups.
        correlation_points: scene points that share one independent error (neighbouring pixels err together); the
            covariance is inflated by it.
        bias_stddev: error that no amount of points averages out (tissue film, calibration), added to the covariance.
    """

    gates: tuple[float, ...] = (0.004, 0.004, 0.0035, 0.003)
    max_iterations: int = 8
    settle_points: int = 900
    weighings: int = 3
    normal_angle_deg: float = 50.0
    scale: float = 0.0012
    outside_weight: float = 0.3
    outside_iterations: int = 3
    converged: float = 2e-5
    correlation_points: float = 12.0
    bias_stddev: float = 0.0003


class QualityLimits(Protocol):
    """What is asked of every fit, in two strengths: see ``AcceptSettings`` for what each limit is of."""

    @property
    def min_inlier_ratio(self) -> float: ...
    @property
    def max_free_space_violation(self) -> float: ...
    @property
    def min_normal_agreement(self) -> float: ...
    @property
    def min_visible_fraction(self) -> float: ...
    @property
    def max_position_stddev_m(self) -> float: ...


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
    """How a case is registered, by any method.

    Attributes:
        voxel: scene points are thinned to this distance.
        crop_margin: scene points further than this from the posed model's bounding box are not looked at, neither by the
            refinement nor, in a track, by the network: where a track is expected is known to a few millimetres.
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
    crop_margin: float = 0.010
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
