"""A start against a region of the scene: the spine as one body, then each level by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.registration.fit.articulated import (
    Articulated,
    Skeleton,
    level_covariance,
    refine_levels,
)
from end2reg_ros.registration.fit.matching import (
    Matcher,
    PostureMatcher,
    RigidMatcher,
    ScenePoints,
)
from end2reg_ros.registration.fit.posture import Posture, segment_centres, straight
from end2reg_ros.registration.fit.quality import Agreement, agreement
from end2reg_ros.registration.fit.refine import Refined, pose_covariance, refine, settle, solve
from end2reg_ros.registration.fit.surface import ModelSurface
from end2reg_ros.registration.scene import Scene
from end2reg_ros.registration.settings import FitMode, RegistrationSettings
from end2reg_ros.se3 import best_rotation, from_rotation_translation, inverse, unknown_covariance
from end2reg_ros.se3_batch import each_applied

Array = NDArray[np.float64]

FOLLOWED_POINTS = 1500  # of the scene, at least, where there are as many
FOLLOWING_GATES_M = (0.004, 0.003)  # from so near, fewer look-ups do
SPINE_FIT_STRIDE = 8  # of the samples that tell which rigid pose fits all levels best


@dataclass(frozen=True)
class Region:
    """The cloud around a posed model, and those of its thinned points that lie near the surface: they are registered."""

    scene: Scene
    points: ScenePoints


@dataclass(frozen=True)
class Fit:
    """One refined and classified start.

    Attributes:
        refined: the spine's pose.
        agreement: what the camera sees of it.
        posture: None for a spine taken as one body.
        level_covariances: (levels, 6, 6) camera axes, about the vertebra frames' origins; empty without a posture.
        level_points: (levels,) scene points that speak for each level; empty without a posture.
    """

    refined: Refined
    agreement: Agreement
    posture: Posture | None = None
    level_covariances: Array | None = None
    level_points: NDArray[np.int64] | None = None

    @property
    def score(self) -> float:
        """Supported minus twice the seen-through samples: what the best of several starts is chosen by."""
        return float(self.agreement.supported.sum() - 2.0 * self.agreement.violated.sum())


class Fitter:
    """Holds what a case's fits share."""

    def __init__(self, case: Case, surface: ModelSurface, settings: RegistrationSettings) -> None:
        self.surface = surface
        self.settings = settings
        self.origins = np.stack([v.T_model_level[:3, 3] for v in case.vertebrae])
        of_level = surface.level_index[surface.coarse]
        samples = surface.points[surface.coarse]
        # Of a rigid body's box no point moves further than the furthest corner.
        corners = [
            np.stack(np.meshgrid(*zip(*b, strict=True)), -1).reshape(-1, 3) for b in surface.level_bounds
        ]
        self._corners = np.concatenate(corners)
        self._of_corner = np.repeat(np.arange(len(corners)), 8)
        middles = [
            samples[of_level == k].mean(axis=0) if (of_level == k).any() else self.origins[k]
            for k in range(len(case.vertebrae))
        ]
        self.skeleton = Skeleton(np.stack(middles), segment_centres(case))
        rest = np.concatenate([samples, np.ones((len(of_level), 1))], axis=1)
        some = slice(None, None, SPINE_FIT_STRIDE)
        groups = [rest[some][of_level[some] == k] for k in range(len(case.vertebrae))]
        self._moments = np.stack([g.T @ g for g in groups])  # (levels, 4, 4)
        # One vertebra has no neighbour to move against.
        self.articulation = settings.articulation if len(case.vertebrae) > 1 else None

    def reach(self, posture: Posture | None) -> float:
        """How far a posture moves any sample, metres."""
        if posture is None or self.articulation is None:
            return 0.0
        return float(
            np.linalg.norm(posture.posed(self._corners, self._of_corner) - self._corners, axis=1).max()
        )

    def rigid(self, region: Region, start: Array, posture: Posture | None = None) -> Fit:
        """Refine a start with all levels as one body, and classify the surface at the result.

        Args:
            region: scene points around it.
            start: (4, 4) T_camera_model.
            posture: how the levels stand; None: as in the CT.
        """
        near, matcher = region.points, self.matcher(posture)
        refined = refine(near.points, near.normals, self.surface, start, self.settings.refine, matcher)
        return Fit(refined, agreement(self.surface, refined.T_camera_model, region.scene, posture), posture)

    def fit(self, region: Region, start: Array, posture: Posture | None, mode: FitMode) -> Fit:
        """Refine a start with all levels as one body, then each level by itself, and classify the surface at the result.

        Args:
            region: scene points around it.
            start: (4, 4) T_camera_model.
            posture: how the levels stand; None: as in the CT.
            mode: how far the result may lie from where it is looked for.
        """
        if self.articulation is None:
            return self.rigid(region, start)
        settings, count = self.settings.refine, len(region.points)
        # Neighbouring points err together: of a followed frame half of them tell nearly as much.
        every = max(1, count // FOLLOWED_POINTS) if mode == "following" else 1
        scene = region.points.every(every)
        few, matcher = scene.every(len(scene) // settings.settle_points), self.matcher(posture)
        if isinstance(matcher, PostureMatcher):
            few = matcher.assigned(few, inverse(start))
        settling = replace(settings, gates=FOLLOWING_GATES_M) if mode == "following" else settings
        T_model_camera, _ = settle(few, matcher, inverse(start), settling)
        T = inverse(T_model_camera)
        levels = refine_levels(
            scene, self.surface, self.skeleton, T, posture or straight(len(self.origins)),
            settings, self.articulation, mode, every,
        )  # fmt: skip
        if levels is None:
            nothing = Refined(start, unknown_covariance(), float("nan"), np.zeros(count, bool), 0.0, 0)
            return Fit(nothing, agreement(self.surface, start, region.scene, posture), posture)
        return self._articulated(T, levels, region)

    def flexed(self, region: Region, start: Array, posture: Posture | None) -> Fit:
        """A fit of vertebrae that may stand far from ``posture``; looked at again twice, as frames of a track would be.

        The first look leaves a level up to a few millimetres off where its neighbours have turned much.
        """
        fit = self.fit(region, start, posture, "flexed")
        for _ in range(2):
            if fit.posture is None or fit.level_points is None:
                return fit
            fit = self.fit(region, fit.refined.T_camera_model, fit.posture, "following")
        return fit

    def matcher(self, posture: Posture | None) -> Matcher:
        """Looks up on a surface in that posture; None: as in the CT."""
        return RigidMatcher(self.surface) if posture is None else PostureMatcher(self.surface, posture)

    def _best_rigid(self, motions: Array) -> Array:
        """(4, 4) the motion of the whole spine that is nearest to the levels' own, over their samples (see ``kabsch``).

        All levels alike, seen or not: else the spine would jump when an instrument covers some of them.
        """
        # Sums over pairs of a sample moved by its level and the sample itself: of each level's samples once and for all.
        pairs = (motions @ self._moments).sum(axis=0)
        source_sum, count = self._moments[:, :3, 3].sum(axis=0), float(self._moments[:, 3, 3].sum())
        target_sum = pairs[:3, 3]
        R = best_rotation(pairs[:3, :3] - np.outer(target_sum, source_sum) / count)
        return from_rotation_translation(R, (target_sum - R @ source_sum) / count)

    def _articulated(self, T: Array, levels: Articulated, region: Region) -> Fit:
        """The spine's pose becomes the rigid one that fits the levels best, and the posture what is left."""
        motions = levels.posture.motions
        centres, origins = (each_applied(motions, p) for p in (self.skeleton.level_centres, self.origins))
        covariances = level_covariance(levels.covariances, centres, origins, T)
        T_moved = self._best_rigid(motions)
        posture = Posture(inverse(T_moved) @ motions)
        settings = self.settings.refine
        once = replace(settings, weighings=1)
        _, H, centre = solve(levels.matches, settings.outside_weight, once)
        refined = Refined(
            T @ T_moved,
            pose_covariance(H, levels.rmse, T, centre, settings),
            levels.rmse,
            levels.inliers,
            levels.matches.agreement,
            iterations=0,
        )
        found = agreement(self.surface, refined.T_camera_model, region.scene, posture)
        return Fit(refined, found, posture, covariances, levels.points)
