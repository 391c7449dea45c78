"""A fit becomes a registration: figures, verdict, and the pose of each vertebra."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.registration.fit.fitting import Fit
from end2reg_ros.registration.fit.posture import implausible_segment, segment_centres
from end2reg_ros.registration.fit.quality import Agreement, quality_of, quality_of_counts
from end2reg_ros.registration.fit.region import Region
from end2reg_ros.registration.fit.surface import LEVEL, ModelSurface
from end2reg_ros.registration.fit.verdict import verdict
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.registration.types import Later, LevelResult, Registration
from end2reg_ros.se3 import inverse
from end2reg_ros.se3_batch import in_columns, moved
from end2reg_ros.uncertainty import covariance_at, largest_stddev

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
        code, reason = verdict(quality, largest_stddev(at_centre)[0], accept)
        if code == "ok":
            limit = accept.min_level_inlier_ratio_following if continues else accept.min_level_inlier_ratio
            code, reason = self.level_verdict(fit.agreement, limit)
        if code == "ok" and fit.posture is not None:
            bend = implausible_segment(fit.posture, self.case, self._segments)
            code, reason = (code, reason) if bend is None else ("implausible_posture", bend)
        return Registration(
            T_camera_model=refined.T_camera_model,
            success=code == "ok",
            reason_code=code,
            reason=reason,
            quality=quality,
            covariance=refined.covariance,
            method=method,
            engine="",
            levels=self.levels(fit, inliers),
            used=Later(lambda: self.on_bone(fit, region)),
            posture=fit.posture,
        )

    def on_bone(self, fit: Fit, region: Region) -> NDArray[np.int64]:
        """(M,) indices of the cloud's points within the last gate of the posed surface, at the sensor's resolution."""
        local = moved(inverse(fit.refined.T_camera_model), in_columns(region.dense))
        gate = self.settings.refine.gates[-1]
        if fit.posture is None:
            near = self.surface.look_up(local, gate).found
        else:
            near = np.zeros(len(region.dense), dtype=bool)
            for k, motion in enumerate(fit.posture.motions):
                looked = self.surface.look_up(moved(inverse(motion), local), gate)
                near |= looked.found & (looked.rows[:, LEVEL] == k)
        return region.index[near]

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
                return "level_disagrees", f"{vertebra.level}: inlier ratio {ratio:.2f} below {limit:.2f}"
        return "ok", "registered"

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
