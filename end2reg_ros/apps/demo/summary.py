"""Figures of one run from the listener's rows: ``figures.stream_figures``, and what only a run over ROS has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from end2reg_ros.evaluation.figures import stream_figures
from end2reg_ros.evaluation.metrics import WRONG_MM
from end2reg_ros.evaluation.rows import CloudRow

FALSE_POSE_MM = WRONG_MM


@dataclass(frozen=True)
class Interval:
    """A stretch of one state: seconds since the first cloud, and the first cloud's reason."""

    state: str
    start: float
    end: float
    reason_code: str
    reason: str


@dataclass(frozen=True)
class RunSummary:
    """What a run was like. None where there was nothing to measure.

    Attributes:
        clouds: sent by the camera; ``judged``: those the tracker gave a status for; ``published``: those with poses.
        tre_median_mm, tre_q1_mm, tre_q3_mm, tre_p95_mm, tre_max_mm: target registration error over all landmarks of
            all published poses, mm.
        level_tre_median_mm: the same per level.
        outliers, availability, availability_judged, jitter_mm, level_slips, blind_poses, reacquisition_s,
            never_reacquired, unserved_s: as in ``StreamFigures``; ``first_pose_s`` is its ``time_to_first_pose_s``.
        first_pose_heard_s: from the stamp of the first cloud in view to the arrival of the first pose at the listener:
            ``first_pose_s`` and that pose's age.
        false_tracking, false_degraded: clouds published in that state with a vertebra more than 10 mm off (mean of
            its landmarks).
        repeated_poses: further messages for a stamp already published.
        late_poses: of the published ones, those first heard when they were no longer waited for; ``late_wrong``: of
            these, those more than 10 mm off (counted as false, too).
        unknown_poses: messages with poses at a stamp at which the camera sent no cloud; in no other figure.
        uncompared_poses: published ones without a truth to compare with.
        lost: intervals of the state LOST.
        rate_hz: published poses per second over the stretches in which poses were published.
        camera_hz: clouds per second.
        age_p50_ms, age_p95_ms, age_p99_ms: arrival of the poses at the listener minus the sensor's stamp.
        latency_p50_ms, latency_p95_ms: as the tracker reports them.
        stages_ms: stage -> median milliseconds over the clouds that went through it; ``stages_p95_ms``: 95th percentiles.
        network_poses: published poses of which the network's own pose, before refinement, was heard and compared, too.
        network_tre_median_mm, network_tre_p95_mm, network_tre_max_mm: of these, before refinement.
        refined_tre_median_mm, refined_tre_p95_mm, refined_tre_max_mm: of the same clouds, after it.
    """

    duration_s: float
    clouds: int
    judged: int
    published: int
    tre_median_mm: float | None
    tre_q1_mm: float | None
    tre_q3_mm: float | None
    tre_p95_mm: float | None
    tre_max_mm: float | None
    level_tre_median_mm: dict[str, float]
    outliers: float | None
    jitter_mm: float | None
    availability: float | None
    availability_judged: float | None
    false_tracking: int
    false_degraded: int
    blind_poses: int
    level_slips: int
    repeated_poses: int
    late_poses: int
    late_wrong: int
    unknown_poses: int
    uncompared_poses: int
    first_pose_s: float | None
    reacquisition_s: list[float]
    never_reacquired: int
    unserved_s: float
    lost: list[Interval]
    state_share: dict[str, float]
    rate_hz: float | None
    camera_hz: float | None
    age_p50_ms: float | None
    age_p95_ms: float | None
    age_p99_ms: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    stages_ms: dict[str, float]
    stages_p95_ms: dict[str, float]
    first_pose_heard_s: float | None
    network_poses: int
    network_tre_median_mm: float | None
    network_tre_p95_mm: float | None
    network_tre_max_mm: float | None
    refined_tre_median_mm: float | None
    refined_tre_p95_mm: float | None
    refined_tre_max_mm: float | None


def summarise(heard: Sequence[CloudRow]) -> RunSummary:
    """The figures of a run; rows in the order of their stamps (as ``read_rows`` gives them)."""
    rows = clouds(heard)
    figures = stream_figures(heard)
    published = [row for row in rows if row.published]
    latencies = [row.latency_ms for row in published if row.latency_ms is not None]
    duration_s = rows[-1].t - rows[0].t if rows else 0.0
    tre, before, after = figures.tre_mm, figures.network_tre_mm, figures.refined_tre_mm
    return RunSummary(
        duration_s=duration_s,
        clouds=len(rows),
        judged=figures.judged,
        published=figures.published,
        tre_median_mm=_known(tre.median),
        tre_q1_mm=_known(tre.q1),
        tre_q3_mm=_known(tre.q3),
        tre_p95_mm=_known(tre.p95),
        tre_max_mm=_known(tre.maximum),
        level_tre_median_mm=_level_medians(published),
        outliers=_known(figures.outliers),
        jitter_mm=_known(figures.jitter_mm),
        availability=_known(figures.availability),
        availability_judged=_known(figures.availability_judged),
        false_tracking=figures.false_tracking,
        false_degraded=figures.false_poses - figures.false_tracking,
        blind_poses=figures.blind_poses,
        level_slips=figures.level_slips,
        repeated_poses=figures.repeated_poses,
        late_poses=figures.late_poses,
        late_wrong=sum(row.false_pose for row in rows if row.late),
        unknown_poses=figures.unknown_poses,
        uncompared_poses=figures.uncompared_poses,
        first_pose_s=_known(figures.time_to_first_pose_s),
        reacquisition_s=list(figures.reacquisition_s),
        never_reacquired=figures.never_reacquired,
        unserved_s=figures.unserved_s,
        lost=[span for span in intervals(rows) if span.state == "LOST"],
        state_share=_state_share(rows),
        rate_hz=_rate(published),
        camera_hz=(len(rows) - 1) / duration_s if duration_s > 0 else None,
        age_p50_ms=_known(figures.pose_age_ms[0]),
        age_p95_ms=_known(figures.pose_age_ms[1]),
        age_p99_ms=_known(figures.pose_age_ms[2]),
        latency_p50_ms=float(np.percentile(latencies, 50)) if latencies else None,
        latency_p95_ms=float(np.percentile(latencies, 95)) if latencies else None,
        stages_ms=_stage_percentiles(rows, 50),
        stages_p95_ms=_stage_percentiles(rows, 95),
        first_pose_heard_s=_first_heard_s(figures.time_to_first_pose_s, published),
        network_poses=figures.compared_twice,
        network_tre_median_mm=_known(before.median),
        network_tre_p95_mm=_known(before.p95),
        network_tre_max_mm=_known(before.maximum),
        refined_tre_median_mm=_known(after.median),
        refined_tre_p95_mm=_known(after.p95),
        refined_tre_max_mm=_known(after.maximum),
    )


def clouds(heard: Sequence[CloudRow]) -> list[CloudRow]:
    """The rows of clouds that the camera did send."""
    return [row for row in heard if not row.unknown]


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _first_heard_s(first_pose_s: float, published: Sequence[CloudRow]) -> float | None:
    age_ms = published[0].age_ms if published else None
    return None if age_ms is None else _known(first_pose_s + age_ms / 1e3)


def intervals(rows: Sequence[CloudRow]) -> list[Interval]:
    """Stretches of equal state, in order; each ends where the next begins."""
    spans: list[Interval] = []
    for row in rows:
        if spans and spans[-1].state == row.state:
            spans[-1] = Interval(row.state, spans[-1].start, row.t, spans[-1].reason_code, spans[-1].reason)
            continue
        if spans:
            last = spans[-1]
            spans[-1] = Interval(last.state, last.start, row.t, last.reason_code, last.reason)
        spans.append(Interval(row.state, row.t, row.t, row.reason_code, row.reason))
    return spans


def _rate(published: Sequence[CloudRow]) -> float | None:
    """Poses per second without the pauses: a gap of more than a second is a loss, not a slow rate."""
    gaps = np.diff([row.t for row in published])
    gaps = gaps[(gaps > 0) & (gaps < 1.0)]
    return float(len(gaps) / gaps.sum()) if len(gaps) else None


def _state_share(rows: Sequence[CloudRow]) -> dict[str, float]:
    names = ("SEARCHING", "TRACKING", "DEGRADED", "LOST")
    return {name: sum(row.state == name for row in rows) / len(rows) for name in names} if rows else {}


def _level_medians(published: Sequence[CloudRow]) -> dict[str, float]:
    errors: dict[str, list[float]] = {}
    for row in published:
        for level, values in row.errors_mm.items():
            errors.setdefault(level, []).extend(values)
    return {level: float(np.median(values)) for level, values in errors.items() if values}


def _stage_percentiles(rows: Sequence[CloudRow], percent: float) -> dict[str, float]:
    stages: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.stages_ms.items():
            if value is not None:
                stages.setdefault(name, []).append(value)
    return {name: float(np.percentile(values, percent)) for name, values in stages.items()}
