"""What the node says of itself: keeps the latest judgement and puts health together. Free of ROS."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from end2reg_ros.runtime.counters import Counters
from end2reg_ros.runtime.health import Health, Identity, Judgement
from end2reg_ros.runtime.rate import RateMeter
from end2reg_ros.tracking import State
from end2reg_ros.tracking.transitions import History

STATUS_PERIOD_S = 1.0


class Listener(Protocol):
    """Where the voice is heard."""

    def show(self, state: State) -> None: ...
    def status(self, health: Health) -> None: ...


class Voice:
    """``judge`` and ``repeat`` belong to the working thread; ``health`` and ``is_due`` to any.

    Args:
        identity: what runs.
        listener: hears every judgement.
        since_cloud_s: monotonic seconds -> seconds since the newest cloud.
        history: the tracker's changes of state so far.
    """

    def __init__(
        self,
        identity: Identity,
        listener: Listener,
        since_cloud_s: Callable[[float], float],
        history: Callable[[], History],
    ) -> None:
        self.identity = identity
        self.counters = Counters()
        self.registrations = RateMeter()
        self.judgement = Judgement()
        self.lost_in_transport = 0
        self.frame_budget_ms = float("nan")
        self._history = history
        self._listener = listener
        self._since_cloud_s = since_cloud_s
        self._told_s = 0.0

    def judge(self, judgement: Judgement) -> None:
        """A new judgement: tell it."""
        self.judgement = judgement
        self._listener.show(judgement.state)
        self.repeat()

    def repeat(self) -> None:
        """Tell the latest judgement (again), with the counters of now."""
        self._told_s = perf_counter()
        self._listener.status(self.health())

    def is_due(self, now_s: float) -> bool:
        """Whether nothing has been told for a second."""
        return now_s - self._told_s > STATUS_PERIOD_S

    def health(self) -> Health:
        """Everything known now."""
        now = perf_counter()
        return Health(
            identity=self.identity,
            judgement=self.judgement,
            counters=self.counters.snapshot(),
            since_last_cloud_s=self._since_cloud_s(now),
            rate_hz=self.registrations.rate(now),
            lost_in_transport=self.lost_in_transport,
            history=self._history(),
            frame_budget_ms=self.frame_budget_ms,
        )
