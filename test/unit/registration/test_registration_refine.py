"""The refinement: recovers a known pose in millimetres, agrees with its search-tree reference, tells its uncertainty."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from views import registrar, tre_mm

from end2reg_ros.registration.classical import unguided_start
from end2reg_ros.registration.fit.refine import refine
from end2reg_ros.registration.fit.surface import PointSurface
from end2reg_ros.registration.settings import RefineSettings
from end2reg_ros.se3 import apply, from_rotation_translation, inverse, rotation_from_vector

T_TRUE = unguided_start(registrar().local.centre, np.array([0.02, -0.01, 0.55]))


def scene(seed: int, noise_m: float, count: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Points of the visible surface in the camera frame with isotropic noise, and their normals."""
    surface, rng = registrar().local.surface, np.random.default_rng(seed)
    pick = rng.choice(len(surface.points), count, replace=False)
    points = apply(T_TRUE, surface.points[pick]) + rng.normal(scale=noise_m, size=(count, 3))
    return points, surface.normals[pick] @ T_TRUE[:3, :3].T


def start(seed: int, shift_mm: float, turn_deg: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shift, axis = rng.normal(size=3), rng.normal(size=3)
    R = rotation_from_vector(np.radians(turn_deg) * axis / np.linalg.norm(axis))
    centre = registrar().local.centre
    moved = from_rotation_translation(
        R, centre - R @ centre + shift_mm / 1000 * shift / np.linalg.norm(shift)
    )
    return T_TRUE @ moved


@pytest.mark.parametrize("seed", range(6))
def test_known_pose_is_recovered(seed: int) -> None:
    points, normals = scene(seed, noise_m=0.0)
    settings = replace(RefineSettings(), max_iterations=40)
    found = refine(points, normals, registrar().local.surface, start(seed, 2.0, 1.5), settings)
    assert tre_mm(found.T_camera_model, T_TRUE) < 0.15
    assert found.inliers.mean() > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_grid_and_search_tree_lead_to_the_same_pose(seed: int) -> None:
    surface = registrar().local.surface
    reference = PointSurface(surface.points, surface.normals, surface.tree)
    points, normals = scene(seed, noise_m=0.0005)
    settings = replace(RefineSettings(), max_iterations=40)
    fast = refine(points, normals, surface, start(seed, 1.5, 1.0), settings)
    slow = refine(points, normals, reference, start(seed, 1.5, 1.0), settings)
    assert tre_mm(fast.T_camera_model, slow.T_camera_model) < 0.1


def test_distractors_within_the_gate_do_not_pull() -> None:
    """A sheet of tissue 2-4 mm above the bone, a third as many points: the pose stays within 0.4 mm."""
    points, normals = scene(1, noise_m=0.0005)
    rng = np.random.default_rng(9)
    sheet = points[::3] - np.array([0, 0, 1]) * rng.uniform(0.002, 0.004, size=(len(points[::3]), 1))
    up = np.tile([0.0, 0.0, -1.0], (len(sheet), 1))
    both, turned = np.concatenate([points, sheet]), np.concatenate([normals, up])
    found = refine(both, turned, registrar().local.surface, start(1, 1.0, 0.5), RefineSettings())
    assert tre_mm(found.T_camera_model, T_TRUE) < 0.4


def test_too_few_points_leave_the_start_and_say_so() -> None:
    points, normals = scene(0, 0.0, count=5)
    found = refine(points, normals, registrar().local.surface, T_TRUE, RefineSettings())
    np.testing.assert_array_equal(found.T_camera_model, T_TRUE)
    assert not found.inliers.any()
    assert found.covariance[0, 0] >= 1.0


def test_covariance_matches_the_spread_over_noise() -> None:
    """Independent noise, no bias: the pose error at the spine's centre is as large as the covariance says."""
    settings = RefineSettings(correlation_points=1.0, bias_stddev=0.0, max_iterations=25, scale=0.01)
    surface, centre = registrar().local.surface, registrar().local.centre
    errors, predicted = [], []
    for seed in range(25):
        points, normals = scene(seed, noise_m=0.0006, count=1500)
        found = refine(points, normals, surface, T_TRUE, settings)
        errors.append(apply(found.T_camera_model, centre) - apply(T_TRUE, centre))
        offset = apply(found.T_camera_model, centre) - found.T_camera_model[:3, 3]
        from end2reg_ros.se3 import move_covariance

        predicted.append(np.sqrt(np.diag(move_covariance(found.covariance, offset))[:3]))
    ratio = np.std(errors, axis=0) / np.mean(predicted, axis=0)
    assert (ratio > 0.5).all() and (ratio < 2.0).all()


def test_a_single_flat_patch_is_uncertain_along_itself() -> None:
    """Points of one plane only: sliding along it must show as a large variance in that direction."""
    x, y = np.meshgrid(np.linspace(-0.02, 0.02, 41), np.linspace(-0.02, 0.02, 41))
    plane = np.stack([x.ravel(), y.ravel(), np.full(x.size, 0.5)], axis=1)
    facing = np.tile([0.0, 0.0, -1.0], (len(plane), 1))
    from scipy.spatial import cKDTree

    found = refine(plane, facing, PointSurface(plane, facing, cKDTree(plane)), np.eye(4), RefineSettings())
    across = move_to(found.covariance, plane.mean(axis=0))
    assert across[0, 0] > 100 * across[2, 2]
    assert across[1, 1] > 100 * across[2, 2]


def move_to(covariance: np.ndarray, point: np.ndarray) -> np.ndarray:
    from end2reg_ros.se3 import move_covariance

    return move_covariance(covariance, point)


def test_a_start_given_the_wrong_way_round_leads_nowhere() -> None:
    """The start is T_camera_model. Its inverse lays the model behind the camera: nothing is within reach, nothing moves."""
    points, normals = scene(0, noise_m=0.0)
    surface = registrar().local.surface
    T_wrong = inverse(start(0, 1.0, 0.5))
    lost = refine(points, normals, surface, T_wrong, RefineSettings())
    np.testing.assert_array_equal(lost.T_camera_model, T_wrong)
    assert not lost.inliers.any()
    found = refine(points, normals, surface, inverse(T_wrong), RefineSettings())
    assert tre_mm(found.T_camera_model, T_TRUE) < 0.5
