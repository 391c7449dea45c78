"""A stream of clouds -> a state and poses. The node, the offline tracker and the evaluation all use this one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.types import Prior, Registrar, Registration
from end2reg_ros.registration.uncertainty import covariance_at, largest_stddev
from end2reg_ros.se3 import apply
from end2reg_ros.tracking.motion import MotionMemory
from end2reg_ros.tracking.settings import TrackerSettings
from end2reg_ros.tracking.transitions import Event, next_state
from end2reg_ros.tracking.types import PUBLISHING_STATES, State, TrackingUpdate

Array = NDArray[np.float64]

LAST_FRAME_STDDEV_M = 0.001


@dataclass(frozen=True)
class Candidate:
    """An unconfirmed pose (4, 4), how many fits in a row agreed on it, and the first pose of its kind."""

    T_camera_model: Array
    agreed: int
    T_first: Array


class Tracker:
    """Starts from a prior, follows from frame to frame, falls silent when in doubt, searches around the last good pose.

    Not thread-safe: one worker calls it.
    """

    def __init__(self, registrar: Registrar, case: Case, settings: TrackerSettings | None = None) -> None:
        self.registrar = registrar
        self.settings = settings or TrackerSettings()
        self.centre = case.centroid()
        self.axis = spine_axis(case)
        self._origins = np.stack([v.T_model_level[:3, 3] for v in case.vertebrae])
        self.state = State.SEARCHING
        self._prior: Prior | None = None
        self._prior_since_ns: int | None = None  # stamp of the first cloud that was searched from it
        self._memory = MotionMemory(self.centre, self.settings.resume_s)
        self._candidate: Candidate | None = None
        self._streak = 0
        self._attempt = 0

    def set_prior(self, prior: Prior) -> None:
        """Start (again) from a prior: picked landmarks, a planner, rviz. A running track is dropped."""
        self.relocalize()
        self._prior = prior

    def relocalize(self) -> None:
        """Forget the prior, the last pose and the candidate: nothing known of before is used again."""
        self._prior = None
        self._prior_since_ns = None
        self._memory.forget()
        self._candidate = None
        self._streak = self._attempt = 0
        self.state = next_state(self.state, Event.RESTART)

    def reset(self) -> None:
        """Start over; the tracker keeps no more than ``relocalize`` forgets."""
        self.relocalize()

    def silence(self, stamp_ns: int, frame_id: str, reason: str) -> TrackingUpdate:
        """Tell the tracker that no usable cloud came in time; a track becomes LOST."""
        self._candidate = None
        return self._finish(stamp_ns, frame_id, Event.SILENCE, "no_cloud", reason, None)

    def update(self, cloud: Cloud) -> TrackingUpdate:
        """Register one cloud and decide. Never raises for a bad cloud."""
        stamp_ns, frame_id = cloud.stamp_ns, cloud.frame_id
        gap_s = self._memory.seconds_since(stamp_ns)
        if self.state in PUBLISHING_STATES and gap_s > self.settings.silence_s:
            self.state = next_state(self.state, Event.SILENCE)
        expired = self._expired(stamp_ns)
        if expired is not None:
            return self._finish(stamp_ns, frame_id, Event.FAILED, *expired, None)
        prior = self._start(stamp_ns)
        if prior is None and self.registrar.needs_prior:
            reason = "waiting for a start: pick landmarks or send initial_pose"
            return self._finish(stamp_ns, frame_id, Event.FAILED, "no_prior", reason, None)
        registration = self._believe(self.registrar.register(cloud, prior), prior, stamp_ns)
        if prior is not None and prior.continues and not registration.success:
            # A knocked camera moves further between two frames than the refinement reaches: look around, once.
            wider = replace(prior, stddev_m=self.settings.retry_reach_m, continues=False)
            retried = self._believe(self.registrar.register(cloud, wider), wider, stamp_ns)
            registration = merged_timings(registration, retried)
        event, code, reason = self._judge(registration, stamp_ns)
        return self._finish(stamp_ns, frame_id, event, code, reason, registration)

    def _expired(self, stamp_ns: int) -> tuple[str, str] | None:
        """(reason code, reason) when what a search could begin from is so old that the camera may have moved since."""
        if not self.registrar.needs_prior:
            return None
        if self._memory.last is not None:
            if self.state is State.LOST and self._memory.seconds_since(stamp_ns) > self.settings.max_lost_s:
                text = f"lost for more than {self.settings.max_lost_s:g} s, the camera may have moved: send initial_pose"
                return "lost_too_long", text
            return None
        if self._prior is not None and self._prior_age_s(stamp_ns) > self.settings.max_prior_s:
            text = f"no fit within {self.settings.max_prior_s:g} s of the start: send initial_pose again"
            return "prior_expired", text
        return None

    def _searches_anew(self, stamp_ns: int) -> bool:
        """Whether a method that needs no start searches the whole view: where what is known of before led to nothing."""
        if self.registrar.needs_prior:
            return False
        if self._memory.last is None:
            return self._prior is None or self._prior_age_s(stamp_ns) > self.settings.local_search_s
        return self._memory.seconds_since(stamp_ns) > self.settings.local_search_s

    def _prior_age_s(self, stamp_ns: int) -> float:
        """Seconds since the first cloud that was searched from the start."""
        if self._prior_since_ns is None or stamp_ns < self._prior_since_ns:
            self._prior_since_ns = stamp_ns
        return (stamp_ns - self._prior_since_ns) * 1e-9

    def _start(self, stamp_ns: int) -> Prior | None:
        """Where this frame's registration begins."""
        if self._candidate is not None:
            # A search from nothing has held it against every other pose: to follow it is enough, and ten times as fast.
            follows = not self.registrar.needs_prior
            return Prior(self._candidate.T_camera_model, "candidate", LAST_FRAME_STDDEV_M, continues=follows)
        if self._memory.last is None:
            return None if self._searches_anew(stamp_ns) else self._prior
        if self.state in PUBLISHING_STATES:
            return Prior(self._memory.predicted(stamp_ns), "last_frame", LAST_FRAME_STDDEV_M, continues=True)
        anchors, reaches = self._memory.anchors(stamp_ns), self.settings.search_reaches_m
        if self._searches_anew(stamp_ns):
            return None
        reach = reaches[self._attempt // len(anchors) % len(reaches)]
        anchor = anchors[self._attempt % len(anchors)]
        self._attempt += 1
        return Prior(anchor, "last_pose", reach)

    def _believe(self, registration: Registration, prior: Prior | None, stamp_ns: int) -> Registration:
        """Turn a fit that moved further than a spine can into a failed one."""
        if not registration.success or prior is None:
            return registration
        T = registration.T_camera_model
        if prior.source == "last_frame":
            if not self._in_reach(prior.T_camera_model, T, stamp_ns):
                shift, angle = self._memory.difference(prior.T_camera_model, T)
                text = f"{1000 * np.linalg.norm(shift):.1f} mm and {np.degrees(angle):.1f} deg from where it was expected"
                return refused(registration, "jump", text)
            return registration
        moved = apply(T, self._origins) - apply(prior.T_camera_model, self._origins)
        along = float(np.abs(moved @ (prior.T_camera_model[:3, :3] @ self.axis)).max())
        if along > self.settings.max_axis_move_m:
            text = f"{1000 * along:.0f} mm along the spine from where it was looked for: this may be another level"
            return refused(registration, "ambiguous_level", text)
        return registration

    def _in_reach(self, T_expected: Array, T: Array, stamp_ns: int) -> bool:
        """Whether a spine can have moved from the expected pose to this one since the last pose."""
        s, dt = self.settings, self._memory.seconds_since(stamp_ns)
        shift, angle = self._memory.difference(T_expected, T)
        far = float(np.linalg.norm(shift)) > s.step_m + s.speed_m_s * dt
        return not far and angle <= s.step_rad + s.turn_rad_s * dt

    def _judge(self, registration: Registration, stamp_ns: int) -> tuple[Event, str, str]:
        """The event that a registration is, with reason code and reason."""
        if not registration.success:
            self._candidate, self._streak = None, 0
            return Event.FAILED, registration.reason_code, registration.reason
        shortfall = self._shortfall(registration)
        if self.state in PUBLISHING_STATES:
            self._streak = self._streak + 1 if shortfall is None else 0
            if shortfall is not None:
                return Event.FAIR, "low_quality", shortfall
            if self.state is State.DEGRADED and self._streak < self.settings.promote_frames:
                return Event.GOOD, "recovering", "quality is back above the upper threshold"
            return Event.RECOVERED, "ok", "tracking"
        if shortfall is not None:
            self._candidate = None
            return Event.FAILED, "low_quality", f"not good enough to start: {shortfall}"
        return self._confirm(registration, stamp_ns)

    def _confirm(self, registration: Registration, stamp_ns: int) -> tuple[Event, str, str]:
        """Count agreeing good fits before the first pose goes out."""
        T, seen, first = registration.T_camera_model, 1, registration.T_camera_model
        if self._candidate is not None:
            shift, _ = self._memory.difference(self._candidate.T_camera_model, T)
            first = self._candidate.T_first
            if float(np.linalg.norm(shift)) > self.settings.confirm_distance_m:
                return self._unconfirmed(T, shift)
            seen = self._candidate.agreed + 1
        if seen >= (1 if self._resumes(T, stamp_ns) else self.settings.confirm_frames):
            self._candidate, self._streak, self._attempt = None, 0, 0
            return Event.CONFIRMED, "ok", "tracking"
        self._candidate = Candidate(T, seen, first)
        return Event.GOOD, "confirming", f"good fit {seen} of {self.settings.confirm_frames}"

    def _unconfirmed(self, T: Array, shift: Array) -> tuple[Event, str, str]:
        """Two fits in a row that disagree.

        A search from nothing takes so long that the spine may have moved a little meanwhile: the newer fit then takes the
        older one's place, as long as it stays near the first. Else this would be the start of a walk from fit to fit: the
        next search begins anew.
        """
        assert self._candidate is not None
        first = self._candidate.T_first
        walked, _ = self._memory.difference(first, T)
        near = float(np.linalg.norm(walked)) <= self.settings.max_axis_move_m
        self._candidate = Candidate(T, 1, first) if near and not self.registrar.needs_prior else None
        text = f"two fits in a row lie {1000 * np.linalg.norm(shift):.1f} mm apart"
        return Event.FAILED, "unconfirmed", text

    def _resumes(self, T: Array, stamp_ns: int) -> bool:
        """Whether a track lost a moment ago goes on where it was expected."""
        if self._memory.seconds_since(stamp_ns) > self.settings.resume_s:
            return False
        return self._in_reach(self._memory.predicted(stamp_ns), T, stamp_ns)

    def _shortfall(self, registration: Registration) -> str | None:
        """What keeps a fit below the upper thresholds; None when nothing does."""
        q, upper = registration.quality, self.settings.upper
        stddev, _ = largest_stddev(
            covariance_at(registration.covariance, registration.T_camera_model, self.centre)
        )
        if q.inlier_ratio < upper.min_inlier_ratio:
            return f"inlier ratio {q.inlier_ratio:.2f} below {upper.min_inlier_ratio:.2f}"
        if q.free_space_violation > upper.max_free_space_violation:
            return f"{100 * q.free_space_violation:.0f} % of the posed bone is seen through"
        if q.normal_agreement < upper.min_normal_agreement:
            return f"{100 * q.normal_agreement:.0f} % of the points on the model are turned as it is"
        if q.visible_fraction < upper.min_visible_fraction:
            return f"{100 * q.visible_fraction:.0f} % of the surface is in view"
        if stddev > upper.max_position_stddev_m:
            return f"position uncertain by {1000 * stddev:.1f} mm"
        return None

    def _finish(
        self,
        stamp_ns: int,
        frame_id: str,
        event: Event,
        code: str,
        reason: str,
        registration: Registration | None,
    ) -> TrackingUpdate:
        """Take the transition, remember a published pose, wrap up."""
        before = self.state
        self.state = next_state(before, event)
        published = self.state in PUBLISHING_STATES and registration is not None and registration.success
        if published and registration is not None:
            self._memory.remember(registration.T_camera_model, stamp_ns)
        timings = dict(registration.timings_ms) if registration is not None else {}
        return TrackingUpdate(
            stamp_ns,
            frame_id,
            self.state,
            self.state is not before,
            code,
            reason,
            registration,
            published,
            timings,
        )


def merged_timings(first: Registration, second: Registration) -> Registration:
    """The second registration with the time of both."""
    names = {**first.timings_ms, **second.timings_ms}
    total = {n: first.timings_ms.get(n, 0.0) + second.timings_ms.get(n, 0.0) for n in names}
    return replace(second, timings_ms=total)


def refused(registration: Registration, code: str, reason: str) -> Registration:
    """The same fit, marked as failed."""
    return replace(registration, success=False, reason_code=code, reason=reason)


def spine_axis(case: Case) -> Array:
    """(3,) unit vector from the lowest to the highest level, model frame; superior for a single level."""
    origins = np.stack([v.T_model_level[:3, 3] for v in case.vertebrae])
    along = origins[0] - origins[-1]
    length = float(np.linalg.norm(along))
    return along / length if length > 1e-6 else np.array([0.0, 0.0, 1.0])
