"""A stream of clouds -> a state and poses. The node, the offline tracker and the evaluation all use this one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.fit.posture import Posture
from end2reg_ros.registration.types import Prior, Registrar, Registration
from end2reg_ros.se3 import apply
from end2reg_ros.tracking.motion import MotionMemory
from end2reg_ros.tracking.search import SearchPlan
from end2reg_ros.tracking.settings import TrackerSettings
from end2reg_ros.tracking.thresholds import shortfall
from end2reg_ros.tracking.transitions import Change, Event, History, next_state
from end2reg_ros.tracking.types import PUBLISHING_STATES, State, TrackingUpdate

Array = NDArray[np.float64]

LAST_FRAME_STDDEV_M = 0.001


@dataclass(frozen=True)
class Candidate:
    """An unconfirmed pose.

    Attributes:
        T_camera_model: (4, 4) the newest fit.
        agreed: fits in a row that agreed on it.
        T_first: (4, 4) the first fit of its kind.
        T_anchor: (4, 4) where the search that found it began; None for the whole view.
        posture: how the vertebrae stood to one another in the newest fit.
    """

    T_camera_model: Array
    agreed: int
    T_first: Array
    T_anchor: Array | None
    posture: Posture | None = None


class Tracker:
    """Starts from a prior, follows from frame to frame, falls silent when in doubt, searches around the last good pose.

    Not thread-safe: one worker calls it. ``history`` may be read from any thread.
    """

    def __init__(self, registrar: Registrar, case: Case, settings: TrackerSettings | None = None) -> None:
        self.registrar = registrar
        self.settings = settings or TrackerSettings()
        self.centre = case.centroid()
        self.axis = spine_axis(case)
        self._origins = np.stack([v.T_model_level[:3, 3] for v in case.vertebrae])
        self.state = State.SEARCHING
        self.history = History()
        self._memory = MotionMemory(self.centre, self.settings.resume_s)
        self._search = SearchPlan(self.settings, self._memory, registrar.needs_prior)
        self._candidate: Candidate | None = None
        self._good = self._fair = 0  # fits in a row above and below the upper thresholds
        self._stamp_ns = 0  # of the newest cloud

    def set_prior(self, prior: Prior) -> None:
        """Start (again) from a prior: picked landmarks, a planner, rviz. A running track is dropped."""
        self._forget("new_start", f"a new start was given: {prior.source}")
        self._search.give(prior)

    def relocalize(self) -> None:
        """Forget the prior, the last pose and the candidate: nothing known of before is used again."""
        self._forget("relocalize", "track and start forgotten on request")

    def reset(self, reason_code: str = "reset", reason: str = "everything is forgotten on request") -> None:
        """Start over; the tracker keeps no more than ``relocalize`` forgets. The reason goes into the history."""
        self._forget(reason_code, reason)

    def _forget(self, reason_code: str, reason: str) -> None:
        self._search.forget()
        self._memory.forget()
        self._candidate = None
        self._good = self._fair = 0
        self._change(Event.RESTART, reason_code, reason)

    def silence(
        self, stamp_ns: int, frame_id: str, reason: str, reason_code: str = "no_cloud"
    ) -> TrackingUpdate:
        """Tell the tracker that no usable cloud came in time; a track becomes LOST."""
        self._candidate = None
        before = self.state
        self._change(Event.SILENCE, reason_code, reason)
        return self._finish(stamp_ns, frame_id, before, reason_code, reason, None)

    def update(self, cloud: Cloud) -> TrackingUpdate:
        """Register one cloud and decide. Never raises for a bad cloud."""
        stamp_ns, before = cloud.stamp_ns, self.state
        self._stamp_ns = stamp_ns
        is_overdue = self._check_gap(stamp_ns)
        refusal = self._search.expired(stamp_ns, self.state is State.LOST)
        if refusal is not None:
            return self._finish(stamp_ns, cloud.frame_id, before, *refusal, None)
        prior = self._start(stamp_ns, is_overdue)
        if prior is None and self.registrar.needs_prior:
            reason = "waiting for a start: pick landmarks or send initial_pose"
            return self._finish(stamp_ns, cloud.frame_id, before, "no_prior", reason, None)
        registration = self._believe(self.registrar.register(cloud, prior), prior, stamp_ns)
        if prior is not None and prior.continues and not registration.success:
            # A knocked camera moves further between two frames than the refinement reaches: look around, once.
            wider = replace(prior, stddev_m=self.settings.retry_reach_m, continues=False)
            retried = self._believe(self.registrar.register(cloud, wider), wider, stamp_ns)
            registration = merged_timings(registration, retried)
        if is_overdue and registration.success and not self._resumes(registration, stamp_ns):
            self._lose_to_gap(stamp_ns)
        event, code, reason = self._judge(registration, prior, stamp_ns)
        self._change(event, code, reason)
        return self._finish(stamp_ns, cloud.frame_id, before, code, reason, registration)

    def _check_gap(self, stamp_ns: int) -> bool:
        """Whether this cloud comes so late that the last pose is nothing to follow from, yet a slow frame may be the cause."""
        gap_s = self._memory.seconds_since(stamp_ns)
        if self.state not in PUBLISHING_STATES or gap_s <= self.settings.silence_s:
            return False
        if gap_s > self.settings.slow_frame_s:
            self._lose_to_gap(stamp_ns)
            return False
        return True

    def _lose_to_gap(self, stamp_ns: int) -> None:
        gap_s = self._memory.seconds_since(stamp_ns)
        text = f"no pose for {gap_s:.1f} s" if np.isfinite(gap_s) else "the stamps went back"
        self._change(Event.SILENCE, "gap", text)

    def _start(self, stamp_ns: int, is_overdue: bool) -> Prior | None:
        """Where this frame's registration begins."""
        if self.state in PUBLISHING_STATES:
            expected = self._memory.predicted(stamp_ns)
            if is_overdue:
                return Prior(expected, "last_pose", self.settings.retry_reach_m, posture=self._memory.posture)
            return Prior(expected, "last_frame", LAST_FRAME_STDDEV_M, True, self._memory.posture)
        if self._candidate is None:
            return self._search.next(stamp_ns)
        # The search that found it has held it against other levels: to follow it is enough, and several times as fast. The
        # first pose from a given start is searched twice, as nothing else speaks for it and nobody waits for it.
        follows = not self.registrar.needs_prior or self._memory.last is not None
        known = self._candidate
        return Prior(known.T_camera_model, "candidate", LAST_FRAME_STDDEV_M, follows, known.posture)

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
        T_looked_for = prior.T_camera_model
        if self._candidate is not None and self._candidate.T_anchor is not None:
            T_looked_for = self._candidate.T_anchor  # else two short steps could make a level
        moved = apply(T, self._origins) - apply(T_looked_for, self._origins)
        along = float(np.abs(moved @ (T_looked_for[:3, :3] @ self.axis)).max())
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

    def _judge(
        self, registration: Registration, prior: Prior | None, stamp_ns: int
    ) -> tuple[Event, str, str]:
        """The event that a registration is, with reason code and reason."""
        if not registration.success:
            self._candidate = None
            self._search.failed(registration.reason_code)
            return Event.FAILED, registration.reason_code, registration.reason
        short = shortfall(registration, self.settings.upper, self.centre)
        if self.state in PUBLISHING_STATES:
            return self._judge_followed(short)
        if short is not None:
            self._candidate = None
            return Event.FAILED, "low_quality", f"not good enough to start: {short}"
        return self._confirm(registration, prior, stamp_ns)

    def _judge_followed(self, short: str | None) -> tuple[Event, str, str]:
        """The event that an accepted fit of a running track is: the thresholds' hysteresis."""
        s, degraded = self.settings, self.state is State.DEGRADED
        self._good, self._fair = (self._good + 1, 0) if short is None else (0, self._fair + 1)
        if short is not None and not degraded and self._fair < s.demote_frames:
            return Event.FAIR, "weakening", f"{short} (fit {self._fair} of {s.demote_frames})"
        if short is not None:
            return (Event.FAIR if degraded else Event.DEMOTED), "low_quality", short
        if degraded and self._good < s.promote_frames:
            return Event.GOOD, "recovering", "quality is back above the upper threshold"
        return (Event.RECOVERED if degraded else Event.GOOD), "ok", "tracking"

    def _confirm(
        self, registration: Registration, prior: Prior | None, stamp_ns: int
    ) -> tuple[Event, str, str]:
        """Count agreeing good fits before the first pose goes out."""
        T, known = registration.T_camera_model, self._candidate
        if known is None:
            anchor = None if prior is None else prior.T_camera_model
            found = Candidate(T, 1, T, anchor, registration.posture)
        else:
            shift, _ = self._memory.difference(known.T_camera_model, T)
            if float(np.linalg.norm(shift)) > self.settings.confirm_distance_m:
                return self._unconfirmed(known, registration, shift)
            found = replace(known, T_camera_model=T, agreed=known.agreed + 1, posture=registration.posture)
        if found.agreed >= self.settings.confirm_frames or self._resumes(registration, stamp_ns):
            self._candidate = None
            self._good = self._fair = 0
            return Event.CONFIRMED, "ok", "tracking"
        self._candidate = found
        return Event.GOOD, "confirming", f"good fit {found.agreed} of {self.settings.confirm_frames}"

    def _unconfirmed(self, known: Candidate, newer: Registration, shift: Array) -> tuple[Event, str, str]:
        """Two fits in a row that disagree.

        A search takes so long that the spine may have moved a little meanwhile: the newer fit then takes the older one's
        place, as long as it stays near the first. Else this would be the start of a walk from fit to fit: the next search
        begins anew, as it does from a given start.
        """
        T = newer.T_camera_model
        walked, _ = self._memory.difference(known.T_first, T)
        near = float(np.linalg.norm(walked)) <= self.settings.max_axis_move_m
        follows = not self.registrar.needs_prior or self._memory.last is not None
        self._candidate = (
            replace(known, T_camera_model=T, agreed=1, posture=newer.posture) if near and follows else None
        )
        text = f"two fits in a row lie {1000 * np.linalg.norm(shift):.1f} mm apart"
        return Event.FAILED, "unconfirmed", text

    def _resumes(self, registration: Registration, stamp_ns: int) -> bool:
        """Whether one fit is enough: a good one, just where the spine was expected, after a short loss or a slow frame."""
        s, T = self.settings, registration.T_camera_model
        limit_s = s.resume_s if self.state is State.LOST else s.slow_frame_s
        if self.state is State.SEARCHING or self._memory.seconds_since(stamp_ns) > limit_s:
            return False
        if not registration.success or shortfall(registration, s.upper, self.centre) is not None:
            return False
        expected = self._memory.predicted(stamp_ns)
        shift, angle = self._memory.difference(expected, T)
        near = float(np.linalg.norm(shift)) <= s.resume_m and angle <= s.resume_rad
        return near and self._in_reach(expected, T, stamp_ns)

    def _change(self, event: Event, code: str, reason: str) -> None:
        """Take the transition, if the table has one."""
        after = next_state(self.state, event)
        if after is self.state:
            return
        self.history = self.history.after(Change(self.state, after, event, code, reason, self._stamp_ns))
        self.state = after
        if after is State.TRACKING:
            self._search.found()

    def _finish(
        self,
        stamp_ns: int,
        frame_id: str,
        before: State,
        code: str,
        reason: str,
        registration: Registration | None,
    ) -> TrackingUpdate:
        """Remember a pose that may go out, wrap up."""
        published = self.state in PUBLISHING_STATES and registration is not None and registration.success
        if published and registration is not None:
            self._memory.remember(registration.T_camera_model, stamp_ns, registration.posture)
        timings = dict(registration.timings_ms) if registration is not None else {}
        changed = self.state is not before
        return TrackingUpdate(
            stamp_ns, frame_id, self.state, changed, code, reason, registration, published, timings
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
