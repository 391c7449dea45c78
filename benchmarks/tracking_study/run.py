"""A tracker over a simulated camera in one process: in step, or against a clock on which slow updates cost clouds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np

from benchmarks.tracking_study.observer import Observer
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.evaluation.rows import CloudRow
from end2reg_ros.frame import TrackerLike
from end2reg_ros.names import CAMERA_FRAME
from end2reg_ros.reasons import Reason
from end2reg_ros.simulation.sequence import SimulatedFrame
from end2reg_ros.tracking.types import State

START_NS = 1_700_000_000_000_000_000  # a stamp of zero means "no time" to ROS


class Camera(Protocol):
    """What gives frames: a ``SimulatedSequence``."""

    def frame(self, t_s: float) -> SimulatedFrame: ...


@dataclass(frozen=True)
class RunSettings:
    """How a tracker is run.

    Attributes:
        rate_hz, duration_s: of the camera; ``start_s`` is the first frame's time.
        live: model of a running camera: a cloud waits for the update before it, and a newer one takes its place. An update
            takes the time that it takes here; decoding and transport count nothing. False: every cloud is judged.
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


def stamp_of(t_s: float) -> int:
    """Stamp of a time, nanoseconds."""
    return START_NS + round(t_s * 1e9)


def run_track(
    camera: Camera, tracker: TrackerLike, observer: Observer, settings: RunSettings
) -> list[CloudRow]:
    """All rows of a run, in the order of the stamps."""
    rows: list[CloudRow] = []
    for row in _rows(camera, tracker, observer, settings):
        rows.append(row)
        if settings.until_pose and row.published:
            break
    return observer.finished(rows)


def _rows(
    camera: Camera, tracker: TrackerLike, observer: Observer, settings: RunSettings
) -> Iterator[CloudRow]:
    number, free_s = 0, -np.inf
    last: CloudRow | None = None
    while number < settings.frames:
        if settings.live:
            newest = number_at(free_s, settings, number)
            if settings.superseded:
                for skipped in range(number, min(newest, settings.frames)):
                    yield superseded(camera.frame(settings.time(skipped)), last)
            number = newest
            if number >= settings.frames:
                return
        frame = camera.frame(settings.time(number))
        cloud = cloud_of_frame(frame)
        clock = perf_counter()
        update = tracker.update(cloud)
        took = perf_counter() - clock
        free_s = max(free_s, frame.t_s) + took if settings.live else frame.t_s + took
        last = observer.row(update, frame, 1e3 * took, free_s)
        yield last
        number += 1


def number_at(free_s: float, settings: RunSettings, first: int) -> int:
    """Number of the frame that is taken when the tracker is free: the newest one there, else the next to come."""
    if not np.isfinite(free_s):
        return first
    return max(first, int(np.floor((free_s - settings.start_s) * settings.rate_hz + 1e-9)))


def superseded(frame: SimulatedFrame, last: CloudRow | None) -> CloudRow:
    """The row of a cloud that was never looked at."""
    state, code = (last.state, last.reason_code) if last is not None else (State.SEARCHING.name, "")
    visible = frame.visible_fraction if frame.tags.get("spine", True) else 0.0
    return CloudRow(
        frame.t_s, stamp_of(frame.t_s), state, code, Reason.SUPERSEDED, judged=False, visible_fraction=visible
    )
