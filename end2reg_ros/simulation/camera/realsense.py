"""sensor_msgs/PointCloud2 bytes in the layout of the RealSense driver: xyz at 0, 4, 8, four bytes unused, rgb at 16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from end2reg_ros.cloud.ros_messages import PointCloud2

POINT_STEP = 20
# The four bytes of rgb as one number: blue, green, red from the lowest byte on; the highest is not written.
POINT_DTYPE = np.dtype(
    {"names": ["xyz", "rgb"], "formats": [("<f4", 3), "<u4"], "offsets": [0, 16], "itemsize": POINT_STEP}
)
FIELDS = {"x": 0, "y": 4, "z": 8, "rgb": 16}  # name -> offset; all FLOAT32, count 1
FLOAT32 = 7


@dataclass(frozen=True)
class EncodedCloud:
    """What a PointCloud2 holds beside its header.

    Attributes:
        data: (height * width * POINT_STEP,) uint8.
        width, height: points a row, rows; height is 1 for an unorganised cloud.
        is_dense: no invalid points.
    """

    data: NDArray[np.uint8]
    width: int
    height: int
    is_dense: bool

    @property
    def row_step(self) -> int:
        """Bytes a row."""
        return self.width * POINT_STEP


def encode_realsense(
    points: NDArray[np.float32], colours: NDArray[np.uint8], ordered: bool = False
) -> EncodedCloud:
    """Encode an organised cloud as realsense-ros does.

    Args:
        points: (H, W, 3) metres, z NaN where invalid.
        colours: (H, W, 3) uint8 red, green, blue.
        ordered: keep the image's order, invalid points as (0, 0, 0), as with ``ordered_pc``; else they are dropped.
    """
    height, width = points.shape[:2]
    packed = _pack(colours)
    valid = np.isfinite(points[..., 2])
    if ordered:
        cloud = np.zeros(height * width, POINT_DTYPE)
        cloud["xyz"] = np.where(valid[..., None], points, np.float32(0)).reshape(-1, 3)
        cloud["rgb"] = packed.ravel()
        return EncodedCloud(cloud.view(np.uint8), width, height, bool(valid.all()))
    chosen = np.flatnonzero(valid)
    cloud = np.zeros(len(chosen), POINT_DTYPE)
    cloud["xyz"] = np.take(points.reshape(-1, 3), chosen, axis=0)
    cloud["rgb"] = np.take(packed.ravel(), chosen)
    return EncodedCloud(cloud.view(np.uint8), len(chosen), 1, True)


def cloud_message(cloud: EncodedCloud, frame_id: str, stamp_ns: int) -> PointCloud2:
    """A PointCloud2 without ROS, for decoding and for recordings."""
    from end2reg_ros.cloud.ros_messages import PointCloud2, PointField, header

    fields = [PointField(name, offset, FLOAT32, 1) for name, offset in FIELDS.items()]
    return PointCloud2(
        header(frame_id, stamp_ns), cloud.height, cloud.width, fields, False, POINT_STEP, cloud.row_step, cloud.data,
        cloud.is_dense,
    )  # fmt: skip


def _pack(colours: NDArray[np.uint8]) -> NDArray[np.uint32]:
    packed = colours[..., 0].astype(np.uint32)
    packed <<= 8
    packed |= colours[..., 1]
    packed <<= 8
    packed |= colours[..., 2]
    return packed
