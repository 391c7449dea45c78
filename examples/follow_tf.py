"""A careful TF client: where one vertebra is, cloud by cloud, or why nothing can be said.

    python examples/follow_tf.py L3 [--prefix patient/] [--poses 100] [--patience 10]

It takes a pose only while the tracker vouches for it, and looks TF up at the exact stamp of that pose. The newest transform,
or one between two stamps, would still be there after the tracker has fallen silent. That is also why it keeps /tf itself: a
tf2_ros buffer answers for the time between two poses, too, by interpolation. (Where you use one, ask it for the stamp of a
message on `vertebrae`, never for Time().)
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import rclpy
from geometry_msgs.msg import Transform
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.utilities import remove_ros_args
from scipy.spatial.transform import Rotation
from tf2_msgs.msg import TFMessage

from end2reg_ros.msg import TrackingStatus, VertebraPose, VertebraPoseArray

STATUS_LIMIT_S = 1.5  # the tracker speaks at least once a second
POSE_LIMIT_S = 0.5
POSITION_LIMIT_M, ROTATION_LIMIT_DEG = 0.002, 3.0  # largest standard deviations
STAMPS_KEPT = 50

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def doubt(status: TrackingStatus | None, status_age_s: float) -> str | None:
    """Why the tracker vouches for nothing at the moment; None when it does."""
    if status is None:
        return "the tracker's status was never heard"
    if status_age_s > STATUS_LIMIT_S:
        return f"the tracker's status is {status_age_s:.0f} s old"
    if status.state != TrackingStatus.TRACKING:
        return f"state is {status.state_name}: {status.reason}"
    return None


def refusal(vertebra: VertebraPose) -> str | None:
    """Why this pose must not be used though the tracker vouches for it; None when it may."""
    if vertebra.held:
        return f"too little of {vertebra.level} is seen, it follows its neighbours"
    covariance = np.reshape(vertebra.pose.covariance, (6, 6))
    position_m, rotation_rad = (
        np.sqrt(np.linalg.eigvalsh(covariance[k : k + 3, k : k + 3])[-1]) for k in (0, 3)
    )
    if position_m > POSITION_LIMIT_M or np.degrees(rotation_rad) > ROTATION_LIMIT_DEG:
        return f"uncertain by {1000 * position_m:.1f} mm, {np.degrees(rotation_rad):.1f} deg"
    return None


def matrix(transform: Transform) -> NDArray[np.float64]:
    """(4, 4) of a transform: maps coordinates of the child into the parent, metres."""
    t, q = transform.translation, transform.rotation
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    T[:3, 3] = t.x, t.y, t.z
    return T


class FollowTf(Node):
    """Prints the poses of one level that may be used, and each new reason why one may not."""

    def __init__(self, level: str, prefix: str) -> None:
        super().__init__("follow_tf")
        self.used = 0
        self.fault: str | None = None
        self._level, self._spine, self._child = level, f"{prefix}spine", f"{prefix}{level}"
        self._status: TrackingStatus | None = None
        self._status_s = self._pose_s = time.monotonic()
        self._waiting: VertebraPoseArray | None = None
        self._transforms: dict[tuple[int, int], dict[str, tuple[str, NDArray[np.float64]]]] = {}
        self._said = ""
        self.create_subscription(TrackingStatus, "status", self._on_status, LATCHED)
        self.create_subscription(VertebraPoseArray, "vertebrae", self._on_vertebrae, 1)
        self.create_subscription(TFMessage, "/tf", self._on_tf, 100)
        self.create_timer(0.25, self._watch)

    def _on_status(self, status: TrackingStatus) -> None:
        self._status, self._status_s = status, time.monotonic()

    def _on_vertebrae(self, vertebrae: VertebraPoseArray) -> None:
        levels = [v.level for v in vertebrae.vertebrae]
        if self._level not in levels:
            self.fault = f"there is no level {self._level!r}; the tracker has {', '.join(levels)}"
        self._waiting, self._pose_s = vertebrae, time.monotonic()
        self._judge()

    def _on_tf(self, message: TFMessage) -> None:
        for entry in message.transforms:
            stamp = (entry.header.stamp.sec, entry.header.stamp.nanosec)
            self._transforms.setdefault(stamp, {})[entry.child_frame_id] = (
                entry.header.frame_id,
                matrix(entry.transform),
            )
        while len(self._transforms) > STAMPS_KEPT:
            del self._transforms[next(iter(self._transforms))]
        self._judge()

    def _judge(self) -> None:
        """Take or refuse the newest pose, as soon as TF has come for its very stamp."""
        if self._waiting is None or self.fault is not None:
            return
        stamp = self._waiting.header.stamp
        frames = self._transforms.get((stamp.sec, stamp.nanosec), {})
        if not {self._spine, self._child} <= frames.keys():
            return
        vertebra = next(v for v in self._waiting.vertebrae if v.level == self._level)
        self._waiting = None
        why = self._doubt() or refusal(vertebra)
        if why is not None:
            self._say_no(why)
            return
        camera, T_camera_spine = frames[self._spine]
        x, y, z = 1000 * (T_camera_spine @ frames[self._child][1])[:3, 3]
        print(
            f"{stamp.sec}.{stamp.nanosec:09d} {self._child} in {camera}: {x:.1f} {y:.1f} {z:.1f} mm",
            flush=True,
        )
        self._said = ""
        self.used += 1

    def _watch(self) -> None:
        """Silence is an answer, too."""
        silent_s = time.monotonic() - self._pose_s
        if silent_s <= POSE_LIMIT_S:
            return
        missing = "no transform at the stamp of its pose" if self._waiting is not None else "no pose comes"
        self._say_no(self._doubt() or missing)

    def _doubt(self) -> str | None:
        return doubt(self._status, time.monotonic() - self._status_s)

    def _say_no(self, why: str) -> None:
        if why != self._said:
            print(f"{self._child} not used: {why}", flush=True)
        self._said = why


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("level", help="name of the level, as in the case")
    parser.add_argument("--prefix", default="", help="the tracker's frame_prefix")
    parser.add_argument("--poses", type=int, default=0, help="end after so many; 0: go on")
    parser.add_argument("--patience", type=float, default=0.0, help="end after so many seconds; 0: go on")
    options = parser.parse_args(remove_ros_args(sys.argv)[1:])
    rclpy.init()
    node = FollowTf(options.level, options.prefix)
    end_s = time.monotonic() + options.patience if options.patience else float("inf")
    try:
        while node.fault is None and time.monotonic() < end_s and not 0 < options.poses <= node.used:
            rclpy.spin_once(node, timeout_sec=0.1)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    if node.fault is not None:
        sys.exit(f"follow_tf: {node.fault}")
    return 0 if node.used >= max(options.poses, 1) else 1


if __name__ == "__main__":
    sys.exit(main())
