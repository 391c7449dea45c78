"""Which points of a cloud count: finite, not (0, 0, 0), in range, in the crop box."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.errors import CloudError
from end2reg_ros.reasons import Reason

FloatVector = NDArray[np.float32]


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
