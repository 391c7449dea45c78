"""One method over a stream, frame by frame, in this process: the node's own path from message to state, with a clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.apps.bench.input import StoredFrame
from end2reg_ros.apps.bench.network import network_parts
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.decoding import decoder
from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.stream import StreamGuard, StreamSettings
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.frame import Arrival, FrameProcess, Tracker
from end2reg_ros.registration.interface import Registrar
from end2reg_ros.registration.types import Prior, Registration
from end2reg_ros.tracking import PUBLISHING_STATES, State
from end2reg_ros.tracking.track import LAST_FRAME_STDDEV_M

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TimedFrame:
    """What one message cost, and what became of it.

    Attributes:
        total_ms: from the message's bytes to the state and the pose.
        cpu_ms: processor time of the whole process, all threads, until the next frame came or all was quiet again.
        timings_ms: as the node reports them.
        followed: a track was running before this frame; else it was a start or a search.
        T_camera_levels: of the published vertebrae; empty without a pose.
        T_network: the network's own pose, before refinement; ``network_stamp_ns`` of the cloud that it saw.
    """

    total_ms: float
    cpu_ms: float
    timings_ms: dict[str, float]
    followed: bool
    state: State
    reason_code: str
    published: bool
    T_camera_model: Array | None = None
    T_camera_levels: dict[str, Array] = field(default_factory=dict)
    T_network: Array | None = None
    network_stamp_ns: int = 0


@dataclass(frozen=True)
class TimedRegistration:
    """One registration; ``T_camera_model`` is None where there is no finite pose."""

    total_ms: float
    cpu_ms: float
    timings_ms: dict[str, float]
    success: bool
    reason_code: str
    T_camera_model: Array | None


@dataclass(frozen=True)
class Memory:
    """Resident memory of this process in MB (10^6 bytes): now, and the most that it ever was."""

    rss_mb: float
    peak_mb: float


class MethodRunner:
    """A registrar behind the node's ``FrameProcess`` and ``Tracker``."""

    def __init__(self, case: Case, registrar: Registrar, weights: Path | None = None) -> None:
        """``weights``: that a learned method's engine was loaded with."""
        self.case, self.registrar = case, registrar
        self._weights = weights
        self._limits = CloudLimits()
        self._decode, self._data = decoder("points")
        self._paced = False
        self._new_stream()

    def begin(self, prior: Prior, paced: bool = False) -> None:
        """A new stream that starts from a prior; ``paced``: no frame comes before its stamp says so."""
        self._new_stream()
        self._paced = paced
        self._tracker.set_prior(prior)

    def _new_stream(self) -> None:
        self._tracker = Tracker(self.registrar, self.case)
        guard = StreamGuard(StreamSettings())
        self._frames = FrameProcess(self._tracker, self._decode, self._data, guard, self._limits)

    def run(self, frames: Sequence[StoredFrame]) -> list[TimedFrame]:
        """The next frames of the stream; returns when the process is quiet again."""
        rows: list[TimedFrame] = []
        marks: list[float] = []  # processor time when a frame came, and when all was quiet after the last one
        reads: list[float] = []  # of it, spent on reading the frame
        began = time.perf_counter()
        for frame in frames:
            spent = time.process_time()
            message = frame.message()
            reads.append(time.process_time() - spent)
            if self._paced:
                due = began + 1e-9 * (frame.stamp_ns - frames[0].stamp_ns)
                time.sleep(max(0.0, due - time.perf_counter()))
            marks.append(time.process_time())
            rows.append(self._frame(message))
        settle()
        spans = zip(rows, marks, [*marks[1:], time.process_time()], [*reads[1:], 0.0], strict=True)
        return [replace(row, cpu_ms=1e3 * (end - start - read)) for row, start, end, read in spans]

    def _frame(self, message: Any) -> TimedFrame:
        followed = self._tracker.state in PUBLISHING_STATES
        began = time.perf_counter()
        outcome = self._frames.run(Arrival(message, began), _nothing)
        total_ms = 1e3 * (time.perf_counter() - began)
        timings = {name: ms for name, ms in outcome.timings_ms.items() if name != "wait"}
        update = outcome.update
        if update is None:
            code = outcome.drop.code if outcome.drop is not None else "dropped"
            return TimedFrame(total_ms, 0.0, timings, followed, self._tracker.state, code, False)
        row = TimedFrame(total_ms, 0.0, timings, followed, update.state, update.reason_code, False)
        if not update.published or update.registration is None:
            return row
        return _posed(row, update.registration)

    def from_nothing(self, view: StoredFrame) -> TimedRegistration:
        """Register a view without any start. Decoding is not counted."""
        cloud = self.cloud_of(view)
        began, spent = time.perf_counter(), time.process_time()
        return _step(self.registrar.register(cloud, None), began, spent)

    def follow(self, frame: StoredFrame, T_camera_model: Array) -> TimedRegistration:
        """Decode a frame and register it as the next one of a track that was last at this pose, whatever comes of it."""
        message = frame.message()
        expected = Prior(T_camera_model, "last_frame", LAST_FRAME_STDDEV_M)
        began, spent = time.perf_counter(), time.process_time()
        cloud = self._decode(message, self._limits)
        decoded = time.perf_counter()
        scene = self.registrar.crop(cloud, expected)
        seen = self._tracker.network.look(scene)
        found = self.registrar.follow(scene, expected, seen)
        self._tracker.network.followed(scene, found)
        row = _step(found, began, spent)
        return replace(row, timings_ms={"decode": 1e3 * (decoded - began), **row.timings_ms})

    def network_parts(self, frame: StoredFrame, repeats: int) -> dict[str, float]:
        """Part of a network's pass over a frame -> median milliseconds of ``repeats``; empty without a network."""
        cloud = self.cloud_of(frame)
        return network_parts(self.registrar, cloud, frame.T_camera_model, self._weights, repeats)

    def memory(self) -> Memory:
        """Resident memory of this process."""
        return memory()

    def cloud_of(self, frame: StoredFrame) -> Cloud:
        """A frame's cloud, decoded."""
        return self._decode(frame.message(), self._limits)


def _nothing(cloud: Cloud) -> None:
    """The start is set before the stream, not by a frame."""


def settle(seconds: float = 5.0) -> None:
    """Wait until this process does nothing any more, such as a pass in the background; not longer than ``seconds``.

    The next method's turn would otherwise be measured beside it.
    """
    until = time.perf_counter() + seconds
    quiet = 0
    while quiet < 2 and time.perf_counter() < until:
        spent = time.process_time()
        time.sleep(0.01)
        quiet = quiet + 1 if time.process_time() - spent < 0.002 else 0


def _step(found: Registration, began: float, spent: float) -> TimedRegistration:
    total_ms = 1e3 * (time.perf_counter() - began)
    settle()
    cpu_ms = 1e3 * (time.process_time() - spent)
    T = found.T_camera_model if np.isfinite(found.T_camera_model).all() else None
    return TimedRegistration(total_ms, cpu_ms, dict(found.timings_ms), found.success, found.reason_code, T)


def _posed(row: TimedFrame, found: Registration) -> TimedFrame:
    return replace(
        row,
        published=True,
        T_camera_model=found.T_camera_model,
        T_camera_levels={level.level: level.T_camera_level for level in found.levels},
        T_network=None if found.network is None else found.network.T_camera_model,
        network_stamp_ns=0 if found.network is None else found.network.stamp_ns,
    )


def memory() -> Memory:
    """Of this process. Not from getrusage: there a process starts with the peak of the one that started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        found = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        kilobytes = [float(found[name].split()[0]) for name in ("VmRSS", "VmHWM") if name in found]
        if len(kilobytes) == 2:
            return Memory(kilobytes[0] * 1024e-6, kilobytes[1] * 1024e-6)
    import psutil

    now = psutil.Process().memory_info().rss / 1e6
    return Memory(now, now)
