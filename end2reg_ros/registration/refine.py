"""Tight-gated robust point-to-plane ICP of scene points against the visible surface of the case.

Scene to model, not model to scene: most of the model is covered by tissue, but whatever bone is seen belongs to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.registration.surface import PointSurface
from end2reg_ros.registration.uncertainty import unknown_covariance
from end2reg_ros.se3 import apply, from_rotation_translation, inverse, move_covariance, rotation_from_vector

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RefineSettings:
    """How the refinement gates and weighs. Metres, degrees.

    Attributes:
        gates: largest point-to-surface distance of each iteration; the last one repeats until convergence.
        max_iterations: upper bound.
        normal_angle_deg: largest angle between the scene's and the model's normal.
        scale: residual at which a point's weight falls to a quarter (Geman-McClure).
        outside_weight: weight of a point outside the model's surface against one inside it, in the last steps. What is
            left on bone (film, blood, periosteum) lies outside it, never inside: equal weights pull the model towards the
            camera by the mean film.
        outside_iterations: steps with that weight, after convergence with equal weights.
        converged: stop when a step moves the model by less than this.
        correlation_points: scene points that share one independent error (neighbouring pixels err together); the
            covariance is inflated by it.
        bias_stddev: error that no amount of points averages out (tissue film, calibration), added to the covariance.
    """

    gates: tuple[float, ...] = (0.004, 0.004, 0.004, 0.0035, 0.003)
    max_iterations: int = 15
    normal_angle_deg: float = 50.0
    scale: float = 0.0012
    outside_weight: float = 0.3
    outside_iterations: int = 8
    converged: float = 2e-5
    correlation_points: float = 12.0
    bias_stddev: float = 0.0003


@dataclass(frozen=True)
class Refined:
    """Result of a refinement.

    Attributes:
        covariance: (6, 6), camera axes, about the posed model origin.
        rmse: root mean square distance of the inliers, metres, when equally weighted.
        inliers: (N,) scene points used by the last step.
        normal_agreement: share of the points within the gate whose normals agree with the model's.
        iterations: steps taken.
    """

    T_camera_model: Array
    covariance: Array
    rmse: float
    inliers: NDArray[np.bool_]
    normal_agreement: float
    iterations: int


def refine(
    points: Array, normals: Array, surface: PointSurface, T_camera_model: Array, settings: RefineSettings
) -> Refined:
    """Refine a pose.

    Args:
        points: (N, 3) scene points, camera frame, metres.
        normals: (N, 3) their unit normals.
        surface: visible surface of the case.
        T_camera_model: start.
        settings: gates and weights.

    Returns:
        The refined pose; with fewer than 6 usable points the start itself, no inliers and an unknown covariance.
    """
    T_model_camera = inverse(T_camera_model)
    state: _Step | None = None
    rmse, iteration, settled = float("nan"), 0, settings.max_iterations
    for iteration in range(settings.max_iterations + settings.outside_iterations):
        if iteration >= settled + settings.outside_iterations:
            break
        outside_weight = 1.0 if iteration < settled else settings.outside_weight
        gate = settings.gates[min(iteration, len(settings.gates) - 1)]
        state = _step(points, normals, surface, T_model_camera, gate, outside_weight, settings)
        if state is None:
            none = np.zeros(len(points), dtype=bool)
            return Refined(T_camera_model, unknown_covariance(), float("nan"), none, 0.0, iteration)
        T_model_camera = state.increment @ T_model_camera
        if iteration < settled:
            rmse = state.rmse
        if state.reach < settings.converged and iteration >= len(settings.gates) - 1:
            if iteration >= settled:
                break
            settled = iteration + 1
    assert state is not None
    T = inverse(T_model_camera)
    covariance = pose_covariance(state.H, rmse, T, state.centre, settings)
    return Refined(T, covariance, rmse, state.used, state.agreement, iteration + 1)


@dataclass(frozen=True)
class _Step:
    """One Gauss-Newton step: (4, 4) increment of T_model_camera, how far it moves the model (metres), and its inliers."""

    increment: Array
    reach: float
    H: Array
    centre: Array
    rmse: float
    used: NDArray[np.bool_]
    agreement: float


def _step(
    points: Array,
    normals: Array,
    surface: PointSurface,
    T_model_camera: Array,
    gate: float,
    outside_weight: float,
    settings: RefineSettings,
) -> _Step | None:
    """One step from a pose; None with fewer than 6 usable points."""
    cos_limit = np.cos(np.radians(settings.normal_angle_deg))
    local = apply(T_model_camera, points)
    distance, nearest = surface.nearest(local, gate)
    used = np.isfinite(distance)
    index = np.flatnonzero(used)
    n = surface.normals[nearest[index]]
    aligned = np.einsum("ij,ij->i", n, normals[index] @ T_model_camera[:3, :3].T) > cos_limit
    used[index[~aligned]] = False
    agreement = float(aligned.mean()) if len(index) else 0.0
    index, n = index[aligned], n[aligned]
    if len(index) < 6:
        return None
    p = local[index]
    r = np.einsum("ij,ij->i", n, p - surface.points[nearest[index]])
    w = (settings.scale**2 / (settings.scale**2 + r**2)) ** 2
    w = np.where(r > 0, outside_weight * w, w)
    centre = p.mean(axis=0)
    J = np.concatenate([n, np.cross(p - centre, n)], axis=1)
    H = (J * w[:, None]).T @ J
    step = -np.linalg.solve(H + damping(H), (J * w[:, None]).T @ r)
    reach = float(np.linalg.norm(step[:3]) + np.linalg.norm(step[3:]) * 0.1)
    rmse = float(np.sqrt(np.mean(r**2)))
    return _Step(left_increment(step, centre), reach, H, centre, rmse, used, agreement)


def damping(H: Array) -> Array:
    """A little of the diagonal: keeps a sliding direction (along the spine's axis) from running away."""
    return np.diag(1e-4 * np.diag(H) + 1e-9)


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
