"""Stands where the topics stand: counts what the runtime says, holds poses against the truth, keeps nothing."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict

import numpy as np
from numpy.typing import NDArray

from benchmarks.camera_rate.stream import PlaybackFrame
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.evaluation.metrics import WRONG_MM
from end2reg_ros.evaluation.rows import NOTHING_IN_VIEW, LevelTargets
from end2reg_ros.registration.types import Registration
from end2reg_ros.runtime.poses import level_poses
from end2reg_ros.runtime.status import NodeStatus, TrackingReport
from end2reg_ros.tracking import State

REMEMBERED = 64  # clouds whose truth is still known; a pose never comes later than that


class SoakOutput:
    """An ``Output`` of a ``TrackerRuntime``.

    Args:
        case: what is tracked.
        most: poses to expect at most; their errors take this much memory from the start on, and no more.

    Attributes:
        poses, wrong, blind, uncompared: poses published; of these more than 10 mm off at a vertebra, with nothing of the
            spine in view, without a known cloud.
        statuses: told; ``sums_wrong``: of these with counters that did not add up.
        states, reasons: what was told how often; ``warned``: reason code -> warnings.
        changes: "TRACKING->LOST" and the like -> times.
    """

    def __init__(self, case: Case, most: int) -> None:
        self._case = case
        self._truth = LevelTargets.of(case)
        self._errors_mm = np.full(most, np.nan, dtype=np.float32)
        self._lock = threading.Lock()
        self._seen: OrderedDict[int, PlaybackFrame] = OrderedDict()
        self._state: State | None = None
        self.report = TrackingReport()
        self.poses = self.wrong = self.blind = self.uncompared = 0
        self.statuses = self.sums_wrong = 0
        self.states: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.warned: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()

    @property
    def errors_mm(self) -> NDArray[np.float32]:
        """(N,) error of each published pose: the mean over the landmarks of its worst vertebra."""
        return self._errors_mm[np.isfinite(self._errors_mm)]

    def expect(self, stamp_ns: int, frame: PlaybackFrame) -> None:
        """A cloud is about to be sent: its truth."""
        with self._lock:
            self._seen[stamp_ns] = frame
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)

    # The runtime calls these.

    def now_ns(self) -> int:
        """The stream's stamps run at a speed of their own: ages tell nothing here."""
        return time.time_ns()

    def result(self, cloud: Cloud, registration: Registration) -> None:
        """A pose."""
        number, self.poses = self.poses, self.poses + 1
        with self._lock:
            seen = self._seen.get(cloud.stamp_ns)
        if seen is None:
            self.uncompared += 1
            return
        levels = {pose.level: pose.T_camera_level for pose in level_poses(registration, self._case)}
        errors = self._truth.errors_mm(levels, seen.T_camera_levels)
        worst = max(float(np.mean(e)) for e in errors.values())
        if number < len(self._errors_mm):
            self._errors_mm[number] = worst
        self.wrong += not worst <= WRONG_MM
        self.blind += seen.visible_fraction <= NOTHING_IN_VIEW

    def detach(self) -> None:
        """Nobody looks."""

    def segmentation(self, cloud: Cloud, registration: Registration | None) -> None:
        """Nobody looks."""

    def show(self, state: State) -> None:
        """The state changed."""
        if self._state is not None and state != self._state:
            self.changes[f"{self._state.name}->{state.name}"] += 1
        self._state = state

    def status(self, status: NodeStatus) -> None:
        """A status."""
        counts = status.counts
        self.statuses += 1
        self.sums_wrong += counts.received != counts.processed + counts.total_dropped + counts.pending
        self.states[status.report.state.name] += 1
        self.reasons[status.report.reason_code] += 1
        self.report = status.report

    def warn(self, reason_code: str, text: str) -> None:
        """A warning."""
        self.warned[reason_code] += 1
