"""Messages of ROS for tests, made by rosbags' classes, with what tests leave out filled in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from end2reg_ros.cloud.ros_messages import CameraInfo, Header, PointField, RegionOfInterest


def point_field(name: str, offset: int, datatype: int = 7) -> PointField:
    """One number a point; FLOAT32 unless told otherwise."""
    return PointField(name, offset, datatype, 1)


def camera_info(
    header: Header,
    size: tuple[int, int],
    K: Sequence[float],
    d: Sequence[float] = (),
    distortion_model: str = "plumb_bob",
) -> CameraInfo:
    """A calibration; ``size`` is height, width in pixels, ``K`` 9 numbers, row-major."""
    whole = RegionOfInterest(0, 0, 0, 0, False)
    numbers = np.array(d, dtype=np.float64), np.array(K, dtype=np.float64)
    return CameraInfo(header, *size, distortion_model, *numbers, np.eye(3).ravel(), np.zeros(12), 0, 0, whole)
