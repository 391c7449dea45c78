"""/diagnostics, once a second: one level and one sentence for the operator, figures for the technician."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from std_msgs.msg import Header

from end2reg_ros.reasons import Reason
from end2reg_ros.ros import qos
from end2reg_ros.runtime.health import Health
from end2reg_ros.tracking.types import State

_LEVEL = {
    State.SEARCHING: DiagnosticStatus.WARN,
    State.TRACKING: DiagnosticStatus.OK,
    State.DEGRADED: DiagnosticStatus.WARN,
    State.LOST: DiagnosticStatus.ERROR,
}


def diagnostic_array(name: str, stamp: Time, health: Health) -> DiagnosticArray:
    """All of a node's health as one diagnostic status."""
    judgement, identity, counters = health.judgement, health.identity, health.counters
    level = _LEVEL[judgement.state]
    if judgement.reason_code == Reason.NO_CLOUD and counters.received:
        level = DiagnosticStatus.ERROR  # a camera that spoke and stopped, whatever was tracked
    values = {
        "state": judgement.state.name,
        "reason_code": judgement.reason_code,
        "registrations_per_second": f"{health.rate_hz:.1f}",
        "pose_age_ms": f"{judgement.pose_age_ms:.1f}",
        "latency_ms": f"{judgement.latency_ms:.1f}",
        "since_last_cloud_s": f"{health.since_last_cloud_s:.2f}",
        "clouds_received": str(counters.received),
        "clouds_processed": str(counters.processed),
        "clouds_dropped": str(counters.total_dropped),
        "clouds_late": str(counters.late),
        "frame_budget_ms": f"{health.frame_budget_ms:.1f}",
        "lost_in_transport": str(health.lost_in_transport),
        "poses_published": str(counters.poses_published),
        "points_truncated": str(counters.points_truncated),
        "cells_truncated": str(counters.cells_truncated),
        "method": identity.method,
        "engine": identity.engine_text or identity.engine,
        "engine_hash": identity.engine_hash,
        "case": identity.case_name,
        "case_hash": identity.case_hash,
        "config_hash": identity.config_hash,
    }
    values |= {f"dropped/{reason}": str(count) for reason, count in counters.dropped.items()}
    values |= {f"changes/{name}": str(count) for name, count in health.history.counts.items()}
    if (last := health.history.last) is not None:
        values["last_change"] = f"{last.name}, {last.reason_code}: {last.reason}"
    status = DiagnosticStatus(
        level=level,
        name=f"{name}: tracking",
        message=f"{judgement.state.name}: {judgement.reason}",
        hardware_id=identity.case_name,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
    return DiagnosticArray(header=Header(stamp=stamp), status=[status])


class DiagnosticsPublisher:
    """Publishes on /diagnostics, stamped with the time of speaking: it tells of the node, not of a cloud."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", qos.diagnostics())

    def publish(self, health: Health) -> None:
        """Tell everything."""
        stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(diagnostic_array(self._node.get_name(), stamp, health))
