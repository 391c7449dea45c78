"""A frame's way to the track: message -> checks -> cloud -> start -> track. The node and the offline tracker share it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

from end2reg_ros.cloud.limits import CloudLimits, check_header
from end2reg_ros.cloud.messages import stamp_ns
from end2reg_ros.cloud.stream_guard import Restart, StreamGuard
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CloudError
from end2reg_ros.tracking.types import TrackingUpdate


class TrackerLike(Protocol):
    """What a frame asks of a ``tracking.Tracker``."""

    def update(self, cloud: Cloud) -> TrackingUpdate: ...
    def reset(self, reason_code: str, reason: str) -> None: ...


@dataclass(frozen=True)
class Arrival:
    """A message and when it came: ``received_s`` is monotonic (``perf_counter``)."""

    message: Any
    received_s: float


@dataclass(frozen=True)
class Outcome:
    """What became of one message: either ``update`` and ``cloud``, or ``drop`` (reason code, sentence).

    ``restart`` tells why the track was given up before this cloud; ``timings_ms`` is stage -> milliseconds,
    in order.
    """

    frame_id: str
    stamp_ns: int
    update: TrackingUpdate | None = None
    cloud: Cloud | None = None
    drop: CloudError | None = None
    restart: Restart | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)


def unheard(restart: Restart) -> None:
    """Stands in where nobody wants to know of a restart."""


class FrameProcess:
    """Holds what a stream needs between frames; ``limits`` may be replaced while it runs.

    A new stream (another frame_id, a clock that jumped back) resets the tracker, start included: neither the last pose
    nor the start need hold in it.

    Args:
        tracker: given every usable cloud.
        decode: message and limits to a cloud; raises ``CloudError``.
        data: the part of a message whose repetition means a frozen camera.
        guard: order of the stream.
        on_restart: told of a new stream, after the reset and before its first cloud.
    """

    def __init__(
        self,
        tracker: TrackerLike,
        decode: Callable[[Any, CloudLimits], Cloud],
        data: Callable[[Any], Any],
        guard: StreamGuard,
        limits: CloudLimits,
        on_restart: Callable[[Restart], None] = unheard,
    ) -> None:
        self._tracker = tracker
        self._decode = decode
        self._data = data
        self._guard = guard
        self.limits = limits
        self._on_restart = on_restart

    def run(self, arrival: Arrival, before_update: Callable[[Cloud], None]) -> Outcome:
        """Take one message through; ``before_update`` sees the decoded cloud before the tracker does."""
        message = arrival.message
        frame_id, stamp = str(message.header.frame_id), stamp_ns(message)
        clock = perf_counter()
        timings = {"wait": 1e3 * (clock - arrival.received_s)}
        restart = None
        try:
            check_header(message, self.limits)
            restart = self._guard.check_order(frame_id, stamp)
            if restart is not None:
                self._tracker.reset(restart.reason_code, restart.reason)
                self._on_restart(restart)
            cloud = self._decode(message, self.limits)
            self._guard.check_data(self._data(message))
        except CloudError as fault:
            return Outcome(frame_id, stamp, drop=fault, restart=restart, timings_ms=timings)
        timings["decode"] = 1e3 * (perf_counter() - clock)
        before_update(cloud)
        update = self._tracker.update(cloud)
        return Outcome(frame_id, stamp, update, cloud, None, restart, timings | update.timings_ms)
