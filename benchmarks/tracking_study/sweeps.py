"""How tracking fares as one thing grows worse: covered bone, fewer exposed levels, motion between the levels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from benchmarks.tracking_study.cover import steady_cover
from benchmarks.tracking_study.figures import TrackFigures, bad_runs, counts, figures_of, plain, worst
from benchmarks.tracking_study.run import FrameSource, RunSettings
from benchmarks.tracking_study.runner import Line, Report, Study, Unit, grouped
from benchmarks.tracking_study.sequences import IN_STEP, START, measured
from benchmarks.tracking_study.setup import Methods, SequencePlan, case_key
from end2reg_ros.case.model import Case
from end2reg_ros.evaluation.plot_style import mark_wrong, new_figure
from end2reg_ros.evaluation.tables import percent, table_of

SCENARIO = "leave"  # the spine breathes and drifts; nothing passes, the camera is steady for 6 s


@dataclass(frozen=True)
class Sweep(Study):
    """Every value on every case and seed, a few seconds each; all values of a seed share place, wound and colours."""

    axis: ClassVar[str]
    every: ClassVar[tuple[float, ...]]
    values: tuple[float, ...] | None = None
    """Of the axis; default: all of it."""
    rate: float = 10.0
    """Hz."""
    duration: float = 3.0
    """Seconds."""

    def camera(self, case: Case, seed: int, value: float) -> FrameSource:
        """The camera of one value.

        Raises:
            End2RegError: the scene cannot be made.
        """
        raise NotImplementedError

    def values_for(self, case: Case) -> Sequence[float]:
        """Those that can be had of a case."""
        return self.every if self.values is None else self.values

    def units(self, cases: Iterable[Case], methods: Methods) -> Iterator[Unit]:
        """One for each case, seed and value."""
        run = RunSettings(self.rate, self.duration)
        for case in cases:
            for seed in self.seed_numbers():
                for value in self.values_for(case):
                    key = {"kind": self.name, **case_key(case), "seed": seed, "value": value, **asdict(run)}
                    work = partial(
                        measured, methods, case, partial(self.camera, case, seed, value), run, seed
                    )
                    yield {**key, **methods.settings.plain(case)}, work

    def report(self, lines: Sequence[Line]) -> Report:
        """Figures against the value."""
        points, bad = points_of(lines), bad_runs(lines)
        text = [*self.table(points), "", f"Runs with a wrong or blind pose or a slip: {bad or 'none'}"]
        cases = grouped(lines, "case")
        for (case,), members in sorted(cases.items()) if len(cases) > 1 else ():
            text += ["", f"{case}:", "", *self.table(points_of(members))]
        told = [{"value": value, **plain(f, "gaps")} for value, f in points.items()]
        return Report(
            f"Tracking against {self.name}, {self.duration:g} s at {self.rate:g} Hz",
            {"axis": self.axis, "points": told, "bad_runs": bad},
            text,
            [START, "The first cloud never has a pose: it takes two that agree.", IN_STEP],
            {"curves": draw_sweep(points, self.axis)},
            not bad,
        )

    def table(self, points: Mapping[float, TrackFigures]) -> list[str]:
        """One row a value; ``rigid``: what the spine's rigid pose gives at each vertebra in the same run."""
        return table_of(
            [
                {
                    self.axis: f"{value:g}", "runs": str(f.stream.runs), "with a pose": percent(f.stream.found),
                    "frames with a pose": percent(f.stream.availability_from_start), "spine TRE mm": worst(f.spine_tre_mm),
                    "levels' own poses mm": worst(f.levels_tre_mm),
                    "rigid pose at the levels mm": worst(f.rigid_levels_tre_mm), "levels held": percent(held_share(f)),
                    "> 10 mm": str(f.stream.false_poses), "level slips": str(f.stream.level_slips),
                    "without a pose": counts(f.missed, 3),
                }
                for value, f in points.items()
            ]
        )  # fmt: skip


@dataclass(frozen=True)
class OcclusionSweep(Sweep):
    """0-70 % of the exposed bone covered, steadily."""

    name = "occlusion"
    axis = "covered share of the exposed bone"
    every = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

    def camera(self, case: Case, seed: int, value: float) -> FrameSource:
        """With a cloth over a share of the bone."""
        sequence = SequencePlan(seed, SCENARIO).sequence(case)
        return sequence.seen_from(sequence.placement, steady_cover(sequence, value, seed))


@dataclass(frozen=True)
class ExposureSweep(Sweep):
    """1-5 exposed levels; more than a case has are left out."""

    name = "exposure"
    axis = "exposed levels"
    every = (1.0, 2.0, 3.0, 4.0, 5.0)

    def values_for(self, case: Case) -> Sequence[float]:
        return [value for value in super().values_for(case) if value <= len(case.levels)]

    def camera(self, case: Case, seed: int, value: float) -> FrameSource:
        """With so many levels exposed."""
        return SequencePlan(seed, SCENARIO, exposed_levels=exposed(case, seed, int(value))).sequence(case)


@dataclass(frozen=True)
class ArticulationSweep(Sweep):
    """0-8 degrees and 0-4 mm between neighbours: the levels' own poses against the spine's rigid one."""

    name = "articulation"
    axis = "rotation between neighbours (deg), with half as many mm"
    every = (0.0, 2.0, 4.0, 6.0, 8.0)

    def camera(self, case: Case, seed: int, value: float) -> FrameSource:
        """With neighbours turned against each other."""
        return SequencePlan(seed, SCENARIO, deg=value, shift_m=5e-4 * value).sequence(case)


def exposed(case: Case, seed: int, count: int) -> tuple[str, ...]:
    """So many neighbouring levels; the seed says from which one on."""
    first = int(np.random.default_rng((seed, 94)).random() * (len(case.levels) - count + 1))
    return case.levels[first : first + count]


def points_of(lines: Sequence[Line]) -> dict[float, TrackFigures]:
    """Value -> figures, in order."""
    return {
        float(value): figures_of(members) for (value,), members in sorted(grouped(lines, "value").items())
    }


def held_share(figures: TrackFigures) -> float:
    """Share of the levels' poses that were held; NaN without a pose."""
    return figures.held_tre_mm.count / (figures.levels_tre_mm.count or float("nan"))


def draw_sweep(points: Mapping[float, TrackFigures], axis: str) -> Any:
    """Error (median, 95th percentile) and availability against the value."""
    figure, (left, right) = new_figure(11, 4, columns=2)
    for name, attribute, colour in (
        ("spine, rigid", "spine_tre_mm", "black"),
        ("levels, own poses", "levels_tre_mm", "tab:blue"),
        ("levels, rigid pose", "rigid_levels_tre_mm", "tab:orange"),
    ):
        spreads = {value: getattr(f, attribute) for value, f in points.items()}
        known = {value: s for value, s in spreads.items() if s.count}
        medians, p95 = [s.median for s in known.values()], [s.p95 for s in known.values()]
        left.plot(list(known), medians, "o-", color=colour, markersize=4, label=f"{name}: median")
        left.plot(list(known), p95, "o--", color=colour, markersize=3, linewidth=0.8, label="95 %")
    mark_wrong(left)
    left.set(yscale="log", xlabel=axis, ylabel="TRE (mm)")
    left.legend(fontsize=8)
    streams = [f.stream for f in points.values()]
    for label, values in (
        ("frames with a pose", [s.availability_from_start for s in streams]),
        ("from the first pose on", [s.availability for s in streams]),
        ("runs with a pose", [s.found for s in streams]),
    ):
        right.plot(list(points), values, "o-", markersize=4, label=label)
    right.plot(list(points), [held_share(f) for f in points.values()], "x:", color="0.5", label="levels held")
    right.set(xlabel=axis, ylabel="share", ylim=(-0.03, 1.03))
    right.legend(fontsize=8)
    return figure
