"""How far the levels of a spine may move by themselves, and how they hang together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# A running track, a start, a start of a spine whose vertebrae may stand far from where they are looked for.
Way = Literal["following", "start", "bent"]


@dataclass(frozen=True)
class ArticulationSettings:
    """How the levels are held to one another. Metres, degrees.

    Attributes:
        loose_turn_stddev_deg, loose_shift_stddev: motion between neighbours against the CT that is allowed for at first.
        turn_stddev_deg, shift_stddev: motion from which the springs give way in the end (Cauchy, at what the loose springs
            let happen): most segments stand as in the CT, and those that do not may have moved by much more, up to 8
            degrees and 4 mm.
        doubt: how much of the stated variance of that motion speaks against it: variances are stated with a margin.
        step_turn_deg, step_shift: motion between neighbours from one frame of a track to the next. Where the points tell
            much it is taken up within two frames; where an instrument covers most of a level, that level stays as it was.
        point_stddev: error of one scene point, metres; ``correlation_points`` of them share one.
        min_level_points: scene points on a level's surface from which they have a say in its pose.
        iterations: of each way, look-ups with loose springs; one with the final ones follows.
        bent_gates: as ``RefineSettings.gates``, where levels may lie far from where they are looked for.
    """

    loose_turn_stddev_deg: float = 5.0
    loose_shift_stddev: float = 0.003
    turn_stddev_deg: float = 0.8
    shift_stddev: float = 0.0004
    doubt: float = 0.25
    step_turn_deg: float = 0.6
    step_shift: float = 0.0003
    point_stddev: float = 0.0008
    correlation_points: float = 12.0
    min_level_points: int = 60
    iterations: Mapping[Way, int] = field(
        default_factory=lambda: MappingProxyType({"following": 1, "start": 2, "bent": 9})
    )
    bent_gates: tuple[float, ...] = (0.006, 0.006, 0.005, 0.005, 0.004, 0.004, 0.003)

    def step_variance(self) -> Array:
        """(6,) of a segment's motion from frame to frame, shifts first."""
        return np.repeat([self.step_shift, np.radians(self.step_turn_deg)], 3) ** 2


@dataclass(frozen=True)
class Skeleton:
    """What holds the levels together: centres of the levels (K, 3) and of the segments between them (K-1, 3), model frame."""

    level_centres: Array
    segment_centres: Array
