"""A light ear for measurements: keeps what the tracker says as it came, with the time, and writes it down at the end.

``python -m benchmarks.camera_rate.pose_recorder --ros-args -p out:=FILE``. Messages are taken undecoded, so that hearing
30 of each a second costs next to nothing. Lines on standard output: ``{"kind": "listening"}``, and ``{"kind": "heard"}``
with the tracker's first status. The file has one JSON line a message, see ``benchmarks.camera_rate.log``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message

from end2reg_ros.msg import TrackingStatus, VertebraPoseArray
from end2reg_ros.registration.find.initial_pose import matrix_from_pose
from end2reg_ros.ros.conversions import ns_from_stamp
from end2reg_ros.ros.process import leave, run


class PoseRecorder(Node):
    """Keeps raw messages of the pose topics and the status."""

    def __init__(self) -> None:
        super().__init__("pose_recorder")
        self._out = Path(str(self.declare_parameter("out", "").value))
        self._kept: list[tuple[str, int, bytes]] = []
        self._heard = False
        # Deep queues: what this process loses would be counted against the tracker.
        deep = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)
        latched = QoSProfile(
            depth=200, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
        )
        self._keep("status", TrackingStatus, "status", latched)
        self._keep("pose", PoseWithCovarianceStamped, "spine/pose", deep)
        self._keep("vertebrae", VertebraPoseArray, "vertebrae", deep)
        self._keep("network", PoseStamped, "spine/network_pose", deep)

    def _keep(self, kind: str, message: type, topic: str, profile: QoSProfile) -> None:
        def on_message(raw: bytes) -> None:
            self._kept.append((kind, time.time_ns(), raw))
            if kind == "status" and not self._heard:
                self._heard = True
                print(json.dumps({"kind": "heard"}), flush=True)

        self.create_subscription(message, topic, on_message, profile, raw=True)

    def write(self) -> None:
        """Decode what was heard and write it."""
        with self._out.open("w") as file:
            for kind, heard_ns, raw in self._kept:
                make, message = MAKERS[kind]
                document = make(deserialize_message(raw, message))
                file.write(json.dumps({"kind": kind, "heard_ns": heard_ns, **document}) + "\n")


def status_document(message: Any) -> dict[str, Any]:
    """What is kept of a TrackingStatus; not-a-number becomes None."""
    return {
        "stamp_ns": ns_from_stamp(message.header.stamp),
        "state": message.state_name,
        "reason_code": message.reason_code,
        "engine": message.engine,
        "pose_age_ms": _number(message.pose_age_ms),
        "latency_ms": _number(message.latency_ms),
        "stages_ms": {
            n: float(v) for n, v in zip(message.stage_names, message.stage_ms, strict=False) if np.isfinite(v)
        },
        "received": int(message.clouds_received),
        "processed": int(message.clouds_processed),
        "poses": int(message.poses_published),
        "drops": dict(zip(message.drop_reasons, map(int, message.drop_counts), strict=False)),
    }


def _pose_document(message: Any) -> dict[str, Any]:
    return {"stamp_ns": ns_from_stamp(message.header.stamp)}


def _network_document(message: Any) -> dict[str, Any]:
    T = matrix_from_pose(message.pose)
    return {"stamp_ns": ns_from_stamp(message.header.stamp), "T_camera_model": T.ravel().tolist()}


def _vertebrae_document(message: Any) -> dict[str, Any]:
    levels = {v.level: matrix_from_pose(v.pose.pose).ravel().tolist() for v in message.vertebrae}
    return {"stamp_ns": ns_from_stamp(message.header.stamp), "T_camera_levels": levels}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


MAKERS: dict[str, tuple[Callable[[Any], dict[str, Any]], type]] = {
    "status": (status_document, TrackingStatus),
    "pose": (_pose_document, PoseWithCovarianceStamped),
    "vertebrae": (_vertebrae_document, VertebraPoseArray),
    "network": (_network_document, PoseStamped),
}


class RecorderApplication:
    """The node as a process."""

    exit_code: int | None = None

    def __init__(self) -> None:
        self.node = PoseRecorder()

    def start(self) -> None:
        """Say that it listens."""
        print(json.dumps({"kind": "listening"}), flush=True)

    def close(self) -> None:
        """Write everything down."""
        self.node.write()


def main() -> int:
    """Listen until SIGINT or SIGTERM; 0 after a clean end."""
    return leave(run(RecorderApplication))


if __name__ == "__main__":
    sys.exit(main())
