"""The messages that this package reads, by shape alone: rclpy, rosbags and plain dataclasses all fit.

The dataclasses carry the field names of the ROS messages, for simulation, tests and programs without ROS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# sensor_msgs/PointField datatypes -> numpy type codes without byte order.
POINT_FIELD_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}


class PointFieldLike(Protocol):
    """sensor_msgs/PointField."""

    @property
    def name(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def datatype(self) -> int: ...
    @property
    def count(self) -> int: ...


class PointCloud2Like(Protocol):
    """sensor_msgs/PointCloud2; ``data`` is anything with the buffer interface."""

    @property
    def header(self) -> Any: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def fields(self) -> Sequence[Any]: ...
    @property
    def is_bigendian(self) -> bool: ...
    @property
    def point_step(self) -> int: ...
    @property
    def row_step(self) -> int: ...
    @property
    def data(self) -> Any: ...


class ImageLike(Protocol):
    """sensor_msgs/Image; ``data`` is anything with the buffer interface."""

    @property
    def header(self) -> Any: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def encoding(self) -> str: ...
    @property
    def is_bigendian(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def data(self) -> Any: ...


class CameraInfoLike(Protocol):
    """sensor_msgs/CameraInfo: K is ``k`` (9, row-major, pixels), distortion is ``d``."""

    @property
    def header(self) -> Any: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def distortion_model(self) -> str: ...
    @property
    def d(self) -> Any: ...
    @property
    def k(self) -> Any: ...


@dataclass(frozen=True)
class Stamp:
    """builtin_interfaces/Time."""

    sec: int = 0
    nanosec: int = 0

    @staticmethod
    def from_ns(stamp_ns: int) -> Stamp:
        """From nanoseconds."""
        return Stamp(stamp_ns // 1_000_000_000, stamp_ns % 1_000_000_000)


@dataclass(frozen=True)
class Header:
    """std_msgs/Header."""

    stamp: Stamp = Stamp()
    frame_id: str = ""


@dataclass(frozen=True)
class PointField:
    """sensor_msgs/PointField; datatype 7 is FLOAT32."""

    name: str
    offset: int
    datatype: int = 7
    count: int = 1


@dataclass(frozen=True)
class PointCloud2Data:
    """sensor_msgs/PointCloud2 without ROS."""

    header: Header
    height: int
    width: int
    fields: Sequence[PointField]
    is_bigendian: bool
    point_step: int
    row_step: int
    data: Any
    is_dense: bool = False


@dataclass(frozen=True)
class ImageData:
    """sensor_msgs/Image without ROS."""

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


@dataclass(frozen=True)
class CameraInfoData:
    """sensor_msgs/CameraInfo without ROS."""

    header: Header
    height: int
    width: int
    k: Sequence[float]
    d: Sequence[float] = field(default_factory=tuple)
    distortion_model: str = "plumb_bob"


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
