"""A prior from a pose with covariance, as an ``initial_pose`` message carries it (live or recorded; no ROS needed)."""

from __future__ import annotations

from typing import Any

import numpy as np

from end2reg_ros.errors import RegistrationError
from end2reg_ros.registration.types import Prior
from end2reg_ros.se3 import from_rotation_translation, rotation_from_quaternion

UNKNOWN_STDDEV_M = 0.003
MAX_STDDEV_M = 0.01


def prior_from_pose(pose: Any, covariance: Any, source: str = "initial_pose") -> Prior:
    """Prior from a geometry_msgs/Pose-like object (position x y z in metres, orientation x y z w).

    Args:
        pose: ``T_camera_model``.
        covariance: 36 numbers, metres and radians; the first three variances give the prior's uncertainty. All zero
            means unknown: 3 mm, as for picked landmarks. More than 10 mm is searched as 10 mm.

    Raises:
        RegistrationError: numbers that are no pose.
    """
    p, q = pose.position, pose.orientation
    translation = np.array([p.x, p.y, p.z], dtype=np.float64)
    variances = np.asarray(covariance, dtype=np.float64).ravel()[[0, 7, 14]]
    if not np.isfinite(translation).all() or not np.isfinite(variances).all() or (variances < 0).any():
        raise RegistrationError("the initial pose has a position or covariance that is not a number")
    try:
        rotation = rotation_from_quaternion(np.array([q.x, q.y, q.z, q.w], dtype=np.float64))
    except ValueError as fault:
        raise RegistrationError(f"the initial pose has no orientation: {fault}") from None
    stddev = float(np.sqrt(variances.max())) or UNKNOWN_STDDEV_M
    return Prior(from_rotation_translation(rotation, translation), source, min(stddev, MAX_STDDEV_M))
