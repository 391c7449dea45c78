"""4x4 transforms and covariances <-> ROS messages. Stamps are handed through, never made here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import (
    Point,
    Pose,
    PoseStamped,
    PoseWithCovariance,
    PoseWithCovarianceStamped,
    Quaternion,
    Transform,
    TransformStamped,
    Vector3,
)
from numpy.typing import NDArray
from std_msgs.msg import Header

from end2reg_ros import names, se3

Array = NDArray[np.float64]


def stamp_from_ns(stamp_ns: int) -> Time:
    """A time message of nanoseconds."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def ns_from_stamp(stamp: Time) -> int:
    """Nanoseconds of a time message."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def header(frame_id: str, stamp_ns: int) -> Header:
    """A header."""
    return Header(frame_id=frame_id, stamp=stamp_from_ns(stamp_ns))


def pose_from_matrix(T_a_b: Array) -> Pose:
    """Pose of frame b in frame a, metres."""
    x, y, z = (float(v) for v in T_a_b[:3, 3])
    return Pose(position=Point(x=x, y=y, z=z), orientation=_quaternion(T_a_b))


def matrix_from_transform(transform: Transform) -> Array:
    """(4, 4) of a transform message: maps child coordinates into the parent frame."""
    t, q = transform.translation, transform.rotation
    rotation = se3.rotation_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
    return se3.from_rotation_translation(rotation, np.array([t.x, t.y, t.z]))


def transform_stamped(parent: str, child: str, T_parent_child: Array, stamp_ns: int) -> TransformStamped:
    """A transform as TF wants it: pose of ``child`` in ``parent``."""
    x, y, z = (float(v) for v in T_parent_child[:3, 3])
    return TransformStamped(
        header=header(parent, stamp_ns),
        child_frame_id=child,
        transform=Transform(translation=Vector3(x=x, y=y, z=z), rotation=_quaternion(T_parent_child)),
    )


def spine_transforms(
    prefix: str, frame_id: str, stamp_ns: int, T_camera_model: Array, T_camera_levels: Mapping[str, Array]
) -> list[TransformStamped]:
    """TF's chain of one cloud, all with its stamp: camera -> spine -> each level.

    Args:
        prefix: before the names of spine and levels.
        frame_id: the camera's frame.
        T_camera_model: (4, 4) pose of the spine.
        T_camera_levels: level -> (4, 4) pose of the vertebra.
    """
    spine, T_model_camera = prefix + names.SPINE, se3.inverse(T_camera_model)
    transforms = [transform_stamped(frame_id, spine, T_camera_model, stamp_ns)]
    transforms += [
        transform_stamped(spine, prefix + level, T_model_camera @ T_camera_level, stamp_ns)
        for level, T_camera_level in T_camera_levels.items()
    ]
    return transforms


def pose_stamped(frame_id: str, stamp_ns: int, T: Array) -> PoseStamped:
    """A stamped pose."""
    return PoseStamped(header=header(frame_id, stamp_ns), pose=pose_from_matrix(T))


def pose_with_covariance(T: Array, covariance: Array) -> PoseWithCovariance:
    """A pose and its (6, 6) covariance: order x y z rx ry rz, axes of the parent frame."""
    return PoseWithCovariance(
        pose=pose_from_matrix(T), covariance=np.asarray(covariance, dtype=np.float64).ravel()
    )


def pose_with_covariance_stamped(
    frame_id: str, stamp_ns: int, T: Array, covariance: Array
) -> PoseWithCovarianceStamped:
    """A stamped pose with covariance."""
    return PoseWithCovarianceStamped(
        header=header(frame_id, stamp_ns), pose=pose_with_covariance(T, covariance)
    )


def _quaternion(T: Array) -> Quaternion:
    x, y, z, w = (float(v) for v in se3.quaternion_from_rotation(T[:3, :3]))
    return Quaternion(x=x, y=y, z=z, w=w)
