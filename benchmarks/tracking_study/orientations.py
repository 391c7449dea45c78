"""From nothing, seen from anywhere: how long until the first pose, and how right it is; and after an occlusion, likewise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from benchmarks.tracking_study.observer import Observer
from benchmarks.tracking_study.run import RunSettings, run_track
from benchmarks.tracking_study.setup import Cases, LastSequence, Methods, SequencePlan, case_key
from benchmarks.tracking_study.units import Unit
from end2reg_ros.case.model import Case
from end2reg_ros.evaluation.metrics import WRONG_MM
from end2reg_ros.evaluation.rows import CloudRow, mean_mm, to_plain
from end2reg_ros.evaluation.spread import Spread, spread, success_interval
from end2reg_ros.simulation.camera.sensor import CameraPlacement

ROLLS_DEG = tuple(range(0, 360, 30))
TILTS_DEG: tuple[tuple[float, float], ...] = ((0.0, 0.0), (20.0, 20.0), (40.0, 45.0))  # drawn from and to
SUCCESS_MM = 5.0
SCENARIO = "leave"  # the spine breathes and drifts; the camera is steady for 6 s


@dataclass(frozen=True)
class OrientationStudy:
    """Which places of the camera are tried.

    Attributes:
        seeds: of the wound, and of what a placement leaves open.
        rolls_deg, tilts_deg: every pair of them.
        run: of a running camera; ends at the first pose.
    """

    seeds: tuple[int, ...]
    run: RunSettings = field(
        default_factory=lambda: RunSettings(30.0, 5.0, live=True, superseded=False, until_pose=True)
    )
    rolls_deg: tuple[int, ...] = ROLLS_DEG
    tilts_deg: tuple[tuple[float, float], ...] = TILTS_DEG


def placement_of(seed: int, roll_deg: float, tilt_deg: tuple[float, float]) -> CameraPlacement:
    """The camera at that roll and tilt; side, distance and aim are drawn."""
    u = np.random.default_rng((seed, round(roll_deg), round(tilt_deg[0]), 93)).uniform
    return CameraPlacement(u(0.42, 0.58), u(*tilt_deg), u(0, 360), roll_deg, (u(-0.02, 0.02), u(-0.02, 0.02)))


def orientation_units(study: OrientationStudy, cases: Cases, methods: Methods) -> Iterator[Unit]:
    """One unit for each case, seed, tilt and roll; the field of a seed is built once."""
    last = LastSequence()
    for case in cases:
        for seed in study.seeds:
            for tilt in study.tilts_deg:
                for roll in study.rolls_deg:
                    key = {
                        "kind": "orientation", **case_key(case), "seed": seed, "tilt_deg": tilt[0], "roll_deg": roll,
                        **asdict(study.run), **methods.settings.plain(case),
                    }  # fmt: skip
                    place = placement_of(seed, roll, tilt)
                    yield Unit(key, _work(study, case, methods, (seed, place, last)))


def _work(
    study: OrientationStudy,
    case: Case,
    methods: Methods,
    chosen: tuple[int, CameraPlacement, LastSequence],
) -> Callable[[], dict[str, Any]]:
    seed, place, last = chosen

    def work() -> dict[str, Any]:
        camera = last.of(case, SequencePlan(seed, SCENARIO)).seen_from(place)
        return first_pose(run_track(camera, methods.tracker(case), Observer(case), study.run))

    return work


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
class OrientationFigures:
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


def orientation_figures(lines: Sequence[Mapping[str, Any]]) -> OrientationFigures:
    """Figures of some units."""
    found = [line for line in lines if line["result"]["found"]]
    results = [line["result"] for line in found]
    good = sum(_at_most(result["tre_mm"], SUCCESS_MM) for result in results)
    wrong = [line for line in found if not _at_most(line["result"]["worst_mm"], WRONG_MM)]
    missed = [line for line in lines if not line["result"]["found"]]
    return OrientationFigures(
        starts=len(lines),
        success=good / len(lines) if lines else float("nan"),
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


def _where(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: line["key"][name] for name in ("case", "seed", "tilt_deg", "roll_deg")}


def orientations_by(
    lines: Sequence[Mapping[str, Any]], *names: str
) -> dict[tuple[Any, ...], OrientationFigures]:
    """Figures of the units that share what ``names`` say of their keys."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault(tuple(line["key"][name] for name in names), []).append(line)
    return {value: orientation_figures(members) for value, members in groups.items()}
