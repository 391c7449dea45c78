"""Measured tracks as Markdown tables and as plain figures for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from benchmarks.tracking_study.calibration import AXES as SPINE_AXES
from benchmarks.tracking_study.calibration import Calibration
from benchmarks.tracking_study.figures import Gap, TrackFigures
from benchmarks.tracking_study.orientations import OrientationFigures
from benchmarks.tracking_study.sweeps import SweepPoint
from end2reg_ros.evaluation.figures import StreamFigures
from end2reg_ros.evaluation.spread import Spread, spread
from end2reg_ros.evaluation.tables import markdown_table, number, percent

TRE_NOTE = (
    "TRE: mean distance over the landmarks of a pose; spine: the rigid pose against the rigid truth; a level: its own pose "
    "against the true vertebra. p50 / p95 / max over the published poses."
)


def worst(value: Spread, digits: int = 2) -> str:
    """``p50 / p95 / max``, or a dash."""
    if value.count == 0:
        return "–"
    return " / ".join(number(v, digits) for v in (value.median, value.p95, value.maximum))


def counts(values: Mapping[str, int], most: int = 5) -> str:
    """``code 12, other 3``, the most frequent ones."""
    listed = list(values.items())
    more = f", {len(listed) - most} more" if len(listed) > most else ""
    return (", ".join(f"{name} {count}" for name, count in listed[:most]) or "–") + more


def sequence_tables(groups: Mapping[str, TrackFigures]) -> list[str]:
    """Lines: error, availability and what must be zero; each level; what was missed and why; losses."""
    levels = list(dict.fromkeys(level for figures in groups.values() for level in figures.level_tre_mm))
    told = [(name, figures, figures.stream) for name, figures in groups.items()]
    heads = [
        "",
        "runs",
        "frames in view",
        "poses",
        "available",
        "from the start on",
        "spine TRE mm",
        "all levels mm",
    ]
    heads += ["network alone mm", "> 10 mm", "while nothing in view", "level slips"]
    rows = [
        [
            name, str(s.runs), str(s.in_view), str(s.published), percent(s.availability), percent(s.availability_from_start),
            worst(f.spine_tre_mm), worst(f.levels_tre_mm), worst(f.network_spine_tre_mm), str(s.false_poses), str(s.blind_poses),
            str(s.level_slips),
        ]
        for name, f, s in told
    ]  # fmt: skip
    lines = [
        f"- {TRE_NOTE}",
        "",
        *markdown_table(heads, rows),
        "",
        "Each level, its own pose, mm (share of the poses held):",
        "",
    ]
    rows = [
        [
            name, *(_level(f, level) for level in levels), worst(f.not_held_tre_mm), worst(f.held_tre_mm),
            worst(f.rigid_levels_tre_mm),
        ]
        for name, f, s in told
    ]  # fmt: skip
    lines += [
        *markdown_table(["", *levels, "levels not held", "levels held", "rigid pose at the levels"], rows),
        "",
    ]
    lines += ["Frames in view without a pose, states, losses and the way back:", ""]
    heads = ["", "reasons of frames in view without a pose", "seconds by state", "losses by reason"]
    heads += ["back after s", "with the time of the update", "never", "ms following", "ms searching"]
    rows = [
        [
            name, counts(f.missed), ", ".join(f"{state} {v:.0f}" for state, v in f.state_s.items()), counts(f.losses),
            worst(spread(s.reacquisition_s)), worst(spread(s.reacquisition_heard_s)), str(s.never_reacquired),
            worst(f.following_ms, 0), worst(f.searching_ms, 0),
        ]
        for name, f, s in told
    ]  # fmt: skip
    return [*lines, *markdown_table(heads, rows)]


def _level(figures: TrackFigures, level: str) -> str:
    if level not in figures.level_tre_mm:
        return "–"
    return f"{worst(figures.level_tre_mm[level])} ({percent(figures.held[level])})"


def gap_lines(gaps: Sequence[Gap], names: Sequence[str], most: int = 25) -> list[str]:
    """The longest stretches in view without a pose. ``names`` of the runs."""
    rows = [
        [
            names[gap.run],
            f"{gap.t:.2f}",
            str(gap.frames),
            counts(gap.reasons, 4),
            f"{gap.visible[0]:.2f}-{gap.visible[1]:.2f}",
            gap.text,
        ]
        for gap in gaps[:most]
    ]
    return markdown_table(["run", "t s", "frames", "reasons", "visible", "first said"], rows)


def sweep_lines(points: Sequence[SweepPoint], axis: str) -> list[str]:
    """One row a value; ``rigid``: what the spine's rigid pose gives at each vertebra in the same run."""
    heads = [axis, "runs", "with a pose", "frames with a pose", "spine TRE mm", "levels' own poses mm"]
    heads += ["rigid pose at the levels mm", "levels held", "> 10 mm", "level slips", "without a pose"]
    rows = []
    for point in points:
        f, s = point.figures, point.figures.stream
        held = f.held_tre_mm.count / max(f.levels_tre_mm.count, 1) if f.levels_tre_mm.count else float("nan")
        rows.append(
            [
                f"{point.value:g}", str(s.runs), percent(s.found), percent(s.availability_from_start), worst(f.spine_tre_mm),
                worst(f.levels_tre_mm), worst(f.rigid_levels_tre_mm), percent(held), str(s.false_poses), str(s.level_slips),
                counts(f.missed, 3),
            ]
        )  # fmt: skip
    return markdown_table(heads, rows)


def orientation_lines(groups: Mapping[str, OrientationFigures]) -> list[str]:
    """One row a group."""
    heads = [
        "",
        "starts",
        "first pose <= 5 mm",
        "95 % interval",
        "s p50 / p95 / max",
        "looks p50 / p95 / max",
    ]
    heads += ["TRE mm p50 / p95 / max", "> 10 mm", "no pose"]
    rows = [
        [
            name, str(f.starts), percent(f.success), f"{percent(f.interval[0])} – {percent(f.interval[1])}",
            worst(f.seconds), worst(f.looks, 0), worst(f.tre_mm), str(len(f.wrong)), str(len(f.missed)),
        ]
        for name, f in groups.items()
    ]  # fmt: skip
    return markdown_table(heads, rows)


def negative_lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """One row for each method, arm and source."""
    heads = ["method", "arm", "source", "judged", "clouds", "poses", "reasons"]
    body = [
        [
            row["method"], row["arm"], row["source"], f"1 of {row['judged_every']}", str(row["frames"]),
            str(row["false"]), counts(row["reasons"]),
        ]
        for row in rows
    ]  # fmt: skip
    return markdown_table(heads, body)


def calibration_lines(found: Mapping[str, Calibration]) -> list[str]:
    """One row a pose (spine, levels): normalised error, shares inside, ratio error / told along each axis."""
    heads = ["", "poses (runs)", "mean", "median of the runs' means", "in 68 %", "in 95 %"]
    heads += [f"{axis} {unit}" for axis, unit in zip(SPINE_AXES, ["mm"] * 3 + ["deg"] * 3, strict=True)]
    rows = [
        [
            name, f"{c.poses} ({c.runs})", number(c.mean), number(c.run_mean), percent(c.inside[0.68]),
            percent(c.inside[0.95]),
            *(f"{e:.2f} / {s:.2f} = {r:.2f}" for e, s, r in zip(c.error, c.told, c.ratio, strict=True)),
        ]
        for name, c in found.items()
    ]  # fmt: skip
    return markdown_table(heads, rows)


def plain_figures(figures: TrackFigures | StreamFigures | OrientationFigures) -> dict[str, Any]:
    """For JSON: spreads shortened; the stream's figures beside the others."""
    told = {each.name: getattr(figures, each.name) for each in fields(figures)}
    stream = told.pop("stream", None)
    plain: dict[str, Any] = {} if stream is None else plain_figures(stream)
    return plain | {name: _plain(value) for name, value in told.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Spread):
        return value.plain()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Gap):
        return asdict(value)
    return float(f"{value:.5g}") if isinstance(value, float) else value
