"""sensor_msgs/PointCloud2 bytes in the layout of the RealSense driver: xyz at 0, 4, 8, four bytes unused, rgb at 16."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.messages import Header, PointCloud2Data, PointField, Stamp

POINT_STEP = 20
# The four bytes of rgb as one number: blue, green, red from the lowest byte on; the highest is not written.
POINT_DTYPE = np.dtype(
    {"names": ["xyz", "rgb"], "formats": [("<f4", 3), "<u4"], "offsets": [0, 16], "itemsize": POINT_STEP}
)
FIELDS = (
    PointField("x", 0),
    PointField("y", 4),
    PointField("z", 8),
    PointField("rgb", 16),
)


@dataclass(frozen=True)
class EncodedCloud:
    """What a PointCloud2 holds beside its header.

    Attributes:
        data: (height * row_step,) uint8.
        width, height: points a row, rows; height is 1 for an unorganised cloud.
        point_step, row_step: bytes.
        is_dense: no invalid points.
        fields: x, y, z, rgb, all FLOAT32 (7), count 1.
    """

    data: NDArray[np.uint8]
    width: int
    height: int
    point_step: int
    row_step: int
    is_dense: bool
    fields: tuple[PointField, ...] = FIELDS


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
        return EncodedCloud(
            cloud.view(np.uint8), width, height, POINT_STEP, width * POINT_STEP, bool(valid.all())
        )
    chosen = np.flatnonzero(valid)
    cloud = np.zeros(len(chosen), POINT_DTYPE)
    cloud["xyz"] = np.take(points.reshape(-1, 3), chosen, axis=0)
    cloud["rgb"] = np.take(packed.ravel(), chosen)
    return EncodedCloud(cloud.view(np.uint8), len(chosen), 1, POINT_STEP, len(chosen) * POINT_STEP, True)


def encode_realsense_reference(points: NDArray[np.float32], colours: NDArray[np.uint8]) -> bytes:
    """The same bytes as ``encode_realsense(points, colours).data``, point by point: slow and obvious."""
    import struct

    rows = zip(points.reshape(-1, 3), colours.reshape(-1, 3), strict=True)
    return b"".join(
        struct.pack("<fff4xBBBx", *map(float, p), int(c[2]), int(c[1]), int(c[0]))
        for p, c in rows
        if np.isfinite(p[2])
    )


def cloud_message(cloud: EncodedCloud, frame_id: str, stamp_ns: int) -> PointCloud2Data:
    """A PointCloud2 without ROS, for decoding and for recordings."""
    header = Header(Stamp.from_ns(stamp_ns), frame_id)
    return PointCloud2Data(
        header, cloud.height, cloud.width, cloud.fields, False, cloud.point_step, cloud.row_step, cloud.data,
        cloud.is_dense,
    )  # fmt: skip


def _pack(colours: NDArray[np.uint8]) -> NDArray[np.uint32]:
    packed = colours[..., 0].astype(np.uint32)
    packed <<= 8
    packed |= colours[..., 1]
    packed <<= 8
    packed |= colours[..., 2]
    return packed
