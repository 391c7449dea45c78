"""What an hour of camera is like: a walk to and fro through a stored sequence, with every fault of a camera now and then."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.camera_rate.stream import Playback, PlaybackFrame
from benchmarks.soak_study.output import SoakOutput
from end2reg_ros.errors import End2RegError
from end2reg_ros.names import CAMERA_FRAME
from end2reg_ros.reasons import Reason
from end2reg_ros.runtime.tracker_runtime import TrackerRuntime
from end2reg_ros.simulation.camera.realsense import POINT_DTYPE
from end2reg_ros.tracking import State

CLEAR = 0.5  # share of the exposed spine that the calm rounds never fall below
BURST = 3  # clouds while one is worked on: all but the newest are superseded
BACK_NS = 100_000_000
STUCK_S = 120.0
SILENCE_S = 1.0
# Event -> the reason under which its cloud is dropped.
DROPPED = {
    "frozen": Reason.FROZEN,
    "empty": Reason.EMPTY_CLOUD,
    "frame": Reason.WRONG_FRAME,
    "nan": Reason.ALL_INVALID,
    "backwards": Reason.STAMP_BACKWARDS,
}
EVENTS = (*DROPPED, "silence", "burst")


class SoakStuck(End2RegError):
    """A cloud was not worked on in time."""


@dataclass(frozen=True)
class Course:
    """How the hour goes.

    Attributes:
        clouds: sent in all.
        rate_hz: of their stamps.
        event_every: clouds in which each event of ``EVENTS`` happens once.
        full_every: of so many rounds one goes through the whole sequence, the others as far as the view stays clear.
    """

    clouds: int = 108_000
    rate_hz: float = 30.0
    event_every: int = 1000
    full_every: int = 5


def event_at(number: int, every: int) -> str | None:
    """The event of a cloud: each once in ``every`` clouds, evenly spread, none in the first ones.

    Raises:
        ValueError: too many of them.
    """
    spacing = every // (len(EVENTS) + 1)
    if spacing < 2 * BURST:
        raise ValueError(f"event_every is {every}, must be {2 * BURST * (len(EVENTS) + 1)} or more")
    which, rest = divmod(number % every, spacing)
    return EVENTS[which - 1] if rest == 0 and 1 <= which <= len(EVENTS) else None


def walk(playback: Playback, full_every: int) -> Iterator[int]:
    """Frame numbers without end, each next to the one before: rounds to and fro, most of them where the view is clear."""
    count = len(playback.frames)
    hidden = (k for k, frame in enumerate(playback.frames) if frame.visible_fraction < CLEAR)
    clear = next(hidden, count)
    clear = clear if clear >= 2 else count
    rounds = 0
    while True:
        rounds += 1
        top = count - 1 if rounds % full_every == 0 else clear - 1
        yield from range(top)
        yield from range(top, 0, -1)


class Feeder:
    """Sends a course to the runtime, the next cloud when the last one is done, and counts what it sent.

    Attributes:
        sent: clouds, those of the events included.
        events: event -> times.
        stamp_ns: of the newest cloud.
        silences_noticed: of the silences, those that the watchdog told.
        stopped: set from anywhere: nothing more is sent after what is under way.
    """

    def __init__(
        self, playback: Playback, course: Course, runtime: TrackerRuntime, output: SoakOutput
    ) -> None:
        self._playback = playback
        self._course = course
        self._runtime, self._output = runtime, output
        self._numbers = walk(playback, course.full_every)
        self._step_ns = round(1e9 / course.rate_hz)
        self._before: PlaybackFrame | None = None
        self._mark = 0  # of the picture in view
        self.stamp_ns = time.time_ns()
        self.sent = self.silences_noticed = 0
        self.stopped = False
        self.events: Counter[str] = Counter()

    def run(self, after: Callable[[PlaybackFrame], None]) -> None:
        """Send everything; ``after`` is told the frame in view whenever what was sent has been worked on."""
        while self.sent < self._course.clouds and not self.stopped:
            event = event_at(self.sent, self._course.event_every)
            if event is not None:
                self.events[event] += 1
            if event == "silence":
                self._stay_silent()
                self.stamp_ns += round(1e9 * SILENCE_S)
            if event in DROPPED and self._before is not None:
                self._send(self._spoiled(event, self._before))
                frame = self._before
            else:
                with self._held() if event == "burst" else nullcontext():
                    for _ in range(BURST if event == "burst" else 1):
                        frame = self._send_next()
            self._settle()
            after(frame)

    def _send_next(self) -> PlaybackFrame:
        frame = self._playback.frames[next(self._numbers)]
        self.stamp_ns += self._step_ns
        self._before = frame
        self._mark = self.sent
        self._output.expect(self.stamp_ns, frame)
        self._send(frame.message(self.stamp_ns, mark=self._mark))
        return frame

    def _send(self, message: Any) -> None:
        self.sent += 1
        self._runtime.receive(message)
        # As the node's timer does; never while a cloud is worked on: this camera waits, a real one would not.
        self._runtime.tick()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """The working thread takes none of the clouds that arrive meanwhile, as if it were busy with one before them."""
        go_on = threading.Event()
        self._runtime.run_before_next_cloud(lambda: go_on.wait(STUCK_S))
        try:
            yield
        finally:
            go_on.set()

    def _settle(self) -> None:
        """Wait until every cloud's fate is known.

        Raises:
            SoakStuck: it takes minutes.
        """
        deadline = time.monotonic() + STUCK_S
        while self._runtime.reporter.counters.counts.pending:
            if time.monotonic() > deadline:
                raise SoakStuck(f"a cloud was not worked on in {STUCK_S:.0f} s")
            time.sleep(0.0005)

    def _stay_silent(self) -> None:
        """No cloud for a second: the watchdog must say so, and no pose may go out."""
        deadline = time.monotonic() + SILENCE_S
        while time.monotonic() < deadline:
            self._runtime.tick()
            time.sleep(0.02)
        told = self._output.report
        self.silences_noticed += told.reason_code == Reason.NO_CLOUD and told.state not in (
            State.TRACKING,
            State.DEGRADED,
        )

    def _spoiled(self, event: str, frame: PlaybackFrame) -> Any:
        """A cloud as a faulty camera sends it."""
        if event == "backwards":  # the stream's time stands still for it
            return frame.message(self.stamp_ns - BACK_NS)
        self.stamp_ns += self._step_ns
        frame_id = "another_frame" if event == "frame" else CAMERA_FRAME
        message = frame.message(self.stamp_ns, frame_id, self._mark)
        if event == "empty":
            return replace(message, width=0, row_step=0, data=np.zeros(0, np.uint8))
        if event == "nan":
            points = np.frombuffer(message.data, POINT_DTYPE).copy()
            points["xyz"] = np.nan
            return replace(message, data=points.view(np.uint8), is_dense=False)
        return message  # frozen: the same picture under a new stamp
