"""A simulated surgeon who picks landmarks on the patient with a tracked pointer: truth plus a known error, and the start
that they give."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.registration.find.landmarks import prior_from_landmarks
from end2reg_ros.registration.types import Prior
from end2reg_ros.simulation.field.surfaces import Array

PICK_RMS_M = 0.003
# Half the extent of the picked region: turns an error of the position into one of the rotation.
LEVER_M = 0.06


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


def picked_prior(
    case: Case,
    T_camera_model: Array,
    seed: int,
    rms_m: float,
    T_camera_levels: Mapping[str, Array] | None = None,
) -> Prior:
    """The prior of one round of picks on all levels that have landmarks.

    Args:
        T_camera_model: (4, 4) truth, metres.
        rms_m: root mean square distance of a pick from its landmark, metres.
        T_camera_levels: truth of each vertebra frame, where the vertebrae have moved against each other.

    Raises:
        RegistrationError: fewer than three landmarks in the case.
    """
    picks = simulate_picks(case, T_camera_model, seed, rms_m, T_camera_levels=T_camera_levels)
    model = {v.level: v.landmarks.as_array() for v in case.vertebrae if v.landmarks is not None}
    none = np.zeros((0, 3))
    picked = np.concatenate([picks[level] for level in picks] or [none])
    return prior_from_landmarks(picked, np.concatenate([model[level] for level in picks] or [none]))


def prior_covariance(prior: Prior, centre: Array) -> Array:
    """(6, 6) about the model's origin, camera axes, such that the position's error at the spine is the
    prior's.

    Args:
        centre: (3,) the spine's middle in the model frame, metres.
    """
    variance = prior.stddev_m**2
    at_centre = np.diag([variance] * 3 + [variance / LEVER_M**2] * 3)
    return se3.move_covariance(at_centre, -prior.T_camera_model[:3, :3] @ centre)
