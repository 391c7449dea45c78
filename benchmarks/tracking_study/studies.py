"""The studies of tracking from their units to a summary: what ``benchmarks/tracking.py`` runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.tracking_study.bench import Bench, grouped, run_name, short_figures
from benchmarks.tracking_study.calibration import (
    calibration_plain,
    calibrations,
    told_by,
    tune,
)
from benchmarks.tracking_study.figures import track_figures
from benchmarks.tracking_study.negatives import NegativeStudy, negative_summary, negative_units
from benchmarks.tracking_study.observer import SPINE
from benchmarks.tracking_study.orientations import (
    SCENARIO,
    OrientationStudy,
    orientation_units,
    orientations_by,
)
from benchmarks.tracking_study.plots import (
    draw_calibration,
    draw_errors,
    draw_shares,
    draw_sweep,
    draw_timelines,
)
from benchmarks.tracking_study.results import Results
from benchmarks.tracking_study.sequences import SequenceStudy, rows_of, sequence_units
from benchmarks.tracking_study.sweeps import AXES, SweepStudy, bad_runs, sweep_points, sweep_units
from benchmarks.tracking_study.tables import (
    calibration_lines,
    gap_lines,
    negative_lines,
    orientation_lines,
    plain_figures,
    sequence_tables,
    sweep_lines,
    worst,
)
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation.figures import stream_figures
from end2reg_ros.evaluation.rows import CloudRow
from end2reg_ros.evaluation.spread import spread
from end2reg_ros.registration.settings import RefineSettings

MOST_TIMELINES = 12
START = "From nothing: no start is given, but to methods that find nothing by themselves (picked landmarks, 3 mm of noise)."
IN_STEP = (
    "Every cloud is judged, however long it takes: figures of what the tracker decides, not of its speed."
)
LIVE = (
    "A running clock: checks, decoding and update take the time they take here, and clouds that come meanwhile are superseded "
    "by the newest. Transport is not in it."
)


def sequences(bench: Bench, study: SequenceStudy) -> Results:
    """Errors, availability, losses and what was missed."""
    lines = bench.run(sequence_units(study, bench.cases, bench.methods))
    groups = grouped(lines)
    runs = {run_name(line): rows_of(line) for line in lines}
    pictures = [draw_errors(bench.picture("errors"), list(runs.values()))]
    shown = dict(list(runs.items())[:MOST_TIMELINES])
    pictures.append(draw_timelines(bench.picture("timelines"), shown))
    text = [*sequence_tables(groups), "", "The longest stretches in view without a pose:", ""]
    text += gap_lines(groups["all"].gaps, list(runs))
    summary = {
        "groups": {name: short_figures(figures, name != "all") for name, figures in groups.items()},
        "runs": {
            run_name(line): short_figures(track_figures(rows_of(line)), True, ("level_tre_mm",))
            for line in lines
        },
        "bad_runs": bad_runs(lines),
    }
    title = f"Tracking over '{study.scenario}', {study.run.duration_s:g} s at {study.run.rate_hz:g} Hz"
    notes = [START, LIVE if study.run.live else IN_STEP]
    if study.deg:
        notes.append(f"Neighbouring levels turned by {study.deg:g} deg and {1e3 * study.shift_m:g} mm.")
    return bench.results(lines, title, summary, text, notes, pictures, good=groups["all"].stream.clean)


def reacquisition(bench: Bench, study: SequenceStudy) -> Results:
    """How long after a full occlusion the next pose comes."""
    lines = bench.run(sequence_units(study, bench.cases, bench.methods))
    groups = grouped(lines)
    waits: dict[str, list[float]] = {}
    for line in lines:
        told = stream_figures(rows_of(line)).reacquisition_heard_s
        if told:
            waits.setdefault(str(line["key"]["case"]), []).extend(told)
    picture = draw_shares(bench.picture("waits"), waits, "s from the first frame in view to the pose")
    text = ["Seconds from the first frame in view (a fifth of the bone) to the moment of the next pose:", ""]
    for name, figures in groups.items():
        told_s = figures.stream.reacquisition_heard_s
        text.append(f"- {name}: {worst(spread(told_s))} (p50 / p95 / max, n = {len(told_s)})")
    text += ["", *sequence_tables(groups), "", "The longest stretches in view without a pose:", ""]
    text += gap_lines(groups["all"].gaps, [run_name(line) for line in lines])
    summary = {
        "groups": {name: short_figures(figures, name != "all") for name, figures in groups.items()},
        "bad_runs": bad_runs(lines),
    }
    title = f"Re-acquisition over '{study.scenario}' at {study.run.rate_hz:g} Hz"
    return bench.results(
        lines, title, summary, text, [START, LIVE], [picture], good=groups["all"].stream.clean
    )


def orientations(bench: Bench, study: OrientationStudy) -> Results:
    """Starts from nothing at every roll and tilt."""
    lines = bench.run(orientation_units(study, bench.cases, bench.methods))
    groups = {"all": orientations_by(lines)[()]}
    groups |= {f"tilt {tilt:g} deg": f for (tilt,), f in orientations_by(lines, "tilt_deg").items()}
    groups |= {str(case): f for (case,), f in orientations_by(lines, "case").items()}
    seconds = {
        name: [line["result"]["seconds"] for line in lines if line["result"]["found"] and belongs(line)]
        for name, belongs in (
            ("all", lambda line: True),
            *(
                (f"tilt {t[0]:g} deg", lambda line, t=t: line["key"]["tilt_deg"] == t[0])
                for t in study.tilts_deg
            ),
        )
    }
    picture = draw_shares(bench.picture("seconds"), seconds, "s from the first frame to the first pose")
    summary = {"groups": {name: plain_figures(figures) for name, figures in groups.items()}}
    for name, plain in summary["groups"].items():
        if name != "all":  # listed once
            plain.pop("wrong")
            plain.pop("missed")
    whole = groups["all"]
    text = [*orientation_lines(groups), "", f"First poses more than 10 mm off: {list(whole.wrong) or 'none'}"]
    text += ["", f"Without a pose: {list(whole.missed) or 'none'}"]
    notes = [LIVE, f"Scenario '{SCENARIO}': the spine breathes and drifts. Tilts of 40-45 deg are drawn."]
    return bench.results(
        lines, "First pose from any orientation", summary, text, notes, [picture], good=not whole.wrong
    )


def negatives(bench: Bench, study: NegativeStudy) -> Results:
    """Clouds without a spine."""
    lines = bench.run(negative_units(study, bench.cases, bench.methods))
    rows = negative_summary(lines)
    total, false = sum(row["frames"] for row in rows), sum(row["false"] for row in rows)
    text = [f"{false} poses of {total} clouds without a spine.", "", *negative_lines(rows)]
    notes = [
        "nothing: a tracker that knows nothing; lost: one that tracked a spine for 2 s before; prior: one that is given a start "
        "on what is there each second; follow: accepted fits of the registration alone, as if a track led there.",
        "The recordings hold a few real clouds: each is shown as it is, then turned, tilted, shifted and with 0.5 mm of noise.",
    ]
    summary = {"poses": false, "clouds": total, "rows": rows}
    return bench.results(lines, "Clouds without a spine", summary, text, notes, good=false == 0)


def sweep(bench: Bench, study: SweepStudy) -> Results:
    """Figures against the value."""
    lines = bench.run(sweep_units(study, bench.cases, bench.methods))
    points = sweep_points(lines)
    axis = AXES[study.sweep]
    picture = draw_sweep(bench.picture("curves"), points, axis)
    bad = [run for point in points for run in point.bad]
    text = [*sweep_lines(points, axis), "", f"Runs with a wrong or blind pose or a slip: {bad or 'none'}"]
    cases = {line["key"]["case"] for line in lines}
    if len(cases) > 1:
        for case in sorted(cases):
            mine = sweep_points([line for line in lines if line["key"]["case"] == case])
            text += ["", f"{case}:", "", *sweep_lines(mine, axis)]
    summary = {
        "axis": axis,
        "points": [{"value": point.value, **short_figures(point.figures, True)} for point in points],
        "bad_runs": bad,
    }
    title = f"Tracking against {study.sweep}, {study.run.duration_s:g} s at {study.run.rate_hz:g} Hz"
    notes = [
        START,
        "The first cloud never has a pose: it takes two that agree.",
        IN_STEP,
    ]
    return bench.results(lines, title, summary, text, notes, [picture], good=not bad)


@dataclass(frozen=True)
class CalibrationStudy:
    """Which poses are looked at.

    Attributes:
        seeds: of the sequences that are reported; ``tune_seeds`` of those from which settings are estimated.
        held: only levels that were (not) marked as held; None for all.
        scenario: None for all.
    """

    seeds: tuple[int, ...]
    tune_seeds: tuple[int, ...] = ()
    held: bool | None = None
    scenario: str | None = None


def calibrated(bench: Bench, study: CalibrationStudy) -> Results:
    """Covariances against errors, over the sequences that are in the work folder already.

    Raises:
        End2RegError: none of those seeds is there.
    """
    names, wanted = {case.name for case in bench.cases}, study.scenario
    there = [line for line in bench.store.lines() if line["key"]["case"] in names]
    there = [line for line in there if wanted is None or line["key"]["scenario"] == wanted]
    lines = [line for line in there if line["key"]["seed"] in study.seeds][: bench.limit]
    runs = [rows_of(line) for line in lines]
    found = calibrations(runs, study.held)
    if not found:
        why = "no poses of these cases, seeds and scenario: run the sequences first"
        raise End2RegError(f"{bench.store.path}: {why}")
    picture = draw_calibration(bench.picture("shares"), told_by(runs, study.held))
    text = [
        "e^T C^-1 e / 6 of the poses, 1 on average where the covariance is right; root mean square error / told standard "
        "deviation = ratio, along the spine's axes:",
        "",
        *calibration_lines(found),
    ]
    summary: dict[str, Any] = {"reported": calibration_plain(found), "held": study.held}
    tuning = [rows_of(line) for line in there if line["key"]["seed"] in study.tune_seeds]
    if tuning:
        plain, sentence = tuned(tuning)
        summary["tuned"] = {**plain, "seeds": list(study.tune_seeds)}
        text += ["", sentence]
    notes = [f"{len(lines)} sequences; poses of one sequence share view and film: they are not independent."]
    return bench.results(lines, "Calibration of the covariances", summary, text, notes, [picture], good=True)


def tuned(runs: Sequence[Sequence[CloudRow]]) -> tuple[dict[str, Any], str]:
    """Settings of the refinement that would have told the spine's errors best, plainly and as a sentence."""
    refine = RefineSettings()
    best = tune(told_by(runs)[SPINE], refine.bias_stddev)
    points = best.factor * refine.correlation_points
    return {**asdict(best), "correlation_points": points}, (
        f"Likeliest on {len(runs)} sequences of the tuning seeds: correlation_points {points:.1f} (told with "
        f"{refine.correlation_points:g}), bias_stddev {1e3 * best.bias_stddev:.2f} mm (told with "
        f"{1e3 * refine.bias_stddev:.2f}); log-likelihood of a pose {best.log_likelihood:.2f} instead of {best.before:.2f}."
    )
