"""Figures of measured tracks: of the stream, of the spine and its levels, and why frames in view have no pose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from end2reg_ros.evaluation.figures import FORBIDDEN, StreamFigures, stream_figures
from end2reg_ros.evaluation.rows import CloudRow, from_plain, mean_mm
from end2reg_ros.evaluation.spread import Spread, share, spread
from end2reg_ros.evaluation.tables import NOTHING, number

MOST_GAPS = 60  # listed; all are counted

Run = Sequence[CloudRow]


@dataclass(frozen=True)
class Gap:
    """Consecutive frames in view without a pose.

    Attributes:
        t: of the first one, seconds; ``run`` is the number of its run.
        reasons: reason code -> frames; of clouds that the tracker never saw, why.
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
    """Figures of one or several runs, taken together: those of every stream, and those of the spine and its levels.

    Attributes:
        stream: as for every stream.
        spine_tre_mm: over the poses, of the mean over all landmarks of the rigid spine pose against the true rigid spine.
        network_spine_tre_mm: of the network's own pose.
        level_tre_mm: level -> over the poses, of the mean over its landmarks, of its own pose.
        levels_tre_mm: over poses and levels.
        rigid_tre_mm, rigid_levels_tre_mm: of the rigid spine pose against the true vertebrae, by level and over all.
        not_held_tre_mm, held_tre_mm: as ``levels_tre_mm``, of levels that were (not) marked as held.
        held: level -> share of the poses in which it was held.
        state_s: state -> seconds.
        missed: reason code -> frames in view without a pose, first search included; ``gaps`` tells them one by one.
        losses: reason code of the first frame without a pose after one with a pose -> how often.
        following_ms: time of the update of the frames that were followed; ``searching_ms``: of the others.
    """

    stream: StreamFigures
    spine_tre_mm: Spread
    network_spine_tre_mm: Spread
    level_tre_mm: dict[str, Spread]
    levels_tre_mm: Spread
    rigid_tre_mm: dict[str, Spread]
    rigid_levels_tre_mm: Spread
    not_held_tre_mm: Spread
    held_tre_mm: Spread
    held: dict[str, float]
    state_s: dict[str, float]
    missed: dict[str, int]
    losses: dict[str, int]
    following_ms: Spread
    searching_ms: Spread
    gaps: tuple[Gap, ...]


def track_figures(*runs: Run) -> TrackFigures:
    """Figures over the rows of some runs."""
    rows = [row for run in runs for row in run]
    poses = [row for row in rows if row.published and row.errors_mm]
    levels = list(dict.fromkeys(level for row in poses for level in row.errors_mm))
    told = [(row, level, tre) for row in poses for level, tre in row.level_tre_mm().items()]
    rigid = [(level, tre) for row in poses for level, tre in rigid_tre_mm(row).items()]
    judged = [row for row in rows if row.judged]
    return TrackFigures(
        stream=stream_figures(*runs),
        spine_tre_mm=spread(mean_mm(row.spine_errors_mm) for row in poses),
        network_spine_tre_mm=spread(mean_mm(row.network_errors_mm) for row in poses if row.network_errors_mm),
        level_tre_mm={name: spread(t for _, level, t in told if level == name) for name in levels},
        levels_tre_mm=spread(t for _, _, t in told),
        rigid_tre_mm={name: spread(t for level, t in rigid if level == name) for name in levels},
        rigid_levels_tre_mm=spread(t for _, t in rigid),
        not_held_tre_mm=spread(t for row, level, t in told if level not in row.held),
        held_tre_mm=spread(t for row, level, t in told if level in row.held),
        held={name: share(name in row.held for row in poses) for name in levels},
        state_s=_state_seconds(runs),
        missed=counted(_code(row) for row in rows if row.in_view and not row.published),
        losses=counted(code for run in runs for code in _losses(run)),
        following_ms=spread(row.latency_ms or 0.0 for row in judged if row.published),
        searching_ms=spread(row.latency_ms or 0.0 for row in judged if not row.published),
        gaps=tuple(gaps(runs)[:MOST_GAPS]),
    )


def rigid_tre_mm(row: CloudRow) -> dict[str, float]:
    """Level -> mean over its landmarks, of the rigid spine pose."""
    errors = row.rigid_errors_mm or row.spine_errors_mm
    return {level: mean_mm({level: values}) for level, values in errors.items()}


def counted(codes: Iterable[str]) -> dict[str, int]:
    """Code -> how often, most frequent first."""
    return dict(Counter(codes).most_common())


def gaps(runs: Sequence[Run]) -> list[Gap]:
    """All stretches of frames in view without a pose, the longest first."""
    found = []
    for k, run in enumerate(runs):
        for missing, members in groupby(run, key=lambda row: row.in_view and not row.published):
            rows = list(members)
            if missing:
                visible = [row.visible_fraction for row in rows if row.visible_fraction is not None]
                text = next((row.reason for row in rows if row.judged), rows[0].reason)
                found.append(
                    Gap(
                        k, round(rows[0].t, 3), len(rows), counted(_code(row) for row in rows),
                        (round(min(visible), 3), round(max(visible), 3)), text,
                    )
                )  # fmt: skip
    return sorted(found, key=lambda gap: -gap.frames)


def _code(row: CloudRow) -> str:
    return row.reason_code if row.judged else row.reason


def _losses(run: Run) -> list[str]:
    judged = [row for row in run if row.judged]
    return [b.reason_code for a, b in pairwise(judged) if a.published and not b.published]


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
    stream = figures.stream
    return (
        f"{stream.published} poses of {stream.in_view} in view, TRE {figures.spine_tre_mm.text()} mm, "
        f"false {stream.false_poses}, blind {stream.blind_poses}, slips {stream.level_slips}"
    )


def rows_of(line: Mapping[str, Any]) -> list[CloudRow]:
    """The rows of a finished unit."""
    return [from_plain(plain) for plain in line["result"]["rows"]]


def figures_of(lines: Sequence[Mapping[str, Any]]) -> TrackFigures:
    """Figures of some finished units."""
    return track_figures(*map(rows_of, lines))


def bad_runs(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The runs with a wrong or blind pose or a slip, by what names them."""
    found = []
    for line in lines:
        figures = stream_figures(rows_of(line))
        if not figures.clean:
            named = {name: line["key"][name] for name in ("case", "seed", "value") if name in line["key"]}
            found.append({**named, **{name: getattr(figures, name) for name in FORBIDDEN}})
    return found


def plain(value: Any, *without: str) -> Any:
    """For JSON: a dataclass of figures without some of them, spreads shortened; the stream's figures beside the others."""
    if isinstance(value, Spread):
        return value.plain()
    if is_dataclass(value) and not isinstance(value, type):
        told = {each.name: getattr(value, each.name) for each in fields(value) if each.name not in without}
        stream = plain(told.pop("stream", {}))
        return stream | {name: plain(item) for name, item in told.items()}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def worst(value: Spread, digits: int = 2) -> str:
    """``p50 / p95 / max``, or a dash."""
    if value.count == 0:
        return NOTHING
    return " / ".join(number(v, digits) for v in (value.median, value.p95, value.maximum))


def counts(values: Mapping[str, int], most: int = 5) -> str:
    """``code 12, other 3``, the most frequent ones."""
    listed = list(values.items())
    more = f", {len(listed) - most} more" if len(listed) > most else ""
    return (", ".join(f"{name} {count}" for name, count in listed[:most]) or NOTHING) + more
