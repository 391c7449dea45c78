"""Each vertebra's own pose: the refinement with one small motion a level, neighbours held to each other softly.

One Gauss-Newton step solves for all levels at once (6 numbers each): the points of a level speak for that level, and between
two neighbours stands a spring that is slack at the CT's posture and gives way where the points insist. Its stiffness in the
units of the points: ``noise`` (variance of one independent error) over the variance of the motion that a segment makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.registration.matching import Matches, PostureMatcher, Scene
from end2reg_ros.registration.posture import Posture
from end2reg_ros.registration.refine import (
    MIN_POINTS,
    RefineSettings,
    damping,
    jacobian,
    left_increment,
    weights,
)
from end2reg_ros.registration.surface import ModelSurface
from end2reg_ros.se3 import apply, inverse, move_covariance, rotation_vector, skew

Array = NDArray[np.float64]

# A running track, a start, a start of a spine whose vertebrae may stand far from where they are looked for.
Way = Literal["following", "start", "bent"]


@dataclass(frozen=True)
class ArticulationSettings:
    """How the levels are held to one another. Metres, degrees.

    Attributes:
        loose_turn_stddev_deg, loose_shift_stddev: motion between neighbours against the CT that is allowed for at first.
        turn_stddev_deg, shift_stddev: motion from which the springs give way in the end (Cauchy, at what the loose springs
            let happen): most segments stand as in the CT, and those that do not may have moved by much more, up to 8
            degrees and 4 mm.
        doubt: how much of the stated variance of that motion speaks against it: variances are stated with a margin.
        step_turn_deg, step_shift: motion between neighbours from one frame of a track to the next. Where the points tell
            much it is taken up within two frames; where an instrument covers most of a level, that level stays as it was.
        point_stddev: error of one scene point, metres; ``correlation_points`` of them share one.
        min_level_points: scene points on a level's surface from which they have a say in its pose.
        iterations: of each way, look-ups with loose springs; one with the final ones follows.
        bent_gates: as ``RefineSettings.gates``, where levels may lie far from where they are looked for.
    """

    loose_turn_stddev_deg: float = 5.0
    loose_shift_stddev: float = 0.003
    turn_stddev_deg: float = 0.8
    shift_stddev: float = 0.0004
    doubt: float = 0.25
    step_turn_deg: float = 0.6
    step_shift: float = 0.0003
    point_stddev: float = 0.0008
    correlation_points: float = 12.0
    min_level_points: int = 60
    iterations: Mapping[Way, int] = field(
        default_factory=lambda: MappingProxyType({"following": 1, "start": 2, "bent": 9})
    )
    bent_gates: tuple[float, ...] = (0.006, 0.006, 0.005, 0.005, 0.004, 0.004, 0.003)

    def step_variance(self) -> Array:
        """(6,) of a segment's motion from frame to frame, shifts first."""
        return np.repeat([self.step_shift, np.radians(self.step_turn_deg)], 3) ** 2


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
        inliers: (N,) scene points used by the last step.
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
    scene: Scene,
    surface: ModelSurface,
    skeleton: Skeleton,
    T_camera_model: Array,
    posture: Posture,
    settings: RefineSettings,
    articulation: ArticulationSettings,
    way: Way = "start",
) -> Articulated | None:
    """Let every level move by itself, the spine pose stays.

    Args:
        scene: points near the posed surface.
        T_camera_model: (4, 4) the spine's pose.
        posture: where the levels are looked for.
        way: how far the levels may lie from there.

    Returns:
        None where fewer than 6 points lie on the surface.
    """
    T = inverse(T_camera_model)
    bent, iterations = way == "bent", articulation.iterations[way]
    gates = articulation.bent_gates if bent else (settings.gates[-1],)
    if not bent:
        scene = PostureMatcher(surface, posture).assigned(scene, T)
    before, uncertainty = posture, None
    for k in range(iterations + 1):
        # Far levels move by more than the distance that tells whose a point is: told anew each time.
        stride = max(1, len(scene.points) // settings.settle_points) if k < iterations else 1
        matcher = PostureMatcher(surface, posture)
        found = matcher.match(scene.every(stride), T, gates[min(k, len(gates) - 1)], settings.cos_limit)
        if len(found.index) < MIN_POINTS:
            return None
        system = System(found, posture, skeleton, settings, articulation, stride)
        motion = system.motion()
        if uncertainty is None or k < iterations:
            system.hold(motion, np.tile(system.loosely(), (len(motion), 1)))
        else:
            system.weighings = settings.weighings
            system.hold(motion, system.tightly(motion, uncertainty))
            if way == "following":
                system.hold(system.motion(before), np.tile(articulation.step_variance(), (len(motion), 1)))
        # While levels are still far from their place, what lies outside of them is not film.
        far = bent and k < iterations - 2
        posture = system.moved(system.solve(1.0 if far else settings.outside_weight))
        uncertainty = system.uncertainty()
    used = np.zeros(len(scene.points), dtype=bool)
    used[found.index] = True
    rmse = float(np.sqrt(np.mean(found.residual**2)))
    return Articulated(posture, system.covariances(), system.counts, used, rmse, found)


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
        self.centres = np.stack([apply(M[k], skeleton.level_centres[k]) for k in range(self.levels)])
        self._parts = []
        J, r = jacobian(found.normals, found.points - self.centres[found.level]), found.residual
        for k in np.flatnonzero(self.told):
            rows = np.flatnonzero(found.level == k)
            self._parts.append((k, J[rows], r[rows]))
        self._joints = [apply(M[k + 1], centre) for k, centre in enumerate(skeleton.segment_centres)]
        self._J = self._joint_jacobian()
        self._springs: list[tuple[Array, Array]] = []  # stiffness and motion, (6 segments,) each
        self._data_H = np.zeros((6 * self.levels, 6 * self.levels))

    def _joint_jacobian(self) -> Array:
        """(6 segments, 6 levels) change of the segments' motions with small motions of the scene, shifts first."""
        segments = self.levels - 1
        J = np.zeros((6 * segments, 6 * self.levels))
        for k, joint in enumerate(self._joints):
            # A small motion of the scene against a level moves that level the other way.
            for level, sign in ((k, -1.0), (k + 1, 1.0)):
                block = np.eye(6)
                block[:3, 3:] = -skew(joint - self.centres[level])
                J[6 * k : 6 * k + 6, 6 * level : 6 * level + 6] = sign * block
        return J

    def motion(self, rest: Posture | None = None) -> Array:
        """(segments, 6) shift and turn of each level against the next one, compared with another posture (the CT's: None)."""
        found = np.zeros((self.levels - 1, 6))
        for k, joint in enumerate(self._joints):
            D = self.posture.motions[k] @ inverse(self.posture.motions[k + 1])
            if rest is not None:
                D = D @ rest.motions[k + 1] @ inverse(rest.motions[k])
            found[k, :3] = apply(D, joint) - joint
            found[k, 3:] = rotation_vector(D[:3, :3])
        return found

    def hold(self, motion: Array, variance: Array) -> None:
        """Add springs: ``motion`` (segments, 6) away from rest; ``variance`` (segments, 6) of the motion expected."""
        self._springs.append((self.noise / variance.ravel(), motion.ravel()))

    def loosely(self) -> Array:
        """(6,) variance of a segment's motion that is allowed for at first."""
        a = self.articulation
        return np.repeat([a.loose_shift_stddev, np.radians(a.loose_turn_stddev_deg)], 3) ** 2

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
        return np.asarray(
            self.noise * np.einsum("ij,jk,ik->i", self._J, np.linalg.inv(self._H), self._J)
        ).reshape(-1, 6)

    def solve(self, outside_weight: float) -> Array:
        """(levels, 6) small motions of the scene against each level, after a few weighings."""
        s, step = self.settings, np.zeros(6 * self.levels)
        for _ in range(self.weighings):
            H, g = np.zeros((6 * self.levels, 6 * self.levels)), np.zeros(6 * self.levels)
            for k, J, r in self._parts:
                mine = slice(6 * k, 6 * k + 6)
                residual = r + J @ step[mine]
                weighted = J * weights(residual, outside_weight, s.scale)[:, None]
                block = weighted.T @ J
                H[mine, mine] = block + damping(block)
                g[mine] = weighted.T @ residual
            self._data_H = H.copy()
            for stiffness, motion in self._springs:
                H += (self._J.T * stiffness) @ self._J
                g += self._J.T @ (stiffness * (motion + self._J @ step))
            # All levels without points: nothing holds the whole.
            H[np.diag_indices_from(H)] += 1e-9 * max(float(np.trace(H)), 1.0)
            change = -np.linalg.solve(H, g)
            step = step + change
            self._H = H
            if float(np.abs(change).max()) < 0.1 * s.converged:
                break
        return step.reshape(self.levels, 6)

    def moved(self, step: Array) -> Posture:
        """The posture after a small motion of the scene against each level."""
        motions = [
            inverse(left_increment(step[k], self.centres[k])) @ self.posture.motions[k]
            for k in range(self.levels)
        ]
        return Posture(np.stack(motions))

    def covariances(self) -> Array:
        """(levels, 6, 6) about each level's centre, model axes, of points and the first springs.

        Not of springs that hold to the posture before: it comes from the same points, and has their errors.
        """
        stiffness, _ = self._springs[0]
        H = self._data_H + (self._J.T * stiffness) @ self._J
        H[np.diag_indices_from(H)] += 1e-9 * max(float(np.trace(H)), 1.0)
        inverse_H = np.linalg.inv(H)
        bias, arm = self.settings.bias_stddev**2, 0.1
        floor = np.diag([bias] * 3 + [bias / arm**2] * 3)
        blocks = [inverse_H[6 * k : 6 * k + 6, 6 * k : 6 * k + 6] for k in range(self.levels)]
        return np.stack([self.noise * (b + b.T) / 2 + floor for b in blocks])


def level_covariance(covariance: Array, centre: Array, origin: Array, T_camera_model: Array) -> Array:
    """(6, 6) in camera axes about ``origin`` of one about ``centre`` in model axes; both (3,), model frame."""
    about_origin = move_covariance(covariance, origin - centre)
    R6 = np.zeros((6, 6))
    R6[:3, :3] = R6[3:, 3:] = T_camera_model[:3, :3]
    turned = R6 @ about_origin @ R6.T
    return np.asarray((turned + turned.T) / 2)
