"""Settings of the surgical field, with units, and the three kinds of them: easy, standard, hard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from end2reg_ros.case.model import Case

Suite = Literal["easy", "standard", "hard"]
SUITES: tuple[Suite, ...] = get_args(Suite)


@dataclass(frozen=True)
class FieldSettings:
    """One surgical field; everything random in it follows from ``seed``.

    Attributes:
        seed: of shape noise and colours.
        spine: False for a field that was never opened: skin and drapes only, no bone anywhere.
        exposed_levels: levels laid open, or None for all of the case; a gap between them is laid open too.
        half_width_m: from the midline to the foot of the wound wall, lateral (20-45 mm in surgery).
        shift_m: the opening's offset from the midline, + to the patient's right; one-sided approaches.
        end_margin_m: how far the wound goes past the first and last exposed level.
        wall_slope_deg: steepness of the wound walls.
        fat_m: skin and fat over the spinous tips.
        cover_m: mean height of the tissue floor over the laminae: negative lays them barer.
        lump_m: standard deviation of the floor's lumps.
        lateral_cover_m: how much higher the muscle stands at the wall than at the midline.
        ligament_share: share of the gaps between spinous processes that keep their ligament.
        film_max_m: thickest soft-tissue film left on the bone: the mismatch between CT and what is seen.
        film_bare_share: share of the bone with no film at all.
        retractors: metal blades at the walls.
    """

    seed: int = 0
    spine: bool = True
    exposed_levels: tuple[str, ...] | None = None
    half_width_m: float = 0.030
    shift_m: float = 0.0
    end_margin_m: float = 0.012
    wall_slope_deg: float = 72.0
    fat_m: float = 0.016
    cover_m: float = -0.0005
    lump_m: float = 0.0014
    lateral_cover_m: float = 0.009
    ligament_share: float = 0.6
    film_max_m: float = 0.001
    film_bare_share: float = 0.35
    retractors: bool = True


def draw_field_settings(case: Case, suite: Suite, seed: int) -> FieldSettings:
    """A random field of a suite.

    easy: everything open, wide and clean. standard: all levels, film up to 1 mm. hard: 1-4 neighbouring levels, narrow,
    off the midline, film up to 3 mm, much tissue left.
    """
    rng = np.random.default_rng((seed, 1))
    u = rng.uniform
    if suite == "easy":
        return FieldSettings(
            seed, half_width_m=u(0.032, 0.045), wall_slope_deg=u(62, 76), fat_m=u(0.008, 0.022),
            cover_m=u(-0.0025, -0.001), lump_m=u(0.0008, 0.0014), lateral_cover_m=u(0.003, 0.008),
            ligament_share=u(0.2, 0.7), film_max_m=u(0.0, 0.0005), retractors=bool(u() < 0.6),
        )  # fmt: skip
    if suite == "standard":
        return FieldSettings(
            seed, half_width_m=u(0.025, 0.040), wall_slope_deg=u(66, 78), fat_m=u(0.008, 0.03),
            cover_m=u(-0.0018, 0.0005), lump_m=u(0.001, 0.0018), lateral_cover_m=u(0.005, 0.012),
            ligament_share=u(0.3, 0.9), film_max_m=u(0.0004, 0.001), retractors=bool(u() < 0.7),
        )  # fmt: skip
    levels = case.levels
    count = int(rng.integers(1, min(4, len(levels)) + 1))
    first = int(rng.integers(0, len(levels) - count + 1))
    return FieldSettings(
        seed, exposed_levels=levels[first : first + count], half_width_m=u(0.020, 0.032), shift_m=u(-0.009, 0.009),
        end_margin_m=u(0.004, 0.016), wall_slope_deg=u(66, 80), fat_m=u(0.01, 0.035), cover_m=u(-0.0015, 0.0015),
        lump_m=u(0.0012, 0.0022), lateral_cover_m=u(0.006, 0.014), ligament_share=u(0.3, 1.0),
        film_max_m=u(0.001, 0.003), film_bare_share=u(0.05, 0.4), retractors=bool(u() < 0.8),
    )  # fmt: skip
