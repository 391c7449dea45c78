"""Whole sequences: a tracker that starts from nothing, over minutes of motion, occlusion, loss and re-entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.tracking_study.figures import (
    Gap,
    TrackFigures,
    bad_runs,
    counts,
    figures_of,
    note_of,
    plain,
    rows_of,
    track_figures,
    worst,
)
from benchmarks.tracking_study.observer import Observer
from benchmarks.tracking_study.run import FrameSource, RunSettings, run_track
from benchmarks.tracking_study.runner import Line, Report, Study, Unit, grouped
from benchmarks.tracking_study.setup import Methods, SequencePlan, case_key
from end2reg_ros.case.model import Case
from end2reg_ros.evaluation.figures import stream_figures
from end2reg_ros.evaluation.plot_style import STATE_COLOURS, cumulative, mark_wrong, new_figure
from end2reg_ros.evaluation.rows import IN_VIEW, CloudRow, mean_mm, to_plain
from end2reg_ros.evaluation.spread import spread
from end2reg_ros.evaluation.tables import NOTHING, percent, table_of
from end2reg_ros.simulation.picks import PICK_RMS_M, picked_prior

MOST_TIMELINES = 12
MOST_GAPS = 25
TARGETS_MM = (1.5, 3.0)  # wanted: median and 95th percentile
LINES = {"spine": {"color": "black"}, "network alone": {"color": "black", "linestyle": ":"}}
START = "From nothing: no start is given, but to methods that find nothing by themselves (picked landmarks, 3 mm of noise)."
IN_STEP = (
    "Every cloud is judged, however long it takes: figures of what the tracker decides, not of its speed."
)
LIVE = (
    "A running clock: checks, decoding and update take the time they take here, and clouds that come meanwhile are superseded "
    "by the newest. Transport is not in it."
)
TRE_NOTE = (
    "- TRE: mean distance over the landmarks of a pose; spine: the rigid pose against the rigid truth; a level: its own pose "
    "against the true vertebra. p50 / p95 / max over the published poses."
)


@dataclass(frozen=True)
class Sequences(Study):
    """60 s of motion, occlusion, knocks, exit and re-entry, from nothing."""

    name = "sequences"
    rate: float = 15.0
    """Hz."""
    duration: float = 60.0
    """Seconds."""
    scenario: str = "theatre"
    articulation_deg: float = 0.0
    """Rotation between neighbouring levels; with half as many millimetres."""
    live: bool = False
    """Let a clock run on which slow updates cost clouds."""

    def units(self, cases: Iterable[Case], methods: Methods) -> Iterator[Unit]:
        """One for each case and seed, with the errors' covariances for the calibration."""
        run = RunSettings(self.rate, self.duration, live=self.live)
        for case in cases:
            for seed in self.seed_numbers():
                plan = SequencePlan(
                    seed, self.scenario, deg=self.articulation_deg, shift_m=5e-4 * self.articulation_deg
                )
                planned = {name: value for name, value in asdict(plan).items() if value is not None}
                key = {"kind": "sequence", **case_key(case), **planned, **asdict(run)}
                work = partial(measured, methods, case, partial(plan.sequence, case), run, seed, True)
                yield {**key, **methods.settings.plain(case)}, work

    def report(self, lines: Sequence[Line]) -> Report:
        """Errors, availability, losses and what was missed."""
        groups, runs = figures_by_case(lines), {run_name(line): rows_of(line) for line in lines}
        notes = [START, LIVE if self.live else IN_STEP]
        if self.articulation_deg:
            deg = self.articulation_deg
            notes.append(f"Neighbouring levels turned by {deg:g} deg and {0.5 * deg:g} mm.")
        single = {n: plain(track_figures(rows), "gaps", "rigid_tre_mm", "held") for n, rows in runs.items()}
        return Report(
            f"Tracking over '{self.scenario}', {self.duration:g} s at {self.rate:g} Hz",
            {**summary_of(groups), "runs": single, "bad_runs": bad_runs(lines)},
            [*sequence_tables(groups), "", *gap_lines(groups["all"].gaps, list(runs))],
            notes,
            {
                "errors": draw_errors(list(runs.values())),
                "timelines": draw_timelines(dict(list(runs.items())[:MOST_TIMELINES])),
            },
            groups["all"].stream.clean,
        )


@dataclass(frozen=True)
class Reacquisition(Sequences):
    """A full occlusion every 5 s: the time from the first frame in view to the next pose, on a running clock."""

    name = "reacquisition"
    rate: float = 30.0
    duration: float = 30.0
    scenario: str = "occlude"
    live: bool = True

    def report(self, lines: Sequence[Line]) -> Report:
        """How long after a full occlusion the next pose comes."""
        groups, waits = figures_by_case(lines), {}
        for (case,), members in grouped(lines, "case").items():
            waits[str(case)] = [
                s for line in members for s in stream_figures(rows_of(line)).reacquisition_heard_s
            ]
        text = [
            "Seconds from the first frame in view (a fifth of the bone) to the moment of the next pose:",
            "",
        ]
        for name, figures in groups.items():
            told_s = figures.stream.reacquisition_heard_s
            text.append(f"- {name}: {worst(spread(told_s))} (p50 / p95 / max, n = {len(told_s)})")
        text += ["", *sequence_tables(groups), "", *gap_lines(groups["all"].gaps, list(map(run_name, lines)))]
        return Report(
            f"Re-acquisition over '{self.scenario}' at {self.rate:g} Hz",
            {**summary_of(groups), "bad_runs": bad_runs(lines)},
            text,
            [START, LIVE if self.live else IN_STEP],
            {"waits": draw_shares(waits, "s from the first frame in view to the pose")},
            groups["all"].stream.clean,
        )


def measured(
    methods: Methods,
    case: Case,
    camera_of: Callable[[], FrameSource],
    settings: RunSettings,
    seed: int,
    with_uncertainty: bool = False,
) -> dict[str, Any]:
    """One run of the main method as the result of a unit; a method that finds nothing by itself gets picked landmarks.

    Args:
        camera_of: makes the camera.
        seed: of the picks.
    """
    camera: FrameSource = camera_of()
    tracker = methods.tracker(case)
    if tracker.registrar.needs_prior:
        T = camera.frame(settings.start_s).T_camera_model
        tracker.set_prior(picked_prior(case, T, seed, PICK_RMS_M))
    rows = run_track(camera, tracker, Observer(case, with_uncertainty), settings)
    return {"note": note_of(track_figures(rows)), "rows": [to_plain(row) for row in rows]}


def figures_by_case(lines: Sequence[Line]) -> dict[str, TrackFigures]:
    """Figures of ``all`` runs and of each case's."""
    groups = {str(case): figures_of(members) for (case,), members in grouped(lines, "case").items()}
    return {"all": figures_of(lines), **groups}


def summary_of(groups: Mapping[str, TrackFigures]) -> dict[str, Any]:
    """For JSON: of all runs together with every gap."""
    return {"groups": {name: plain(f, *(["gaps"] if name != "all" else [])) for name, f in groups.items()}}


def run_name(line: Line) -> str:
    """Case and seed."""
    return f"{line['key']['case']} {line['key']['seed']}"


def sequence_tables(groups: Mapping[str, TrackFigures]) -> list[str]:
    """Lines: error, availability and what must be zero; each level; what was missed and why; losses."""
    levels = list(dict.fromkeys(level for figures in groups.values() for level in figures.level_tre_mm))
    told = [(name, figures, figures.stream) for name, figures in groups.items()]
    errors = [
        {
            "": name, "runs": str(s.runs), "frames in view": str(s.in_view), "poses": str(s.published),
            "available": percent(s.availability), "from the start on": percent(s.availability_from_start),
            "spine TRE mm": worst(f.spine_tre_mm), "all levels mm": worst(f.levels_tre_mm),
            "network alone mm": worst(f.network_spine_tre_mm), "> 10 mm": str(s.false_poses),
            "while nothing in view": str(s.blind_poses), "level slips": str(s.level_slips),
        }
        for name, f, s in told
    ]  # fmt: skip
    by_level = [
        {
            "": name, **{level: _level(f, level) for level in levels}, "levels not held": worst(f.not_held_tre_mm),
            "levels held": worst(f.held_tre_mm), "rigid pose at the levels": worst(f.rigid_levels_tre_mm),
        }
        for name, f, _ in told
    ]  # fmt: skip
    missed = [
        {
            "": name, "reasons of frames in view without a pose": counts(f.missed),
            "seconds by state": ", ".join(f"{state} {v:.0f}" for state, v in f.state_s.items()),
            "losses by reason": counts(f.losses), "back after s": worst(spread(s.reacquisition_s)),
            "with the time of the update": worst(spread(s.reacquisition_heard_s)), "never": str(s.never_reacquired),
            "ms following": worst(f.following_ms, 0), "ms searching": worst(f.searching_ms, 0),
        }
        for name, f, s in told
    ]  # fmt: skip
    return [
        *(TRE_NOTE, "", *table_of(errors)),
        *("", "Each level, its own pose, mm (share of the poses held):", "", *table_of(by_level)),
        *("", "Frames in view without a pose, states, losses and the way back:", "", *table_of(missed)),
    ]


def _level(figures: TrackFigures, level: str) -> str:
    if level not in figures.level_tre_mm:
        return NOTHING
    return f"{worst(figures.level_tre_mm[level])} ({percent(figures.held[level])})"


def gap_lines(gaps: Sequence[Gap], names: Sequence[str]) -> list[str]:
    """The longest stretches in view without a pose. ``names`` of the runs."""
    rows = [
        {
            "run": names[gap.run], "t s": f"{gap.t:.2f}", "frames": str(gap.frames), "reasons": counts(gap.reasons, 4),
            "visible": f"{gap.visible[0]:.2f}-{gap.visible[1]:.2f}", "first said": gap.text,
        }
        for gap in gaps[:MOST_GAPS]
    ]  # fmt: skip
    return ["The longest stretches in view without a pose:", "", *(table_of(rows) or ["none"])]


def draw_timelines(runs: Mapping[str, Sequence[CloudRow]]) -> Any:
    """One strip a run: TRE of spine and worst level over time, the state as a band, the share of bone in view."""
    figure, panels = new_figure(13, 0.6 + 1.5 * len(runs), rows=len(runs), sharex=True)
    for axes, (name, rows) in zip(panels, runs.items(), strict=True):
        t = np.array([row.t for row in rows])
        edges = np.append(t, 2 * t[-1] - t[-2] if len(t) > 1 else t[-1] + 1)
        for state, colour in STATE_COLOURS.items():
            spans = [(edges[k], edges[k + 1] - edges[k]) for k, row in enumerate(rows) if row.state == state]
            axes.broken_barh(spans, (0.012, 0.008), color=colour, linewidth=0, label=state)
        spine = [mean_mm(row.spine_errors_mm) for row in rows]
        level = [max(row.level_tre_mm().values(), default=float("nan")) for row in rows]
        axes.plot(t, spine, ".", markersize=2, color="tab:blue", label="spine")
        axes.plot(t, level, ".", markersize=2, color="tab:orange", label="worst level")
        axes.set(yscale="log", ylim=(0.012, 60.0), ylabel="TRE mm")
        mark_wrong(axes)
        axes.set_title(name, fontsize=8, loc="left", pad=2)
        view = axes.twinx()
        shown = [np.nan if row.visible_fraction is None else row.visible_fraction for row in rows]
        view.plot(t, shown, color="0.6", linewidth=0.7)
        view.axhline(IN_VIEW, color="0.8", linewidth=0.5, linestyle=":")
        view.set(ylim=(0, 1.6), yticks=[0, 1])
    panels[-1].set_xlabel("s (grey line: share of the exposed bone in view)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=6, fontsize=8)
    return figure


def draw_errors(runs: Sequence[Sequence[CloudRow]]) -> Any:
    """Shares of the poses below an error: spine, network alone, each level."""
    poses = [row for run in runs for row in run if row.published]
    levels: dict[str, list[float]] = {}
    for row in poses:
        for level, tre in row.level_tre_mm().items():
            levels.setdefault(level, []).append(tre)
    network = [mean_mm(row.network_errors_mm) for row in poses if row.network_errors_mm]
    figure, (axes,) = new_figure(7.5, 4.5)
    curves = {"spine": [mean_mm(row.spine_errors_mm) for row in poses], **levels, "network alone": network}
    for name, values in curves.items():
        line: dict[str, Any] = LINES.get(name, {})
        cumulative(axes, values, f"{name} (n = {len(values)})", **line)
    for limit in TARGETS_MM:
        axes.axvline(limit, color="0.8", linewidth=0.8, zorder=0)
    mark_wrong(axes, vertical=True)
    axes.set(xscale="log", xlim=(0.02, 60), ylim=(0, 1.01))
    axes.set(xlabel="TRE (mm)", ylabel="share of the published poses")
    axes.legend(fontsize=8)
    return figure


def draw_shares(groups: Mapping[str, Sequence[float]], axis: str) -> Any:
    """Shares of waiting times below a time."""
    figure, (axes,) = new_figure(7, 4)
    for name, values in groups.items():
        cumulative(axes, values, f"{name} (n = {len(values)})")
    axes.axhline(0.95, color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlabel=axis, ylabel="share", ylim=(0, 1.01), xlim=(0, None))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    return figure
