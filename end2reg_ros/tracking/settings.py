"""Settings of the tracker: what it takes to enter, keep and leave a track. Metres, radians, seconds."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class UpperThresholds:
    """A fit that passes the registration's limits but not these is published as DEGRADED.

    Attributes:
        min_inlier_ratio: supported share of the uncovered surface.
        max_free_space_violation: share of the facing surface that the camera sees through.
        min_normal_agreement: share of the points on the model that are turned as the model is.
        min_visible_fraction: uncovered share of the facing surface.
        max_position_stddev_m: largest standard deviation of the position of the spine's middle.
    """

    min_inlier_ratio: float = 0.96
    max_free_space_violation: float = 0.02
    min_normal_agreement: float = 0.72
    min_visible_fraction: float = 0.12
    max_position_stddev_m: float = 0.0012


@dataclass(frozen=True)
class TrackerSettings:
    """How the tracker decides.

    Attributes:
        upper: limits of TRACKING.
        confirm_frames: consecutive good fits that agree, before the first pose goes out.
        confirm_distance_m: how far apart the fits that confirm a first pose may lie.
        demote_frames: consecutive fits below the upper thresholds that lead from TRACKING to DEGRADED.
        promote_frames: consecutive fits above the upper thresholds that lead from DEGRADED back to TRACKING.
        step_m: how far the spine's middle may lie from where constant velocity leads; further is a jump.
        step_rad: how far the spine may be turned from where constant velocity leads; further is a jump.
        speed_m_s: what is added to ``step_m`` for each second since the last pose.
        turn_rad_s: what is added to ``step_rad`` for each second since the last pose.
        retry_reach_m: how far around the predicted pose a frame is searched when its first fit fails.
        resume_s: a track lost for less than this resumes with one good fit where it was last seen.
        resume_m, resume_rad: how far from the expected pose a fit may lie that resumes a lost track by itself.
        slow_frame_s: a cloud that comes too late to follow the last pose (``silence_s``; the node's ``watchdog_gap_s``), but
            not later than this, and with no failed fit between, follows a slow frame: it is searched around the last pose
            and may resume likewise.
        search_reaches_m: how far around the last good pose a lost track is searched, one reach a frame, in turn.
        local_search_s: a method that needs no start looks for a lost track around its last pose alone for this long.
        start_search_s: a method that needs no start uses one that it was given for this long, then the whole view.
        shared_search_s: until this long after the last pose a method that needs no start looks there and in the whole view,
            later in the whole view alone.
        view_search_fraction: share of the time that the whole view gets while it is searched besides the last pose.
        max_axis_move_m: a fit, other than the next of a running track, that lies further than this along the spine's axis
            from where it was looked for is refused: it may be a slip by one level (levels are 27-40 mm apart).
        max_lost_s: a track lost for longer is not searched for any more: the camera may have moved by a level meanwhile.
        max_prior_s: a start that has led to no pose for this long is not used any more: the camera may have moved meanwhile.
        silence_s: a pose older than this is nothing to follow from: it is searched around instead.
    """

    upper: UpperThresholds = field(default_factory=UpperThresholds)
    confirm_frames: int = 2
    confirm_distance_m: float = 0.003
    demote_frames: int = 2
    promote_frames: int = 3
    step_m: float = 0.010
    step_rad: float = 0.06
    speed_m_s: float = 0.1
    turn_rad_s: float = 0.5
    retry_reach_m: float = 0.004
    resume_s: float = 0.5
    resume_m: float = 0.020
    resume_rad: float = 0.2
    slow_frame_s: float = 2.0
    search_reaches_m: tuple[float, ...] = (0.002, 0.004, 0.008, 0.016)
    local_search_s: float = 3.0
    start_search_s: float = 0.5
    shared_search_s: float = 8.0
    view_search_fraction: float = 0.34
    max_axis_move_m: float = 0.012
    max_lost_s: float = 15.0
    max_prior_s: float = 30.0
    silence_s: float = 0.5
