"""From one or several starts to one judged pose: crop, thin, refine, judge. Shared by every method that refines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.fit.fitting import Fit, Fitter
from end2reg_ros.registration.fit.judge import Judge
from end2reg_ros.registration.fit.matching import NormalsOnDemand
from end2reg_ros.registration.fit.posture import Posture
from end2reg_ros.registration.fit.quality import agreement, quality_of
from end2reg_ros.registration.fit.refine import refine
from end2reg_ros.registration.fit.region import Box, Region, ThinSettings, crop, make_region
from end2reg_ros.registration.fit.rivals import SAME_FIT_M, neighbouring_poses, threatens
from end2reg_ros.registration.fit.surface import ModelSurface
from end2reg_ros.registration.fit.surface_cache import model_surface
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.registration.stopwatch import Stopwatch
from end2reg_ros.registration.types import Quality, Registration
from end2reg_ros.se3 import apply, from_rotation_translation, rotation_from_vector
from end2reg_ros.uncertainty import unknown_covariance

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FitRequest:
    """Where a fit begins and how it is judged.

    Attributes:
        starts: (4, 4) each, T_camera_model; at least one.
        method: name reported.
        margin: how far (metres) the starts may lie from the truth; widens the crop.
        around: pose that the cloud is cropped around; the first start when None.
        continues: the fit continues a track (see ``Prior``).
        posture: how the vertebrae stand; None: as in the CT.
        bent: the vertebrae may stand far from ``posture``: they are looked for one from the other.
    """

    starts: Sequence[Array]
    method: str
    margin: float = 0.0
    around: Array | None = None
    continues: bool = False
    posture: Posture | None = None
    bent: bool = False


BENT_MARGIN_M = 0.008  # how much further than the start's error a level of a bent spine may lie


class LocalRegistration:
    """Refinement against one case. Built once; ``fit`` holds no state between clouds."""

    def __init__(self, case: Case, settings: RegistrationSettings) -> None:
        self.case = case
        self.settings = settings
        self.surface: ModelSurface = model_surface(case)
        self.box = Box(self.surface.points.min(axis=0), self.surface.points.max(axis=0))
        self.centre = (self.box.low + self.box.high) / 2
        self.origins = np.stack([v.T_model_level[:3, 3] for v in case.vertebrae])
        self.judge = Judge(case, self.surface, self.centre, settings)
        self.fitter = Fitter(case, self.surface, settings)

    def fit(self, cloud: Cloud, request: FitRequest) -> Registration:
        """Refine every start, keep the best by score, judge it; hold a start's result against the neighbouring levels."""
        clock = Stopwatch()
        accept, starts = self.settings.accept, request.starts
        around = starts[0] if request.around is None else request.around
        margin = (
            request.margin + (BENT_MARGIN_M if request.bent else 0.0) + self.fitter.reach(request.posture)
        )
        region = self.region(cloud, around, margin, clock)
        if len(region.points) < accept.min_inliers:
            text = f"only {len(region.points)} points near the model"
            return self.failed(starts[0], "no_points", text, request.method, clock)
        best = self.best_start(region, starts, request.posture)
        rigid = not request.continues and not request.bent
        fit = self.begun(region, best, request)
        clock.lap("refine")
        registration = self.judge(fit, region, request.method, request.continues)
        clock.lap("quality")
        if registration.success and not request.continues:
            rival = self.rival_of(cloud, fit, request)
            clock.lap("rivals")
            if rival is not None:
                registration = replace(
                    registration, success=False, reason_code="ambiguous_level", reason=rival
                )
        if registration.success and rigid and self.fitter.articulation is not None:
            # Judged as one body first: levels that may move fit a wrong place better, too.
            T = registration.T_camera_model
            fit = self.fitter.fit(region, T, request.posture, "start")
            loose = self.judge(fit, region, request.method, continues=True)
            registration = loose if loose.success else registration
            clock.lap("levels")
        return replace(registration, timings_ms=clock.laps)

    def begun(self, region: Region, start: Array, request: FitRequest) -> Fit:
        """The fit that a request asks for, from one start."""
        if request.bent:
            return self.fitter.bent(region, start, request.posture)
        if request.continues:
            return self.fitter.fit(region, start, request.posture, "following")
        return self.fitter.rigid(region, start, request.posture)

    def region(self, cloud: Cloud, around: Array, margin: float, clock: Stopwatch) -> Region:
        """The scene points within ``margin`` metres (and a little) of a posed model."""
        cropped = crop(cloud.points, around, self.box, self.settings.crop_margin + margin)
        near = self.surface.near(cropped.local) < self.settings.near + margin
        clock.lap("crop")
        thin = ThinSettings(self.settings.voxel, threads=self.settings.threads)
        region = make_region(cropped, near, thin)
        clock.lap("thin")
        return region

    def rival_of(self, cloud: Cloud, fit: Fit, request: FitRequest) -> str | None:
        """What speaks for the spine being one level higher or lower than this fit; None when nothing does.

        A slip by one level fits well where few levels are seen. The right fit beats its neighbours clearly; a slipped one
        does not, for the right one is among them.
        """
        mine = fit.refined
        levels = self.surface.level_index[fit.agreement.samples[fit.agreement.supported]]
        support = np.bincount(levels, minlength=len(self.case.vertebrae))
        for name, start in neighbouring_poses(self.case, mine.T_camera_model, support):
            region = self.region(cloud, start, BENT_MARGIN_M if request.bent else 0.0, Stopwatch())
            if len(region.points) < self.settings.accept.min_inliers:
                continue
            # What the fit was free to do, its rivals are.
            other = self.begun(region, start, request)
            rival = other.refined
            if self.moved(mine.T_camera_model, rival.T_camera_model) < SAME_FIT_M:
                continue
            quality = quality_of(other.agreement, rival, int(rival.inliers.sum()), len(region.points))
            if threatens(mine, rival, quality):
                return f"one level {name} fits nearly as well: this may be another level"
        return None

    def best_start(self, region: Region, starts: Sequence[Array], posture: Posture | None) -> Array:
        """The start whose short refinement on a third of the points scores best."""
        if len(starts) == 1:
            return starts[0]
        points, normals = region.points[::3], NormalsOnDemand(region.thin, 3)
        short = replace(self.settings.refine, max_iterations=4, outside_iterations=0)
        fits = []
        matcher = self.fitter.matcher(posture)
        for start in starts:
            refined = refine(points, normals, self.surface, start, short, matcher)
            fits.append(Fit(refined, agreement(self.surface, refined.T_camera_model, region, posture)))
        return max(fits, key=lambda fit: fit.score).refined.T_camera_model

    def moved(self, T_from: Array, T_to: Array) -> float:
        """Largest distance, in metres, between a vertebra's origin under one pose and under another."""
        return float(np.linalg.norm(apply(T_to, self.origins) - apply(T_from, self.origins), axis=1).max())

    def failed(
        self, T: Array, code: str, reason: str, method: str, clock: Stopwatch | None = None
    ) -> Registration:
        """A registration that came to nothing."""
        laps = clock.laps if clock is not None else {}
        return Registration(T, False, code, reason, Quality(), unknown_covariance(), method, "", laps)

    def lattice(self, T_camera_model: Array, reach: float) -> list[Array]:
        """The pose itself and 18 neighbours: shifted by ``reach`` metres and turned so that the ends move as far."""
        half_length = float(np.max(self.box.high - self.box.low)) / 2
        angle = reach / half_length
        starts = [T_camera_model]
        for axis in range(3):
            for sign in (-1.0, 1.0):
                shift = np.zeros(3)
                shift[axis] = sign * reach
                turn = rotation_from_vector(shift / reach * angle)
                about = from_rotation_translation(turn, self.centre - turn @ self.centre)
                moved = from_rotation_translation(np.eye(3), shift)
                starts += [T_camera_model @ moved, T_camera_model @ about, T_camera_model @ moved @ about]
        return starts
