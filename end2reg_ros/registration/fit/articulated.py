"""Each vertebra's own pose: the refinement with one small motion a level, neighbours held to each other softly.

One Gauss-Newton step solves for all levels at once (6 numbers each): the points of a level speak for that level, and between
two neighbours stands a spring that is slack at the CT's posture and gives way where the points insist. Its stiffness in the
units of the points: ``noise`` (variance of one independent error) over the variance of the motion that a segment makes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.registration.fit.matching import Matches, PostureMatcher, ScenePoints
from end2reg_ros.registration.fit.posture import Posture
from end2reg_ros.registration.fit.refine import (
    MIN_POINTS,
    cos_limit,
    damping,
    jacobian,
    weights,
)
from end2reg_ros.registration.fit.surface import ModelSurface
from end2reg_ros.registration.settings import ArticulationSettings, FitMode, RefineSettings
from end2reg_ros.se3 import inverse
from end2reg_ros.se3_batch import (
    each_applied,
    inverses,
    rotation_vectors,
    rotations_from_vectors,
    runs,
    skews,
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Skeleton:
    """What holds the levels together: centres of the levels (K, 3) and of the segments between them (K-1, 3), model frame."""

    level_centres: Array
    segment_centres: Array


@dataclass(frozen=True)
class Articulated:
    """Result of an articulated refinement.

    Attributes:
        posture: about the spine pose that went in.
        covariances: (levels, 6, 6) of what maps each level into the model frame of that spine pose, model axes, about the
            level's centre there.
        points: (levels,) scene points on each level.
        inliers: scene points used by the last step, those between them taken to be like them; (N,) and a few more.
        rmse: root mean square distance of the inliers, metres, equally weighted.
        matches: of the last step.
    """

    posture: Posture
    covariances: Array
    points: NDArray[np.int64]
    inliers: NDArray[np.bool_]
    rmse: float
    matches: Matches


def refine_levels(
    scene: ScenePoints,
    surface: ModelSurface,
    skeleton: Skeleton,
    T_camera_model: Array,
    posture: Posture,
    settings: RefineSettings,
    articulation: ArticulationSettings,
    mode: FitMode = "start",
    every: int = 1,
) -> Articulated | None:
    """Let every level move by itself, the spine pose stays.

    Args:
        scene: points near the posed surface.
        T_camera_model: (4, 4) the spine's pose.
        posture: where the levels are looked for.
        mode: how far the levels may lie from there.
        every: the scene holds every so many-th point: each speaks for as many.

    Returns:
        None where fewer than 6 points lie on the surface.
    """
    T = inverse(T_camera_model)
    flexed, iterations = mode == "flexed", articulation.iterations[mode]
    gates = articulation.flexed_gates if flexed else (settings.gates[-1],)
    if not flexed:
        scene = PostureMatcher(surface, posture).assigned(scene, T)
    before, uncertainty = posture, None
    for k in range(iterations + 1):
        # Far levels move by more than the distance that tells whose a point is: told anew each time.
        stride = max(1, len(scene.points) // settings.settle_points) if k < iterations else 1
        matcher = PostureMatcher(surface, posture)
        found = matcher.match(scene.every(stride), T, gates[min(k, len(gates) - 1)], cos_limit(settings))
        if len(found.index) < MIN_POINTS:
            return None
        system = System(found, posture, skeleton, settings, articulation, stride * every)
        # What no point speaks for stays as it was last seen, else it would go back to the CT's posture frame by frame.
        since = system.motion(before)
        motion = np.where(system.joined[:, None], system.motion(), since)
        if uncertainty is None or k < iterations:
            system.hold(motion, np.tile(system.loosely(), (len(motion), 1)))
        else:
            system.weighings = settings.weighings
            system.hold(motion, system.tightly(motion, uncertainty))
            if mode == "following":
                system.hold(since, np.tile(system.from_frame_to_frame(), (len(motion), 1)))
        # While levels are still far from their place, what lies outside of them is not film.
        far = flexed and k < iterations - 2
        posture = system.moved(system.solve(1.0 if far else settings.outside_weight))
        uncertainty = system.uncertainty()
    used = np.zeros(len(scene.points), dtype=bool)
    used[found.index] = True
    rmse = float(np.sqrt(np.mean(found.residual**2)))
    return Articulated(
        posture, system.covariances(), every * system.counts, np.repeat(used, every), rmse, found
    )


class System:
    """The normal equations of one look-up: (6 levels) x (6 levels), model frame."""

    def __init__(
        self,
        found: Matches,
        posture: Posture,
        skeleton: Skeleton,
        settings: RefineSettings,
        articulation: ArticulationSettings,
        stride: int = 1,
    ) -> None:
        self.levels = len(posture.motions)
        self.posture = posture
        self.settings, self.articulation = settings, articulation
        self.weighings = 1
        # Of every second point, each speaks for two.
        self.noise = articulation.point_stddev**2 * articulation.correlation_points / stride
        self.counts = np.bincount(found.level, minlength=self.levels)
        self.told = self.counts * stride >= articulation.min_level_points
        M = posture.motions
        self.centres = each_applied(M, skeleton.level_centres)
        order, bounds = runs(found.level, self.levels)
        # Of each level with a say: its numbers in the step, and its points.
        self._parts = [
            (slice(6 * k, 6 * k + 6), slice(bounds[k], bounds[k + 1])) for k in np.flatnonzero(self.told)
        ]
        of_level = found.level if order is None else found.level[order]
        points, normals, self._residual = (
            values if order is None else values[order]
            for values in (found.points, found.normals, found.residual)
        )
        self._points_J = jacobian(normals, points - self.centres.T.take(of_level, axis=1).T)
        self._joints = each_applied(M[1:], skeleton.segment_centres)
        self._J = self._joint_jacobian()
        self._springs: list[tuple[Array, Array]] = []  # stiffness and motion, (6 segments,) each
        self._data_H = np.zeros((6 * self.levels, 6 * self.levels))

    def _joint_jacobian(self) -> Array:
        """(6 segments, 6 levels) change of the segments' motions with small motions of the scene, shifts first."""
        segments = np.arange(self.levels - 1)
        J = np.zeros((self.levels - 1, 6, self.levels, 6))
        # A small motion of the scene against a level moves that level the other way.
        for level, sign in ((segments, -1.0), (segments + 1, 1.0)):
            J[segments, :, level, :] = sign * moves_point(self._joints - self.centres[level])
        return J.reshape(6 * (self.levels - 1), 6 * self.levels)

    def motion(self, rest: Posture | None = None) -> Array:
        """(segments, 6) shift and turn of each level against the next one, compared with another posture (the CT's: None)."""
        M = self.posture.motions
        D = M[:-1] @ inverses(M[1:])
        if rest is not None:
            D = D @ rest.motions[1:] @ inverses(rest.motions[:-1])
        shift = each_applied(D, self._joints) - self._joints
        return np.concatenate([shift, rotation_vectors(D[:, :3, :3])], axis=1)

    def hold(self, motion: Array, variance: Array) -> None:
        """Add springs: ``motion`` (segments, 6) away from rest; ``variance`` (segments, 6) of the motion expected."""
        self._springs.append((self.noise / variance.ravel(), motion.ravel()))

    def loosely(self) -> Array:
        """(6,) variance of a segment's motion that is allowed for at first."""
        a = self.articulation
        return np.repeat([a.loose_shift_stddev, np.radians(a.loose_turn_stddev_deg)], 3) ** 2

    def from_frame_to_frame(self) -> Array:
        """(6,) variance of a segment's motion from one frame of a track to the next, shifts first."""
        a = self.articulation
        return np.repeat([a.step_shift, np.radians(a.step_turn_deg)], 3) ** 2

    def tightly(self, motion: Array, uncertainty: Array) -> Array:
        """(segments, 6) variance of the motion of a spine that stands as in the CT, and more where it plainly does not.

        Args:
            motion: (segments, 6) that loose springs led to.
            uncertainty: (segments, 6) variance with which it is known.
        """
        a = self.articulation
        variance = np.repeat([a.shift_stddev, np.radians(a.turn_stddev_deg)], 3) ** 2
        slack = (motion**2 / (variance + a.doubt * uncertainty)).sum(axis=1, keepdims=True)
        return np.where(self.joined[:, None], variance * (1.0 + slack), self.loosely())

    @property
    def joined(self) -> NDArray[np.bool_]:
        """(segments,) whether both levels have a say in their pose."""
        return np.asarray(self.told[:-1] & self.told[1:])

    def uncertainty(self) -> Array:
        """(segments, 6) variance of the segments' motions after ``solve``."""
        return np.asarray(self.noise * ((self._J @ np.linalg.inv(self._H)) * self._J).sum(axis=1)).reshape(
            -1, 6
        )

    def solve(self, outside_weight: float) -> Array:
        """(levels, 6) small motions of the scene against each level, after a few weighings."""
        s, step = self.settings, np.zeros(6 * self.levels)
        springs_H, springs_g = np.zeros_like(self._data_H), np.zeros_like(step)
        for stiffness, motion in self._springs:
            springs_H += (self._J.T * stiffness) @ self._J
            springs_g += self._J.T @ (stiffness * motion)
        for _ in range(self.weighings):
            self._data_H, g = self._of_points(step, outside_weight)
            # All levels without points: nothing holds the whole.
            self._H = held_up(self._data_H + springs_H)
            change = -np.linalg.solve(self._H, g + springs_g + springs_H @ step)
            step = step + change
            if float(np.abs(change).max()) < 0.1 * s.converged:
                break
        return step.reshape(self.levels, 6)

    def _of_points(self, step: Array, outside_weight: float) -> tuple[Array, Array]:
        """Hessian and gradient of the points after a step, (6 levels, 6 levels) and (6 levels,)."""
        H, g = np.zeros((6 * self.levels, 6 * self.levels)), np.zeros(6 * self.levels)
        J, residual = self._points_J, self._residual.copy()
        for mine, rows in self._parts:
            residual[rows] += J[rows] @ step[mine]
        weighted = J * weights(residual, outside_weight, self.settings.scale)[:, None]
        for mine, rows in self._parts:
            weighted_T = weighted[rows].T
            H[mine, mine] = weighted_T @ J[rows]
            g[mine] = weighted_T @ residual[rows]
        # Levels without a say are held by the springs alone.
        H.flat[:: len(H) + 1] += np.where(np.repeat(self.told, 6), damping(H).diagonal(), 0.0)
        return H, g

    def moved(self, step: Array) -> Posture:
        """The posture after a small motion of the scene against each level."""
        R = rotations_from_vectors(step[:, 3:])
        back = np.tile(np.eye(4), (self.levels, 1, 1))
        back[:, :3, :3] = np.swapaxes(R, 1, 2)
        back[:, :3, 3] = self.centres - (back[:, :3, :3] @ (self.centres + step[:, :3])[..., None])[..., 0]
        return Posture(back @ self.posture.motions)

    def covariances(self) -> Array:
        """(levels, 6, 6) about each level's centre, model axes, of points and the first springs.

        Not of springs that hold to the posture before: it comes from the same points, and has their errors.
        """
        stiffness, _ = self._springs[0]
        inverse_H = np.linalg.inv(held_up(self._data_H + (self._J.T * stiffness) @ self._J))
        bias, arm = self.settings.bias_stddev**2, 0.1
        floor = np.diag([bias] * 3 + [bias / arm**2] * 3)
        every = np.arange(self.levels)
        blocks = inverse_H.reshape(self.levels, 6, self.levels, 6)[every, :, every, :]
        return np.asarray(self.noise * (blocks + np.swapaxes(blocks, 1, 2)) / 2 + floor)


def held_up(H: Array) -> Array:
    """H with a little on its diagonal: where nothing else says anything."""
    H.flat[:: len(H) + 1] += 1e-9 * max(float(H.trace()), 1.0)
    return H


def moves_point(offset: Array) -> Array:
    """(..., 6, 6) how a small motion about one point moves a body at another, ``offset`` (..., 3) away."""
    J = np.zeros((*offset.shape[:-1], 6, 6))
    J[...] = np.eye(6)
    J[..., :3, 3:] = -skews(offset)
    return J


def level_covariance(covariance: Array, centre: Array, origin: Array, T_camera_model: Array) -> Array:
    """(..., 6, 6) in camera axes about ``origin`` of one about ``centre`` in model axes; both (..., 3), model frame."""
    R6 = np.zeros((6, 6))
    R6[:3, :3] = R6[3:, 3:] = T_camera_model[:3, :3]
    J = R6 @ moves_point(origin - centre)
    turned = J @ covariance @ np.swapaxes(J, -1, -2)
    return np.asarray((turned + np.swapaxes(turned, -1, -2)) / 2)
