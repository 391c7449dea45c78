"""TF out: one TFMessage a frame with spine and vertebrae; the planned screws as static children."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from end2reg_ros import se3
from end2reg_ros.case.model import Case, Screw
from end2reg_ros.registration.types import Registration
from end2reg_ros.ros import qos
from end2reg_ros.ros.conversions import transform_stamped
from end2reg_ros.runtime.poses import LevelPose

Array = NDArray[np.float64]


def dynamic_transforms(
    prefix: str, frame_id: str, stamp_ns: int, T_camera_model: Array, levels: Iterable[LevelPose]
) -> list[TransformStamped]:
    """camera -> spine -> each level, all with the cloud's stamp."""
    spine = prefix + "spine"
    T_model_camera = se3.inverse(T_camera_model)
    transforms = [transform_stamped(frame_id, spine, T_camera_model, stamp_ns)]
    transforms += [
        transform_stamped(spine, prefix + p.level, T_model_camera @ p.T_camera_level, stamp_ns)
        for p in levels
    ]
    return transforms


def screw_frame(screw: Screw) -> Array:
    """T_model_screw (4, 4): origin at the entry point, z along the trajectory, x across it."""
    z = screw.tip - screw.entry
    z = z / np.linalg.norm(z)
    across = np.eye(3)[int(np.argmin(np.abs(z)))]
    x = across - (across @ z) * z
    x /= np.linalg.norm(x)
    return se3.from_rotation_translation(np.stack([x, np.cross(z, x), z], axis=1), screw.entry)


def static_transforms(prefix: str, case: Case) -> list[TransformStamped]:
    """level -> level/screw_side for every planned screw; stamp zero, as it holds at all times."""
    transforms = []
    for vertebra in case.vertebrae:
        T_level_model = se3.inverse(vertebra.T_model_level)
        for screw in vertebra.screws:
            parent = prefix + vertebra.level
            child = f"{parent}/screw_{screw.side}"
            transforms.append(transform_stamped(parent, child, T_level_model @ screw_frame(screw), 0))
    return transforms


class TransformPublisher:
    """Publishes on /tf and /tf_static, as tf2_ros' broadcasters do."""

    def __init__(self, node: Node, prefix: str) -> None:
        self._node = node
        self._prefix = prefix
        self._dynamic = node.create_publisher(TFMessage, "/tf", qos.tf())
        self._static = node.create_publisher(TFMessage, "/tf_static", qos.tf_static())

    def publish_static(self, case: Case) -> None:
        """Once: the planned screws."""
        transforms = static_transforms(self._prefix, case)
        if transforms:
            self._static.publish(TFMessage(transforms=transforms))

    def publish(
        self, frame_id: str, stamp_ns: int, registration: Registration, levels: Iterable[LevelPose]
    ) -> None:
        """One message for one cloud."""
        T = registration.T_camera_model
        self._dynamic.publish(
            TFMessage(transforms=dynamic_transforms(self._prefix, frame_id, stamp_ns, T, levels))
        )

    def close(self) -> None:
        """Give both publishers back."""
        self._node.destroy_publisher(self._dynamic)
        self._node.destroy_publisher(self._static)
