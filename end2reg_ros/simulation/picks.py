"""A simulated surgeon who picks landmarks on the patient with a tracked pointer: truth plus a known error."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.simulation.surfaces import Array

PICK_RMS_M = 0.003


def simulate_picks(
    case: Case,
    T_camera_model: Array,
    seed: int,
    rms_m: float = PICK_RMS_M,
    levels: tuple[str, ...] | None = None,
    T_camera_levels: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Picked landmarks of each level, camera frame.

    Args:
        T_camera_model: (4, 4) truth.
        rms_m: root mean square of the 3-D distance between pick and landmark: each axis gets N(0, rms / sqrt(3)).
        levels: only these; all that have landmarks when None.
        T_camera_levels: truth of each vertebra frame, where the vertebrae have moved against each other.
    Returns:
        level -> (3, 3) metres: spinous, transverse left, transverse right.
    """
    picks: dict[str, Array] = {}
    for number, vertebra in enumerate(case.vertebrae):
        if vertebra.landmarks is None or (levels is not None and vertebra.level not in levels):
            continue
        # One generator a level: leaving a level out does not change the others' picks.
        rng = np.random.default_rng((seed, 61, number))
        error = rng.normal(0.0, rms_m / np.sqrt(3.0), size=(3, 3))
        T = T_camera_model
        if T_camera_levels is not None:
            T = T_camera_levels[vertebra.level] @ se3.inverse(vertebra.T_model_level)
        picks[vertebra.level] = se3.apply(T, vertebra.landmarks.as_array()) + error
    return picks
