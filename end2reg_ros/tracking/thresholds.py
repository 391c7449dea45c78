"""Whether a fit that passed the registration's limits passes the tracker's own, stricter ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.registration.types import Registration
from end2reg_ros.tracking.settings import UpperThresholds
from end2reg_ros.uncertainty import covariance_at, largest_stddev


def shortfall(registration: Registration, upper: UpperThresholds, centre: NDArray[np.float64]) -> str | None:
    """What keeps a fit below the upper thresholds; None when nothing does.

    Args:
        registration: a successful one.
        upper: the thresholds.
        centre: (3,) the spine's middle, model frame, metres: there its uncertainty is judged.
    """
    q = registration.quality
    stddev, _ = largest_stddev(covariance_at(registration.covariance, registration.T_camera_model, centre))
    if q.inlier_ratio < upper.min_inlier_ratio:
        return f"inlier ratio {q.inlier_ratio:.2f} below {upper.min_inlier_ratio:.2f}"
    if q.free_space_violation > upper.max_free_space_violation:
        return f"{100 * q.free_space_violation:.0f} % of the posed bone is seen through"
    if q.normal_agreement < upper.min_normal_agreement:
        return f"{100 * q.normal_agreement:.0f} % of the points on the model are turned as it is"
    if q.visible_fraction < upper.min_visible_fraction:
        return f"{100 * q.visible_fraction:.0f} % of the surface is in view"
    if stddev > upper.max_position_stddev_m:
        return f"position uncertain by {1000 * stddev:.1f} mm"
    return None
