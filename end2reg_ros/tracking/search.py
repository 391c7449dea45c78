"""Where a spine that is not being followed is looked for: from a start, around its last pose, or in the whole view."""

from __future__ import annotations

from end2reg_ros.reasons import Reason
from end2reg_ros.registration.types import Prior
from end2reg_ros.tracking.motion import MotionMemory
from end2reg_ros.tracking.settings import TrackerSettings

ELSEWHERE = (Reason.JUMP, Reason.FAR_FROM_PRIOR, Reason.AMBIGUOUS_LEVEL)


class SearchPlan:
    """Chooses where each search begins. By stamps alone: the same recording is searched in the same way on every run.

    Args:
        settings: of the tracker.
        memory: where the spine was last.
        needs_prior: the method cannot search the whole view.
    """

    def __init__(self, settings: TrackerSettings, memory: MotionMemory, needs_prior: bool) -> None:
        self._settings = settings
        self._memory = memory
        self._needs_prior = needs_prior
        self._given: Prior | None = None
        self._given_since_ns: int | None = None  # stamp of the first cloud that was searched from it
        self._attempt = 0
        self._view_ns: int | None = (
            None  # stamp of the last cloud that was searched as a whole since the loss
        )
        self._view_s: float | None = None  # how long that kept the next cloud waiting
        self._elsewhere = False  # the last search saw a spine, but not where it looked

    def give(self, prior: Prior) -> None:
        """A start: picked landmarks, a planner, rviz."""
        self.forget()
        self._given = prior

    def forget(self) -> None:
        """As if no start had been given and nothing been searched."""
        self._given = self._given_since_ns = None
        self.found()

    def found(self) -> None:
        """A track runs: the next search is the first after its loss."""
        self._attempt = 0
        self._view_ns = self._view_s = None
        self._elsewhere = False

    def failed(self, reason_code: str) -> None:
        """A cloud was searched in vain. What fits elsewhere is worth a look at the whole view at once: the camera was knocked."""
        self._elsewhere = reason_code in ELSEWHERE

    def expired(self, stamp_ns: int, lost: bool) -> tuple[str, str] | None:
        """(reason code, reason) when what a search could begin from is so old that the camera may have moved since."""
        if not self._needs_prior:
            return None
        s = self._settings
        if self._memory.last is not None:
            if lost and self._memory.seconds_since(stamp_ns) > s.max_lost_s:
                text = f"lost for more than {s.max_lost_s:g} s, the camera may have moved: send initial_pose"
                return Reason.LOST_TOO_LONG, text
            return None
        if self._given is not None and self._given_age_s(stamp_ns) > s.max_prior_s:
            text = f"no fit within {s.max_prior_s:g} s of the start: send initial_pose again"
            return Reason.PRIOR_EXPIRED, text
        return None

    def next(self, stamp_ns: int) -> Prior | None:
        """Where the search of this cloud begins; None for the whole view, or where a method that needs one has no start."""
        if self._memory.last is None:
            if self._given is None or self._needs_prior:
                return self._given
            return self._given if self._given_age_s(stamp_ns) <= self._settings.start_search_s else None
        if not self._needs_prior and self._view_is_due(stamp_ns):
            self._view_ns, self._view_s, self._elsewhere = stamp_ns, None, False
            return None
        anchors, reaches = self._memory.anchors(stamp_ns), self._settings.search_reaches_m
        reach = reaches[self._attempt // len(anchors) % len(reaches)]
        anchor = anchors[self._attempt % len(anchors)]
        self._attempt += 1
        return Prior(anchor, "last_pose", reach, posture=self._memory.posture)

    def _view_is_due(self, stamp_ns: int) -> bool:
        """Whether a lost track is looked for in the whole view.

        That takes long, and a spine that was only covered comes back where it was: for a while the whole view gets a share
        of the time and the surroundings of the last pose the rest. What kept the next cloud waiting is read off its stamp.
        """
        s, lost_s = self._settings, self._memory.seconds_since(stamp_ns)
        if self._elsewhere:
            return True
        if lost_s <= s.local_search_s:
            return False
        if lost_s > s.shared_search_s or self._view_ns is None or stamp_ns < self._view_ns:
            return True
        since_s = (stamp_ns - self._view_ns) * 1e-9
        if self._view_s is None:
            self._view_s = since_s
        return s.view_search_fraction * since_s >= self._view_s

    def _given_age_s(self, stamp_ns: int) -> float:
        """Seconds since the first cloud that was searched from the start."""
        if self._given_since_ns is None or stamp_ns < self._given_since_ns:
            self._given_since_ns = stamp_ns
        return (stamp_ns - self._given_since_ns) * 1e-9
