"""Tight-gated robust point-to-plane ICP of scene points against the visible surface of the case.

Scene to model, not model to scene: most of the model is covered by tissue, but whatever bone is seen belongs to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.registration.fit.matching import Matcher, Matches, NormalsOnDemand, RigidMatcher, ScenePoints
from end2reg_ros.registration.fit.surface import PointSurface
from end2reg_ros.registration.settings import RefineSettings
from end2reg_ros.se3 import (
    apply,
    from_rotation_translation,
    inverse,
    move_covariance,
    rotation_from_vector,
    unknown_covariance,
)

Array = NDArray[np.float64]

MIN_POINTS = 6


@dataclass(frozen=True)
class Refined:
    """Result of a refinement.

    Attributes:
        covariance: (6, 6), camera axes, about the posed model origin.
        rmse: root mean square distance of the inliers, metres, when equally weighted.
        inliers: (N,) scene points used by the last step.
        normal_agreement: share of the points within the gate whose normals agree with the model's.
        iterations: look-ups.
    """

    T_camera_model: Array
    covariance: Array
    rmse: float
    inliers: NDArray[np.bool_]
    normal_agreement: float
    iterations: int


def refine(
    points: Array,
    normals: Array | NormalsOnDemand,
    surface: PointSurface,
    T_camera_model: Array,
    settings: RefineSettings,
    matcher: Matcher | None = None,
) -> Refined:
    """Refine a pose. ``refine_reference`` is the same step by step.

    Args:
        points: (N, 3) scene points, camera frame, metres.
        normals: (N, 3) their unit normals.
        surface: visible surface of the case.
        T_camera_model: start.
        settings: gates and weights.
        matcher: looks points up; on the surface as it is when None.

    Returns:
        The refined pose; with fewer than 6 usable points the start itself, no inliers and an unknown covariance.
    """
    matcher = matcher or RigidMatcher(surface)
    scene = ScenePoints(points, normals)
    T, iterations = settle(scene, matcher, inverse(T_camera_model), settings)
    last: tuple[Matches, Array, Array] | None = None
    rmse = float("nan")
    outside_weight = settings.outside_weight if settings.outside_iterations else 1.0
    for k in range(max(1, settings.outside_iterations)):
        found = matcher.match(scene, T, settings.gates[-1], cos_limit(settings))
        iterations += 1
        if len(found.index) < MIN_POINTS:
            none = np.zeros(len(points), dtype=bool)
            return Refined(T_camera_model, unknown_covariance(), float("nan"), none, 0.0, iterations)
        if k == 0:
            rmse = float(np.sqrt(np.mean(found.residual**2)))
        step, H, centre = solve(found, outside_weight, settings)
        T = left_increment(step, centre) @ T
        last = (found, H, centre)
        if reach(step) < settings.converged:
            break
    assert last is not None
    found, H, centre = last
    used = np.zeros(len(points), dtype=bool)
    used[found.index] = True
    T_camera_model = inverse(T)
    covariance = pose_covariance(H, rmse, T_camera_model, centre, settings)
    return Refined(T_camera_model, covariance, rmse, used, found.agreement, iterations)


def settle(
    scene: ScenePoints, matcher: Matcher, T_model_camera: Array, settings: RefineSettings
) -> tuple[Array, int]:
    """Pose (T_model_camera) after convergence with equal weights on some of the points, and the look-ups it took."""
    few = scene.every(len(scene.points) // settings.settle_points)
    for k in range(settings.max_iterations):
        found = matcher.match(few, T_model_camera, gate(settings, k), cos_limit(settings))
        if len(found.index) < MIN_POINTS:
            return T_model_camera, k + 1
        step, _, centre = solve(found, 1.0, settings)
        T_model_camera = left_increment(step, centre) @ T_model_camera
        if reach(step) < 2 * settings.converged and k >= len(settings.gates) - 1:
            break
    return T_model_camera, k + 1


def solve(found: Matches, outside_weight: float, settings: RefineSettings) -> tuple[Array, Array, Array]:
    """Weigh and solve a few times without looking anew: small motion (6,), Hessian (6, 6) about the centre (3,)."""
    centre = np.add.reduce(found.points, axis=0) / len(found.points)
    J = jacobian(found.normals, found.points - centre)
    step, r, H = np.zeros(6), found.residual, np.eye(6)
    for _ in range(settings.weighings):
        weighted = J * weights(r, outside_weight, settings.scale)[:, None]
        H = weighted.T @ J
        change = -np.linalg.solve(H + damping(H), weighted.T @ r)
        step = step + change
        r = found.residual + J @ step
        if reach(change) < 0.1 * settings.converged:
            break
    return step, H, centre


def cos_limit(settings: RefineSettings) -> float:
    """Cosine of the largest angle between a scene point's normal and the surface's."""
    return math.cos(math.radians(settings.normal_angle_deg))


def gate(settings: RefineSettings, look_up: int) -> float:
    """Largest point-to-surface distance of a look-up, metres."""
    return settings.gates[min(look_up, len(settings.gates) - 1)]


def weights(residual: Array, outside_weight: float, scale: float) -> Array:
    """(M,) Geman-McClure weights; points outside of the surface count less."""
    w = residual * residual
    w += scale**2
    np.divide(scale**2, w, out=w)
    w *= w
    if outside_weight != 1.0:
        w *= np.where(residual > 0, outside_weight, 1.0)
    return np.asarray(w)


def jacobian(normals: Array, arms: Array) -> Array:
    """(M, 6) change of the residuals with a small motion of the scene; ``arms`` (M, 3) from the centre of its rotation."""
    J = np.empty((6, len(normals)))
    n, r = normals.T, arms.T
    J[:3] = n
    for k in range(3):
        a, b = (k + 1) % 3, (k + 2) % 3
        np.subtract(r[a] * n[b], r[b] * n[a], out=J[3 + k])
    return J.T


def reach(step: Array) -> float:
    """How far a small motion moves a spine, metres."""
    return math.hypot(*step[:3].tolist()) + 0.1 * math.hypot(*step[3:].tolist())


def damping(H: Array) -> Array:
    """A little of the diagonal: keeps a sliding direction (along the spine's axis) from running away."""
    result = np.zeros_like(H)
    result.flat[:: len(H) + 1] = 1e-4 * H.diagonal() + 1e-9
    return result


def left_increment(step: Array, centre: Array) -> Array:
    """4x4 of a small motion (translation, rotation vector) about ``centre``."""
    R = rotation_from_vector(step[3:])
    return from_rotation_translation(R, centre + step[:3] - R @ centre)


def pose_covariance(
    H: Array, rmse: float, T_camera_model: Array, centre: Array, settings: RefineSettings
) -> Array:
    """(6, 6) covariance of T_camera_model from the Gauss-Newton Hessian at the model point ``centre``.

    The Hessian's noise model (independent points) is corrected by ``correlation_points``; ``bias_stddev`` is added.
    """
    reach = 0.1  # metres: brings the rotation block to the units of the translation block before inverting
    S = np.diag([1, 1, 1, 1 / reach, 1 / reach, 1 / reach])
    scaled = S @ H @ S
    scaled += np.eye(6) * 1e-6 * np.trace(scaled)
    noise = max(rmse, 2e-4) ** 2 * settings.correlation_points
    covariance = noise * (S @ np.linalg.inv(scaled) @ S)
    bias = settings.bias_stddev**2
    covariance += np.diag([bias] * 3 + [bias / reach**2] * 3)
    R6 = np.zeros((6, 6))
    R6[:3, :3] = R6[3:, 3:] = T_camera_model[:3, :3]
    about_centre = R6 @ covariance @ R6.T
    offset = T_camera_model[:3, 3] - apply(T_camera_model, centre)
    moved = move_covariance(about_centre, offset)
    return np.asarray((moved + moved.T) / 2)
