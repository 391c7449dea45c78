"""Figures of one run from the listener's rows; the names and meanings of the metrics stand in ``RunSummary``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from end2reg_ros.evaluation.report_log import PUBLISHING, FrameRow

FALSE_POSE_MM = 10.0
IN_VIEW = 0.2  # the spine counts as visible from this share of its exposed surface on
NOTHING_IN_VIEW = 0.01


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
        outliers: share of those landmark errors above 10 mm.
        availability: published / clouds sent while the spine was visible, from the first published pose on.
        availability_judged: the same over the judged clouds only (what the tracker decided, not how fast it is).
        false_tracking, false_degraded: clouds published in that state with a vertebra more than 10 mm off (mean of
            its landmarks).
        blind_poses: clouds with poses while nothing of the spine was in view.
        level_slips: clouds whose poses lie nearer to the neighbouring vertebrae than to their own.
        repeated_poses: further messages for a stamp already published.
        first_pose_s: from the first cloud to the first poses, by stamps.
        reacquisition_s: from "visible again" to the next poses, one per loss.
        lost: intervals of the state LOST.
        rate_hz: published poses per second over the stretches in which poses were published.
        camera_hz: clouds per second.
        age_p50_ms, age_p95_ms, age_p99_ms: arrival of the poses at the listener minus the sensor's stamp.
        latency_p50_ms, latency_p95_ms: as the tracker reports them.
        stages_ms: stage -> median milliseconds.
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
    availability: float | None
    availability_judged: float | None
    false_tracking: int
    false_degraded: int
    blind_poses: int
    level_slips: int
    repeated_poses: int
    first_pose_s: float | None
    reacquisition_s: list[float]
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


def summarise(rows: Sequence[FrameRow]) -> RunSummary:
    """The figures of a run; rows in the order of their stamps (as ``read_rows`` gives them)."""
    published = [row for row in rows if row.published]
    errors = [e for row in published for level in row.errors_mm.values() for e in level]
    ages = [row.age_ms for row in published if row.age_ms is not None]
    latencies = [row.latency_ms for row in published if row.latency_ms is not None]
    q = _percentiles(errors, (25, 50, 75, 95, 100))
    age = _percentiles(ages, (50, 95, 99))
    latency = _percentiles(latencies, (50, 95))
    first = published[0].t if published else None
    seen = [row for row in rows if first is not None and row.t >= first and in_view(row)]
    seen_judged = [row for row in seen if row.judged]
    spans = intervals(rows)
    false = [row for row in published if (row.worst_level_mm() or 0.0) > FALSE_POSE_MM]
    return RunSummary(
        duration_s=rows[-1].t - rows[0].t if rows else 0.0,
        clouds=len(rows),
        judged=sum(row.judged for row in rows),
        published=len(published),
        tre_median_mm=q[1],
        tre_q1_mm=q[0],
        tre_q3_mm=q[2],
        tre_p95_mm=q[3],
        tre_max_mm=q[4],
        level_tre_median_mm=_level_medians(published),
        outliers=float(np.mean(np.array(errors) > FALSE_POSE_MM)) if errors else None,
        availability=sum(row.published for row in seen) / len(seen) if seen else None,
        availability_judged=sum(row.published for row in seen_judged) / len(seen_judged)
        if seen_judged
        else None,
        false_tracking=sum(row.state == "TRACKING" for row in false),
        false_degraded=sum(row.state != "TRACKING" for row in false),
        blind_poses=sum(
            row.visible_fraction is not None and row.visible_fraction <= NOTHING_IN_VIEW for row in published
        ),
        level_slips=sum(slipped(row) for row in published),
        repeated_poses=sum(row.repeats for row in rows),
        first_pose_s=first,
        reacquisition_s=reacquisitions(rows),
        lost=[span for span in spans if span.state == "LOST"],
        state_share=_state_share(rows),
        rate_hz=_rate(published),
        camera_hz=(len(rows) - 1) / (rows[-1].t - rows[0].t)
        if len(rows) > 1 and rows[-1].t > rows[0].t
        else None,
        age_p50_ms=age[0],
        age_p95_ms=age[1],
        age_p99_ms=age[2],
        latency_p50_ms=latency[0],
        latency_p95_ms=latency[1],
        stages_ms=_stage_medians(rows),
    )


def in_view(row: FrameRow) -> bool:
    """Whether enough of the spine is visible for a pose to be expected."""
    return row.visible_fraction is not None and row.visible_fraction >= IN_VIEW


def intervals(rows: Sequence[FrameRow]) -> list[Interval]:
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


def reacquisitions(rows: Sequence[FrameRow]) -> list[float]:
    """Seconds from the first cloud in which the spine is visible again to the next poses, one entry per loss.

    A loss begins with the first judged cloud without poses after one with poses.
    """
    times: list[float] = []
    had_pose, visible_since = False, None
    lost = False
    for row in rows:
        if row.published:
            if lost and visible_since is not None:
                times.append(row.t - visible_since)
            had_pose, lost, visible_since = True, False, None
        elif had_pose and row.judged and row.state not in PUBLISHING:
            lost = True
        if lost and visible_since is None and in_view(row):
            visible_since = row.t
        elif lost and not in_view(row):
            visible_since = None
    return times


def slipped(row: FrameRow) -> bool:
    """Whether most vertebrae lie nearer to another level's true place than to their own."""
    estimated = {k: np.reshape(T, (4, 4))[:3, 3] for k, T in row.T_camera_levels.items()}
    true = {k: np.reshape(T, (4, 4))[:3, 3] for k, T in row.T_camera_levels_true.items()}
    shared = [level for level in estimated if level in true]
    if len(true) < 2 or not shared:
        return False
    nearest = [min(true, key=lambda k: float(np.linalg.norm(true[k] - estimated[level]))) for level in shared]
    return sum(a != b for a, b in zip(nearest, shared, strict=True)) > len(shared) / 2


def _percentiles(values: Sequence[float], which: Sequence[float]) -> list[float | None]:
    if not values:
        return [None] * len(which)
    return [float(v) for v in np.percentile(np.array(values), which)]


def _rate(published: Sequence[FrameRow]) -> float | None:
    """Poses per second without the pauses: a gap of more than a second is a loss, not a slow rate."""
    gaps = np.diff([row.t for row in published])
    gaps = gaps[(gaps > 0) & (gaps < 1.0)]
    return float(len(gaps) / gaps.sum()) if len(gaps) else None


def _state_share(rows: Sequence[FrameRow]) -> dict[str, float]:
    names = ("SEARCHING", "TRACKING", "DEGRADED", "LOST")
    return {name: sum(row.state == name for row in rows) / len(rows) for name in names} if rows else {}


def _level_medians(published: Sequence[FrameRow]) -> dict[str, float]:
    errors: dict[str, list[float]] = {}
    for row in published:
        for level, values in row.errors_mm.items():
            errors.setdefault(level, []).extend(values)
    return {level: float(np.median(values)) for level, values in errors.items() if values}


def _stage_medians(rows: Sequence[FrameRow]) -> dict[str, float]:
    stages: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.stages_ms.items():
            if value is not None:
                stages.setdefault(name, []).append(value)
    return {name: float(np.median(values)) for name, values in stages.items()}
