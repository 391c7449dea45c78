"""From a registration to one pose a level, with the covariance about that level's own origin. Free of ROS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.registration.types import Quality, Registration

Array = NDArray[np.float64]

# A floor of the published variances (0.1 mm, 0.05 deg): zero would tell a fusing client "exact".
FLOOR = np.diag([1e-8] * 3 + [7.6e-7] * 3)


@dataclass(frozen=True)
class LevelPose:
    """Pose of a vertebra frame in the camera frame, metres; covariance (6, 6), camera axes, about its origin."""

    level: str
    T_camera_level: Array
    covariance: Array
    quality: Quality
    held: bool


def sound_covariance(covariance: Array) -> Array:
    """(6, 6) symmetric, finite and never zero.

    Args:
        covariance: (6, 6); order x y z rx ry rz; metres and radians.
    """
    C = np.asarray(covariance, dtype=np.float64)
    if C.shape != (6, 6) or not np.isfinite(C).all():
        return np.diag([1.0] * 3 + [1.0] * 3)  # unknown: a metre, a radian
    return np.asarray((C + C.T) / 2 + FLOOR)


def level_poses(registration: Registration, case: Case) -> list[LevelPose]:
    """One pose a level, cranial to caudal: the registration's own, else that of the rigid spine."""
    own = {result.level: result for result in registration.levels}
    poses = []
    for vertebra in case.vertebrae:
        result = own.get(vertebra.level)
        if result is not None:
            covariance = sound_covariance(result.covariance)
            poses.append(
                LevelPose(result.level, result.T_camera_level, covariance, result.quality, result.held)
            )
            continue
        T = registration.T_camera_model @ vertebra.T_model_level
        offset = T[:3, 3] - registration.T_camera_model[:3, 3]
        covariance = se3.move_covariance(sound_covariance(registration.covariance), offset)
        poses.append(LevelPose(vertebra.level, T, covariance, registration.quality, held=True))
    return poses
