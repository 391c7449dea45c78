"""From one or several starts to one judged pose: crop, thin, refine, judge. Shared by every method that refines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.quality import Agreement, agreement, quality_of
from end2reg_ros.registration.refine import Refined, refine
from end2reg_ros.registration.region import Box, Region, ThinSettings, crop, make_region
from end2reg_ros.registration.rivals import SAME_FIT_M, neighbouring_poses, threatens
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.registration.surface import ModelSurface
from end2reg_ros.registration.surface_cache import model_surface
from end2reg_ros.registration.types import LevelResult, Quality, Registration
from end2reg_ros.registration.uncertainty import covariance_at, largest_stddev, unknown_covariance
from end2reg_ros.registration.verdict import verdict
from end2reg_ros.se3 import apply, from_rotation_translation, inverse, rotation_from_vector

Array = NDArray[np.float64]

HELD_BELOW_SUPPORT = 20  # samples 3 mm apart: less than about 2 square centimetres of a level seen
JUDGED_SAMPLES = 40  # of a level, neither covered nor without data: enough to judge that level by itself


@dataclass(frozen=True)
class FitRequest:
    """Where a fit begins and how it is judged.

    Attributes:
        starts: (4, 4) each, T_camera_model; at least one.
        method: name reported.
        margin: how far (metres) the starts may lie from the truth; widens the crop.
        around: pose that the cloud is cropped around; the first start when None.
        continues: the fit continues a track (see ``Prior``).
    """

    starts: Sequence[Array]
    method: str
    margin: float = 0.0
    around: Array | None = None
    continues: bool = False


@dataclass(frozen=True)
class Fit:
    """One refined and classified start."""

    refined: Refined
    agreement: Agreement

    @property
    def score(self) -> float:
        """Supported minus twice the seen-through samples: what the best of several starts is chosen by."""
        return float(self.agreement.supported.sum() - 2.0 * self.agreement.violated.sum())


class LocalRegistration:
    """Refinement against one case. Built once; ``fit`` holds no state between clouds."""

    def __init__(self, case: Case, settings: RegistrationSettings) -> None:
        self.case = case
        self.settings = settings
        self.surface: ModelSurface = model_surface(case)
        self.box = Box(self.surface.points.min(axis=0), self.surface.points.max(axis=0))
        self.centre = (self.box.low + self.box.high) / 2
        self.origins = np.stack([v.T_model_level[:3, 3] for v in case.vertebrae])

    def fit(self, cloud: Cloud, request: FitRequest) -> Registration:
        """Refine every start, keep the best by score, judge it; hold a start's result against the neighbouring levels."""
        clock = Stopwatch()
        accept, starts = self.settings.accept, request.starts
        around = starts[0] if request.around is None else request.around
        region = self.region(cloud, around, request.margin, clock)
        if len(region.points) < accept.min_inliers:
            text = f"only {len(region.points)} points near the model"
            return self.failed(starts[0], "no_points", text, request.method, clock)
        tree = cKDTree(region.points)
        best = self.best_start(region, tree, starts)
        refined = refine(region.points, region.normals, self.surface, best, self.settings.refine)
        clock.lap("refine")
        fit = Fit(refined, agreement(self.surface, refined.T_camera_model, region, tree))
        limit = (
            accept.min_level_inlier_ratio_following if request.continues else accept.min_level_inlier_ratio
        )
        registration = self.judge(fit, region, request.method, limit)
        clock.lap("quality")
        if registration.success and not request.continues:
            rival = self.rival_of(cloud, fit)
            clock.lap("rivals")
            if rival is not None:
                registration = replace(
                    registration, success=False, reason_code="ambiguous_level", reason=rival
                )
        return replace(registration, timings_ms=clock.laps)

    def region(self, cloud: Cloud, around: Array, margin: float, clock: Stopwatch) -> Region:
        """The scene points within ``margin`` metres (and a little) of a posed model."""
        cropped = crop(cloud.points, around, self.box, self.settings.crop_margin + margin)
        near = self.surface.near(cropped.local) < self.settings.near + margin
        clock.lap("crop")
        thin = ThinSettings(self.settings.voxel, threads=self.settings.threads)
        region = make_region(cloud.points, cropped, near, thin)
        clock.lap("thin")
        return region

    def rival_of(self, cloud: Cloud, fit: Fit) -> str | None:
        """What speaks for the spine being one level higher or lower than this fit; None when nothing does.

        A slip by one level fits well where few levels are seen. The right fit beats its neighbours clearly; a slipped one
        does not, for the right one is among them.
        """
        mine = fit.refined
        levels = self.surface.level_index[fit.agreement.samples[fit.agreement.supported]]
        support = np.bincount(levels, minlength=len(self.case.vertebrae))
        for name, start in neighbouring_poses(self.case, mine.T_camera_model, support):
            region = self.region(cloud, start, 0.0, Stopwatch())
            if len(region.points) < self.settings.accept.min_inliers:
                continue
            tree = cKDTree(region.points)
            other = refine(region.points, region.normals, self.surface, start, self.settings.refine)
            found = agreement(self.surface, other.T_camera_model, region, tree)
            if self.moved(mine.T_camera_model, other.T_camera_model) < SAME_FIT_M:
                continue
            if threatens(mine, other, quality_of(found, other, int(other.inliers.sum()), len(region.points))):
                return f"one level {name} fits nearly as well: this may be another level"
        return None

    def best_start(self, region: Region, tree: cKDTree, starts: Sequence[Array]) -> Array:
        """The start whose short refinement on a third of the points scores best."""
        if len(starts) == 1:
            return starts[0]
        few = slice(None, None, 3)
        short = replace(self.settings.refine, max_iterations=8)
        fits = []
        for start in starts:
            refined = refine(region.points[few], region.normals[few], self.surface, start, short)
            fits.append(Fit(refined, agreement(self.surface, refined.T_camera_model, region, tree)))
        return max(fits, key=lambda fit: fit.score).refined.T_camera_model

    def judge(self, fit: Fit, region: Region, method: str, level_limit: float) -> Registration:
        """Quality, verdict and per-level results of a refined pose."""
        refined = fit.refined
        inliers = int(refined.inliers.sum())
        quality = quality_of(fit.agreement, refined, inliers, len(region.points))
        at_centre = covariance_at(refined.covariance, refined.T_camera_model, self.centre)
        levels = self.levels(fit, inliers)
        code, reason = verdict(quality, largest_stddev(at_centre)[0], self.settings.accept)
        if code == "ok":
            code, reason = self.level_verdict(fit.agreement, level_limit)
        local = apply(inverse(refined.T_camera_model), region.dense)
        on_bone, _ = self.surface.nearest(local, self.settings.refine.gates[-1])
        return Registration(
            T_camera_model=refined.T_camera_model,
            success=code == "ok",
            reason_code=code,
            reason=reason,
            quality=quality,
            covariance=refined.covariance,
            method=method,
            engine="",
            levels=levels,
            relevant=region.index[np.isfinite(on_bone)],
        )

    def level_verdict(self, found: Agreement, limit: float) -> tuple[str, str]:
        """(reason code, reason): the first level whose own surface speaks against the pose, else ``ok``."""
        of_sample = self.surface.level_index[found.samples]
        for k, vertebra in enumerate(self.case.vertebrae):
            mine = of_sample == k
            supported, violated = int(found.supported[mine].sum()), int(found.violated[mine].sum())
            if supported + violated >= JUDGED_SAMPLES and supported < limit * (supported + violated):
                ratio = supported / (supported + violated)
                return "level_disagrees", f"{vertebra.level}: inlier ratio {ratio:.2f} below {limit:.2f}"
        return "ok", "registered"

    def levels(self, fit: Fit, inliers: int) -> tuple[LevelResult, ...]:
        """Pose, covariance and quality of each vertebra of the rigid spine."""
        T, found = fit.refined.T_camera_model, fit.agreement
        of_sample = self.surface.level_index[found.samples]
        results = []
        for k, vertebra in enumerate(self.case.vertebrae):
            mine = of_sample == k
            part = Agreement(
                found.samples[mine], found.supported[mine], found.covered[mine], found.violated[mine]
            )
            T_level = T @ vertebra.T_model_level
            covariance = covariance_at(fit.refined.covariance, T, vertebra.T_model_level[:3, 3])
            held = int(part.supported.sum()) < HELD_BELOW_SUPPORT
            quality = quality_of(part, fit.refined, int(part.supported.sum()), max(inliers, 1))
            results.append(LevelResult(vertebra.level, T_level, covariance, quality, held))
        return tuple(results)

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


class Stopwatch:
    """Milliseconds of named stages, in order."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, name: str) -> None:
        """Book the time since the last lap under ``name``."""
        now = perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + 1000 * (now - self._last)
        self._last = now
