"""What the camera's topics give -> a cloud: a PointCloud2, or a depth image with its calibration. Free of ROS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from end2reg_ros.cloud.depth import decode_depth
from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.pointcloud2 import decode
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CloudError
from end2reg_ros.reasons import Reason


@dataclass(frozen=True)
class DepthFrame:
    """A depth image with what is needed to make points of it; ``info`` None: none has arrived yet."""

    depth: Any
    info: Any
    colour: Any

    @property
    def header(self) -> Any:
        """The depth image's: its stamp and frame are those of the cloud."""
        return self.depth.header


def decode_frame(frame: DepthFrame, limits: CloudLimits) -> Cloud:
    """A depth frame to a cloud.

    Raises:
        CloudError: ``no_camera_info`` and all of ``cloud.depth.decode_depth``.
    """
    if frame.info is None:
        raise CloudError(
            Reason.NO_CAMERA_INFO, "no depth/camera_info has arrived: depth cannot be made into points"
        )
    return decode_depth(frame.depth, frame.info, frame.colour, limits)


def decoder(kind: str) -> tuple[Callable[[Any, CloudLimits], Cloud], Callable[[Any], Any]]:
    """How ``points`` or ``depth`` become a cloud, and the bytes whose repetition means a frozen camera."""
    if kind == "depth":
        return decode_frame, lambda frame: frame.depth.data
    return decode, lambda message: message.data
