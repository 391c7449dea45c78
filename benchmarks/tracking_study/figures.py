"""Figures of measured tracks: error, availability, what went wrong, and why frames in view have no pose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from benchmarks.tracking_study.rows import TrackRow
from end2reg_ros.evaluation.metrics import WRONG_MM
from end2reg_ros.evaluation.spread import Spread, share, spread
from end2reg_ros.evaluation.stream import NOTHING_IN_VIEW, losses
from end2reg_ros.reasons import Reason

MOST_GAPS = 60  # listed; all are counted

Run = Sequence[TrackRow]


@dataclass(frozen=True)
class Gap:
    """Consecutive frames in view without a pose.

    Attributes:
        t: of the first one, seconds; ``run`` is the number of its run.
        reasons: reason code -> frames; ``superseded`` those that were never looked at.
        visible: smallest and largest share of the bone in view.
    """

    run: int
    t: float
    frames: int
    reasons: dict[str, int]
    visible: tuple[float, float]
    text: str


@dataclass(frozen=True)
class TrackFigures:
    """Figures of one or several runs, taken together.

    Attributes:
        frames, in_view, published: counts; ``judged`` were not superseded.
        availability: published share of the frames in view, from each run's first pose on; ``availability_all``: from the
            run's start on.
        found: share of the runs with at least one pose.
        spine_tre_mm: over the poses, of the mean over all landmarks of the rigid spine pose against the true rigid spine.
        level_tre_mm: level -> over the poses, of the mean over its landmarks, of its own pose.
        levels_tre_mm: over poses and levels.
        rigid_tre_mm, rigid_levels_tre_mm: the same of the rigid spine pose against the true vertebrae.
        not_held_tre_mm, held_tre_mm: as ``levels_tre_mm``, of levels that were (not) marked as held.
        landmark_mm: over all landmarks, of the vertebrae's own poses.
        network_tre_mm: of the mean over all landmarks of the network's own pose.
        held: level -> share of the poses in which it was held.
        wrong: poses with a vertebra more than 10 mm off; ``landmarks_above``: landmarks more than 10 mm off.
        blind: poses while at most 1 % of the exposed bone was in view; ``level_slips``: poses a level or more off.
        state_s: state -> seconds.
        missed: reason code -> frames in view without a pose, first search included; ``gaps`` tells them one by one.
        losses: reason code of the first frame without a pose after one with a pose -> how often.
        reacquisition_s: from the first frame in view to the next pose, by stamps; ``reacquisition_out_s``: to the moment at
            which it was found. ``never_reacquired`` were cut off by the run's end.
        processing_ms: of the frames that were followed; ``searching_ms``: of the others.
    """

    runs: int
    frames: int
    judged: int
    in_view: int
    published: int
    availability: float
    availability_all: float
    found: float
    spine_tre_mm: Spread
    level_tre_mm: dict[str, Spread]
    levels_tre_mm: Spread
    rigid_tre_mm: dict[str, Spread]
    rigid_levels_tre_mm: Spread
    not_held_tre_mm: Spread
    held_tre_mm: Spread
    landmark_mm: Spread
    network_tre_mm: Spread
    held: dict[str, float]
    wrong: int
    landmarks_above: int
    blind: int
    level_slips: int
    state_s: dict[str, float]
    missed: dict[str, int]
    losses: dict[str, int]
    reacquisition_s: Spread
    reacquisition_out_s: Spread
    never_reacquired: int
    processing_ms: Spread
    searching_ms: Spread
    gaps: tuple[Gap, ...]


def track_figures(runs: Sequence[Run]) -> TrackFigures:
    """Figures over the rows of some runs."""
    rows = [row for run in runs for row in run]
    poses = [row for row in rows if row.published and row.levels_mm]
    levels = list(dict.fromkeys(level for row in poses for level in row.levels_mm))
    viewed = [row for row in rows if row.stream_frame().in_view]
    after = [row for run in runs for row in from_first_pose(run) if row.stream_frame().in_view]
    told = [
        (row, level, tre) for row in poses for level, tre in row.level_tre_mm.items()
    ]  # every level of every pose
    landmarks = [e for row in poses for errors in row.levels_mm.values() for e in errors]
    waits, out, never = _waits(runs)
    judged = [row for row in rows if row.judged]
    return TrackFigures(
        runs=len(runs),
        frames=len(rows),
        judged=len(judged),
        in_view=len(viewed),
        published=sum(row.published for row in rows),
        availability=share(row.published for row in after),
        availability_all=share(row.published for row in viewed),
        found=share(any(row.published for row in run) for run in runs),
        spine_tre_mm=spread(row.spine_tre_mm for row in poses),
        level_tre_mm={name: spread(t for _, level, t in told if level == name) for name in levels},
        levels_tre_mm=spread(t for _, _, t in told),
        rigid_tre_mm={
            # Cases differ in their levels.
            name: spread(row.rigid_tre_mm[name] for row in poses if name in row.rigid_tre_mm)
            for name in levels
        },
        rigid_levels_tre_mm=spread(t for row in poses for t in row.rigid_tre_mm.values()),
        not_held_tre_mm=spread(t for row, level, t in told if level not in row.held),
        held_tre_mm=spread(t for row, level, t in told if level in row.held),
        landmark_mm=spread(landmarks),
        network_tre_mm=spread(row.network_tre_mm for row in poses if row.network_mm),
        held={name: share(name in row.held for row in poses) for name in levels},
        wrong=sum(row.wrong for row in rows),
        landmarks_above=int(sum(e > WRONG_MM for e in landmarks)),
        blind=sum(
            row.published and row.visible is not None and row.visible <= NOTHING_IN_VIEW for row in rows
        ),
        level_slips=sum(row.published and row.level_slip != 0 for row in rows),
        state_s=_state_seconds(runs),
        missed=counted(_code(row) for row in viewed if not row.published),
        losses=counted(code for run in runs for code in _losses(run)),
        reacquisition_s=spread(waits),
        reacquisition_out_s=spread(out),
        never_reacquired=never,
        processing_ms=spread(row.processing_ms for row in judged if row.published),
        searching_ms=spread(row.processing_ms for row in judged if not row.published),
        gaps=tuple(gaps(runs)[:MOST_GAPS]),
    )


def from_first_pose(run: Run) -> Run:
    """The rows from the first published pose on."""
    first = next((k for k, row in enumerate(run) if row.published), len(run))
    return run[first:]


def counted(codes: Iterable[str]) -> dict[str, int]:
    """Code -> how often, most frequent first."""
    return dict(Counter(codes).most_common())


def gaps(runs: Sequence[Run]) -> list[Gap]:
    """All stretches of frames in view without a pose, the longest first."""
    found = []
    for number, run in enumerate(runs):
        for missing, members in groupby(
            run, key=lambda row: row.stream_frame().in_view and not row.published
        ):
            rows = list(members)
            if missing:
                visible = [row.visible for row in rows if row.visible is not None]
                text = next((row.reason for row in rows if row.judged), Reason.SUPERSEDED)
                found.append(
                    Gap(
                        number, round(rows[0].t, 3), len(rows), counted(_code(row) for row in rows),
                        (round(min(visible), 3), round(max(visible), 3)), text,
                    )
                )  # fmt: skip
    return sorted(found, key=lambda gap: -gap.frames)


def _code(row: TrackRow) -> str:
    return row.reason_code if row.judged else Reason.SUPERSEDED


def _losses(run: Run) -> list[str]:
    judged = [row for row in run if row.judged]
    return [b.reason_code for a, b in pairwise(judged) if a.published and not b.published]


def _waits(runs: Sequence[Run]) -> tuple[list[float], list[float], int]:
    waits, out, never = [], [], 0
    for run in runs:
        for loss in losses([row.stream_frame() for row in run]):
            if loss.found is None:
                never += 1
                continue
            waits.append(loss.wait_s)
            out.append(loss.wait_s + 1e-3 * (loss.found.age_ms or 0.0))
    return waits, out, never


def _state_seconds(runs: Sequence[Run]) -> dict[str, float]:
    """A state holds until the next row; the last row lasts as long as the one before."""
    seconds: dict[str, float] = {}
    for run in runs:
        times = np.array([row.t for row in run])
        lasts = np.diff(times, append=2 * times[-1] - times[-2]) if len(times) > 1 else np.zeros(len(times))
        for row, last in zip(run, lasts, strict=True):
            seconds[row.state] = seconds.get(row.state, 0.0) + float(last)
    return {state: round(value, 3) for state, value in seconds.items()}


def note_of(figures: TrackFigures) -> str:
    """One line for the log."""
    return (
        f"{figures.published} poses of {figures.in_view} in view, TRE {figures.spine_tre_mm.text()} mm, "
        f"wrong {figures.wrong}, blind {figures.blind}, slips {figures.level_slips}"
    )


def plain_spread(value: Spread) -> dict[str, Any]:
    """A spread for JSON: count, median, quartiles, p95, maximum, four digits."""
    figures = {"median": value.median, "q1": value.q1, "q3": value.q3, "p95": value.p95, "max": value.maximum}
    return {"n": value.count, **{name: float(f"{v:.4g}") for name, v in figures.items()}}
