"""Whether a fit may be called a pose, and the sentence that says why not."""

from __future__ import annotations

from end2reg_ros.registration.settings import AcceptSettings
from end2reg_ros.registration.types import Quality


def verdict(quality: Quality, stddev: float, accept: AcceptSettings) -> tuple[str, str]:
    """(reason code, reason) of a fit; ``ok`` when it passes every limit. ``stddev``: of the position, metres."""
    q = quality
    if q.inliers < accept.min_inliers:
        return "few_inliers", f"{q.inliers} points on the model, {accept.min_inliers} needed"
    if q.visible_fraction < accept.min_visible_fraction:
        return (
            "covered",
            f"{100 * q.visible_fraction:.0f} % of the surface is in view, {100 * accept.min_visible_fraction:.0f} % needed",
        )
    if q.free_space_violation > accept.max_free_space_violation:
        return "see_through", (
            f"the camera sees through {100 * q.free_space_violation:.0f} % of the posed bone "
            f"(limit {100 * accept.max_free_space_violation:.0f} %)"
        )
    if q.inlier_ratio < accept.min_inlier_ratio:
        return "low_inlier_ratio", f"inlier ratio {q.inlier_ratio:.2f} below {accept.min_inlier_ratio:.2f}"
    if q.normal_agreement < accept.min_normal_agreement:
        return "normals_disagree", (
            f"{100 * q.normal_agreement:.0f} % of the points on the model are turned as it is, "
            f"{100 * accept.min_normal_agreement:.0f} % needed"
        )
    if q.residual_rmse_m > accept.max_residual_rmse_m:
        return "high_residual", (
            f"residual {1000 * q.residual_rmse_m:.2f} mm above {1000 * accept.max_residual_rmse_m:.2f} mm"
        )
    if stddev > accept.max_position_stddev_m:
        return (
            "uncertain",
            f"position uncertain by {1000 * stddev:.1f} mm (limit {1000 * accept.max_position_stddev_m:.1f} mm)",
        )
    return "ok", "registered"
