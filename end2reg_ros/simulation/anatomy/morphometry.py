"""Dimensions of L1-L5 and their spread, from the published literature; see docs/anatomy.md for every source.

Millimetres and degrees. Means are rounded; where sources disagree the middle of their range is taken. One person's
value is ``mean * size * (1 + cv_person * a + cv_level * b)`` with standard normal a (one a dimension, shared by the
levels) and b (one a level): a large man has large vertebrae throughout, and no two levels keep the exact proportion.
Angles get absolute spreads instead.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from end2reg_ros.simulation.anatomy.settings import LEVELS, AnatomySettings

# How far the middle of the body's back lies before its rims: the waist and the notch of the canal.
CANAL_NOTCH_MM = 2.7


@dataclass(frozen=True)
class LevelShape:
    """One vertebra's dimensions (mm, degrees).

    Attributes:
        endplate_width_upper, endplate_width_lower, endplate_depth: of the body's rims.
        body_height: at the middle; ``body_wedge_deg`` positive when the front is lower than the back.
        pedicle_width, pedicle_height: at the isthmus; ``pedicle_angle_deg`` against the sagittal plane.
        canal_width: between the pedicles; ``canal_depth`` from the body to the laminae.
        transverse_span: tip to tip. ``spinous_reach``: middle of the body to the spinous tip, front to back.
        spinous_height, spinous_thickness: of the plate near its tip; ``spinous_drop`` of the plate's middle below the
            middle of the body.
        joint_offset: half the distance of the two lower facet joints; ``joint_angle_deg`` of these facets against the
            sagittal plane. The upper ones are the neighbour's.
    """

    endplate_width_upper: float
    endplate_width_lower: float
    endplate_depth: float
    body_height: float
    body_wedge_deg: float
    pedicle_width: float
    pedicle_height: float
    pedicle_angle_deg: float
    canal_width: float
    canal_depth: float
    transverse_span: float
    transverse_height: float
    spinous_reach: float
    spinous_height: float
    spinous_thickness: float
    spinous_drop: float
    joint_offset: float
    joint_angle_deg: float

    @property
    def back_wall(self) -> float:
        """Where the rims of the body end towards the canal (y, mm)."""
        return -self.endplate_depth / 2

    @property
    def canal_roof(self) -> float:
        """Inner face of the laminae in the midline (y, mm)."""
        return self.back_wall + CANAL_NOTCH_MM - self.canal_depth


@dataclass(frozen=True)
class Dimension:
    """Means L1..L5 and spread. ``relative``: spreads are shares of the mean (lengths), else absolute (degrees)."""

    means: tuple[float, float, float, float, float]
    person: float
    level: float
    relative: bool = True


DIMENSIONS: dict[str, Dimension] = {
    # Between Panjabi et al. 1992 (EPW 41-50, EPD 33-36) and CT surfaces of adults (1 to 3 mm more).
    "endplate_width_upper": Dimension((43, 45, 47, 48.5, 50), 0.03, 0.01),
    "endplate_width_lower": Dimension((46, 48, 50, 51, 51), 0.03, 0.01),
    "endplate_depth": Dimension((34.5, 35.5, 36, 36, 35.5), 0.03, 0.01),
    # Cook and Baker 2021 (L5: 30.3 in front, 26.3 behind); Panjabi et al. 1992 (24 behind).
    "body_height": Dimension((27, 28, 28.5, 28.5, 28), 0.03, 0.012),
    # Masharawi et al. 2010, mean of women and men.
    "body_wedge_deg": Dimension((3.3, 1.6, 0.1, -1.9, -6.2), 1.0, 0.8, relative=False),
    # Zindrick et al. 1987, approximate; L5 between it (18 mm) and Cook and Baker 2021 (16 mm).
    "pedicle_width": Dimension((8.7, 8.9, 10.3, 12.9, 17.0), 0.08, 0.03),
    "pedicle_height": Dimension((15.4, 15.0, 14.9, 14.8, 14.0), 0.05, 0.02),
    "pedicle_angle_deg": Dimension((11, 12, 14.5, 18, 27), 2.0, 1.0, relative=False),
    # Panjabi et al. 1992 and Cook and Baker 2021.
    "canal_width": Dimension((22.5, 23, 23.7, 25, 27.5), 0.04, 0.015),
    "canal_depth": Dimension((17.0, 16.5, 16.3, 16.5, 17.0), 0.06, 0.02),
    # Between Panjabi et al. 1992 (71-93) and CT surfaces of adults (74-98).
    "transverse_span": Dimension((75, 83, 90, 86, 89), 0.04, 0.02),
    "transverse_height": Dimension((10, 10.5, 10.5, 10.5, 14), 0.08, 0.05),
    # Panjabi et al. 1992 (SPL 68-72 for L1-L4, less for L5).
    "spinous_reach": Dimension((66, 69, 71, 68, 61), 0.035, 0.015),
    "spinous_height": Dimension((24, 25, 25, 21.5, 16), 0.08, 0.04),
    "spinous_thickness": Dimension((7.5, 7.5, 7.5, 7.5, 7), 0.10, 0.06),
    "spinous_drop": Dimension((10, 9.5, 9, 7.5, 5.5), 0.15, 0.08),
    # Masharawi et al. 2010 (width over both facets is 0.63-0.77 of the body's).
    "joint_offset": Dimension((12.6, 12.8, 13.8, 16.5, 20), 0.04, 0.02),
    # van Schaik et al. 1985 (sagittal above, frontal at L5-S1); rounded.
    "joint_angle_deg": Dimension((26, 30, 37, 47, 52), 4.0, 2.0, relative=False),
}

# Disc heights at the middle, L1-2 .. L4-5 (Onishi et al. 2019: 9.3 and 10.9 in front at L3-4 and L4-5), and angles
# between neighbouring bodies (Troyanovich et al. 1997, standing).
DISC_HEIGHTS_MM = (7.5, 8.5, 9.0, 9.0)
DISC_ANGLES_DEG = (4.1, 7.6, 11.7, 16.8)

# A 6.5 mm screw must fit: people with thinner pedicles get thinner screws, which these cases do not plan.
MIN_PEDICLE_WIDTH_MM = 8.0


@dataclass(frozen=True)
class PersonShape:
    """All of one person: ``levels`` L1..L5, four discs (mm) and four angles (degrees, lordosis positive)."""

    levels: tuple[LevelShape, ...]
    disc_heights: tuple[float, ...]
    disc_angles_deg: tuple[float, ...]
    size: float


def draw_person(rng: np.random.Generator, settings: AnatomySettings) -> PersonShape:
    """Draw one person's dimensions. Normal draws are cut at two standard deviations: no monsters."""

    def normal() -> float:
        return float(np.clip(rng.standard_normal(), -2.0, 2.0))

    drawn_size, drawn_lordosis = 1.0 + 0.05 * normal(), 0.9 + 0.15 * normal()
    size = drawn_size if settings.size is None else settings.size
    lordosis = drawn_lordosis if settings.lordosis is None else settings.lordosis
    values: dict[str, list[float]] = {}
    for field in fields(LevelShape):
        dimension = DIMENSIONS[field.name]
        person = dimension.person * normal()
        spread = [person + dimension.level * normal() for _ in LEVELS]
        if dimension.relative:
            values[field.name] = [m * size * (1 + s) for m, s in zip(dimension.means, spread, strict=True)]
        else:
            values[field.name] = [m + s for m, s in zip(dimension.means, spread, strict=True)]
    values["pedicle_width"] = [max(w, MIN_PEDICLE_WIDTH_MM) for w in values["pedicle_width"]]
    levels = tuple(
        LevelShape(**{name: column[i] for name, column in values.items()}) for i in range(len(LEVELS))
    )
    discs = tuple(h * size * (1 + 0.08 * normal()) for h in DISC_HEIGHTS_MM)
    angles = tuple(lordosis * a + 1.0 * normal() for a in DISC_ANGLES_DEG)
    return PersonShape(levels=levels, disc_heights=discs, disc_angles_deg=angles, size=size)
