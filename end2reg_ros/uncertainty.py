"""What a pose's covariance says at a point of the spine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.se3 import apply, move_covariance

Array = NDArray[np.float64]


def unknown_covariance() -> Array:
    """(6, 6) of a pose about which nothing is known: a metre and a radian (finite, so that it can be moved)."""
    return np.eye(6)


def covariance_at(covariance: Array, T_camera_model: Array, point: Array) -> Array:
    """(6, 6) covariance of the pose about a model point (3,), from the one about the posed model origin."""
    return move_covariance(covariance, apply(T_camera_model, point) - T_camera_model[:3, 3])


def largest_stddev(covariance: Array) -> tuple[float, float]:
    """Largest standard deviation of position (metres) and of rotation (radians), over all directions."""
    position, rotation = (
        float(np.sqrt(max(np.linalg.eigvalsh(covariance[k : k + 3, k : k + 3]).max(), 0.0))) for k in (0, 3)
    )
    return position, rotation
