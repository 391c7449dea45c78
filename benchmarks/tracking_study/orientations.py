"""From nothing, seen from anywhere: how long until the first pose, and how right it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from benchmarks.tracking_study.figures import plain, worst
from benchmarks.tracking_study.observer import Observer
from benchmarks.tracking_study.run import RunSettings, run_track
from benchmarks.tracking_study.runner import Line, Report, Study, Unit, grouped
from benchmarks.tracking_study.sequences import LIVE, draw_shares
from benchmarks.tracking_study.setup import Methods, SequencePlan, case_key
from end2reg_ros.case.model import Case
from end2reg_ros.evaluation.metrics import WRONG_MM
from end2reg_ros.evaluation.rows import CloudRow, mean_mm, to_plain
from end2reg_ros.evaluation.spread import Spread, spread, success_interval
from end2reg_ros.evaluation.tables import percent, table_of
from end2reg_ros.simulation.camera.sensor import CameraPlacement
from end2reg_ros.simulation.sequence import SimulatedSequence

ROLLS_DEG = tuple(range(0, 360, 30))
TILTS_DEG: tuple[tuple[float, float], ...] = ((0.0, 0.0), (20.0, 20.0), (40.0, 45.0))  # drawn from and to
SUCCESS_MM = 5.0
SCENARIO = "leave"  # the spine breathes and drifts; the camera is steady for 6 s


@dataclass(frozen=True)
class Orientations(Study):
    """12 rolls x 3 tilts from nothing: time to the first pose and its error, on a running clock."""

    name = "orientations"
    rate: float = 30.0
    """Hz."""
    duration: float = 5.0
    """Seconds after which a start counts as failed."""

    def units(self, cases: Iterable[Case], methods: Methods) -> Iterator[Unit]:
        """One for each case, seed, tilt and roll; the field of a seed is built once."""
        run = RunSettings(self.rate, self.duration, live=True, superseded=False, until_pose=True)
        for case in cases:
            made = lru_cache(maxsize=1)(partial(SequencePlan.sequence, case=case))
            for seed in self.seed_numbers():
                for tilt in TILTS_DEG:
                    for roll in ROLLS_DEG:
                        key = {
                            "kind": "orientation", **case_key(case), "seed": seed, "tilt_deg": tilt[0], "roll_deg": roll,
                            **asdict(run), **methods.settings.plain(case),
                        }  # fmt: skip
                        sequence = partial(made, SequencePlan(seed, SCENARIO))
                        place = placement_of(seed, roll, tilt)
                        yield key, partial(started, methods, case, sequence, place, run)

    def report(self, lines: Sequence[Line]) -> Report:
        """Starts from nothing at every roll and tilt."""
        tilts = {f"tilt {tilt:g} deg": members for (tilt,), members in grouped(lines, "tilt_deg").items()}
        cases = {str(case): members for (case,), members in grouped(lines, "case").items()}
        groups = {name: starts_of(each) for name, each in {"all": lines, **tilts, **cases}.items()}
        whole = groups["all"]
        seconds = {
            name: [line["result"]["seconds"] for line in each if line["result"]["found"]]
            for name, each in {"all": lines, **tilts}.items()
        }
        told = {  # what is wrong or missed is listed once
            name: plain(f, *([] if f is whole else ["wrong", "missed"])) for name, f in groups.items()
        }
        text = [
            *start_lines(groups),
            "",
            f"First poses more than 10 mm off: {list(whole.wrong) or 'none'}",
            "",
            f"Without a pose: {list(whole.missed) or 'none'}",
        ]
        notes = [
            LIVE,
            f"Scenario '{SCENARIO}': the spine breathes and drifts. Tilts of 40-45 deg are drawn.",
        ]
        picture = draw_shares(seconds, "s from the first frame to the first pose")
        good, title = not whole.wrong, "First pose from any orientation"
        return Report(title, {"groups": told}, text, notes, {"seconds": picture}, good)


def placement_of(seed: int, roll_deg: float, tilt_deg: tuple[float, float]) -> CameraPlacement:
    """The camera at that roll and tilt; side, distance and aim are drawn."""
    u = np.random.default_rng((seed, round(roll_deg), round(tilt_deg[0]), 93)).uniform
    return CameraPlacement(u(0.42, 0.58), u(*tilt_deg), u(0, 360), roll_deg, (u(-0.02, 0.02), u(-0.02, 0.02)))


def started(
    methods: Methods,
    case: Case,
    sequence: Callable[[], SimulatedSequence],
    place: CameraPlacement,
    run: RunSettings,
) -> dict[str, Any]:
    """One start from nothing as the result of a unit."""
    return first_pose(run_track(sequence().seen_from(place), methods.tracker(case), Observer(case), run))


def first_pose(rows: Sequence[CloudRow]) -> dict[str, Any]:
    """What a start from nothing led to: the first pose, or none, and what each look before it said."""
    looks = [row for row in rows if row.judged]
    found = next((row for row in looks if row.published), None)
    told: dict[str, Any] = {
        "found": found is not None,
        "looks": len(looks),
        "said": [[row.reason_code, round(row.latency_ms or 0.0, 1)] for row in looks],
        "visible": rows[0].visible_fraction if rows else None,
    }
    if found is None or found.age_ms is None:
        return {**told, "note": f"no pose: {looks[-1].reason_code if looks else 'no frame'}"}
    tre_mm = mean_mm(found.spine_errors_mm)
    told |= {
        "seconds": found.t + 1e-3 * found.age_ms - rows[0].t, "tre_mm": tre_mm, "worst_mm": found.worst_level_mm(),
        "level_slip": found.level_slip, "pose": to_plain(found),
    }  # fmt: skip
    return {**told, "note": f"{told['seconds']:.2f} s, {len(looks)} looks, TRE {tre_mm:.2f} mm"}


@dataclass(frozen=True)
class StartFigures:
    """Starts from nothing, taken together.

    Attributes:
        success: share of all with a first pose of TRE (mean over the landmarks) <= 5 mm; ``interval`` 95 %, Wilson.
        seconds, looks: to the first pose, and clouds looked at until then, the confirming one included; of those that found one.
        tre_mm: of the first pose.
        wrong: first poses with a vertebra more than 10 mm off, and where; ``missed`` those without a pose, and why.
    """

    starts: int
    success: float
    interval: tuple[float, float]
    seconds: Spread
    looks: Spread
    tre_mm: Spread
    wrong: tuple[dict[str, Any], ...]
    missed: tuple[dict[str, Any], ...]


def starts_of(lines: Sequence[Line]) -> StartFigures:
    """Figures of some units, at least one."""
    found = [line for line in lines if line["result"]["found"]]
    results = [line["result"] for line in found]
    good = sum(_at_most(result["tre_mm"], SUCCESS_MM) for result in results)
    wrong = [line for line in found if not _at_most(line["result"]["worst_mm"], WRONG_MM)]
    missed = [line for line in lines if not line["result"]["found"]]
    return StartFigures(
        starts=len(lines),
        success=good / len(lines),
        interval=success_interval(good, len(lines)),
        seconds=spread(result["seconds"] for result in results),
        looks=spread(float(result["looks"]) for result in results),
        tre_mm=spread(result["tre_mm"] for result in results if result["tre_mm"] is not None),
        wrong=tuple({**_where(line), "worst_mm": line["result"]["worst_mm"]} for line in wrong),
        missed=tuple(
            {**_where(line), "said": [code for code, _ in line["result"]["said"]]} for line in missed
        ),
    )


def _at_most(value: float | None, limit: float) -> bool:
    return value is not None and value <= limit


def _where(line: Line) -> dict[str, Any]:
    return {name: line["key"][name] for name in ("case", "seed", "tilt_deg", "roll_deg")}


def start_lines(groups: Mapping[str, StartFigures]) -> list[str]:
    """One row a group."""
    return table_of(
        [
            {
                "": name, "starts": str(f.starts), "first pose <= 5 mm": percent(f.success),
                "95 % interval": f"{percent(f.interval[0])} – {percent(f.interval[1])}",
                "s p50 / p95 / max": worst(f.seconds), "looks p50 / p95 / max": worst(f.looks, 0),
                "TRE mm p50 / p95 / max": worst(f.tre_mm), "> 10 mm": str(len(f.wrong)), "no pose": str(len(f.missed)),
            }
            for name, f in groups.items()
        ]
    )  # fmt: skip
