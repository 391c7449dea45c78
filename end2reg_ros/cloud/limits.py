"""What of a cloud may be used: header, size, and which points count (finite, not (0, 0, 0), in range, in the crop box)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.messages import stamp_ns
from end2reg_ros.errors import CloudError
from end2reg_ros.reasons import Reason

Corner = tuple[float, float, float]
FloatVector = NDArray[np.float32]


@dataclass(frozen=True)
class CloudLimits:
    """What of a cloud may be used.

    Attributes:
        z_min: smallest depth, metres, camera optical frame.
        z_max: largest depth, metres.
        crop: (minimum, maximum) corner of a box in the camera optical frame, metres; None for no box.
        max_points: points of a message that are looked at; a larger message is thinned by a fixed stride
            before anything else is done, so that time and memory stay bounded. 1920x1080 goes through whole.
        expected_frame: the only frame_id that is taken; empty for any but an empty one.
        require_header: refuse an empty frame_id and a stamp of zero (False for files that carry neither).
    """

    z_min: float = 0.05
    z_max: float = 10.0
    crop: tuple[Corner, Corner] | None = None
    max_points: int = 2_097_152
    expected_frame: str = ""
    require_header: bool = True

    def __post_init__(self) -> None:
        if not self.z_min < self.z_max:
            raise ValueError(f"z_min {self.z_min} m must be below z_max {self.z_max} m")
        if self.max_points < 1:
            raise ValueError(f"max_points must be at least 1, not {self.max_points}")
        if self.crop is not None and not all(low < high for low, high in zip(*self.crop, strict=True)):
            raise ValueError(f"crop: minimum {self.crop[0]} must be below maximum {self.crop[1]}")


def check_header(message: Any, limits: CloudLimits) -> None:
    """Frame and stamp of a message.

    Raises:
        CloudError: ``empty_frame``, ``wrong_frame``, ``zero_stamp``.
    """
    frame = str(message.header.frame_id)
    if limits.require_header and not frame:
        raise CloudError(
            Reason.EMPTY_FRAME, "frame_id is empty: the camera's driver must name its optical frame"
        )
    if limits.expected_frame and frame != limits.expected_frame:
        raise CloudError(Reason.WRONG_FRAME, f"frame_id is '{frame}', expected '{limits.expected_frame}'")
    if limits.require_header and stamp_ns(message) == 0:
        raise CloudError(Reason.ZERO_STAMP, "stamp is zero: a pose needs the time of the image")


def grid_stride(height: int, width: int, max_points: int) -> tuple[int, int]:
    """Row and column stride, about equal, that leave at most ``max_points`` of a height x width grid."""
    share = height * width / max_points
    if share <= 1.0:
        return 1, 1
    rows_step = 1 if height == 1 else min(height, math.ceil(math.sqrt(share)))
    if math.ceil(height / rows_step) > max_points:  # a tall, narrow grid: the rows alone are too many
        rows_step = math.ceil(height / max_points)
    columns_left = max_points // math.ceil(height / rows_step)
    return rows_step, math.ceil(width / columns_left)


def select_points(
    columns: NDArray[np.float32], limits: CloudLimits
) -> tuple[NDArray[np.float32], NDArray[np.intp] | None]:
    """Valid points within the limits.

    Args:
        columns: (3, M) x, y, z in metres, camera optical frame; NaN, Inf or all zero where invalid.
        limits: range and crop box.

    Returns:
        (N, 3) points, and their (N,) indices into the M, in order, or None where all M are valid; N >= 1. The points lie
        in memory axis by axis: tests of one axis, of which cropping is made, are twice as fast so.

    Raises:
        CloudError: ``all_invalid`` (no finite point but zero), ``out_of_range`` (all beyond the limits).
    """
    x, y, z = columns
    # One pass over z drops NaN, Inf and nearly all else; only what is left pays for the other tests.
    inside = (z >= np.float32(limits.z_min)) & (z <= np.float32(limits.z_max))
    keep = None if inside.all() else np.flatnonzero(inside)
    points = columns if keep is None else columns[:, keep]
    good = np.isfinite(points[0]) & np.isfinite(points[1])
    if limits.z_min <= 0.0 <= limits.z_max:
        good &= np.isfinite(points[2]) & points.any(axis=0)
    if limits.crop is not None:
        for axis, (low, high) in enumerate(zip(*limits.crop, strict=True)):
            good &= (points[axis] >= np.float32(low)) & (points[axis] <= np.float32(high))
    if not good.all():
        keep = np.flatnonzero(good) if keep is None else keep[good]
        points = columns[:, keep]
    if points.shape[1] == 0:
        _explain_nothing_left(x, y, z, limits)
    return points.T, keep


def _explain_nothing_left(x: FloatVector, y: FloatVector, z: FloatVector, limits: CloudLimits) -> None:
    finite = np.isfinite(x) & np.isfinite(y) & np.isfinite(z) & ((x != 0) | (y != 0) | (z != 0))
    count = int(finite.sum())
    if count == 0:
        raise CloudError(Reason.ALL_INVALID, f"none of the {x.size} points is valid (all NaN, Inf or zero)")
    box = "" if limits.crop is None else " and the crop box"
    low, high = float(z[finite].min()), float(z[finite].max())
    text = (
        f"none of the {count} valid points is within z {limits.z_min:g} to {limits.z_max:g} m{box}; "
        f"their z is {low:.3g} to {high:.3g} (is this an optical frame, in metres?)"
    )
    raise CloudError(Reason.OUT_OF_RANGE, text)
