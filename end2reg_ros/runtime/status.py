"""What the node knows of itself: counters, the report on the newest event, and both together for status and diagnostics.

Free of ROS. Counters and ``StatusReporter.status`` may be used from any thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Protocol

from end2reg_ros.reasons import Reason
from end2reg_ros.registration.types import Registration
from end2reg_ros.tracking import State
from end2reg_ros.tracking.transitions import History

STATUS_PERIOD_S = 1.0
RATE_WINDOW_S = 2.0
NAN = float("nan")


@dataclass(frozen=True)
class Counts:
    """Where every cloud went, at one moment.

    Attributes:
        received: clouds that arrived.
        processed: clouds given to the registration, with or without success.
        dropped: reason code -> clouds that were not registered; sorted by code.
        late: of the processed ones, those whose pose left later than one camera period after their reception.
        poses_published: spine poses that went out.
        points_truncated: points left out because a cloud was larger than the limit.
        cells_truncated: cells left out because a view held more than the network's padding.
    """

    received: int = 0
    processed: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    late: int = 0
    poses_published: int = 0
    points_truncated: int = 0
    cells_truncated: int = 0

    @property
    def total_dropped(self) -> int:
        """Clouds that were not registered, whatever the reason."""
        return sum(self.dropped.values())

    @property
    def pending(self) -> int:
        """Clouds that wait or are being worked on."""
        return self.received - self.processed - self.total_dropped


class Counters:
    """Counts clouds. Each received cloud must end in exactly one of ``process`` and ``drop``.

    Attributes:
        counts: the counts now, consistent with one another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._registered_s: deque[float] = deque()
        self.counts = Counts()

    def receive(self) -> None:
        """A cloud arrived."""
        with self._lock:
            self.counts = replace(self.counts, received=self.counts.received + 1)

    def process(self, now_s: float, points_truncated: int = 0, cells_truncated: int = 0) -> None:
        """A cloud went through the registration; so many of its points, and of the network's cells, were left out."""
        with self._lock:
            c = self.counts
            self._registered_s.append(now_s)
            self._forget(now_s)
            self.counts = replace(
                c,
                processed=c.processed + 1,
                points_truncated=c.points_truncated + points_truncated,
                cells_truncated=c.cells_truncated + cells_truncated,
            )

    def drop(self, reason_code: str) -> None:
        """A cloud was not registered."""
        with self._lock:
            dropped = self.counts.dropped
            dropped = dropped | {str(reason_code): dropped.get(reason_code, 0) + 1}
            self.counts = replace(self.counts, dropped=dict(sorted(dropped.items())))

    def publish_pose(self, late: bool) -> None:
        """A spine pose went out; late: more than one camera period after its cloud was received."""
        with self._lock:
            c = self.counts
            self.counts = replace(c, poses_published=c.poses_published + 1, late=c.late + late)

    def rate_hz(self, now_s: float) -> float:
        """Registrations a second over the last two seconds."""
        with self._lock:
            self._forget(now_s)
            return len(self._registered_s) / RATE_WINDOW_S

    def _forget(self, now_s: float) -> None:
        while self._registered_s and self._registered_s[0] < now_s - RATE_WINDOW_S:
            self._registered_s.popleft()


@dataclass(frozen=True)
class Identity:
    """What runs: constant from configure to clean-up; ``engine_text`` describes the engine for a person."""

    method: str
    engine: str
    engine_hash: str
    case_name: str
    case_hash: str
    config_hash: str
    engine_text: str = ""


@dataclass(frozen=True)
class TrackingReport:
    """State and reason after the latest event.

    Attributes:
        reason_code, reason: why the state is what it is; a code of ``Reason`` and a sentence.
        frame_id, stamp_ns: of the last cloud registered, not of one refused since; empty and 0 before the first.
        registration: the latest fit; None where none was attempted.
        timings_ms: stage -> milliseconds of that cloud.
        latency_ms: from reception to publication; pose_age_ms: from the stamp to publication. NaN where
            there is none.
    """

    state: State = State.SEARCHING
    reason_code: str = Reason.INACTIVE
    reason: str = "the node is not active"
    frame_id: str = ""
    stamp_ns: int = 0
    registration: Registration | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    latency_ms: float = NAN
    pose_age_ms: float = NAN


@dataclass(frozen=True)
class NodeStatus:
    """Everything that status and diagnostics tell.

    Attributes:
        since_last_cloud_s: -1 before the first.
        rate_hz: registrations a second.
        lost_in_transport: clouds that the middleware lost.
        history: how often each edge of the state machine was taken since configure.
        frame_budget_ms: the camera's period, learned from the stamps; NaN before it is known.
        pose_stamp_ns: of the newest pose that went out; 0 before the first.
    """

    identity: Identity
    report: TrackingReport
    counts: Counts
    since_last_cloud_s: float
    rate_hz: float = 0.0
    lost_in_transport: int = 0
    history: History = field(default_factory=History)
    frame_budget_ms: float = NAN
    pose_stamp_ns: int = 0


class StatusOutput(Protocol):
    """Where a ``StatusReporter`` publishes: ``show`` at changes of state alone, ``status`` with every report."""

    def show(self, state: State) -> None: ...
    def status(self, status: NodeStatus) -> None: ...


class StatusReporter:
    """Keeps the newest report and publishes it with all that is counted, from one thread at a time.

    Args:
        identity: what runs.
        output: where the status goes.
        since_cloud_s: monotonic seconds -> seconds since the newest cloud.
        history: the tracker's changes of state so far.
    """

    def __init__(
        self,
        identity: Identity,
        output: StatusOutput,
        since_cloud_s: Callable[[float], float],
        history: Callable[[], History],
    ) -> None:
        self.identity = identity
        self.counters = Counters()
        self.report = TrackingReport()
        self.lost_in_transport = 0
        self.frame_budget_ms = NAN
        self.pose_stamp_ns = 0
        self._output = output
        self._since_cloud_s = since_cloud_s
        self._history = history
        self._lock = threading.Lock()
        self._shown: State | None = None
        self._published_s = 0.0

    def publish(self, report: TrackingReport | None = None) -> None:
        """Publish a new report; None: the last one again, with the counters of now."""
        with self._lock:
            if report is not None:
                self.report = report
            if self._shown is not self.report.state:
                self._shown = self.report.state
                self._output.show(self._shown)
            self._published_s = perf_counter()
            self._output.status(self.status())

    def is_due(self, now_s: float) -> bool:
        """Whether nothing has been published for a second."""
        return now_s - self._published_s > STATUS_PERIOD_S

    def status(self) -> NodeStatus:
        """Everything known now."""
        now_s = perf_counter()
        return NodeStatus(
            identity=self.identity,
            report=self.report,
            counts=self.counters.counts,
            since_last_cloud_s=self._since_cloud_s(now_s),
            rate_hz=self.counters.rate_hz(now_s),
            lost_in_transport=self.lost_in_transport,
            history=self._history(),
            frame_budget_ms=self.frame_budget_ms,
            pose_stamp_ns=self.pose_stamp_ns,
        )
