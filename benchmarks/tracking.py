"""Tracking over simulated sequences and over clouds without a spine: ``python benchmarks/tracking.py STUDY --cases CASE ...``.

Studies: sequences, negatives, orientations, reacquisition, occlusion, exposure, articulation, calibration (of the sequences
that are in the work folder). Each finished unit is kept as a JSON line in --work, so that a rerun goes on where it stopped; the
summary goes to --out as JSON and Markdown with pictures. Renderer and tracker take turns in one process; ``live``
studies let a clock run on which slow updates cost clouds.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from benchmarks.paper.suites import procedural_individuals
from benchmarks.tracking_study import studies
from benchmarks.tracking_study.bench import Bench
from benchmarks.tracking_study.negatives import Arm, NegativeStudy
from benchmarks.tracking_study.orientations import OrientationStudy
from benchmarks.tracking_study.results import Results, write_results
from benchmarks.tracking_study.run import RunSettings
from benchmarks.tracking_study.sequences import SequenceStudy
from benchmarks.tracking_study.setup import FIRST_SEED, Cases, MethodSettings
from benchmarks.tracking_study.sweeps import SweepName, SweepStudy
from benchmarks.tracking_study.units import UnitStore, code_hash, parse_seeds
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.errors import End2RegError

RESULTS = Path(__file__).resolve().parent / "results" / "tracking"


@dataclass(frozen=True)
class Common:
    """What all studies share."""

    work: Path
    """Folder of the finished units; what is there is not run again."""
    out: Path = RESULTS
    """Folder of the summary and the pictures."""
    cases: tuple[Path, ...] = ()
    """Case folders. Without any, and without procedural ones: the bundled case."""
    procedural: int = 0
    """So many procedural individuals that no training has seen, made in the work folder."""
    seeds: str = "0-3"
    """Seeds, as in 0-3 or 0,2,7-9; sequences are drawn from 900000 + seed."""
    limit: int | None = None
    """Only the first units."""
    same_code: bool = False
    """Run again what another version of the code has made; without, it is kept and the versions are listed."""
    suffix: str = ""
    """Added to the names of the files in --out."""
    method: Annotated[MethodSettings, tyro.conf.arg(name="")] = field(default_factory=MethodSettings)

    def seed_numbers(self) -> tuple[int, ...]:
        """Seeds of the simulation."""
        return tuple(FIRST_SEED + seed for seed in parse_seeds(self.seeds))

    def case_folders(self) -> Cases:
        """The cases, procedural ones made where they are missing."""
        made = procedural_individuals(self.work / "cases", self.procedural, 1)
        paths = (*self.cases, *(individual.case for individual in made))
        return Cases(paths or (bundled_case_path(),))

    def bench(self, name: str) -> Bench:
        """The bench of a study, its units in their own file."""
        store = UnitStore(self.work / f"{name}.jsonl", code_hash(), self.same_code)
        return Bench(store, self.case_folders(), self.method, self.out, name + self.suffix, self.limit)

    def finish(self, results: Results) -> int:
        """Write the summary; 1 where something was published that must not be."""
        json_path, page_path = write_results(self.out, results, sys.argv[1:])
        print("\n".join(results.lines))
        print(f"\n{json_path}\n{page_path}")
        return 0 if results.good else 1


@dataclass(frozen=True)
class Sequences:
    """60 s of motion, occlusion, knocks, exit and re-entry, from nothing."""

    common: Annotated[Common, tyro.conf.arg(name="")]
    rate: float = 15.0
    """Hz."""
    duration: float = 60.0
    """Seconds."""
    scenario: str = "theatre"
    articulation_deg: float = 0.0
    """Rotation between neighbouring levels; with half as many millimetres."""
    live: bool = False
    """Let a clock run on which slow updates cost clouds."""

    def run(self) -> int:
        study = SequenceStudy(
            self.common.seed_numbers(), RunSettings(self.rate, self.duration, live=self.live), self.scenario,
            self.articulation_deg, 5e-4 * self.articulation_deg,
        )  # fmt: skip
        return self.common.finish(studies.sequences(self.common.bench("sequences"), study))


@dataclass(frozen=True)
class Reacquisition:
    """A full occlusion every 5 s: the time from the first frame in view to the next pose, on a running clock."""

    common: Annotated[Common, tyro.conf.arg(name="")]
    rate: float = 30.0
    """Hz."""
    duration: float = 30.0
    """Seconds."""
    scenario: str = "occlude"

    def run(self) -> int:
        run = RunSettings(self.rate, self.duration, live=True)
        study = SequenceStudy(self.common.seed_numbers(), run, self.scenario)
        return self.common.finish(studies.reacquisition(self.common.bench("reacquisition"), study))


@dataclass(frozen=True)
class Orientations:
    """12 rolls x 3 tilts from nothing: time to the first pose and its error, on a running clock."""

    common: Annotated[Common, tyro.conf.arg(name="")]
    rate: float = 30.0
    """Hz."""
    duration: float = 5.0
    """Seconds after which a start counts as failed."""

    def run(self) -> int:
        study = OrientationStudy(self.common.seed_numbers())
        study = replace(study, run=replace(study.run, rate_hz=self.rate, duration_s=self.duration))
        return self.common.finish(studies.orientations(self.common.bench("orientations"), study))


@dataclass(frozen=True)
class Negatives:
    """Recordings without a spine and empty tables: from nothing, lost, with a wrong start, and followed."""

    common: Annotated[Common, tyro.conf.arg(name="")]
    recordings: tuple[Path, ...] = ()
    """rosbag2 folders with clouds or depth images."""
    frames: int = 50
    """Clouds of each recording and of each seed."""
    rate: float = 5.0
    """Hz, of their stamps."""
    search_every: int = 5
    """The learned method searches for 0.3-1 s a cloud: it judges one of so many. The classical one judges all."""

    def run(self) -> int:
        main, every = self.common.method.method, self.search_every
        alone: tuple[Arm, ...] = ("nothing", "lost", "prior") if main != "icp" else ()
        given: tuple[Arm, ...] = ("lost", "prior", "follow")
        arms = (*((main, arm, every) for arm in alone), *(("icp", arm, 1) for arm in given))
        study = NegativeStudy(self.recordings, self.common.seed_numbers(), arms, self.frames, self.rate)
        return self.common.finish(studies.negatives(self.common.bench("negatives"), study))


@dataclass(frozen=True)
class Sweep:
    """Options of the three sweeps."""

    common: Annotated[Common, tyro.conf.arg(name="")]
    values: tuple[float, ...] | None = None
    """Of the axis; default: all of it."""
    rate: float = 10.0
    """Hz."""
    duration: float = 3.0
    """Seconds."""

    def swept(self, name: SweepName) -> int:
        study = SweepStudy(
            name, self.common.seed_numbers(), self.values, RunSettings(self.rate, self.duration)
        )
        return self.common.finish(studies.sweep(self.common.bench(name), study))


class Occlusion(Sweep):
    """0-70 % of the exposed bone covered, steadily."""

    def run(self) -> int:
        return self.swept("occlusion")


class Exposure(Sweep):
    """1-5 exposed levels."""

    def run(self) -> int:
        return self.swept("exposure")


class Articulation(Sweep):
    """0-8 degrees and 0-4 mm between neighbours: the levels' own poses against the spine's rigid one."""

    def run(self) -> int:
        return self.swept("articulation")


@dataclass(frozen=True)
class Calibration:
    """Errors against covariances, over the sequences' poses in the work folder (all lengths and postures there)."""

    common: Annotated[Common, tyro.conf.arg(name="")]
    """--seeds: those that are reported."""
    tune_seeds: str = ""
    """Seeds from whose errors settings of the covariance are estimated; none without."""
    scenario: str | None = None
    """Only sequences of this scenario."""
    held: Literal["all", "yes", "no"] = "all"
    """Levels marked as held: all levels, only held ones, only the others."""

    def run(self) -> int:
        tune = tuple(FIRST_SEED + s for s in parse_seeds(self.tune_seeds)) if self.tune_seeds else ()
        held = {"all": None, "yes": True, "no": False}[self.held]
        bench = replace(self.common.bench("sequences"), name="calibration" + self.common.suffix)
        study = studies.CalibrationStudy(self.common.seed_numbers(), tune, held, self.scenario)
        return self.common.finish(studies.calibrated(bench, study))


STUDIES: dict[str, Callable[..., Any]] = {
    "sequences": Sequences,
    "negatives": Negatives,
    "orientations": Orientations,
    "reacquisition": Reacquisition,
    "occlusion": Occlusion,
    "exposure": Exposure,
    "articulation": Articulation,
    "calibration": Calibration,
}


def main() -> int:
    """Run a study; returns the exit code."""
    if "OMP_NUM_THREADS" not in os.environ:
        # One thread, as thousands of small products a frame want it: read once, when numpy is first imported.
        alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        os.execve(sys.executable, [sys.executable, *sys.argv], alone)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        return int(tyro.extras.subcommand_cli_from_dict(STUDIES, description=__doc__).run())
    except End2RegError as error:
        print(f"tracking: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
