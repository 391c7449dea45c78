"""How a method's cost grows: with the number of points in a cloud, and with the cores it may use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from end2reg_ros.apps.bench.figures import cost
from end2reg_ros.apps.bench.input import StoredStream, render_stream, sensor_of
from end2reg_ros.apps.bench.process import MethodProcess
from end2reg_ros.apps.bench.turns import follow_in_turns, start_in_turns, stream_in_turns
from end2reg_ros.case.model import Case


@dataclass(frozen=True)
class ScalingPlan:
    """How much is measured.

    Attributes:
        points: of the clouds.
        frames: registered at each size, and of the stream that threads are compared on.
        views: starts from nothing at each size.
    """

    points: tuple[int, ...] = (20_000, 100_000, 300_000, 1_000_000)
    frames: int = 20
    views: int = 2


def render_sizes(case: Case, seen: StoredStream, scaling: ScalingPlan, folder: Path) -> list[StoredStream]:
    """The scene of ``seen`` through cameras of other resolutions, one stream for each wanted number of points."""
    streams = []
    for points in scaling.points:
        found = seen
        # Edges cost a coarse image more of its points than a fine one: a single frame tells how many.
        for name, frames, views in (("try", 1, 0), ("sized", scaling.frames + 1, scaling.views)):
            here = folder / f"{name}_{points}"
            here.mkdir()
            plan = replace(seen.plan, sensor=sensor_of(points, found), frames=frames, views=views)
            found = render_stream(case, plan, here)
        streams.append(found)
    return streams


def cloud_sizes(processes: Sequence[MethodProcess], streams: Sequence[StoredStream]) -> list[dict[str, Any]]:
    """One row a size and method: the cost of the next frame of a running track, and of a start from nothing.

    Both count whatever comes of them: in a coarse cloud no pose may pass the checks, and a track would end.
    """
    rows = []
    for stream in streams:
        followed = follow_in_turns(processes, stream.frames)
        started = start_in_turns(processes, stream.views)
        for process in processes:
            mine = followed[process.spec]
            rows.append(
                {
                    "label": process.spec.label,
                    "points": stream.points,
                    "image": f"{stream.plan.sensor.width}x{stream.plan.sensor.height}",
                    "passed": sum(row.success for row in mine),
                    "reasons": dict(Counter(row.reason_code for row in mine).most_common()),
                    "followed": cost(mine),
                    "from_nothing": cost(started[process.spec]),
                }
            )
    return rows


def thread_counts(
    processes: Sequence[MethodProcess], stream: StoredStream, block: int, paced: bool = False
) -> list[dict[str, Any]]:
    """One row a process: the cost of frames that were followed with its number of threads and cores."""
    followed = stream_in_turns(processes, stream, block, paced)
    return [
        {
            "label": process.spec.label,
            "threads": process.spec.threads,
            "cores": process.spec.cores,
            "poses": sum(row.published for row in followed[process.spec]),
            "frames": len(followed[process.spec]),
            "followed": cost([row for row in followed[process.spec] if row.followed]),
        }
        for process in processes
    ]
