"""The registered points with their label, as a cloud to look at. Free of rclpy but for the message types."""

from __future__ import annotations

import array

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField

from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.types import Registration
from end2reg_ros.ros.conversions import header

LAYOUT = np.dtype(
    {
        "names": ["x", "y", "z", "rgb", "label"],
        "formats": ["<f4", "<f4", "<f4", "<u4", "u1"],
        "offsets": [0, 4, 8, 12, 16],
        "itemsize": 20,
    }
)
BONE_COLOUR = 0x00F2D16B


def labels(cloud: Cloud, registration: Registration | None) -> np.ndarray:
    """(N,) uint8: 1 for the points that the method used as bone."""
    label = np.zeros(len(cloud.points), np.uint8)
    if registration is not None and registration.relevant is not None:
        label[registration.relevant] = 1
    return label


def segmentation_message(cloud: Cloud, registration: Registration | None) -> PointCloud2:
    """x, y, z (metres), rgb and label of every valid point; frame and stamp of the cloud."""
    records = np.zeros(len(cloud.points), LAYOUT)
    for axis, name in enumerate("xyz"):
        records[name] = cloud.points[:, axis]
    label = labels(cloud, registration)
    if cloud.colours is not None:
        c = cloud.colours.astype(np.uint32)
        records["rgb"] = (c[:, 0] << 16) | (c[:, 1] << 8) | c[:, 2]
    records["rgb"][label == 1] = BONE_COLOUR
    records["label"] = label
    field = PointField
    return PointCloud2(
        header=header(cloud.frame_id, cloud.stamp_ns),
        height=1,
        width=len(records),
        fields=[
            field(name="x", offset=0, datatype=field.FLOAT32, count=1),
            field(name="y", offset=4, datatype=field.FLOAT32, count=1),
            field(name="z", offset=8, datatype=field.FLOAT32, count=1),
            field(name="rgb", offset=12, datatype=field.FLOAT32, count=1),
            field(name="label", offset=16, datatype=field.UINT8, count=1),
        ],
        is_bigendian=False,
        point_step=LAYOUT.itemsize,
        row_step=LAYOUT.itemsize * len(records),
        # an array: a list or plain bytes would be converted byte by byte
        data=array.array("B", records.tobytes()),
        is_dense=True,
    )
