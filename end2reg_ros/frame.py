"""One cloud's way, top to bottom: message -> checks -> cloud -> plan -> crop -> network and refinement -> judged -> state.

The node, the recording tracker, the demo and every study send their clouds through here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.limits import CloudLimits, check_header
from end2reg_ros.cloud.messages import stamp_ns
from end2reg_ros.cloud.stream import Restart, StreamGuard
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CloudError
from end2reg_ros.reasons import Reason
from end2reg_ros.registration.interface import Registrar
from end2reg_ros.registration.types import Prior, Registration
from end2reg_ros.tracking.network_watch import network_watch
from end2reg_ros.tracking.settings import TrackerSettings
from end2reg_ros.tracking.track import Follow, Search, Track, Wait
from end2reg_ros.tracking.transitions import History
from end2reg_ros.tracking.types import State, TrackingUpdate


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


class TrackerLike(Protocol):
    """What a frame asks of a ``Tracker``."""

    def update(self, cloud: Cloud) -> TrackingUpdate: ...
    def reset(self, reason_code: str, reason: str) -> None: ...


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
            cloud = self._decode(message, self.limits)  # bytes -> (N, 3) metres
            self._guard.check_data(self._data(message))
        except CloudError as fault:
            return Outcome(frame_id, stamp, drop=fault, restart=restart, timings_ms=timings)
        timings["decode"] = 1e3 * (perf_counter() - clock)
        before_update(cloud)
        update = self._tracker.update(cloud)
        return Outcome(frame_id, stamp, update, cloud, None, restart, timings | update.timings_ms)


class Tracker:
    """A stream of clouds of one case -> a state, and a pose of every vertebra.

    Not thread-safe: one worker calls it. ``history`` may be read from any thread.

    Args:
        registrar: the method, set up for the case.
        case: what is tracked.
        settings: when to believe what; the defaults when None.
    """

    def __init__(self, registrar: Registrar, case: Case, settings: TrackerSettings | None = None) -> None:
        self.registrar = registrar
        self.track = Track(case, settings or TrackerSettings(), registrar.needs_prior)
        self.network = network_watch(registrar)

    def update(self, cloud: Cloud) -> TrackingUpdate:
        """Look at one cloud. Never raises for a bad cloud."""
        plan = self.track.plan(cloud.stamp_ns)  # follow the track, search, or wait
        if isinstance(plan, Wait):
            return self.track.update(cloud, plan, None)
        found = self._follow(cloud, plan) if isinstance(plan, Follow) else self._search(cloud, plan)
        if isinstance(plan, Follow) and not found.success:
            first, plan = found, plan.wider
            found = self._search(cloud, plan).after(first.timings_ms)
        return self.track.update(cloud, plan, found)  # thresholds -> state, poses

    def _follow(self, cloud: Cloud, plan: Follow) -> Registration:
        scene = self.registrar.crop(cloud, plan.expected)  # crop and thin, once for network and refinement
        seen = self.network.look(scene)  # pyramid -> engine -> local-to-global; or an earlier look's pose
        found = self.registrar.follow(scene, plan.expected, seen)  # the spine, then every level; judged
        self.network.followed(scene, found)  # where the next look beside the stream begins
        return self.track.believed(plan, found)

    def _search(self, cloud: Cloud, plan: Search) -> Registration:
        self.network.forget()
        return self.track.believed(plan, self.registrar.register(cloud, plan.start))

    @property
    def state(self) -> State:
        """After the last cloud, silence or request."""
        return self.track.state

    @property
    def history(self) -> History:
        """Changes of state."""
        return self.track.history

    @property
    def centre(self) -> NDArray[np.float64]:
        """(3,) the spine's middle, model frame, metres."""
        return self.track.centre

    @property
    def settings(self) -> TrackerSettings:
        """When it believes what."""
        return self.track.settings

    def set_prior(self, prior: Prior) -> None:
        """Start (again) from a prior: picked landmarks, a planner, rviz. A running track is dropped."""
        self.track.set_prior(prior)

    def relocalize(self) -> None:
        """Forget the prior, the last pose and the candidate: nothing known of before is used again."""
        self.track.relocalize()

    def reset(
        self, reason_code: str = Reason.RESET, reason: str = "everything is forgotten on request"
    ) -> None:
        """Start over; no more is kept than after ``relocalize``. The reason goes into the history."""
        self.track.reset(reason_code, reason)

    def silence(
        self, stamp_ns: int, frame_id: str, reason: str, reason_code: str = Reason.NO_CLOUD
    ) -> TrackingUpdate:
        """No usable cloud came in time; a track becomes LOST."""
        return self.track.silence(stamp_ns, frame_id, reason, reason_code)
