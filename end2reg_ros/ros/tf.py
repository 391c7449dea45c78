"""TF beside the tracked poses: the planned screws as static children, and looking transforms up."""

from __future__ import annotations

from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.node import Node

from end2reg_ros import names, se3
from end2reg_ros.case.model import Case, Screw
from end2reg_ros.registration.find.initial_pose import Lookup, no_lookup
from end2reg_ros.ros.conversions import matrix_from_transform, stamp_from_ns, transform_stamped

Array = NDArray[np.float64]


def screw_pose(screw: Screw) -> Array:
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
            child = names.screw_frame(parent, screw.side)
            transforms.append(transform_stamped(parent, child, T_level_model @ screw_pose(screw), 0))
    return transforms


def make_lookup(node: Node) -> Lookup:
    """A function ``(target, source, stamp_ns) -> T_target_source``; its ``LookupError`` says what is amiss.

    Without tf2_ros (it is no part of the wheels) every lookup says that it cannot.
    """
    try:
        import tf2_ros
    except ImportError:
        return no_lookup
    buffer = tf2_ros.Buffer()
    listener = tf2_ros.TransformListener(buffer, node)

    def lookup(target: str, source: str, stamp_ns: int, _keep: Any = listener) -> Array:
        from rclpy.time import Time

        try:
            time = Time.from_msg(stamp_from_ns(stamp_ns))
            return matrix_from_transform(buffer.lookup_transform(target, source, time).transform)
        except (tf2_ros.TransformException, ValueError) as fault:  # not known, or no rotation
            raise LookupError(str(fault).splitlines()[0]) from None

    return lookup
