"""What a search from the network's poses came to: how fits compare, and what is told where there is none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.registration.classical import unguided_start
from end2reg_ros.registration.find.network_passes import NetworkPose
from end2reg_ros.registration.types import Prior, Registration

Array = NDArray[np.float64]

SEE_THROUGH = 0.04  # share of the surface before what the camera sees from which a fit counts half


def plausibility(found: Registration) -> float:
    """What fits are compared by, passed or not: points on the model that are turned as it is."""
    q = found.quality
    return q.inliers * q.normal_agreement * (0.5 if q.free_space_violation > SEE_THROUGH else 1.0)


def nothing_found(poses: Sequence[NetworkPose], prior: Prior | None, centre: Array) -> tuple[Array, str, str]:
    """Pose, code and text of a search that came to nothing."""
    if poses:
        text = f"the network's best pose has only {poses[0].inliers} correspondences"
        return poses[0].T_camera_model, "few_correspondences", text
    if prior is not None:
        return prior.T_camera_model, "no_points", "next to no points around the given start"
    T = unguided_start(centre, np.array([0.0, 0.0, 0.6]))
    return T, "no_region", "nothing in the view looks like an exposed spine"
