"""The messages that this package reads, by shape alone: those of rclpy and of rosbags (``ros_messages``) fit."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# sensor_msgs/PointField datatypes -> numpy type codes without byte order.
POINT_FIELD_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}


class PointFieldLike(Protocol):
    """sensor_msgs/PointField."""

    name: str
    offset: int
    datatype: int
    count: int


class PointCloud2Like(Protocol):
    """sensor_msgs/PointCloud2; ``data`` is anything with the buffer interface."""

    header: Any
    height: int
    width: int
    fields: Any
    is_bigendian: bool
    point_step: int
    row_step: int
    data: Any


class ImageLike(Protocol):
    """sensor_msgs/Image; ``data`` is anything with the buffer interface."""

    header: Any
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class CameraInfoLike(Protocol):
    """sensor_msgs/CameraInfo: K is ``k`` (9, row-major, pixels) of the whole sensor, distortion is ``d``."""

    header: Any
    height: int
    width: int
    distortion_model: str
    d: Any
    k: Any
    binning_x: int
    binning_y: int
    roi: Any


def stamp_ns(message: Any) -> int:
    """Stamp of a message's header in nanoseconds."""
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def as_bytes(data: Any) -> NDArray[np.uint8]:
    """(B,) uint8 view of a message's data (``array.array``, ``bytes``, numpy array); a list is copied."""
    if isinstance(data, list):
        data = bytes(data)
    return np.frombuffer(data, dtype=np.uint8)


def same_bytes(first: Any, second: Any) -> bool:
    """Whether two messages' data (``array.array``, ``bytes``, numpy arrays, in any mixture) hold the same bytes."""
    a, b = as_bytes(first), as_bytes(second)
    # A live camera's noise shows in the first few: the rest need not be looked at.
    return len(a) == len(b) and np.array_equal(a[:4096], b[:4096]) and np.array_equal(a, b)
