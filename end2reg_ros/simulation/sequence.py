"""A simulated recording: ask for any time and get the camera's frame with the truth."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.errors import End2RegError
from end2reg_ros.simulation import motion
from end2reg_ros.simulation.articulation import (
    Articulation,
    articulation_tags,
    level_motions,
    moved_case,
    rigid_part,
)
from end2reg_ros.simulation.camera.noise import MIRROR_COS, IdealView, SensorNoise
from end2reg_ros.simulation.camera.renderer import Body, Renderer
from end2reg_ros.simulation.camera.sensor import SENSORS, CameraPlacement, SensorSettings
from end2reg_ros.simulation.field.occluders import build_occluder
from end2reg_ros.simulation.field.room import build_room
from end2reg_ros.simulation.field.settings import FieldSettings
from end2reg_ros.simulation.field.surfaces import Array
from end2reg_ros.simulation.field.surgical_field import SurgicalField, build_field

HIGHLIGHT = np.array([236, 232, 228], np.uint8)  # a wet surface that mirrors the lamp


@dataclass(frozen=True)
class SequenceSettings:
    """One simulated sequence; everything random in it follows from ``seed``.

    Attributes:
        seed: of shape, colours, noise, motion phases and, unless given, the camera's place.
        scenario: one of ``motion.SCENARIOS``.
        sensor: the camera.
        field: the wound; None for the standard one of this seed.
        placement: where the camera stands; None draws it (0.42-0.52 m, tilt to 20 degrees, roll within 20 degrees).
        duration_s: length of the recording; frames may be asked for beyond it.
        noise_factor: times the sensor's axial noise.
        extra_passes: occluders on top of the scenario's.
        nthreads: threads that cast rays.
        articulation: motion between the vertebrae since the CT; None for the posture of the CT.
    """

    seed: int = 0
    scenario: str = "demo"
    sensor: SensorSettings = field(default_factory=lambda: SENSORS["d435"])
    field: FieldSettings | None = None
    placement: CameraPlacement | None = None
    duration_s: float = 20.0
    noise_factor: float = 1.0
    extra_passes: tuple[motion.Pass, ...] = ()
    nthreads: int = 1
    articulation: Articulation | None = None


@dataclass(frozen=True)
class SimulatedFrame:
    """One frame with its truth.

    Attributes:
        t_s: time asked for.
        points: (H, W, 3) float32 metres, camera optical frame; NaN where the camera has no depth.
        colours: (H, W, 3) uint8 red, green, blue.
        bone: (H, W) truth label: the pixel shows bone (or the film on it), measured or not.
        T_camera_model: (4, 4) truth; with articulation that of the whole spine, by ``articulation.rigid_part``.
        T_camera_levels: level -> (4, 4) truth of the vertebra frame, articulation included.
        bone_pixels: pixels that show bone.
        visible_fraction: bone_pixels / bone pixels of the rest view (t = 0, no occluders), at most 1; so bone that
            left the image counts as hidden, like bone behind an occluder. 0 when the rest view shows none.
        tags: scenario, seed, occluders and the like.
        visible_levels: level -> the same share of each level's own pixels; 0 for one that the rest view does not show.
    """

    t_s: float
    points: NDArray[np.float32]
    colours: NDArray[np.uint8]
    bone: NDArray[np.bool_]
    T_camera_model: Array
    T_camera_levels: dict[str, Array]
    bone_pixels: int
    visible_fraction: float
    tags: dict[str, Any]
    visible_levels: dict[str, float] = field(default_factory=dict)


def draw_placement(seed: int) -> CameraPlacement:
    """A camera over the wound as a user would put it for the demo."""
    u = np.random.default_rng((seed, 6)).uniform
    return CameraPlacement(u(0.42, 0.52), u(0, 20), u(0, 360), u(-20, 20), (u(-0.03, 0.03), u(-0.03, 0.03)))


class SimulatedSequence:
    """Frames of one scene over time. Building takes a second or two; a frame about 50 ms on one core."""

    def __init__(self, case: Case, settings: SequenceSettings) -> None:
        """Build the scene.

        Raises:
            End2RegError: an unknown scenario, or an exposed level that the case lacks (CaseError).
        """
        if settings.scenario not in motion.SCENARIOS:
            raise End2RegError(
                f"unknown scenario '{settings.scenario}'; one of {', '.join(motion.SCENARIOS)}"
            )
        self.case, self.settings = case, settings
        scenario = motion.SCENARIOS[settings.scenario]
        self.scenario = replace(scenario, passes=scenario.passes + settings.extra_passes)
        field_settings = settings.field or FieldSettings(seed=settings.seed)
        if not scenario.spine:
            field_settings = replace(field_settings, spine=False)
        # The patient's body is the moved case; the truth is told in terms of the case that was given.
        seen = case
        self._T_patient_model = np.eye(4)
        self._T_patient_levels = {v.level: v.T_model_level for v in case.vertebrae}
        if settings.articulation is not None:
            motions = level_motions(case, settings.articulation)
            seen = moved_case(case, motions)
            self._T_patient_model = rigid_part(case, motions)
            self._T_patient_levels = {v.level: v.T_model_level for v in seen.vertebrae}
        self.field: SurgicalField = build_field(seen, field_settings)
        self.placement = settings.placement or draw_placement(settings.seed)
        self.target: Array = self.field.relief.target
        self._T_rest_world = self.placement.T_camera_patient(self.target)
        sensor = replace(
            settings.sensor, axial_stddev_m=settings.sensor.axial_stddev_m * settings.noise_factor
        )
        self.sensor = sensor
        self._noise = SensorNoise(sensor, settings.seed)
        n = settings.nthreads
        patient = Body([*self.field.bone, *self.field.covers], n)
        room = Body([build_room(self.field.relief, self.field.palette, settings.seed)], n)
        self._renderer = Renderer(sensor, patient, len(self.field.bone), room)
        self._occluders: dict[tuple[str, int], Body] = {}  # kind and seed -> what comes, built once
        self._place()

    def seen_from(
        self, placement: CameraPlacement, extra_passes: tuple[motion.Pass, ...] = ()
    ) -> SimulatedSequence:
        """This sequence's field, scenario and sensor from another place, with other occluders on top of the scenario's.

        Costs a frame at most, where a new sequence builds a whole field. Two sequences have the same
        noise at the same time: ask for different times where that matters.
        """
        other = copy(self)
        other.settings = replace(self.settings, placement=placement, extra_passes=extra_passes)
        other.scenario = replace(
            self.scenario, passes=motion.SCENARIOS[self.settings.scenario].passes + extra_passes
        )
        other.placement = placement
        other._T_rest_world = placement.T_camera_patient(self.target)
        other._place()
        return other

    def _place(self) -> None:
        """What depends on the camera's place and the occluders."""
        # A still scene's first frame tells it by itself; a moving one must not be late with its first frame.
        self._level_pixels_rest: NDArray[np.int64] | None = None
        if self.settings.scenario != "still":
            hits, _ = self._renderer.render(self.T_camera_patient(0.0), self.T_camera_world(0.0))
            self._level_pixels_rest = hits.level_pixels
        seed, n = self.settings.seed, self.settings.nthreads
        self._passing = []
        for k, p in enumerate(self.scenario.passes):
            key = (p.kind, seed + k)
            if key not in self._occluders:
                self._occluders[key] = Body([build_occluder(p.kind, self.field.palette, seed + k)], n)
            self._passing.append(self._occluders[key])

    def T_camera_world(self, t_s: float) -> Array:
        """(4, 4) at time t; the world frame is the patient frame at rest."""
        return np.asarray(se3.inverse(motion.T_rest_camera(self.scenario, t_s)) @ self._T_rest_world)

    def T_camera_patient(self, t_s: float) -> Array:
        """(4, 4) of the patient's body at time t; its frame is the model frame but for articulation."""
        moved = motion.T_world_patient(self.scenario, self.target, self.settings.seed, t_s)
        return np.asarray(self.T_camera_world(t_s) @ moved)

    def T_camera_model(self, t_s: float) -> Array:
        """(4, 4) truth at time t; the nearest rigid one when the levels have moved against each other."""
        T = self.T_camera_patient(t_s)
        return T if self.settings.articulation is None else np.asarray(T @ self._T_patient_model)

    def T_camera_levels(self, t_s: float) -> dict[str, Array]:
        """Level -> (4, 4) truth of its vertebra frame at time t."""
        T = self.T_camera_patient(t_s)
        return {level: np.asarray(T @ T_level) for level, T_level in self._T_patient_levels.items()}

    def frame(self, t_s: float) -> SimulatedFrame:
        """The camera's frame at time t >= 0, in seconds. Equal settings and times give equal arrays."""
        number = round(t_s * 1e6)
        T_camera_patient, T_camera_world = self.T_camera_patient(t_s), self.T_camera_world(t_s)
        shares = [motion.pass_share(self.scenario, p, t_s) for p in self.scenario.passes]
        present = [k for k, share in enumerate(shares) if share > 0]
        occluders = [
            (self._passing[k], self._T_base(k, t_s) @ self._T_base_occluder(k, shares[k], t_s))
            for k in present
        ]
        hits, uncovered = self._renderer.render(T_camera_patient, T_camera_world, occluders)
        shine = hits.paint[..., 3]
        depth = self._noise.measure(IdealView(hits.depth_m, hits.cosine, shine), number)
        points = self.sensor.directions * depth[..., None]
        colours = self._colours(hits.paint, hits.cosine, number)
        bone_pixels = int(hits.level_pixels.sum())
        level_rest = self._level_pixels_rest
        level_rest = hits.level_pixels_uncovered if level_rest is None else level_rest
        rest = int(level_rest.sum())
        shown = np.minimum(1.0, hits.level_pixels / np.maximum(level_rest, 1))
        visible_levels = dict(zip(self.case.levels, map(float, shown), strict=False))  # none without a spine
        tags = {
            "scenario": self.scenario.name,
            "seed": self.settings.seed,
            "sensor": self.sensor.name,
            "spine": bool(self.field.bone),
            "occluders": [self.scenario.passes[k].kind for k in present],
            "bone_pixels_uncovered": uncovered,
        }
        if self.settings.articulation is not None:
            tags.update(articulation_tags(self.settings.articulation))
        return SimulatedFrame(
            t_s, points, colours, hits.bone, self.T_camera_model(t_s), self.T_camera_levels(t_s), bone_pixels,
            min(1.0, bone_pixels / rest) if rest else 0.0, tags, visible_levels,
        )  # fmt: skip

    def _T_base(self, k: int, t_s: float) -> Array:
        """(4, 4) in the camera of what an occluder is held by: the patient or the room."""
        on_patient = self.scenario.passes[k].on_patient
        return self.T_camera_patient(t_s) if on_patient else self.T_camera_world(t_s)

    def _T_base_occluder(self, k: int, share: float, t_s: float) -> Array:
        return motion.T_base_occluder(self.scenario.passes[k], share, self.target, t_s)

    def _colours(
        self, paint: NDArray[np.uint8], cosine: NDArray[np.float32], number: int
    ) -> NDArray[np.uint8]:
        colours = paint[..., :3].copy()
        mirror = np.flatnonzero((cosine > MIRROR_COS + 0.012) & (paint[..., 3] != 0))
        colours.reshape(-1, 3)[mirror] = (colours.reshape(-1, 3)[mirror] >> 1) + (HIGHLIGHT >> 1)
        colours += self._noise.speckle(number)
        return colours
