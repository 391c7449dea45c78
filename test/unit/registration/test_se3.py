"""Rigid transforms: against scipy, and against their own definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from end2reg_ros import se3

ROTATIONS = [
    *Rotation.random(40, random_state=1),
    Rotation.identity(),
    *Rotation.from_euler("xyz", np.eye(3) * np.pi),
]


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_quaternion_and_angle_agree_with_scipy(rotation: Rotation) -> None:
    R = rotation.as_matrix()
    q = se3.quaternion_from_rotation(R)
    assert abs(abs(q @ rotation.as_quat()) - 1) < 1e-12
    assert q[3] >= 0
    np.testing.assert_allclose(se3.rotation_from_quaternion(3.0 * q), R, atol=1e-12)
    assert se3.rotation_angle(R) == pytest.approx(rotation.magnitude(), abs=1e-7)
    np.testing.assert_allclose(se3.rotation_from_vector(rotation.as_rotvec()), R, atol=1e-12)


def test_inverse_undoes_apply() -> None:
    T = se3.from_rotation_translation(ROTATIONS[0].as_matrix(), np.array([0.1, -2.0, 0.5]))
    points = np.random.default_rng(0).normal(size=(7, 3))
    np.testing.assert_allclose(se3.apply(se3.inverse(T), se3.apply(T, points)), points, atol=1e-12)


def test_no_quaternion_is_refused() -> None:
    with pytest.raises(ValueError, match="not a quaternion"):
        se3.rotation_from_quaternion(np.zeros(4))
    with pytest.raises(ValueError, match="not a quaternion"):
        se3.rotation_from_quaternion(np.array([np.nan, 0, 0, 1]))


def test_rigid_check_sees_scale_mirror_and_nan() -> None:
    T = se3.from_rotation_translation(ROTATIONS[3].as_matrix(), np.ones(3))
    assert se3.is_rigid(T)
    assert not se3.is_rigid(T * np.array([1.1, 1, 1, 1]))
    assert not se3.is_rigid(T @ np.diag([1.0, 1.0, -1.0, 1.0]))
    assert not se3.is_rigid(np.full((4, 4), np.nan))
    assert not se3.is_rigid(np.eye(3))


def test_moved_covariance_matches_sampled_pose_errors() -> None:
    """Sample twists about one point, watch another point of the same body: the spread is the moved covariance."""
    rng = np.random.default_rng(2)
    A = rng.normal(size=(6, 6)) * 1e-3
    covariance = A @ A.T
    offset = np.array([0.1, -0.2, 0.3])
    twists = rng.multivariate_normal(np.zeros(6), covariance, size=200_000)
    moved = np.concatenate([twists[:, :3] + np.cross(twists[:, 3:], offset), twists[:, 3:]], axis=1)
    np.testing.assert_allclose(se3.move_covariance(covariance, offset), np.cov(moved.T), rtol=0.05, atol=2e-7)


def test_rotation_vectors_come_back() -> None:
    """Of less than half a turn, down to none; near half a turn the sine is small and the vector still right."""
    rng = np.random.default_rng(3)
    for angle in (0.0, 1e-12, 1e-7, 0.01, 1.0, 3.0, np.pi - 1e-4):
        axis = rng.normal(size=3)
        vector = angle * axis / np.linalg.norm(axis)
        np.testing.assert_allclose(
            se3.rotation_vector(se3.rotation_from_vector(vector)), vector, rtol=1e-6, atol=1e-12
        )
