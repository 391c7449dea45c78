"""How tracking fares as one thing grows worse: covered bone, fewer exposed levels, motion between the levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from benchmarks.tracking_study.cover import steady_cover
from benchmarks.tracking_study.figures import TrackFigures
from benchmarks.tracking_study.observer import Observer
from benchmarks.tracking_study.run import Camera, RunSettings
from benchmarks.tracking_study.sequences import figures_by, measured, rows_of, started
from benchmarks.tracking_study.setup import Cases, LastSequence, Methods, SequencePlan, case_key
from benchmarks.tracking_study.units import Unit
from end2reg_ros.case.model import Case
from end2reg_ros.evaluation.figures import FORBIDDEN, stream_figures

SweepName = Literal["occlusion", "exposure", "articulation"]
SCENARIO = "leave"  # the spine breathes and drifts; nothing passes, the camera is steady for 6 s
VALUES: dict[SweepName, tuple[float, ...]] = {
    "occlusion": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
    "exposure": (1.0, 2.0, 3.0, 4.0, 5.0),
    "articulation": (0.0, 2.0, 4.0, 6.0, 8.0),
}
AXES: dict[SweepName, str] = {
    "occlusion": "covered share of the exposed bone",
    "exposure": "exposed levels",
    "articulation": "rotation between neighbours (deg), with half as many mm",
}
MM_PER_DEG = 0.5  # of the articulation: 8 degrees and 4 mm


@dataclass(frozen=True)
class SweepStudy:
    """What is run: every value on every case and seed.

    Attributes:
        values: None for all of ``VALUES``; more exposed levels than a case has are left out.
        run: short: a steady view.
    """

    sweep: SweepName
    seeds: tuple[int, ...]
    values: tuple[float, ...] | None = None
    run: RunSettings = field(default_factory=lambda: RunSettings(10.0, 3.0))


def sweep_units(study: SweepStudy, cases: Cases, methods: Methods) -> Iterator[Unit]:
    """One unit for each case, seed and value."""
    values = VALUES[study.sweep] if study.values is None else study.values
    last = LastSequence()
    for case in cases:
        for seed in study.seeds:
            for value in values:
                if study.sweep == "exposure" and value > len(case.levels):
                    continue
                key = {
                    "kind": study.sweep, **case_key(case), "seed": seed, "value": value, **asdict(study.run),
                    **methods.settings.plain(case),
                }  # fmt: skip
                yield Unit(key, _work(study, case, methods, (seed, value, last)))


def _work(
    study: SweepStudy, case: Case, methods: Methods, chosen: tuple[int, float, LastSequence]
) -> Callable[[], dict[str, Any]]:
    seed, value, last = chosen

    def work() -> dict[str, Any]:
        camera = sweep_camera(study.sweep, case, seed, value, last)
        tracker = started(methods.tracker(case), case, camera, study.run, seed)
        return measured(camera, tracker, Observer(case), study.run)

    return work


def sweep_camera(sweep: SweepName, case: Case, seed: int, value: float, last: LastSequence) -> Camera:
    """The camera of one value; all values of a seed share place, wound and colours.

    Raises:
        End2RegError: the scene cannot be made.
    """
    plan = SequencePlan(seed, SCENARIO)
    if sweep == "exposure":
        return replace(plan, exposed_levels=exposed(case, seed, int(value))).sequence(case)
    if sweep == "articulation":
        return replace(plan, deg=value, shift_m=1e-3 * MM_PER_DEG * value).sequence(case)
    sequence = last.of(case, plan)
    # With nothing on it as well: the last one is kept, and has seen other covers.
    return sequence.seen_from(sequence.placement, steady_cover(sequence, value, seed))


def exposed(case: Case, seed: int, count: int) -> tuple[str, ...]:
    """So many neighbouring levels; the seed says from which one on."""
    first = int(np.random.default_rng((seed, 94)).random() * (len(case.levels) - count + 1))
    return case.levels[first : first + count]


@dataclass(frozen=True)
class SweepPoint:
    """One value of a sweep: its figures, and the runs that published what they must not."""

    value: float
    figures: TrackFigures
    bad: tuple[dict[str, Any], ...]


def sweep_points(lines: Sequence[Mapping[str, Any]]) -> list[SweepPoint]:
    """All values in order."""
    return [
        SweepPoint(float(value), figures, tuple(bad_runs(members)))
        for (value,), (figures, members) in sorted(figures_by(lines, "value").items())
    ]


def bad_runs(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The runs with a wrong or blind pose or a slip, by what names them."""
    found = []
    for line in lines:
        figures = stream_figures(rows_of(line))
        if not figures.clean:
            named = {name: line["key"][name] for name in ("case", "seed", "value") if name in line["key"]}
            found.append({**named, **{name: getattr(figures, name) for name in FORBIDDEN}})
    return found
