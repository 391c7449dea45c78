"""Looks up TF at a stamp where tf2_ros is installed; says that it cannot where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from end2reg_ros.registration.find.initial_pose import Lookup, no_lookup
from end2reg_ros.ros.conversions import matrix_from_transform, stamp_from_ns

Array = NDArray[np.float64]


def make_lookup(node: Node) -> Lookup:
    """A function ``(target, source, stamp_ns) -> T_target_source``; its ``LookupError`` says what is amiss."""
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
