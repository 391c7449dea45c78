"""How a method fares as one thing grows worse and all else stays: misalignment, occlusion, exposure, noise, film.

A scene of a sweep follows from case, sweep, value and seed. Scenes of one seed share camera, wound and colours, so that
the values of a sweep are compared on the same views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.scene_folder import StoredScene
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation.benchmark import (
    BenchmarkSettings,
    CaseBench,
    Given,
    PriorKind,
    Trial,
    make_prior,
    run_trial,
)
from end2reg_ros.evaluation.metrics import Pose
from end2reg_ros.evaluation.regions import Region
from end2reg_ros.evaluation.scenes import true_pose
from end2reg_ros.registration.types import Prior
from end2reg_ros.se3 import from_rotation_translation, rotation_from_vector
from end2reg_ros.simulation.camera.sensor import CameraPlacement
from end2reg_ros.simulation.field.settings import FieldSettings, draw_field_settings
from end2reg_ros.simulation.motion import Pass
from end2reg_ros.simulation.random_scenes import RANGES, scene_of_frame
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedFrame, SimulatedSequence

SweepName = Literal["misalignment", "occlusion", "levels", "noise", "film"]
SWEEPS: dict[SweepName, tuple[float, ...]] = {
    "misalignment": (0.0, 15.0, 30.0, 45.0, 60.0, 90.0, 120.0, 150.0, 180.0),
    "occlusion": (0.0, 0.15, 0.3, 0.45, 0.6, 0.7),
    "levels": (1.0, 2.0, 3.0, 4.0, 5.0),
    "noise": (0.5, 1.0, 1.5, 2.0, 3.0),
    "film": (0.0, 0.5, 1.0, 2.0, 3.0),
}
AXES: dict[SweepName, str] = {
    "misalignment": "initial rotation (degrees)",
    "occlusion": "covered share of the bone",
    "levels": "exposed levels",
    "noise": "noise factor (1: 0.4 mm at 0.5 m)",
    "film": "thickest film on the bone (mm)",
}
FIRST_SEED = 800_000  # after the test suites, before training
BONE_PIXELS_MIN = 400
OCCLUSION_TOLERANCE = 0.02
BISECTIONS = 10
TRIES = 10
_COMING_S, _COVERED_S = 5.0, 7.0  # from when occluders come, and when they are over the wound


@dataclass(frozen=True)
class SweepPoint:
    """One scene of a sweep: its value (unit: see ``AXES``) and seed."""

    sweep: SweepName
    value: float
    seed: int


@dataclass(frozen=True)
class SweepRow:
    """One registration of one scene of a sweep.

    Attributes:
        measured: the value that the scene really has: the covered share is only about what was asked for.
    """

    point: SweepPoint
    case: str
    measured: float
    trial: Trial


@dataclass(frozen=True)
class SweepSettings:
    """What is run.

    Attributes:
        sweeps: by name.
        seeds: how many views per value and case.
        methods: of the registrars.
        region: points that a method is given.
        prior: ``none`` or ``landmarks``. The sweep over misalignment brings its own.
    """

    sweeps: tuple[SweepName, ...] = get_args(SweepName)
    seeds: int = 4
    methods: tuple[str, ...] = ("icp", "ransac_icp")
    region: Region = "view"
    prior: Literal["none", "landmarks"] = "none"


def points_of_sweep(sweep: SweepName, case: Case, seeds: int, case_number: int = 0) -> list[SweepPoint]:
    """All points of a sweep on one case; more exposed levels than it has are left out.

    Raises:
        End2RegError: an unknown sweep.
    """
    if sweep not in SWEEPS:
        raise End2RegError(f"unknown sweep '{sweep}'; one of {', '.join(SWEEPS)}")
    values = [v for v in SWEEPS[sweep] if sweep != "levels" or v <= len(case.levels)]
    first = FIRST_SEED + 1000 * case_number
    return [SweepPoint(sweep, value, first + k) for value in values for k in range(seeds)]


def draw_scene(case: Case, point: SweepPoint) -> tuple[StoredScene, float]:
    """The scene of a point, and the value that it really has.

    Raises:
        End2RegError: no view with enough bone in several tries.
    """
    if point.sweep == "occlusion" and point.value > 0.0:
        frame, measured = _covered_frame(case, point)
    else:
        frame, measured = _usable(case, point).frame(_COVERED_S), point.value
    tags = {"sweep": point.sweep, "value": point.value, "measured": measured, "seed": point.seed}
    name = f"{point.sweep}_{point.value:g}_{case.name}_{point.seed}"
    return scene_of_frame(name, frame, {**tags, "case": case.name}, case.path), measured


def rotated_prior(bench: CaseBench, truth: Pose, degrees: float, seed: int) -> Prior:
    """The truth turned about a random axis through the spine's centre; the axis follows from the seed alone."""
    axis = np.random.default_rng((seed, 81)).normal(size=3)
    R = rotation_from_vector(axis / np.linalg.norm(axis) * np.radians(degrees))
    centre = bench.targets.centroid
    T = truth.T_camera_model @ from_rotation_translation(R, centre - R @ centre)
    # What a user could know: how far such a turn moves the landmarks.
    landmarks = np.concatenate(list(bench.targets.landmarks.values()))
    lever = float(np.sqrt(np.mean(np.sum((landmarks - centre) ** 2, axis=1))))
    return Prior(
        T, source="perturbed", stddev_m=2.0 * np.sin(np.radians(degrees) / 2.0) * lever / np.sqrt(3.0)
    )


def run_sweeps(
    cases: Sequence[Case], bench_of: Callable[[Case], CaseBench], settings: SweepSettings
) -> Iterator[SweepRow]:
    """Run all sweeps, scene by scene. ``bench_of``: a case set up with any registrars, made once a case."""
    for number, case in enumerate(cases):
        bench = bench_of(case)
        for sweep in settings.sweeps:
            kept: dict[int, StoredScene] = {}
            for point in points_of_sweep(sweep, case, settings.seeds, number):
                if sweep == "misalignment":  # the scene is the same at every angle
                    scene = kept.get(point.seed) or draw_scene(case, point)[0]
                    kept[point.seed], measured = scene, point.value
                else:
                    scene, measured = draw_scene(case, point)
                for trial in _trials(scene, bench, point, settings):
                    yield SweepRow(point, case.name, measured, trial)


def _trials(
    scene: StoredScene, bench: CaseBench, point: SweepPoint, settings: SweepSettings
) -> Iterator[Trial]:
    truth = true_pose(scene, bench.targets)
    cloud, region_ms = bench.cloud_of(scene, settings.region)
    kind: PriorKind = "perturbed" if point.sweep == "misalignment" else settings.prior
    if point.sweep == "misalignment":
        prior: Prior | None = rotated_prior(bench, truth, point.value, point.seed)
    else:
        prior = make_prior(kind, bench, truth, BenchmarkSettings(), point.seed)
    given = Given(scene, settings.region, cloud, kind, prior, region_ms)
    for method in settings.methods:
        yield run_trial(given, bench, method, truth)


def _usable(case: Case, point: SweepPoint, passes: tuple[Pass, ...] = ()) -> SimulatedSequence:
    """The first attempt whose view shows enough bone before anything comes over it."""
    for attempt in range(TRIES):
        sequence = _sequence(case, point, passes, attempt)
        if sequence.frame(0.0).bone_pixels >= BONE_PIXELS_MIN:
            return sequence
    text = f"case '{case.name}': no view with {BONE_PIXELS_MIN} pixels of bone in {TRIES} tries"
    raise End2RegError(f"{text} (sweep {point.sweep}, value {point.value:g}, seed {point.seed})")


def _covered_frame(case: Case, point: SweepPoint) -> tuple[SimulatedFrame, float]:
    """Hands come over the wound; the moment at which they cover the wanted share, found by bisection."""
    rng = np.random.default_rng((point.seed, 82))
    u, side = rng.uniform, float(rng.choice((-1.0, 1.0)))
    passes = tuple(
        Pass(
            "hand", _COMING_S, 15.0, travel_s=_COVERED_S - _COMING_S, over_m=(-0.02 * s, along + u(-0.015, 0.015)),
            above_m=u(0.04, 0.09), side=s, turn_deg=u(-20.0, 20.0),
        )
        for s, along in ((side, -0.07), (-side, 0.0), (side, 0.07))
    )  # fmt: skip
    sequence = _usable(case, point, passes)
    low, high = _COMING_S, _COVERED_S
    found: list[tuple[float, SimulatedFrame]] = []
    for _ in range(BISECTIONS):
        frame = sequence.frame((low + high) / 2)
        covered = 1.0 - frame.visible_fraction
        found.append((covered, frame))
        if abs(covered - point.value) <= OCCLUSION_TOLERANCE:
            break
        low, high = ((low + high) / 2, high) if covered < point.value else (low, (low + high) / 2)
    measured, frame = min(found, key=lambda each: abs(each[0] - point.value))
    return frame, measured


def _sequence(case: Case, point: SweepPoint, passes: tuple[Pass, ...], attempt: int) -> SimulatedSequence:
    rng = np.random.default_rng((point.seed, 83, attempt))
    limits, u = RANGES["standard"], rng.uniform
    placement = CameraPlacement(
        distance_m=u(*limits.distance_m),
        tilt_deg=u(0.0, limits.tilt_deg),
        azimuth_deg=u(0.0, 360.0),
        roll_deg=u(-180.0, 180.0),
        aim_m=(u(-limits.aim_m, limits.aim_m), u(-limits.aim_m, limits.aim_m)),
    )
    return SimulatedSequence(
        case,
        SequenceSettings(
            seed=point.seed,
            scenario="still",
            field=_field(case, point),
            placement=placement,
            noise_factor=point.value if point.sweep == "noise" else 1.0,
            extra_passes=passes,
        ),
    )


def _field(case: Case, point: SweepPoint) -> FieldSettings:
    """The standard wound of the seed, with the one thing changed that the sweep is about."""
    field = draw_field_settings(case, "standard", point.seed)
    if point.sweep == "film":
        return replace(field, film_max_m=1e-3 * point.value)
    if point.sweep == "levels":
        count = int(point.value)
        first = int(np.random.default_rng((point.seed, 84)).random() * (len(case.levels) - count + 1))
        return replace(field, exposed_levels=case.levels[first : first + count])
    return field


def sweep_document(rows: Sequence[SweepRow]) -> list[dict[str, Any]]:
    """Rows as plain numbers, ready for JSON."""
    from end2reg_ros.evaluation.tables import finite

    return [
        finite(
            {
                "sweep": row.point.sweep, "value": row.point.value, "measured": row.measured, "seed": row.point.seed,
                "case": row.case, "method": row.trial.method, "region": row.trial.region, "prior": row.trial.prior,
                "success": row.trial.success, "reason_code": row.trial.reason_code,
                "tre_mm": None if row.trial.errors is None else row.trial.errors.mean_tre_mm,
                "worst_level_mm": None if row.trial.errors is None else row.trial.errors.worst_level_mm,
                "wall_ms": row.trial.wall_ms,
            }
        )
        for row in rows
    ]  # fmt: skip
