"""A start as surgeons give it: simulated landmark picks, registered by paired points."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.registration.find.landmarks import prior_from_landmarks
from end2reg_ros.registration.types import Prior
from end2reg_ros.simulation.picks import simulate_picks

Array = NDArray[np.float64]

# Half the extent of the picked region: turns an error of the position into one of the rotation.
LEVER_M = 0.06


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
