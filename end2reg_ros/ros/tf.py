"""TF: the tracked chain and its end, the planned screws as static children, and looking transforms up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from end2reg_ros import names, se3
from end2reg_ros.case.model import Case, Screw
from end2reg_ros.registration.find.initial_pose import Lookup, no_lookup
from end2reg_ros.ros.conversions import (
    matrix_from_transform,
    spine_transforms,
    stamp_from_ns,
    transform_stamped,
)

Array = NDArray[np.float64]


class TrackedChain:
    """The chain ``camera -> spine -> levels`` on /tf: attached with each pose, detached when there is none any more.

    TF cannot take a transform back: it would answer "latest" with the last pose for ever, and once the track is back it
    would interpolate across the gap. So the end of a track is one transform ``untracked -> spine``, a nanosecond after the
    last pose: tf2 does not interpolate between samples of different parents, and the older one counts until the newer
    one. Lookups at published stamps stay right; all others from there to the next pose fail. Every pose moves all
    levels, so no level needs an end of its own. May be used from any thread.

    Args:
        send: puts a message on /tf.
        prefix: before the names of all frames but the camera's.
        detaches: whether ``detach`` does anything.
        simulated_now_ns: ROS time where it is simulated, None where it is the system's.
    """

    def __init__(
        self,
        send: Callable[[TFMessage], object],
        prefix: str,
        detaches: bool,
        simulated_now_ns: Callable[[], int | None],
    ) -> None:
        self._send = send
        self._prefix = prefix
        self._detaches = detaches
        self._simulated_now_ns = simulated_now_ns
        self._lock = threading.Lock()
        self._pose_ns: int | None = None  # stamp of the last pose; None while detached

    def attach(
        self, frame_id: str, stamp_ns: int, T_camera_model: Array, T_camera_levels: Mapping[str, Array]
    ) -> None:
        """Publish one pose of the spine, (4, 4), and of each level in the camera's frame, metres."""
        transforms = spine_transforms(self._prefix, frame_id, stamp_ns, T_camera_model, T_camera_levels)
        with self._lock:
            self._pose_ns = stamp_ns
            self._send(TFMessage(transforms=transforms))

    def detach(self) -> None:
        """End the track; nothing where it has ended already."""
        with self._lock:
            pose_ns, self._pose_ns = self._pose_ns, None
            if pose_ns is None or not self._detaches:
                return
            now_ns = self._simulated_now_ns()
            if now_ns is not None and pose_ns > now_ns:
                return  # a recording began anew: tf2's buffers are empty, and must not get a stamp of their future
            parent, child = self._prefix + names.UNTRACKED, self._prefix + names.SPINE
            self._send(TFMessage(transforms=[transform_stamped(parent, child, np.eye(4), pose_ns + 1)]))


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
