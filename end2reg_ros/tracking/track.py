"""A stream of registrations -> a state and poses: where each cloud is looked at, and what its registration means."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.reasons import Reason
from end2reg_ros.registration.fit.judge import shortfall
from end2reg_ros.registration.types import Prior, Registration
from end2reg_ros.se3 import apply
from end2reg_ros.tracking.confirmation import Confirmation
from end2reg_ros.tracking.motion import MotionMemory
from end2reg_ros.tracking.search import SearchPlan
from end2reg_ros.tracking.settings import TrackerSettings
from end2reg_ros.tracking.transitions import Change, Event, History, next_state
from end2reg_ros.tracking.types import PUBLISHING_STATES, State, TrackingUpdate

Array = NDArray[np.float64]

LAST_FRAME_STDDEV_M = 0.001


@dataclass(frozen=True)
class Follow:
    """A cloud of a running track: its pose is refined from where it is ``expected``, and judged as a continuation.

    ``wider``: what is worth a try where that fails. A knocked camera moves further between two frames than the refinement
    reaches.
    """

    expected: Prior
    wider: Search


@dataclass(frozen=True)
class Search:
    """A cloud in which the spine is looked for: from a start, or (None) in the whole view.

    ``is_overdue``: it comes so late that the last pose is nothing to follow from, yet a slow frame may be the cause.
    """

    start: Prior | None
    is_overdue: bool = False


@dataclass(frozen=True)
class Wait:
    """A cloud in which nothing can be looked for, and why."""

    reason_code: str
    reason: str


Plan = Follow | Search | Wait


class Track:
    """Starts from a prior, follows from frame to frame, falls silent when in doubt, searches around the last good pose.

    For each cloud first ``plan``, then ``update`` with what came of it. Not thread-safe: one worker calls it. ``history``
    may be read from any thread.

    Args:
        case: what is tracked.
        settings: thresholds.
        needs_prior: the method finds nothing by itself.
    """

    def __init__(self, case: Case, settings: TrackerSettings, needs_prior: bool) -> None:
        self.settings = settings
        self.centre = case.centroid()
        self.axis = spine_axis(case)
        self._origins = np.stack([v.T_model_level[:3, 3] for v in case.vertebrae])
        self._needs_prior = needs_prior
        self.state = State.SEARCHING
        self.history = History()
        self._memory = MotionMemory(self.centre, self.settings.resume_s)
        self._search = SearchPlan(self.settings, self._memory, needs_prior)
        self._confirmation = Confirmation(self.settings, self._memory)
        self._good = self._fair = 0  # fits in a row above and below the upper thresholds
        self._stamp_ns = 0  # of the newest cloud
        self._before = State.SEARCHING  # state before the newest cloud

    def set_prior(self, prior: Prior) -> None:
        """Start (again) from a prior: picked landmarks, a planner, rviz. A running track is dropped."""
        self._forget(Reason.NEW_START, f"a new start was given: {prior.source}")
        self._search.give(prior)

    def relocalize(self) -> None:
        """Forget the prior, the last pose and the candidate: nothing known of before is used again."""
        self._forget(Reason.RELOCALIZE, "track and start forgotten on request")

    def reset(
        self, reason_code: str = Reason.RESET, reason: str = "everything is forgotten on request"
    ) -> None:
        """Start over; the tracker keeps no more than ``relocalize`` forgets. The reason goes into the history."""
        self._forget(reason_code, reason)

    def _forget(self, reason_code: str, reason: str) -> None:
        self._search.forget()
        self._memory.forget()
        self._confirmation.candidate = None
        self._good = self._fair = 0
        self._change(Event.RESTART, reason_code, reason)

    def silence(
        self, stamp_ns: int, frame_id: str, reason: str, reason_code: str = Reason.NO_CLOUD
    ) -> TrackingUpdate:
        """Tell the tracker that no usable cloud came in time; a track becomes LOST."""
        self._confirmation.candidate = None
        before = self.state
        self._change(Event.SILENCE, reason_code, reason)
        return self._finish(stamp_ns, frame_id, before, reason_code, reason, None)

    def plan(self, stamp_ns: int) -> Plan:
        """Where in a cloud of this stamp the spine is looked for."""
        self._stamp_ns, self._before = stamp_ns, self.state
        is_overdue = self._check_gap(stamp_ns)
        if self.state in PUBLISHING_STATES:
            expected, posture = self._memory.predicted(stamp_ns), self._memory.posture
            if is_overdue:
                return Search(Prior(expected, "last_pose", self.settings.retry_reach_m, posture), is_overdue)
            return self._follow(Prior(expected, "last_frame", LAST_FRAME_STDDEV_M, posture))
        refusal = self._search.expired(stamp_ns, self.state is State.LOST)
        if refusal is not None:
            return Wait(*refusal)
        candidate = self._confirmation.candidate
        if candidate is None:
            start = self._search.next(stamp_ns)
            if start is None and self._needs_prior:
                return Wait(Reason.NO_PRIOR, "waiting for a start: pick landmarks or send initial_pose")
            return Search(start)
        known = Prior(candidate.T_camera_model, "candidate", LAST_FRAME_STDDEV_M, candidate.posture)
        # The search that found it has held it against other levels: to follow it is enough, and several times as fast. The
        # first pose from a given start is searched twice, as nothing else speaks for it and nobody waits for it.
        return self._follow(known) if self._walks else Search(known)

    def _follow(self, expected: Prior) -> Follow:
        return Follow(expected, Search(replace(expected, stddev_m=self.settings.retry_reach_m)))

    def update(self, cloud: Cloud, plan: Plan, found: Registration | None) -> TrackingUpdate:
        """Decide what the registration of a cloud means. Call ``believed`` on it before.

        Args:
            cloud: the one that ``plan`` was made for.
            plan: as carried out in the end.
            found: what came of it; None for a ``Wait``.
        """
        stamp_ns, before = cloud.stamp_ns, self._before
        if isinstance(plan, Wait) or found is None:
            assert isinstance(plan, Wait)
            return self._finish(stamp_ns, cloud.frame_id, before, plan.reason_code, plan.reason, None)
        is_overdue = isinstance(plan, Search) and plan.is_overdue
        if is_overdue and found.success and not self._resumes(found, stamp_ns):
            self._lose_to_gap(stamp_ns)
        start = plan.expected if isinstance(plan, Follow) else plan.start
        event, code, reason = self._judge(found, start, stamp_ns)
        self._change(event, code, reason)
        return self._finish(stamp_ns, cloud.frame_id, before, code, reason, found)

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
        self._change(Event.SILENCE, Reason.GAP, text)

    def believed(self, plan: Follow | Search, found: Registration) -> Registration:
        """A registration, refused where it moved further than a spine can since it was last seen."""
        looked_for = plan.expected if isinstance(plan, Follow) else plan.start
        if not found.success or looked_for is None:
            return found
        T, T_looked_for = found.T_camera_model, looked_for.T_camera_model
        if looked_for.source == "last_frame":
            if self._in_reach(T_looked_for, T, self._stamp_ns):
                return found
            shift, angle = self._memory.difference(T_looked_for, T)
            text = f"{1000 * np.linalg.norm(shift):.1f} mm and {np.degrees(angle):.1f} deg from where it was expected"
            return found.refused(Reason.JUMP, text)
        candidate = self._confirmation.candidate
        if candidate is not None and candidate.T_anchor is not None:
            T_looked_for = candidate.T_anchor  # else two short steps could make a level
        moved = apply(T, self._origins) - apply(T_looked_for, self._origins)
        along = float(np.abs(moved @ (T_looked_for[:3, :3] @ self.axis)).max())
        if along > self.settings.max_axis_move_m:
            text = f"{1000 * along:.0f} mm along the spine from where it was looked for: this may be another level"
            return found.refused(Reason.AMBIGUOUS_LEVEL, text)
        return found

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
            self._confirmation.candidate = None
            self._search.failed(registration.reason_code)
            return Event.FAILED, registration.reason_code, registration.reason
        short = self._shortfall(registration)
        if self.state in PUBLISHING_STATES:
            return self._judge_followed(short)
        if short is not None:
            self._confirmation.candidate = None
            return Event.FAILED, Reason.LOW_QUALITY, f"not good enough to start: {short}"
        return self._start(registration, prior, stamp_ns)

    def _shortfall(self, found: Registration) -> str | None:
        """What keeps a fit below the upper thresholds; None when nothing does."""
        short = shortfall(found.quality, found.position_stddev_m, self.settings.upper)
        return None if short is None else short[1]

    def _judge_followed(self, short: str | None) -> tuple[Event, str, str]:
        """The event that an accepted fit of a running track is: the thresholds' hysteresis."""
        s, degraded = self.settings, self.state is State.DEGRADED
        self._good, self._fair = (self._good + 1, 0) if short is None else (0, self._fair + 1)
        if short is not None and not degraded and self._fair < s.demote_frames:
            return Event.FAIR, Reason.WEAKENING, f"{short} (fit {self._fair} of {s.demote_frames})"
        if short is not None:
            return (Event.FAIR if degraded else Event.DEMOTED), Reason.LOW_QUALITY, short
        if degraded and self._good < s.promote_frames:
            return Event.GOOD, Reason.RECOVERING, "quality is back above the upper threshold"
        return (Event.RECOVERED if degraded else Event.GOOD), Reason.OK, "tracking"

    def _start(self, found: Registration, looked_for: Prior | None, stamp_ns: int) -> tuple[Event, str, str]:
        """The event that a good fit is while no pose goes out: agreeing ones are counted before the first does."""
        verdict = self._confirmation.take(found, looked_for, self._resumes(found, stamp_ns), self._walks)
        if verdict[0] is Event.CONFIRMED:
            self._good = self._fair = 0
        return verdict

    @property
    def _walks(self) -> bool:
        """Whether a fit that the newest one disagrees with may be taken to have moved: not while a given start is tried."""
        return not self._needs_prior or self._memory.last is not None

    def _resumes(self, registration: Registration, stamp_ns: int) -> bool:
        """Whether one fit is enough: a good one, just where the spine was expected, after a short loss or a slow frame."""
        s, T = self.settings, registration.T_camera_model
        limit_s = s.resume_s if self.state is State.LOST else s.slow_frame_s
        if self.state is State.SEARCHING or self._memory.seconds_since(stamp_ns) > limit_s:
            return False
        if not registration.success or self._shortfall(registration) is not None:
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


def spine_axis(case: Case) -> Array:
    """(3,) unit vector from the lowest to the highest level, model frame; superior for a single level."""
    origins = np.stack([v.T_model_level[:3, 3] for v in case.vertebrae])
    along = origins[0] - origins[-1]
    length = float(np.linalg.norm(along))
    return along / length if length > 1e-6 else np.array([0.0, 0.0, 1.0])
