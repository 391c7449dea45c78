"""Refinement against one case: crop, refine, judge. Every method that refines rests on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.reasons import Reason
from end2reg_ros.registration.fit.fitting import Fitter, Region
from end2reg_ros.registration.fit.judge import Judge
from end2reg_ros.registration.fit.matching import ScenePoints
from end2reg_ros.registration.fit.posture import Posture
from end2reg_ros.registration.fit.surface import ModelSurface
from end2reg_ros.registration.fit.surface_build import model_surface
from end2reg_ros.registration.scene import Box, Scene, crop
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.registration.types import Prior, Quality, Registration, Stopwatch
from end2reg_ros.se3 import apply, unknown_covariance

Array = NDArray[np.float64]


class LocalRegistration:
    """What the fits of one case share. Built once; it holds no state between clouds."""

    def __init__(self, case: Case, settings: RegistrationSettings) -> None:
        self.case = case
        self.settings = settings
        self.surface: ModelSurface = model_surface(case)
        self.box = Box(self.surface.points.min(axis=0), self.surface.points.max(axis=0))
        self.centre = (self.box.low + self.box.high) / 2
        self.origins = np.stack([v.T_model_level[:3, 3] for v in case.vertebrae])
        self.judge = Judge(case, self.surface, self.centre, settings)
        self.fitter = Fitter(case, self.surface, settings)

    def crop(
        self, cloud: Cloud, T_camera_model: Array, posture: Posture | None, margin: float = 0.0
    ) -> Scene:
        """The cloud around a posed model: ``margin`` (metres) further than the settings say, and as far as a posture moves it."""
        wide = self.settings.crop_margin + margin + self.fitter.reach(posture)
        return crop(cloud, T_camera_model, self.box, wide, self.settings.voxel, self.settings.threads)

    def near_surface(self, scene: Scene, posture: Posture | None, margin: float = 0.0) -> Region:
        """The scene with those of its thinned points that are registered: near the surface, and ``margin`` (metres) further."""
        rows = scene.near(self.surface.near, self.settings.near + margin + self.fitter.reach(posture))
        return Region(scene, ScenePoints.of(scene.thin, rows))

    def follow(self, scene: Scene, expected: Prior, method: str) -> Registration:
        """The next pose of a track, refined from where it is expected: the spine, then every level; judged.

        Args:
            scene: of ``crop`` around the expected pose.
            expected: pose, its standard deviation, and how the vertebrae stood to one another.
            method: name reported.
        """
        T, posture = expected.T_camera_model, expected.posture
        region = self.near_surface(scene, posture)
        if self.is_empty(region):
            return self.no_points(T, region, method)
        fit = self.fitter.fit(region, T, posture, "following")
        found = self.judge(fit, region, method, continues=True)
        return self.within(self.reach_of(expected.stddev_m), expected, found)

    def is_empty(self, region: Region) -> bool:
        """Whether too few points lie near the model to say anything."""
        return len(region.points) < self.settings.accept.min_inliers

    def no_points(
        self, T: Array, region: Region, method: str, clock: Stopwatch | None = None
    ) -> Registration:
        """What a fit to next to nothing came to."""
        text = f"only {len(region.points)} points near the model"
        return self.failed(T, Reason.NO_POINTS, text, method, clock)

    def reach_of(self, stddev_m: float) -> float:
        """How far, in metres, a vertebra may lie from where a pose of this standard deviation puts it."""
        return self.settings.prior_move_m + self.settings.prior_move_stddevs * stddev_m

    def within(self, limit_m: float, prior: Prior, found: Registration) -> Registration:
        """A registration, refused where any vertebra lies further from the prior than the prior can be wrong."""
        if not found.success:
            return found
        moved = self.moved(prior.T_camera_model, found.T_camera_model)
        if moved <= limit_m:
            return found
        reason = f"a vertebra lies {1000 * moved:.0f} mm from the prior (limit {1000 * limit_m:.0f} mm)"
        return found.refused(Reason.FAR_FROM_PRIOR, reason)

    def moved(self, T_from: Array, T_to: Array) -> float:
        """Largest distance, in metres, between a vertebra's origin under one pose and under another."""
        return float(np.linalg.norm(apply(T_to, self.origins) - apply(T_from, self.origins), axis=1).max())

    def failed(
        self, T: Array, code: str, reason: str, method: str, clock: Stopwatch | None = None
    ) -> Registration:
        """A registration that came to nothing."""
        laps = clock.laps if clock is not None else {}
        return Registration(T, False, code, reason, Quality(), unknown_covariance(), method, "", laps)
