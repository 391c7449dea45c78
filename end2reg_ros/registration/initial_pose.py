"""The ``initial_pose`` input: a pose with covariance, live or recorded, becomes a prior, or a refusal that says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.registration.types import Prior

Array = NDArray[np.float64]
# T_target_source at a stamp in nanoseconds; raises LookupError with a sentence when TF does not know it.
Lookup = Callable[[str, str, int], Array]
MAX_STDDEV_M = 0.010


class PriorRefused(Exception):
    """An initial pose that cannot be used; the text says why."""


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


def prior_for(frame_id: str, request: PriorRequest, centre: Array, default_m: float, lookup: Lookup) -> Prior:
    """The prior in the frame of the cloud.

    Raises:
        PriorRefused: no way from the request's frame to the cloud's at that stamp, or an unusable covariance.
    """
    stddev = stddev_at_centre(request, centre, default_m)
    T = request.T_frame_model
    if request.frame_id != frame_id:
        if not request.frame_id:
            raise PriorRefused(f"its frame_id is empty, the cloud's is '{frame_id}'")
        try:
            T = lookup(frame_id, request.frame_id, request.stamp_ns) @ T
        except LookupError as fault:
            raise PriorRefused(f"it is in '{request.frame_id}', the cloud in '{frame_id}': {fault}") from None
    return Prior(T, source="initial_pose", stddev_m=stddev)
