"""What an hour of camera left behind, its figures, and what of it must not be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from benchmarks.soak_study.feed import BURST, DROPPED
from benchmarks.soak_study.output import SoakOutput
from end2reg_ros.evaluation.spread import spread
from end2reg_ros.reasons import Reason
from end2reg_ros.runtime.status import Counts

CLOUDS_PER_HOUR = 108_000  # at 30 Hz
MAX_GROWTH_MB = 20.0


@dataclass(frozen=True)
class Sample:
    """The process at one moment; ``open_files``: file descriptors."""

    clouds: int
    wall_s: float
    rss_mb: float
    threads: int
    open_files: int
    poses: int
    state: str


@dataclass
class SoakRecord:
    """What became of a course. ``faults``: why it ended early, one sentence each."""

    output: SoakOutput
    counters: Counts
    events: dict[str, int] = field(default_factory=dict)
    sent: int = 0
    samples: list[Sample] = field(default_factory=list)
    starts_given: int = 0
    silences_noticed: int = 0
    wall_s: float = 0.0
    faults: list[str] = field(default_factory=list)
    interrupted: bool = False
    ended_in_time: bool = True


def memory_figures(samples: list[Sample], warm: int) -> dict[str, float | None]:
    """Memory from ``warm`` clouds on: begin, end, growth, and the slope of a line through all samples, MB an hour at 30 Hz."""
    inside = [sample for sample in samples if sample.clouds >= warm]
    if len(inside) < 2:
        return {"warm_mb": None, "end_mb": None, "growth_mb": None, "slope_mb_per_hour": None}
    hours = [sample.clouds / CLOUDS_PER_HOUR for sample in inside]
    slope = float(np.polyfit(hours, [sample.rss_mb for sample in inside], 1)[0]) if len(inside) > 2 else None
    first, last = inside[0].rss_mb, inside[-1].rss_mb
    return {"warm_mb": first, "end_mb": last, "growth_mb": last - first, "slope_mb_per_hour": slope}


def problems(record: SoakRecord, warm: int) -> list[str]:
    """What went wrong, one sentence each; empty for a sound hour."""
    found = list(record.faults)
    counts, output, events = record.counters, record.output, record.events
    if counts.received != record.sent:
        found.append(f"{record.sent} clouds were sent, {counts.received} counted as received")
    if counts.pending or counts.received != counts.processed + counts.total_dropped:
        found.append(
            f"the counters do not add up: {counts.received} received, {counts.processed} processed, "
            f"{counts.total_dropped} dropped, {counts.pending} pending"
        )
    if output.sums_wrong:
        found.append(f"{output.sums_wrong} statuses had counters that do not add up")
    found += _drop_problems(counts.dropped, events)
    if counts.poses_published != output.poses:
        found.append(f"{output.poses} poses went out, {counts.poses_published} were counted")
    for count, text in (
        (output.wrong, "poses are off by more than 10 mm"),
        (output.blind, "poses were published while nothing of the spine was in view"),
        (output.uncompared, "poses belong to no cloud that was sent"),
        (events.get("silence", 0) - record.silences_noticed, "silences of the camera were not told"),
        (output.warned[Reason.INTERNAL_ERROR], "warnings of an internal error"),
    ):
        if count:
            found.append(f"{count} {text}")
    if not output.poses:
        found.append("no pose was published")
    if not record.ended_in_time:
        found.append("the working thread did not end in time")
    return found + _process_problems(record.samples, warm)


def _drop_problems(dropped: Mapping[str, int], events: Mapping[str, int]) -> list[str]:
    expected: dict[str, int] = {DROPPED[event]: count for event, count in events.items() if event in DROPPED}
    found = [
        f"{dropped.get(code, 0)} clouds were dropped as {code}, expected {expected.get(code, 0)}"
        for code in sorted({*dropped, *expected} - {Reason.SUPERSEDED})
        if dropped.get(code, 0) != expected.get(code, 0)
    ]
    bursts, superseded = events.get("burst", 0), dropped.get(Reason.SUPERSEDED, 0)
    if superseded != (BURST - 1) * bursts:
        found.append(f"{superseded} clouds were superseded in {bursts} bursts of {BURST}")
    return found


def _process_problems(samples: list[Sample], warm: int) -> list[str]:
    inside = [sample for sample in samples if sample.clouds >= warm]
    growth = memory_figures(samples, warm)["growth_mb"]
    found = []
    if growth is not None and growth >= MAX_GROWTH_MB:
        found.append(f"memory grew by {growth:.1f} MB (limit {MAX_GROWTH_MB:g} MB)")
    for name, text in (("threads", "threads"), ("open_files", "open files")):
        values = {getattr(sample, name) for sample in inside}
        if len(values) > 1:
            found.append(f"the number of {text} changed: {min(values)} to {max(values)}")
    return found


def figures(record: SoakRecord, warm: int) -> dict[str, Any]:
    """What stands in the JSON."""
    counts, output = record.counters, record.output
    errors = spread(output.errors_mm.tolist())
    found = problems(record, warm)
    return {
        "good": not found,
        "problems": found,
        "interrupted": record.interrupted,
        "clouds": {
            "sent": record.sent,
            "received": counts.received,
            "processed": counts.processed,
            "dropped": counts.dropped,
            "pending": counts.pending,
        },
        "hours_at_30_hz": record.sent / CLOUDS_PER_HOUR,
        "wall_s": record.wall_s,
        "clouds_per_s": record.sent / record.wall_s if record.wall_s else None,
        "events": record.events,
        "silences_noticed": record.silences_noticed,
        "starts_given": record.starts_given,
        "poses": output.poses,
        "pose_error_mm": {"median": errors.median, "p95": errors.p95, "max": errors.maximum}
        if errors.count
        else None,
        "wrong_poses": output.wrong,
        "blind_poses": output.blind,
        "states": dict(output.states),
        "reasons": dict(output.reasons),
        "state_changes": dict(output.changes),
        "memory": memory_figures(record.samples, warm) | {"warm_after_clouds": warm},
        "samples": [asdict(sample) for sample in record.samples],
    }
