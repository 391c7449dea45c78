"""A tracker over a simulated camera in one process: in step, or against a clock on which slow updates cost clouds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol

import numpy as np

from benchmarks.tracking_study.observer import Observer
from end2reg_ros.cloud.decoding import decoder
from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.ros_messages import PointCloud2
from end2reg_ros.cloud.stream import StreamGuard, StreamSettings
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.evaluation.rows import CloudRow
from end2reg_ros.frame import Arrival, FrameProcess, Outcome, TrackerLike
from end2reg_ros.names import CAMERA_FRAME
from end2reg_ros.reasons import Reason
from end2reg_ros.simulation.camera.realsense import cloud_message, encode_realsense
from end2reg_ros.simulation.sequence import SimulatedFrame
from end2reg_ros.tracking.types import State

START_NS = 1_700_000_000_000_000_000  # a stamp of zero means "no time" to ROS


class FrameSource(Protocol):
    """What gives frames: a ``SimulatedSequence``."""

    def frame(self, t_s: float) -> SimulatedFrame: ...


@dataclass(frozen=True)
class RunSettings:
    """How a tracker is run.

    Attributes:
        rate_hz, duration_s: of the camera; ``start_s`` is the first frame's time.
        live: model of a running camera: a cloud waits for the update before it, and a newer one takes its place. Checks,
            decoding and update take the time that they take here; transport counts nothing. False: every cloud is judged.
        superseded: in a live run, render the superseded clouds too, for what they show.
        until_pose: stop at the first published pose.
    """

    rate_hz: float = 15.0
    duration_s: float = 60.0
    start_s: float = 0.0
    live: bool = False
    superseded: bool = True
    until_pose: bool = False

    @property
    def frames(self) -> int:
        """Number of frames."""
        return max(1, int(np.floor(self.duration_s * self.rate_hz + 1e-9)))

    def time(self, number: int) -> float:
        """Seconds of a frame."""
        return self.start_s + number / self.rate_hz


def cloud_of_frame(frame: SimulatedFrame) -> Cloud:
    """What a driver would send: the valid points, in image order."""
    valid = np.isfinite(frame.points[..., 2])
    return Cloud(
        frame.points[valid], frame.colours[valid], CAMERA_FRAME, stamp_of(frame.t_s), received=int(valid.size)
    )


def message_of(cloud: Cloud) -> PointCloud2:
    """The message that a driver would send of a cloud; without colours as one of a sensor that has none."""
    colours = np.zeros(cloud.points.shape, np.uint8) if cloud.colours is None else cloud.colours
    encoded = encode_realsense(cloud.points[None], colours[None])
    message = cloud_message(encoded, cloud.frame_id, cloud.stamp_ns)
    return replace(message, fields=message.fields[:3]) if cloud.colours is None else message


class NodePath:
    """The node's way of a cloud to a tracker: header, order, decoding, frozen data."""

    def __init__(self, tracker: TrackerLike) -> None:
        decode, data = decoder("points")
        guard = StreamGuard(StreamSettings())
        self._frames = FrameProcess(tracker, decode, data, guard, CloudLimits())

    def run(self, message: PointCloud2, received_s: float) -> Outcome:
        """One message; ``received_s`` monotonic."""
        return self._frames.run(Arrival(message, received_s), lambda cloud: None)


def stamp_of(t_s: float) -> int:
    """Stamp of a time, nanoseconds."""
    return START_NS + round(t_s * 1e9)


def run_track(
    camera: FrameSource, tracker: TrackerLike, observer: Observer, settings: RunSettings
) -> list[CloudRow]:
    """All rows of a run, in the order of the stamps."""
    rows: list[CloudRow] = []
    for row in _rows(camera, tracker, observer, settings):
        rows.append(row)
        if settings.until_pose and row.published:
            break
    return observer.finished(rows)


def _rows(
    camera: FrameSource, tracker: TrackerLike, observer: Observer, settings: RunSettings
) -> Iterator[CloudRow]:
    number, free_s = 0, -np.inf
    path = NodePath(tracker)
    last: CloudRow | None = None
    while number < settings.frames:
        if settings.live:
            newest = number_at(free_s, settings, number)
            if settings.superseded:
                for skipped in range(number, min(newest, settings.frames)):
                    yield unjudged(camera.frame(settings.time(skipped)), last, Reason.SUPERSEDED)
            number = newest
            if number >= settings.frames:
                return
        frame = camera.frame(settings.time(number))
        message = message_of(cloud_of_frame(frame))
        clock = perf_counter()
        outcome = path.run(message, clock)
        took = perf_counter() - clock
        free_s = max(free_s, frame.t_s) + took if settings.live else frame.t_s + took
        number += 1
        if outcome.drop is not None:
            yield unjudged(frame, last, outcome.drop.code)
        elif outcome.update is not None:
            last = observer.row(outcome.update, frame, 1e3 * took, free_s)
            yield last


def number_at(free_s: float, settings: RunSettings, first: int) -> int:
    """Number of the frame that is taken when the tracker is free: the newest one there, else the next to come."""
    if not np.isfinite(free_s):
        return first
    return max(first, int(np.floor((free_s - settings.start_s) * settings.rate_hz + 1e-9)))


def unjudged(frame: SimulatedFrame, last: CloudRow | None, reason: str) -> CloudRow:
    """The row of a cloud that the tracker never saw: superseded, or dropped by the checks."""
    state, code = (last.state, last.reason_code) if last is not None else (State.SEARCHING.name, "")
    visible = frame.visible_fraction if frame.tags.get("spine", True) else 0.0
    return CloudRow(
        frame.t_s, stamp_of(frame.t_s), state, code, reason, judged=False, visible_fraction=visible
    )
