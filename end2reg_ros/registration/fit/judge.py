"""A fit becomes a registration: figures, whether it may be called a pose and why not, and the pose of each vertebra."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.reasons import Reason
from end2reg_ros.registration.fit.fitting import Fit, Region
from end2reg_ros.registration.fit.posture import implausible_segment, segment_centres
from end2reg_ros.registration.fit.quality import Agreement, quality_of, quality_of_counts
from end2reg_ros.registration.fit.surface import LEVEL, ModelSurface
from end2reg_ros.registration.settings import AcceptSettings, QualityLimits, RegistrationSettings
from end2reg_ros.registration.types import LazyIndices, LevelResult, Quality, Registration
from end2reg_ros.se3 import covariance_at, inverse, largest_stddev
from end2reg_ros.se3_batch import in_columns, moved

Array = NDArray[np.float64]

HELD_BELOW_SUPPORT = 20  # samples 3 mm apart: less than about 2 square centimetres of a level seen
JUDGED_SAMPLES = 40  # of a level, neither covered nor without data: enough to judge that level by itself


class Judge:
    """Judges fits of one case."""

    def __init__(
        self, case: Case, surface: ModelSurface, centre: Array, settings: RegistrationSettings
    ) -> None:
        self.case, self.surface, self.centre, self.settings = case, surface, centre, settings
        self._segments = segment_centres(case)

    def __call__(self, fit: Fit, region: Region, method: str, continues: bool) -> Registration:
        """Quality, verdict and per-level results of a refined pose; ``continues``: it goes on with a track."""
        refined, accept = fit.refined, self.settings.accept
        inliers = int(refined.inliers.sum())
        quality = quality_of(fit.agreement, refined, inliers, len(region.points))
        at_centre = covariance_at(refined.covariance, refined.T_camera_model, self.centre)
        stddevs = largest_stddev(at_centre)
        code, reason = acceptance(quality, stddevs[0], accept)
        if code == Reason.OK:
            limit = accept.min_level_inlier_ratio_following if continues else accept.min_level_inlier_ratio
            code, reason = self.level_verdict(fit.agreement, limit)
        if code == Reason.OK and fit.posture is not None:
            bend = implausible_segment(fit.posture, self.case, self._segments)
            code, reason = (code, reason) if bend is None else (Reason.IMPLAUSIBLE_POSTURE, bend)
        return Registration(
            T_camera_model=refined.T_camera_model,
            success=code == Reason.OK,
            reason_code=code,
            reason=reason,
            quality=quality,
            covariance=refined.covariance,
            method=method,
            engine="",
            position_stddev_m=stddevs[0],
            rotation_stddev_rad=stddevs[1],
            levels=self.levels(fit, inliers),
            used=LazyIndices(lambda: self.on_bone(fit, region)),
            posture=fit.posture,
        )

    def on_bone(self, fit: Fit, region: Region) -> NDArray[np.int64]:
        """(M,) indices of the cloud's points within the last gate of the posed surface, at the sensor's resolution."""
        local = moved(inverse(fit.refined.T_camera_model), in_columns(region.scene.dense))
        gate = self.settings.refine.gates[-1]
        if fit.posture is None:
            near = self.surface.look_up(local, gate).found
        else:
            near = np.zeros(len(region.scene.dense), dtype=bool)
            for k, motion in enumerate(fit.posture.motions):
                looked = self.surface.look_up(moved(inverse(motion), local), gate)
                near |= looked.found & (looked.rows[:, LEVEL] == k)
        return region.scene.index[near]

    def by_level(self, found: Agreement, flags: NDArray[np.bool_]) -> list[int]:
        """How many of the flags (M,) are set on each level."""
        levels = self.surface.level_index[found.samples[flags]]
        return np.bincount(levels, minlength=len(self.case.vertebrae)).tolist()

    def level_verdict(self, found: Agreement, limit: float) -> tuple[str, str]:
        """(reason code, reason): the first level whose own surface speaks against the pose, else ``ok``."""
        counts = zip(
            *(self.by_level(found, flags) for flags in (found.supported, found.violated)), strict=True
        )
        for vertebra, (supported, violated) in zip(self.case.vertebrae, counts, strict=True):
            if supported + violated >= JUDGED_SAMPLES and supported < limit * (supported + violated):
                ratio = supported / (supported + violated)
                return Reason.LEVEL_DISAGREES, f"{vertebra.level}: inlier ratio {ratio:.2f} below {limit:.2f}"
        return Reason.OK, "registered"

    def levels(self, fit: Fit, inliers: int) -> tuple[LevelResult, ...]:
        """Pose, covariance and quality of each vertebra."""
        T, found = fit.refined.T_camera_model, fit.agreement
        everything = np.ones(len(found.samples), dtype=bool)
        totals, supports, violations = (
            self.by_level(found, flags) for flags in (everything, found.supported, found.violated)
        )
        results = []
        for k, vertebra in enumerate(self.case.vertebrae):
            T_camera_rest = T if fit.posture is None else fit.posture.level_pose(T, k)
            counts = totals[k], supports[k], violations[k]
            quality = quality_of_counts(*counts, fit.refined, supports[k], max(inliers, 1))
            held = supports[k] < HELD_BELOW_SUPPORT
            if fit.level_covariances is None or fit.level_points is None:
                covariance = covariance_at(fit.refined.covariance, T, vertebra.T_model_level[:3, 3])
            else:
                covariance = fit.level_covariances[k]
                assert self.settings.articulation is not None
                held |= int(fit.level_points[k]) < self.settings.articulation.min_level_points
            T_level = T_camera_rest @ vertebra.T_model_level
            results.append(LevelResult(vertebra.level, T_level, covariance, quality, held))
        return tuple(results)


def acceptance(quality: Quality, position_stddev_m: float, accept: AcceptSettings) -> tuple[str, str]:
    """(reason code, reason) of a fit as a whole: ``ok`` when it passes every limit below which nothing is a pose."""
    if quality.inliers < accept.min_inliers:
        return Reason.FEW_INLIERS, f"{quality.inliers} points on the model, {accept.min_inliers} needed"
    short = shortfall(quality, position_stddev_m, accept)
    if short is not None:
        return short
    if quality.residual_rmse_m > accept.max_residual_rmse_m:
        limit_mm = 1000 * accept.max_residual_rmse_m
        return (
            Reason.HIGH_RESIDUAL,
            f"residual {1000 * quality.residual_rmse_m:.2f} mm above {limit_mm:.2f} mm",
        )
    return Reason.OK, "registered"


def shortfall(quality: Quality, position_stddev_m: float, limits: QualityLimits) -> tuple[str, str] | None:
    """(reason code, reason) of the first limit that a fit does not reach; None when it reaches all.

    The registration asks with the limits below which nothing is a pose, the tracker with those of a good one.
    """
    q = quality
    if q.visible_fraction < limits.min_visible_fraction:
        least = 100 * limits.min_visible_fraction
        return (
            Reason.COVERED,
            f"{100 * q.visible_fraction:.0f} % of the surface is in view, {least:.0f} % needed",
        )
    if q.free_space_violation > limits.max_free_space_violation:
        most = 100 * limits.max_free_space_violation
        share = 100 * q.free_space_violation
        return (
            Reason.SEE_THROUGH,
            f"the camera sees through {share:.0f} % of the posed bone (limit {most:.0f} %)",
        )
    if q.inlier_ratio < limits.min_inlier_ratio:
        return (
            Reason.LOW_INLIER_RATIO,
            f"inlier ratio {q.inlier_ratio:.2f} below {limits.min_inlier_ratio:.2f}",
        )
    if q.normal_agreement < limits.min_normal_agreement:
        share, least = 100 * q.normal_agreement, 100 * limits.min_normal_agreement
        text = f"{share:.0f} % of the points on the model are turned as it is, {least:.0f} % needed"
        return Reason.NORMALS_DISAGREE, text
    if position_stddev_m > limits.max_position_stddev_m:
        most = 1000 * limits.max_position_stddev_m
        return (
            Reason.UNCERTAIN,
            f"position uncertain by {1000 * position_stddev_m:.1f} mm (limit {most:.1f} mm)",
        )
    return None
