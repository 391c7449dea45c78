"""Random static views with their truth, written as scene folders: a benchmark of easy, standard or hard scenes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.scene_folder import StoredScene, write_scene
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import End2RegError
from end2reg_ros.names import CAMERA_FRAME
from end2reg_ros.simulation.articulation import Articulation, articulation_tags
from end2reg_ros.simulation.camera.sensor import SENSORS, CameraPlacement, SensorSettings
from end2reg_ros.simulation.field.occluders import Kind
from end2reg_ros.simulation.field.settings import SUITES, Suite, draw_field_settings
from end2reg_ros.simulation.motion import Pass
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedFrame, SimulatedSequence

TRIES = 12


@dataclass(frozen=True)
class SuiteRange:
    """From where a suite's scenes are drawn, uniformly; the wound itself is drawn by ``draw_field_settings``.

    Attributes:
        distance_m: camera to aim point, from and to.
        tilt_deg, aim_m: largest tilt, largest offset of the aim from the middle of the wound.
        noise_factor: times the sensor's noise.
        occluders: fewest and most instruments and hands.
        occlusion_max: a scene with more of its bone covered by them is drawn again.
        bone_pixels_min: for 640 x 480; so is one that shows less: it says nothing about a registration.
    """

    distance_m: tuple[float, float]
    tilt_deg: float
    aim_m: float
    noise_factor: float
    occluders: tuple[int, int]
    occlusion_max: float
    bone_pixels_min: int


RANGES: dict[Suite, SuiteRange] = {
    "easy": SuiteRange((0.40, 0.55), 15.0, 0.03, 1.0, (0, 1), 0.1, 1500),
    "standard": SuiteRange((0.40, 0.65), 30.0, 0.05, 1.0, (0, 2), 0.4, 1000),
    "hard": SuiteRange((0.40, 0.80), 45.0, 0.08, 2.0, (1, 4), 0.7, 400),
}


@dataclass(frozen=True)
class SceneSettings:
    """One scene of a benchmark; everything follows from suite, seed and what moved between the vertebrae."""

    suite: Suite = "standard"
    seed: int = 0
    sensor: SensorSettings = field(default_factory=lambda: SENSORS["d435"])
    articulation: Articulation | None = None


@dataclass(frozen=True)
class SimulatedScene:
    """A static view: the frame and the tags that say what kind it is."""

    frame: SimulatedFrame
    tags: dict[str, Any]


def simulate_scene(case: Case, settings: SceneSettings) -> SimulatedScene:
    """Draw one scene. Views with next to nothing of the spine, or too much covered, are drawn again.

    Raises:
        End2RegError: an unknown suite, or no usable view of this case in several tries.
    """
    if settings.suite not in SUITES:
        raise End2RegError(f"unknown suite '{settings.suite}'; one of {', '.join(SUITES)}")
    limits = RANGES[settings.suite]
    for attempt in range(TRIES):
        sequence = _draw(case, settings, attempt)
        frame = sequence.frame(_MIDDLE_S)
        if (
            frame.bone_pixels >= limits.bone_pixels_min
            and frame.visible_fraction >= 1.0 - limits.occlusion_max
        ):
            return SimulatedScene(frame, _tags(sequence, frame, settings, limits))
    text = f"case '{case.name}': no view with {limits.bone_pixels_min} pixels of bone in {TRIES} tries"
    raise End2RegError(f"{text} (suite {settings.suite}, seed {settings.seed})")


_MIDDLE_S = 10.0  # occluders of a static scene stay over the wound from 5 to 15 s


def placement_within(limits: SuiteRange, rng: np.random.Generator) -> CameraPlacement:
    """A random place of the camera within a suite's limits, at any roll."""
    u = rng.uniform
    return CameraPlacement(
        distance_m=u(*limits.distance_m),
        tilt_deg=u(0.0, limits.tilt_deg),
        azimuth_deg=u(0.0, 360.0),
        roll_deg=u(-180.0, 180.0),
        aim_m=(u(-limits.aim_m, limits.aim_m), u(-limits.aim_m, limits.aim_m)),
    )


def _draw(case: Case, settings: SceneSettings, attempt: int) -> SimulatedSequence:
    rng = np.random.default_rng((settings.seed, SUITES.index(settings.suite), 71, attempt))
    limits = RANGES[settings.suite]
    placement = placement_within(limits, rng)
    passes = tuple(
        draw_occluder(rng) for _ in range(rng.integers(limits.occluders[0], limits.occluders[1] + 1))
    )
    return SimulatedSequence(
        case,
        SequenceSettings(
            seed=settings.seed,
            scenario="still",
            sensor=settings.sensor,
            field=draw_field_settings(case, settings.suite, settings.seed),
            placement=placement,
            noise_factor=limits.noise_factor,
            extra_passes=passes,
            articulation=settings.articulation,
        ),
    )


def draw_occluder(rng: np.random.Generator) -> Pass:
    """A random instrument or hand that stays over the wound from 5 to 15 s."""
    kinds: tuple[Kind, ...] = ("hand", "suction", "forceps", "driver", "hand_suction")
    kind = kinds[int(rng.integers(len(kinds)))]
    near = kind in ("suction", "forceps", "driver", "hand_suction")
    u = rng.uniform
    return Pass(
        kind,
        start_s=5.0,
        end_s=15.0,
        over_m=(u(-0.03, 0.03), u(-0.1, 0.1)),
        above_m=u(0.002, 0.02) if near else u(0.04, 0.14),
        side=float(rng.choice((-1.0, 1.0))),
        turn_deg=u(-40.0, 40.0),
    )


def _tags(
    sequence: SimulatedSequence, frame: SimulatedFrame, settings: SceneSettings, limits: SuiteRange
) -> dict[str, Any]:
    moved = settings.articulation
    return {
        "suite": settings.suite,
        "seed": settings.seed,
        "case": sequence.case.name,
        **view_tags(sequence, frame),
        "noise": limits.noise_factor,
        **({} if moved is None else articulation_tags(moved)),
    }


def view_tags(sequence: SimulatedSequence, frame: SimulatedFrame) -> dict[str, Any]:
    """What a view shows and from where, for JSON: sensor, camera, exposed levels, film, cover."""
    wound, placement = sequence.field.settings, sequence.placement
    return {
        "sensor": sequence.sensor.name,
        "tilt_deg": round(placement.tilt_deg, 2),
        "roll_deg": round(placement.roll_deg, 2),
        "height_m": round(placement.distance_m, 4),
        "occlusion": round(1.0 - frame.visible_fraction, 4),
        "bone_pixels": frame.bone_pixels,
        "exposed_levels": list(wound.exposed_levels or sequence.case.levels),
        "half_width_mm": round(1e3 * wound.half_width_m, 2),
        "film_max_mm": round(1e3 * wound.film_max_m, 3),
        "noise_mm_at_0.5m": round(1e3 * sequence.sensor.axial_stddev_m, 3),
        "occluders": frame.tags["occluders"],
    }


def scene_of_frame(
    name: str, frame: SimulatedFrame, tags: dict[str, Any], case_path: Path | None
) -> StoredScene:
    """A frame as a scene of an unorganised cloud: the valid points, in image order."""
    valid = np.isfinite(frame.points[..., 2])
    stamp_ns = round(frame.t_s * 1e9)
    cloud = Cloud(frame.points[valid], frame.colours[valid], CAMERA_FRAME, stamp_ns, received=int(valid.size))
    return StoredScene(
        name, cloud, frame.bone[valid], frame.T_camera_model, frame.T_camera_levels, tags, case_path
    )


def write_simulated_scene(folder: Path, case: Case, settings: SceneSettings) -> dict[str, Any]:
    """Draw one scene and write its folder; returns its tags. The case is referred to by path when it has one.

    Raises:
        End2RegError: as ``simulate_scene``.
    """
    scene = simulate_scene(case, settings)
    case_path = case.path if (case.path / "case.yaml").is_file() else None
    written = scene_of_frame(folder.name, scene.frame, scene.tags, case_path)
    write_scene(folder, replace(written, case_hash=case.hash))
    return scene.tags
