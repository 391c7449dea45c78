"""What a training scene shows: wound, sensor, camera and occluders, all drawn from the scene's seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from end2reg_ros.case.model import Case
from end2reg_ros.errors import TrainingError
from end2reg_ros.simulation.camera.sensor import SENSORS, CameraPlacement
from end2reg_ros.simulation.field.settings import SUITES, FieldSettings, draw_field_settings
from end2reg_ros.simulation.random_scenes import (
    RANGES,
    SuiteRange,
    draw_occluder,
    placement_within,
    view_tags,
)
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedFrame, SimulatedSequence

TRAINING = "training"  # wider than the suites of the benchmarks
KINDS = (*SUITES, TRAINING)
BONE_PIXELS_MIN = 400
TRIES, FIELD_TRIES = 10, 4
EASY_TRIES = 4  # the last of TRIES: a view straight on and uncovered, for fields that hardly show bone
RETRY_SEED = 1_000_000_000

TRAINING_RANGE = SuiteRange((0.35, 0.85), 45.0, 0.08, 1.5, (0, 3), 0.8, BONE_PIXELS_MIN)


@dataclass(frozen=True)
class FieldDraw:
    """What all views of a field share; ``spine`` False: a back that was never opened."""

    suite: str
    sensor: str
    spine: bool
    seed: int


def draw_field(
    seed: int, suites: dict[str, float], sensors: dict[str, float], empty_share: float
) -> FieldDraw:
    """Suite, sensor and whether there is a spine, from shares."""
    rng = np.random.default_rng((seed, 81))
    spine = bool(rng.uniform() >= empty_share)
    return FieldDraw(_pick(suites, rng), _pick(sensors, rng), spine, seed)


def _pick(shares: dict[str, float], rng: np.random.Generator) -> str:
    names = sorted(shares)
    weights = np.array([shares[name] for name in names], float)
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


class FieldViews:
    """The views of one field. Each depends on the field's draw and its own number only, not on which are asked for."""

    def __init__(self, case: Case, draw: FieldDraw) -> None:
        self.case, self.draw = case, draw
        self.limits = TRAINING_RANGE if draw.suite == TRAINING else RANGES[_suite(draw.suite)]
        self._built: dict[int, SimulatedSequence] = {}

    def view(self, number: int) -> tuple[SimulatedFrame, dict[str, Any]]:
        """Frame and tags of a view; views with next to no bone, or too much covered, are drawn again.

        Raises:
            TrainingError: nothing of this case can be seen in any try.
        """
        for field_try in range(FIELD_TRIES):
            sequence = self._sequence(field_try)
            for attempt in range(TRIES):
                seen = self._seen(sequence, number, attempt)
                frame = seen.frame(7.0 + 0.01 * (number % 500))  # another time, other noise
                enough = frame.bone_pixels >= BONE_PIXELS_MIN
                if not self.draw.spine or (
                    enough and frame.visible_fraction >= 1.0 - self.limits.occlusion_max
                ):
                    return frame, {"suite": self.draw.suite, "seed": self.draw.seed, **view_tags(seen, frame)}
        text = f"{self.case.name}: no view with {BONE_PIXELS_MIN} pixels of bone in any try"
        raise TrainingError(f"{text} (suite {self.draw.suite}, seed {self.draw.seed})")

    def _sequence(self, field_try: int) -> SimulatedSequence:
        if field_try not in self._built:
            seed = self.draw.seed + RETRY_SEED * field_try
            self._built[field_try] = SimulatedSequence(
                self.case,
                SequenceSettings(
                    seed=seed,
                    scenario="still" if self.draw.spine else "empty",
                    sensor=SENSORS[self.draw.sensor],
                    field=_field_settings(self.case, self.draw.suite, seed),
                    placement=CameraPlacement(),
                    noise_factor=self._noise_factor(seed),
                ),
            )
        return self._built[field_try]

    def _noise_factor(self, seed: int) -> float:
        if self.draw.suite != TRAINING:
            return self.limits.noise_factor
        return float(np.random.default_rng((seed, 82)).uniform(0.5, 2.0))

    def _seen(self, sequence: SimulatedSequence, number: int, attempt: int) -> SimulatedSequence:
        rng = np.random.default_rng((self.draw.seed, 83, number, attempt))
        easy = attempt >= TRIES - EASY_TRIES
        limits = RANGES["easy"] if easy else self.limits
        placement = placement_within(limits, rng)
        count = 0 if easy else int(rng.integers(limits.occluders[0], limits.occluders[1] + 1))
        return sequence.seen_from(placement, tuple(draw_occluder(rng) for _ in range(count)))


def _suite(name: str) -> Any:
    if name not in SUITES:
        raise TrainingError(f"unknown suite '{name}'; one of {', '.join(KINDS)}")
    return name


def _field_settings(case: Case, suite: str, seed: int) -> FieldSettings:
    """The suite's own draw, or the training one: anything between clean and wide, and narrow, one-sided and covered."""
    if suite != TRAINING:
        return draw_field_settings(case, _suite(suite), seed)
    rng = np.random.default_rng((seed, 84))
    u = rng.uniform
    levels = case.levels
    count = int(rng.integers(min(2, len(levels)), min(5, len(levels)) + 1))
    first = int(rng.integers(0, len(levels) - count + 1))
    one_sided = u() < 0.25
    half_width = u(0.017, 0.026) if one_sided else u(0.018, 0.045)
    shift = float(rng.choice((-1.0, 1.0))) * u(0.008, 0.016) if one_sided else u(-0.006, 0.006)
    return FieldSettings(
        seed, exposed_levels=levels[first : first + count], half_width_m=half_width, shift_m=shift,
        end_margin_m=u(0.003, 0.020), wall_slope_deg=u(55, 82), fat_m=u(0.006, 0.04), cover_m=u(-0.003, 0.0018),
        lump_m=u(0.0006, 0.0026), lateral_cover_m=u(0.002, 0.015), ligament_share=u(0.0, 1.0),
        film_max_m=u(0.0, 0.003), film_bare_share=u(0.05, 0.8), retractors=bool(u() < 0.65),
    )  # fmt: skip
