"""Figures of one run from the listener's rows: ``figures.stream_figures``, and what only a run over ROS has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from end2reg_ros.evaluation.figures import StreamFigures, stream_figures
from end2reg_ros.evaluation.rows import CloudRow


@dataclass(frozen=True)
class Interval:
    """A stretch of one state: seconds since the first cloud, and the first cloud's reason."""

    state: str
    start: float
    end: float
    reason_code: str
    reason: str


@dataclass(frozen=True)
class RunSummary(StreamFigures):
    """What a run over ROS was like: the figures of its stream, and those that only such a run has.

    Attributes:
        duration_s: from the first cloud to the last.
        level_tre_median_mm: level -> median target registration error, mm.
        false_degraded: poses published as DEGRADED with a vertebra more than 10 mm off (mean of its landmarks).
        late_wrong: of the late poses, those more than 10 mm off (counted as false, too).
        first_pose_heard_s: from the stamp of the first cloud in view to the arrival of the first pose at the listener:
            ``time_to_first_pose_s`` and that pose's age.
        lost: intervals of the state LOST.
        state_share: state -> share of the clouds.
        rate_hz: published poses per second over the stretches in which poses were published.
        camera_hz: clouds per second.
        latency_ms: p50 and p95 of the published poses, as the tracker reports them.
        stages_ms: stage -> median milliseconds over the clouds that went through it; ``stages_p95_ms``: 95th percentiles.
    """

    duration_s: float
    level_tre_median_mm: dict[str, float]
    false_degraded: int
    late_wrong: int
    first_pose_heard_s: float
    lost: list[Interval]
    state_share: dict[str, float]
    rate_hz: float
    camera_hz: float
    latency_ms: tuple[float, float]
    stages_ms: dict[str, float]
    stages_p95_ms: dict[str, float]


def summarise(heard: Sequence[CloudRow]) -> RunSummary:
    """The figures of a run; rows in the order of their stamps (as ``rows.latest`` gives them)."""
    rows = clouds(heard)
    figures = stream_figures(heard)
    published = [row for row in rows if row.published]
    latencies = [row.latency_ms for row in published if row.latency_ms is not None]
    p50, p95 = np.percentile(latencies, [50, 95]) if latencies else (np.nan, np.nan)
    first_age_ms = published[0].age_ms if published else None
    duration_s = rows[-1].t - rows[0].t if rows else 0.0
    return RunSummary(
        **vars(figures),
        duration_s=duration_s,
        level_tre_median_mm=level_medians_mm(published),
        false_degraded=figures.false_poses - figures.false_tracking,
        late_wrong=sum(row.false_pose for row in rows if row.late),
        first_pose_heard_s=figures.time_to_first_pose_s
        + (np.nan if first_age_ms is None else first_age_ms / 1e3),
        lost=[span for span in intervals(rows) if span.state == "LOST"],
        state_share=_state_share(rows),
        rate_hz=_rate(published),
        camera_hz=(len(rows) - 1) / duration_s if duration_s > 0 else float("nan"),
        latency_ms=(float(p50), float(p95)),
        stages_ms=_stage_percentiles(rows, 50),
        stages_p95_ms=_stage_percentiles(rows, 95),
    )


def clouds(heard: Sequence[CloudRow]) -> list[CloudRow]:
    """The rows of clouds that the camera did send."""
    return [row for row in heard if not row.unknown]


def intervals(rows: Sequence[CloudRow]) -> list[Interval]:
    """Stretches of equal state, in order; each ends where the next begins."""
    firsts = [next(stretch) for _, stretch in groupby(rows, key=lambda row: row.state)]
    ends = [row.t for row in (*firsts[1:], *rows[-1:])]
    return [
        Interval(first.state, first.t, end, first.reason_code, first.reason)
        for first, end in zip(firsts, ends, strict=True)
    ]


def _rate(published: Sequence[CloudRow]) -> float:
    """Poses per second without the pauses: a gap of more than a second is a loss, not a slow rate."""
    gaps = np.diff([row.t for row in published])
    gaps = gaps[(gaps > 0) & (gaps < 1.0)]
    return float(len(gaps) / gaps.sum()) if len(gaps) else float("nan")


def _state_share(rows: Sequence[CloudRow]) -> dict[str, float]:
    names = ("SEARCHING", "TRACKING", "DEGRADED", "LOST")
    return {name: sum(row.state == name for row in rows) / len(rows) for name in names} if rows else {}


def level_errors_mm(rows: Sequence[CloudRow]) -> dict[str, list[float]]:
    """Level -> its landmark errors in all rows, mm."""
    errors: dict[str, list[float]] = {}
    for row in rows:
        for level, values in row.errors_mm.items():
            errors.setdefault(level, []).extend(values)
    return errors


def level_medians_mm(rows: Sequence[CloudRow]) -> dict[str, float]:
    """Level -> median of its landmark errors in all rows, mm."""
    return {level: float(np.median(values)) for level, values in level_errors_mm(rows).items() if values}


def _stage_percentiles(rows: Sequence[CloudRow], percent: float) -> dict[str, float]:
    stages: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.stages_ms.items():
            if value is not None:
                stages.setdefault(name, []).append(value)
    return {name: float(np.percentile(values, percent)) for name, values in stages.items()}
