"""A client of TF and the status that knows the truth, too, and prints one JSON line for every cloud.

``python -m end2reg_ros.ros.listener_main --ros-args -p case:=CASE`` (parameters: ``case``, the folder whose landmarks
give the errors; ``frame_prefix``, the tracker's; ``truth_prefix``). Lines on standard output: ``{"kind": "listening"}``
once, ``{"kind": "status", ...}`` for every status received, ``{"kind": "frame", ...}`` for every cloud (``CloudRow``), and
again for one about which something came later; poses at a stamp without a cloud get a line as well.
It subscribes to no cloud and no service. The poses that count are those of TF; of the pose topics it takes only
``spine/network_pose``, so that the network alone can be told apart from what refinement makes of it.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from geometry_msgs.msg import PoseStamped, TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage

from end2reg_ros import names
from end2reg_ros.case.store import load_case
from end2reg_ros.evaluation.frame_matcher import (
    FrameMatcher,
    MatcherSettings,
    ReceivedPose,
    ReceivedStatus,
    StampedTransform,
)
from end2reg_ros.evaluation.rows import to_line
from end2reg_ros.msg import TrackingStatus
from end2reg_ros.registration.find.initial_pose import matrix_from_pose
from end2reg_ros.ros.conversions import matrix_from_transform, ns_from_stamp
from end2reg_ros.ros.process import run


class Listener(Node):
    """Feeds a ``FrameMatcher`` from the topics and prints its rows."""

    def __init__(self) -> None:
        super().__init__("listener")
        case = str(self.declare_parameter("case", "").value)
        prefix = str(self.declare_parameter("frame_prefix", "").value)
        truth = str(self.declare_parameter("truth_prefix", names.TRUTH_PREFIX).value)
        self._matcher = FrameMatcher(load_case(case), MatcherSettings(prefix, truth))
        self._untracked = prefix + names.UNTRACKED
        # Deep queues: this process must not lose a message that it would then count against the tracker.
        latched = DurabilityPolicy.TRANSIENT_LOCAL
        status_qos = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=latched)
        deep = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)
        self.create_subscription(TFMessage, names.TF, self._on_tf, deep)
        self.create_subscription(PoseStamped, names.NETWORK_POSE, self._on_network, deep)
        self.create_subscription(TrackingStatus, names.STATUS, self._on_status, status_qos)
        self.create_subscription(TrackingStatus, names.TRUTH_STATUS, self._on_truth, deep)
        self.create_timer(0.05, self._give)

    def _on_tf(self, message: TFMessage) -> None:
        now_ns = time.time_ns()
        poses = [t for t in message.transforms if t.header.frame_id != self._untracked]
        self._matcher.add_transforms([_transform(t) for t in poses], now_ns)

    def _on_network(self, message: PoseStamped) -> None:
        T, stamp_ns = matrix_from_pose(message.pose), ns_from_stamp(message.header.stamp)
        self._matcher.add_network_pose(ReceivedPose(stamp_ns, message.header.frame_id, T), time.time_ns())

    def _on_status(self, message: TrackingStatus) -> None:
        status = _status(message)
        self._matcher.add_status(status, time.time_ns())
        line = {
            "kind": "status",
            "state": status.state,
            "reason_code": status.reason_code,
            "reason": status.reason,
            "clouds_received": int(message.clouds_received),
            "clouds_processed": int(message.clouds_processed),
            "poses_published": int(message.poses_published),
            "drops": dict(zip(message.drop_reasons, map(int, message.drop_counts), strict=False)),
            "method": message.method,
            "engine": message.engine,
            "engine_hash": message.engine_hash,
            "points_truncated": int(message.points_truncated),
            "cells_truncated": int(message.cells_truncated),
            "case_hash": message.case_hash,
            "config_hash": message.config_hash,
        }
        print(json.dumps(line), flush=True)

    def _on_truth(self, message: TrackingStatus) -> None:
        self._matcher.add_truth(_status(message), time.time_ns())

    def _give(self, flush: bool = False) -> None:
        for row in self._matcher.finished(time.time_ns(), flush):
            print(to_line(row), flush=True)

    def close(self) -> None:
        """Print what is still incomplete."""
        self._give(flush=True)


class ListenerApplication:
    """The node as a process."""

    exit_code: int | None = None

    def __init__(self) -> None:
        self.node = Listener()

    def start(self) -> None:
        """Say that it listens."""
        print(json.dumps({"kind": "listening"}), flush=True)

    def close(self) -> None:
        """Give out what is left."""
        self.node.close()


def main() -> int:
    """Listen until SIGINT or SIGTERM; 0 after a clean end."""
    return run(ListenerApplication)


def _transform(message: TransformStamped) -> StampedTransform:
    return StampedTransform(
        ns_from_stamp(message.header.stamp),
        message.header.frame_id,
        message.child_frame_id,
        matrix_from_transform(message.transform),
    )


def _status(message: TrackingStatus) -> ReceivedStatus:
    return ReceivedStatus(
        stamp_ns=ns_from_stamp(message.header.stamp),
        state=message.state_name,
        reason_code=message.reason_code,
        reason=message.reason,
        visible_fraction=float(message.visible_fraction),
        latency_ms=float(message.latency_ms),
        stages_ms={
            name: float(ms)
            for name, ms in zip(message.stage_names, message.stage_ms, strict=False)
            if np.isfinite(ms)
        },
    )


if __name__ == "__main__":
    sys.exit(main())
