"""From one or several starts to one judged pose, held against the neighbouring levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.types import Cloud
from end2reg_ros.reasons import Reason
from end2reg_ros.registration.fit.fitting import Fit, Region
from end2reg_ros.registration.fit.posture import Posture
from end2reg_ros.registration.fit.quality import agreement, quality_of
from end2reg_ros.registration.fit.refine import refine
from end2reg_ros.registration.fit.rivals import SAME_FIT_M, neighbouring_poses, threatens
from end2reg_ros.registration.local import LocalRegistration
from end2reg_ros.registration.types import Registration, Stopwatch
from end2reg_ros.se3 import from_rotation_translation, rotation_from_vector

Array = NDArray[np.float64]

FLEXED_MARGIN_M = 0.008  # how much further than the start's error a level of a flexed spine may lie


@dataclass(frozen=True)
class FitRequest:
    """Where a fit begins and how it is judged.

    Attributes:
        starts: (4, 4) each, T_camera_model; at least one.
        method: name reported.
        margin: how far (metres) the starts may lie from the truth; widens the crop.
        around: pose that the cloud is cropped around; the first start when None.
        posture: how the vertebrae stand; None: as in the CT.
        flexed: the vertebrae may stand far from ``posture``: they are looked for one from the other.
    """

    starts: Sequence[Array]
    method: str
    margin: float = 0.0
    around: Array | None = None
    posture: Posture | None = None
    flexed: bool = False


class StartFitter:
    """Fits from starts, against one case."""

    def __init__(self, local: LocalRegistration) -> None:
        self.local = local
        self.fitter = local.fitter

    def fit(self, cloud: Cloud, request: FitRequest) -> Registration:
        """Refine every start, keep the best by score, judge it, and hold it against the neighbouring levels."""
        clock, local, starts = Stopwatch(), self.local, request.starts
        around = starts[0] if request.around is None else request.around
        margin = request.margin + (FLEXED_MARGIN_M if request.flexed else 0.0)
        region = self.region(cloud, around, request.posture, margin)
        clock.lap("crop")
        if local.is_empty(region):
            return local.no_points(starts[0], region, request.method, clock)
        fit = self.begun(region, self.best_start(region, starts, request.posture), request)
        clock.lap("refine")
        found = local.judge(fit, region, request.method, continues=False)
        clock.lap("quality")
        if found.success:
            rival = self.rival_of(cloud, fit, request)
            found = found if rival is None else found.refused(Reason.AMBIGUOUS_LEVEL, rival)
            clock.lap("rivals")
        if found.success and not request.flexed and self.fitter.articulation is not None:
            # Judged as one body first: levels that may move fit a wrong place better, too.
            fit = self.fitter.fit(region, found.T_camera_model, request.posture, "start")
            loose = local.judge(fit, region, request.method, continues=True)
            found = loose if loose.success else found
            clock.lap("levels")
        return replace(found, timings_ms=clock.laps)

    def begun(self, region: Region, start: Array, request: FitRequest) -> Fit:
        """The fit that a request asks for, from one start."""
        if request.flexed:
            return self.fitter.flexed(region, start, request.posture)
        return self.fitter.rigid(region, start, request.posture)

    def region(self, cloud: Cloud, around: Array, posture: Posture | None, margin: float) -> Region:
        """The scene points within ``margin`` metres (and a little) of a posed model."""
        return self.local.near_surface(self.local.crop(cloud, around, posture, margin), posture, margin)

    def rival_of(self, cloud: Cloud, fit: Fit, request: FitRequest) -> str | None:
        """What speaks for the spine being one level higher or lower than this fit; None when nothing does.

        A slip by one level fits well where few levels are seen. The right fit beats its neighbours clearly; a slipped one
        does not, for the right one is among them.
        """
        mine = fit.refined
        levels = self.local.surface.level_index[fit.agreement.samples[fit.agreement.supported]]
        support = np.bincount(levels, minlength=len(self.local.case.vertebrae))
        for name, start in neighbouring_poses(self.local.case, mine.T_camera_model, support):
            region = self.region(cloud, start, None, FLEXED_MARGIN_M if request.flexed else 0.0)
            if self.local.is_empty(region):
                continue
            # What the fit was free to do, its rivals are.
            other = self.begun(region, start, request)
            rival = other.refined
            if self.local.moved(mine.T_camera_model, rival.T_camera_model) < SAME_FIT_M:
                continue
            quality = quality_of(other.agreement, rival, int(rival.inliers.sum()), len(region.points))
            if threatens(mine, rival, quality):
                return f"one level {name} fits nearly as well: this may be another level"
        return None

    def best_start(self, region: Region, starts: Sequence[Array], posture: Posture | None) -> Array:
        """The start whose short refinement on a third of the points scores best."""
        if len(starts) == 1:
            return starts[0]
        surface, points = self.local.surface, region.points.every(3)
        short = replace(self.local.settings.refine, max_iterations=4, outside_iterations=0)
        fits = []
        matcher = self.fitter.matcher(posture)
        for start in starts:
            refined = refine(points.points, points.normals, surface, start, short, matcher)
            fits.append(Fit(refined, agreement(surface, refined.T_camera_model, region.scene, posture)))
        return max(fits, key=lambda fit: fit.score).refined.T_camera_model

    def lattice(self, T_camera_model: Array, reach: float) -> list[Array]:
        """The pose itself and 18 neighbours: shifted by ``reach`` metres and turned so that the ends move as far."""
        half_length = float(np.max(self.local.box.high - self.local.box.low)) / 2
        angle = reach / half_length
        starts = [T_camera_model]
        for axis in range(3):
            for sign in (-1.0, 1.0):
                shift = np.zeros(3)
                shift[axis] = sign * reach
                turn = rotation_from_vector(shift / reach * angle)
                about = from_rotation_translation(turn, self.local.centre - turn @ self.local.centre)
                moved = from_rotation_translation(np.eye(3), shift)
                starts += [T_camera_model @ moved, T_camera_model @ about, T_camera_model @ moved @ about]
        return starts
