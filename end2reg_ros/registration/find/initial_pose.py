"""The ``initial_pose`` input: a pose with covariance, live or recorded, becomes a prior, or a refusal that says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.cloud.messages import stamp_ns
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.types import Prior

Array = NDArray[np.float64]
# T_target_source at a stamp in nanoseconds; raises LookupError with a sentence when TF does not know it.
Lookup = Callable[[str, str, int], Array]
MAX_STDDEV_M = 0.010
# No model origin lies so far from a camera; numbers beyond are millimetres.
MAX_DISTANCE_M = 50.0


class PriorRefused(Exception):
    """An initial pose that cannot be used; the text says why."""


@dataclass(frozen=True)
class PriorRules:
    """What an initial pose must keep to.

    Attributes:
        default_stddev_m: expected error at the spine of one that tells no covariance, metres.
        max_age_s: largest difference between its stamp and that of the cloud it is used with, seconds.
    """

    default_stddev_m: float = 0.003
    max_age_s: float = 10.0


@dataclass(frozen=True)
class PriorRequest:
    """A pose of the model (4, 4), metres, and its (6, 6) covariance about the model's origin (zeros: not told)."""

    frame_id: str
    stamp_ns: int
    T_frame_model: Array
    covariance: Array


def no_lookup(target: str, source: str, stamp_ns: int) -> Array:
    """Stands in for TF where tf2_ros is not installed."""
    raise LookupError("tf2_ros is not installed: send the pose in the camera's frame")


def matrix_from_pose(pose: Any) -> Array:
    """(4, 4) of a geometry_msgs/Pose, live or recorded.

    Raises:
        ValueError: a position that is not finite, or an orientation that is no quaternion.
    """
    p, q = pose.position, pose.orientation
    translation = np.array([p.x, p.y, p.z])
    if not np.isfinite(translation).all():
        raise ValueError(f"not a position: {translation}")
    rotation = se3.rotation_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
    return se3.from_rotation_translation(rotation, translation)


def request_of(message: Any) -> PriorRequest:
    """The request that a geometry_msgs/PoseWithCovarianceStamped makes.

    Raises:
        PriorRefused: its pose is none.
    """
    try:
        T = matrix_from_pose(message.pose.pose)
    except ValueError as fault:
        raise PriorRefused(str(fault)) from None
    covariance = np.asarray(message.pose.covariance, dtype=np.float64).reshape(6, 6)
    return PriorRequest(message.header.frame_id, stamp_ns(message), T, covariance)


def stddev_at_centre(request: PriorRequest, centre: Array, default_m: float) -> float:
    """Expected error at the spine, metres: root mean square over the axes of the position's standard
    deviations.

    Args:
        centre: (3,) the spine's middle in the model frame; the covariance is told about the model's origin,
            which can be far away.
        default_m: for a covariance of zeros.

    Raises:
        PriorRefused: a covariance that is none, or a pose too uncertain to start from.
    """
    covariance = request.covariance
    if not np.isfinite(covariance).all() or (np.diag(covariance) < 0).any():
        raise PriorRefused("its covariance has negative or non-finite variances")
    if not covariance.any():
        return default_m
    offset = request.T_frame_model[:3, :3] @ centre
    variance = float(np.trace(se3.move_covariance(covariance, offset)[:3, :3])) / 3
    stddev = float(np.sqrt(max(variance, 0.0)))
    if stddev > MAX_STDDEV_M:
        raise PriorRefused(
            f"it is uncertain by {1e3 * stddev:.0f} mm at the spine; a start needs {1e3 * MAX_STDDEV_M:.0f} mm or better"
        )
    return max(stddev, 1e-4)


def prior_for(
    cloud: Cloud, request: PriorRequest, centre: Array, rules: PriorRules, lookup: Lookup = no_lookup
) -> Prior:
    """The prior in the frame of the cloud.

    Args:
        cloud: the one it is to be used with; of it only frame_id and stamp are looked at.
        centre: (3,) the spine's middle in the model frame, metres.

    Raises:
        PriorRefused: an unusable covariance or position, a stamp too far from the cloud's, no way from the request's
            frame to the cloud's at that stamp.
    """
    distance = float(np.linalg.norm(request.T_frame_model[:3, 3]))
    if distance > MAX_DISTANCE_M:
        raise PriorRefused(f"it lies {distance:.0f} m away: its unit seems to be mm, metres are needed")
    stddev = stddev_at_centre(request, centre, rules.default_stddev_m)
    _check_age(cloud, request, rules.max_age_s)
    T = request.T_frame_model
    if request.frame_id != cloud.frame_id:
        T = _lookup(cloud.frame_id, request, lookup) @ T
    return Prior(T, source="initial_pose", stddev_m=stddev)


def _check_age(cloud: Cloud, request: PriorRequest, max_age_s: float) -> None:
    # Stamp zero, as tools without a clock send it, means now.
    age_s = (cloud.stamp_ns - request.stamp_ns) * 1e-9 if request.stamp_ns else 0.0
    if abs(age_s) > max_age_s:
        older = "older" if age_s > 0 else "newer"
        raise PriorRefused(
            f"its stamp is {abs(age_s):.1f} s {older} than the cloud's (limit {max_age_s:g} s)"
        )


def _lookup(frame_id: str, request: PriorRequest, lookup: Lookup) -> Array:
    """T_cloud_request at the request's stamp."""
    if not request.frame_id:
        raise PriorRefused(f"its frame_id is empty, the cloud's is '{frame_id}'")
    where = f"it is in '{request.frame_id}', the cloud in '{frame_id}'"
    if request.stamp_ns == 0:
        # TF takes zero for "the latest": where the camera was then, nobody knows.
        raise PriorRefused(f"{where}: between frames its stamp must not be zero")
    try:
        return lookup(frame_id, request.frame_id, request.stamp_ns)
    except LookupError as fault:
        raise PriorRefused(f"{where}: {fault}") from None
