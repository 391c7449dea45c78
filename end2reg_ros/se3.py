"""Rigid transforms as 4x4 matrices. ``T_a_b`` maps coordinates in frame b into frame a; metres and radians.

Twists are ordered (translation, rotation), as the 6x6 covariance of a ROS pose is (REP-103 fixed axes: x, y, z,
rotation about x, y, z).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def identity() -> Array:
    """4x4 identity."""
    return np.eye(4)


def from_rotation_translation(rotation: Array, translation: Array) -> Array:
    """4x4 transform from a (3, 3) rotation and a (3,) translation in metres."""
    T = np.eye(4)
    T[:3, :3] = rotation
    T[:3, 3] = translation
    return T


def inverse(T_a_b: Array) -> Array:
    """T_b_a of a rigid T_a_b."""
    R = T_a_b[:3, :3].T
    return from_rotation_translation(R, -R @ T_a_b[:3, 3])


def apply(T_a_b: Array, points_b: NDArray[np.floating]) -> Array:
    """Points (..., 3) of frame b in frame a."""
    result: Array = points_b @ T_a_b[:3, :3].T + T_a_b[:3, 3]
    return result


def skew(v: Array) -> Array:
    """(3, 3) matrix with ``skew(v) @ w == cross(v, w)``."""
    x, y, z = v
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def rotation_from_vector(rotvec: Array) -> Array:
    """(3, 3) rotation of a rotation vector in radians (Rodrigues)."""
    angle = float(np.linalg.norm(rotvec))
    if angle < 1e-12:
        return np.eye(3) + skew(rotvec)
    K = skew(np.asarray(rotvec) / angle)
    return np.eye(3) + np.sin(angle) * K + (1.0 - np.cos(angle)) * (K @ K)


def rotation_vector(R: Array) -> Array:
    """Rotation vector (3,) in radians of a (3, 3) rotation of less than half a turn."""
    axis = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    sine = float(np.linalg.norm(axis)) / 2
    if sine < 1e-9:
        return np.asarray(axis / 2)
    return np.asarray(axis / (2 * sine) * np.arctan2(sine, (np.trace(R) - 1.0) / 2))


def rotation_angle(R: Array) -> float:
    """Angle of a (3, 3) rotation in radians, accurate near 0 and near pi."""
    sin2 = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    return float(np.arctan2(np.linalg.norm(sin2), np.trace(R) - 1.0))


def quaternion_from_rotation(R: Array) -> Array:
    """Unit quaternion (x, y, z, w) of a (3, 3) rotation, w >= 0."""
    # Largest of the four squared components first: no division by a small number (Shepperd 1978).
    squares = np.array(
        [
            1.0 + R[0, 0] - R[1, 1] - R[2, 2],
            1.0 - R[0, 0] + R[1, 1] - R[2, 2],
            1.0 - R[0, 0] - R[1, 1] + R[2, 2],
            1.0 + R[0, 0] + R[1, 1] + R[2, 2],
        ]
    )
    k = int(np.argmax(squares))
    s = 2.0 * np.sqrt(max(squares[k], 1e-300))
    if k == 3:
        q = [(R[2, 1] - R[1, 2]) / s, (R[0, 2] - R[2, 0]) / s, (R[1, 0] - R[0, 1]) / s, s / 4]
    elif k == 0:
        q = [s / 4, (R[0, 1] + R[1, 0]) / s, (R[0, 2] + R[2, 0]) / s, (R[2, 1] - R[1, 2]) / s]
    elif k == 1:
        q = [(R[0, 1] + R[1, 0]) / s, s / 4, (R[1, 2] + R[2, 1]) / s, (R[0, 2] - R[2, 0]) / s]
    else:
        q = [(R[0, 2] + R[2, 0]) / s, (R[1, 2] + R[2, 1]) / s, s / 4, (R[1, 0] - R[0, 1]) / s]
    quaternion = np.array(q)
    quaternion /= np.linalg.norm(quaternion)
    return quaternion if quaternion[3] >= 0 else -quaternion


def rotation_from_quaternion(xyzw: Array) -> Array:
    """(3, 3) rotation of a quaternion (x, y, z, w); any non-zero length.

    Raises:
        ValueError: a quaternion of length zero or with a non-finite component.
    """
    q = np.asarray(xyzw, dtype=np.float64)
    length = float(np.linalg.norm(q))
    if not np.isfinite(length) or length < 1e-9:
        raise ValueError(f"not a quaternion: {xyzw}")
    x, y, z, w = q / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def is_rigid(T: Array, tolerance: float = 1e-4) -> bool:
    """Whether T is 4x4, finite, with an orthonormal right-handed rotation."""
    if T.shape != (4, 4) or not np.isfinite(T).all() or not np.allclose(T[3], [0, 0, 0, 1], atol=1e-9):
        return False
    R = T[:3, :3]
    return bool(np.abs(R @ R.T - np.eye(3)).max() < tolerance and np.linalg.det(R) > 0)


def move_covariance(covariance: Array, offset: Array) -> Array:
    """Covariance (6, 6) of a pose about a reference point moved by ``offset`` (metres, same axes).

    A rotation error about the old point moves the new point: d_new = d_old + rot x offset.
    """
    J = np.eye(6)
    J[:3, 3:] = -skew(offset)
    return np.asarray(J @ covariance @ J.T)


def unknown_covariance() -> Array:
    """(6, 6) of a pose about which nothing is known: a metre and a radian (finite, so that it can be moved)."""
    return np.eye(6)


def covariance_at(covariance: Array, T_camera_model: Array, point: Array) -> Array:
    """(6, 6) covariance of the pose about a model point (3,), from the one about the posed model origin."""
    return move_covariance(covariance, apply(T_camera_model, point) - T_camera_model[:3, 3])


def largest_stddev(covariance: Array) -> tuple[float, float]:
    """Largest standard deviation of position (metres) and of rotation (radians), over all directions."""
    position, rotation = (
        float(np.sqrt(max(np.linalg.eigvalsh(covariance[k : k + 3, k : k + 3]).max(), 0.0))) for k in (0, 3)
    )
    return position, rotation


def best_rotation(covariance: Array) -> Array:
    """(3, 3) rotation from the covariance (3, 3) of target and source points, summed over their pairs."""
    U, _, Vt = np.linalg.svd(covariance)
    D = np.diag([1.0, 1.0, np.sign(np.linalg.det(U @ Vt))])
    return np.asarray(U @ D @ Vt)
