"""What a run at camera rate leaves behind: the clouds that the camera sent, and what was heard of the tracker."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class SentCloud(NamedTuple):
    """Which frame went out under which stamp, and how long the camera's process took to send it."""

    number: int
    stamp_ns: int
    send_ms: float


@dataclass(frozen=True)
class RateRun:
    """What one run left behind.

    Attributes:
        sent: every cloud, in order.
        heard: lines of the recorder, see ``benchmarks/camera_rate/pose_recorder.py``.
        skipped: clouds that the camera could not send in time.
        settle_s: at the beginning that does not count (the first search from nothing takes longer than a frame).
    """

    sent: Sequence[SentCloud]
    heard: Sequence[Mapping[str, Any]]
    skipped: int = 0
    settle_s: float = 5.0

    def window(self) -> tuple[int, int]:
        """First and last stamp that count."""
        if not self.sent:
            return 0, -1
        return self.sent[0].stamp_ns + round(1e9 * self.settle_s), self.sent[-1].stamp_ns


@dataclass
class Judged:
    """What was heard of one cloud."""

    status: Mapping[str, Any] | None = None
    pose_ns: int | None = None
    T_camera_levels: dict[str, Array] = field(default_factory=dict)
    T_network: Array | None = None


def write_sent(path: Path, sent: Sequence[SentCloud]) -> None:
    """Write the camera's log, one line a cloud."""
    path.write_text("".join(f"{cloud.number} {cloud.stamp_ns} {cloud.send_ms:.3f}\n" for cloud in sent))


def read_sent(path: Path) -> list[SentCloud]:
    """The camera's log."""
    lines = (line.split() for line in path.read_text().splitlines())
    return [SentCloud(int(number), int(stamp_ns), float(ms)) for number, stamp_ns, ms in lines]


def read_heard(path: Path) -> list[dict[str, Any]]:
    """The recorder's file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def by_stamp(heard: Sequence[Mapping[str, Any]]) -> dict[int, Judged]:
    """What was heard, by the stamp of the cloud. Of several statuses at a stamp the first is the judgement of the cloud."""
    found: dict[int, Judged] = {}
    for line in heard:
        judged = found.setdefault(int(line["stamp_ns"]), Judged())
        if line["kind"] == "status":
            judged.status = judged.status or line
        elif line["kind"] == "pose":
            judged.pose_ns = judged.pose_ns or int(line["heard_ns"])
        elif line["kind"] == "vertebrae":
            judged.T_camera_levels = {
                level: np.array(numbers).reshape(4, 4) for level, numbers in line["T_camera_levels"].items()
            }
        elif line["kind"] == "network":
            judged.T_network = np.array(line["T_camera_model"]).reshape(4, 4)
    return found
