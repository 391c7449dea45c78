"""Whole sequences: a tracker that starts from nothing, over minutes of motion, occlusion, loss and re-entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.tracking_study.figures import TrackFigures, note_of, track_figures
from benchmarks.tracking_study.observer import Observer
from benchmarks.tracking_study.run import Camera, RunSettings, run_track
from benchmarks.tracking_study.setup import Cases, Methods, SequencePlan, case_key
from benchmarks.tracking_study.units import Unit
from end2reg_ros.case.model import Case
from end2reg_ros.evaluation.rows import CloudRow, from_plain, to_plain
from end2reg_ros.frame import Tracker, TrackerLike
from end2reg_ros.simulation.picks import PICK_RMS_M, picked_prior


@dataclass(frozen=True)
class SequenceStudy:
    """Which sequences are run, each on every case.

    Attributes:
        seeds: of the sequences.
        run: rate, length, and whether slow updates cost clouds.
        scenario, deg, shift_m: see ``SequencePlan``.
    """

    seeds: tuple[int, ...]
    run: RunSettings = field(default_factory=RunSettings)
    scenario: str = "theatre"
    deg: float = 0.0
    shift_m: float = 0.0

    def plan(self, seed: int) -> SequencePlan:
        """The sequence of a seed."""
        return SequencePlan(seed, self.scenario, deg=self.deg, shift_m=self.shift_m)


def sequence_units(study: SequenceStudy, cases: Cases, methods: Methods) -> Iterator[Unit]:
    """One unit for each case and seed, with the errors' covariances for the calibration."""
    for case in cases:
        for seed in study.seeds:
            plan = study.plan(seed)
            key = {
                "kind": "sequence", **case_key(case), **plan_key(plan), **asdict(study.run),
                **methods.settings.plain(case),
            }  # fmt: skip

            def work(case: Case = case, plan: SequencePlan = plan) -> dict[str, Any]:
                camera = plan.sequence(case)
                tracker = started(methods.tracker(case), case, camera, study.run, plan.seed)
                return measured(camera, tracker, Observer(case, True), study.run)

            yield Unit(key, work)


def started(tracker: Tracker, case: Case, camera: Camera, settings: RunSettings, seed: int) -> Tracker:
    """The tracker, given picked landmarks (3 mm of noise) where its method finds nothing by itself."""
    if tracker.registrar.needs_prior:
        T = camera.frame(settings.start_s).T_camera_model
        tracker.set_prior(picked_prior(case, T, seed, PICK_RMS_M))
    return tracker


def measured(
    camera: Camera, tracker: TrackerLike, observer: Observer, settings: RunSettings
) -> dict[str, Any]:
    """One run as the result of a unit."""
    rows = run_track(camera, tracker, observer, settings)
    return {"note": note_of(track_figures(rows)), "rows": [to_plain(row) for row in rows]}


def plan_key(plan: SequencePlan) -> dict[str, Any]:
    """A sequence for the key of a unit."""
    return {name: value for name, value in asdict(plan).items() if value is not None}


def rows_of(line: Mapping[str, Any]) -> list[CloudRow]:
    """The rows of a finished unit."""
    return [from_plain(plain) for plain in line["result"]["rows"]]


def figures_by(
    lines: Sequence[Mapping[str, Any]], *names: str
) -> dict[tuple[Any, ...], tuple[TrackFigures, list[Mapping[str, Any]]]]:
    """Figures of the units that share what ``names`` say of their keys, with these units, in order."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault(tuple(line["key"][name] for name in names), []).append(line)
    return {value: (track_figures(*map(rows_of, members)), members) for value, members in groups.items()}
