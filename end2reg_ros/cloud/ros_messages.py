"""ROS 2 messages without ROS: rosbags' classes, for simulation, recordings, benchmarks and tests.

What only reads messages takes them by shape (``messages``) and does not import this: it costs 0.1 s.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys.stores.ros2_jazzy import builtin_interfaces__msg__Time as Time
from rosbags.typesys.stores.ros2_jazzy import geometry_msgs__msg__Point as Point
from rosbags.typesys.stores.ros2_jazzy import geometry_msgs__msg__Pose as Pose
from rosbags.typesys.stores.ros2_jazzy import geometry_msgs__msg__PoseWithCovariance as PoseWithCovariance
from rosbags.typesys.stores.ros2_jazzy import (
    geometry_msgs__msg__PoseWithCovarianceStamped as PoseWithCovarianceStamped,
)
from rosbags.typesys.stores.ros2_jazzy import geometry_msgs__msg__Quaternion as Quaternion
from rosbags.typesys.stores.ros2_jazzy import geometry_msgs__msg__Transform as Transform
from rosbags.typesys.stores.ros2_jazzy import geometry_msgs__msg__TransformStamped as TransformStamped
from rosbags.typesys.stores.ros2_jazzy import geometry_msgs__msg__Vector3 as Vector3
from rosbags.typesys.stores.ros2_jazzy import sensor_msgs__msg__CameraInfo as CameraInfo
from rosbags.typesys.stores.ros2_jazzy import sensor_msgs__msg__Image as Image
from rosbags.typesys.stores.ros2_jazzy import sensor_msgs__msg__PointCloud2 as PointCloud2
from rosbags.typesys.stores.ros2_jazzy import sensor_msgs__msg__PointField as PointField
from rosbags.typesys.stores.ros2_jazzy import sensor_msgs__msg__RegionOfInterest as RegionOfInterest
from rosbags.typesys.stores.ros2_jazzy import std_msgs__msg__Header as Header

from end2reg_ros import se3

__all__ = [
    "CameraInfo", "Header", "Image", "PointCloud2", "PointField", "PoseWithCovarianceStamped", "RegionOfInterest",
    "Time", "header", "pose_with_covariance", "transform",
]  # fmt: skip


def header(frame_id: str, stamp_ns: int) -> Header:
    """A header with a stamp in nanoseconds."""
    return Header(Time(stamp_ns // 10**9, stamp_ns % 10**9), frame_id)


def transform(
    parent: str, child: str, T_parent_child: NDArray[np.float64], stamp_ns: int
) -> TransformStamped:
    """A rigid transform (4, 4), metres."""
    turn = Quaternion(*map(float, se3.quaternion_from_rotation(T_parent_child[:3, :3])))
    shift = Vector3(*map(float, T_parent_child[:3, 3]))
    return TransformStamped(header(parent, stamp_ns), child, Transform(shift, turn))


def pose_with_covariance(
    frame_id: str, T: NDArray[np.float64], covariance: NDArray[np.float64], stamp_ns: int
) -> PoseWithCovarianceStamped:
    """A pose (4, 4) in ``frame_id``, metres, with its covariance (6, 6) about the origin, axes of ``frame_id``."""
    turn = Quaternion(*map(float, se3.quaternion_from_rotation(T[:3, :3])))
    pose = PoseWithCovariance(Pose(Point(*map(float, T[:3, 3])), turn), covariance.ravel())
    return PoseWithCovarianceStamped(header(frame_id, stamp_ns), pose)
