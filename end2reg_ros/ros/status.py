"""What the node tells of itself: ``status``, latched, and /diagnostics, once a second."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from std_msgs.msg import Header

from end2reg_ros import names
from end2reg_ros.msg import TrackingStatus, TrackingValid
from end2reg_ros.reasons import Reason
from end2reg_ros.registration.types import Quality
from end2reg_ros.ros import qos
from end2reg_ros.ros.conversions import header, stamp_from_ns
from end2reg_ros.runtime.status import NodeStatus
from end2reg_ros.tracking import PUBLISHING_STATES, State

_LEVEL = {
    State.SEARCHING: DiagnosticStatus.WARN,
    State.TRACKING: DiagnosticStatus.OK,
    State.DEGRADED: DiagnosticStatus.WARN,
    State.LOST: DiagnosticStatus.ERROR,
}
NAN = float("nan")
NO_QUALITY = Quality(NAN, NAN, NAN, NAN, NAN, 0, normal_agreement=NAN)


def status_message(status: NodeStatus) -> TrackingStatus:
    """The status of one moment; stamp and frame of the last cloud registered, figures where its pose went out."""
    report, identity, counts = status.report, status.identity, status.counts
    fit = report.registration if report.state in PUBLISHING_STATES else None
    quality = NO_QUALITY if fit is None else fit.quality
    message = TrackingStatus(
        header=header(report.frame_id, report.stamp_ns),
        state=int(report.state),
        state_name=report.state.name,
        reason_code=report.reason_code,
        reason=report.reason,
        pose_stamp=stamp_from_ns(status.pose_stamp_ns),
        method=identity.method,
        engine=identity.engine,
        case_name=identity.case_name,
        case_hash=identity.case_hash,
        engine_hash=identity.engine_hash,
        config_hash=identity.config_hash,
        inlier_ratio=quality.inlier_ratio,
        residual_rmse=quality.residual_rmse_m,
        visible_fraction=quality.visible_fraction,
        mask_fraction=quality.mask_fraction,
        free_space_violation=quality.free_space_violation,
        normal_agreement=quality.normal_agreement,
        inliers=int(quality.inliers),
        position_stddev=NAN if fit is None else fit.position_stddev_m,
        rotation_stddev=NAN if fit is None else fit.rotation_stddev_rad,
        stage_names=list(report.timings_ms),
        stage_ms=[float(v) for v in report.timings_ms.values()],
        latency_ms=report.latency_ms,
        pose_age_ms=report.pose_age_ms,
        frame_budget_ms=status.frame_budget_ms,
        since_last_cloud=status.since_last_cloud_s,
        # of the clouds whose fate is known, so that the sum holds at every moment
        clouds_received=counts.processed + counts.total_dropped,
        clouds_processed=counts.processed,
        clouds_dropped=counts.total_dropped,
        drop_reasons=list(counts.dropped),
        drop_counts=list(counts.dropped.values()),
        clouds_late=counts.late,
        poses_published=counts.poses_published,
        state_changes=status.history.total,
        transition_names=list(status.history.counts),
        transition_counts=list(status.history.counts.values()),
        points_truncated=counts.points_truncated,
        cells_truncated=counts.cells_truncated,
    )
    if (last := status.history.last) is not None:
        message.last_transition = last.name
        message.last_transition_code, message.last_transition_reason = last.reason_code, last.reason
        message.last_transition_stamp = stamp_from_ns(last.stamp_ns)
    return message


def valid_message(status: NodeStatus) -> TrackingValid:
    """Whether there is a pose, in one bit; stamp and frame of the last cloud registered."""
    report = status.report
    return TrackingValid(
        header=header(report.frame_id, report.stamp_ns),
        valid=report.state in PUBLISHING_STATES,
        reason_code=report.reason_code,
    )


def diagnostic_array(name: str, stamp: Time, status: NodeStatus) -> DiagnosticArray:
    """One diagnostic status of the node ``name``: a level and a sentence for the operator, figures for the technician."""
    report, identity, counts = status.report, status.identity, status.counts
    level = _LEVEL[report.state]
    if report.reason_code == Reason.NO_CLOUD and counts.received:
        level = DiagnosticStatus.ERROR  # a camera that sent clouds and stopped, whatever was tracked
    if report.reason_code == Reason.STALLED:
        level = DiagnosticStatus.ERROR
    values = {
        "state": report.state.name,
        "reason_code": report.reason_code,
        "registrations_per_second": f"{status.rate_hz:.1f}",
        "pose_age_ms": f"{report.pose_age_ms:.1f}",
        "latency_ms": f"{report.latency_ms:.1f}",
        "since_last_cloud_s": f"{status.since_last_cloud_s:.2f}",
        "clouds_received": str(counts.received),
        "clouds_processed": str(counts.processed),
        "clouds_dropped": str(counts.total_dropped),
        "clouds_late": str(counts.late),
        "frame_budget_ms": f"{status.frame_budget_ms:.1f}",
        "lost_in_transport": str(status.lost_in_transport),
        "poses_published": str(counts.poses_published),
        "points_truncated": str(counts.points_truncated),
        "cells_truncated": str(counts.cells_truncated),
        "method": identity.method,
        "engine": identity.engine_text or identity.engine,
        "engine_hash": identity.engine_hash,
        "case": identity.case_name,
        "case_hash": identity.case_hash,
        "config_hash": identity.config_hash,
    }
    values |= {f"dropped/{reason}": str(count) for reason, count in counts.dropped.items()}
    values |= {f"changes/{name}": str(count) for name, count in status.history.counts.items()}
    if (last := status.history.last) is not None:
        values["last_change"] = f"{last.name}, {last.reason_code}: {last.reason}"
    told = DiagnosticStatus(
        level=level,
        name=f"{name}: tracking",
        message=f"{report.state.name}: {report.reason}",
        hardware_id=identity.case_name,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
    return DiagnosticArray(header=Header(stamp=stamp), status=[told])


class StatusPublisher:
    """Publishes both; lives as long as the node, so that it can tell why nothing else is published."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._status = node.create_publisher(TrackingStatus, names.STATUS, qos.status())
        self._valid = node.create_publisher(TrackingValid, names.TRACKING_VALID, qos.status())
        self._diagnostics = node.create_publisher(DiagnosticArray, names.DIAGNOSTICS, qos.diagnostics())

    def publish(self, status: NodeStatus) -> None:
        """On ``tracking_valid`` and ``status``."""
        self._valid.publish(valid_message(status))
        self._status.publish(status_message(status))

    def publish_diagnostics(self, status: NodeStatus) -> None:
        """On /diagnostics, stamped with the time of speaking: it tells of the node, not of a cloud."""
        stamp = self._node.get_clock().now().to_msg()
        self._diagnostics.publish(diagnostic_array(self._node.get_name(), stamp, status))
