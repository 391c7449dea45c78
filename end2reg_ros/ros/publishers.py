"""Everything but TF, markers and diagnostics that goes out: poses, vertebrae, status, segmentation."""

from __future__ import annotations

from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.msg import TrackingStatus, VertebraPose, VertebraPoseArray
from end2reg_ros.registration.types import Registration
from end2reg_ros.ros import qos
from end2reg_ros.ros.conversions import (
    header,
    pose_stamped,
    pose_with_covariance,
    pose_with_covariance_stamped,
)
from end2reg_ros.ros.segmentation import segmentation_message
from end2reg_ros.runtime.health import Health, Judgement
from end2reg_ros.runtime.poses import LevelPose, sound_covariance


def status_message(health: Health) -> TrackingStatus:
    """The status of one moment; stamp and frame of the last cloud registered."""
    judgement, identity, counters = health.judgement, health.identity, health.counters
    status = TrackingStatus(
        header=header(judgement.frame_id, judgement.stamp_ns),
        state=int(judgement.state),
        state_name=judgement.state.name,
        reason_code=judgement.reason_code,
        reason=judgement.reason,
        method=identity.method,
        engine=identity.engine,
        case_name=identity.case_name,
        case_hash=identity.case_hash,
        engine_hash=identity.engine_hash,
        config_hash=identity.config_hash,
        stage_names=list(judgement.timings_ms),
        stage_ms=[float(v) for v in judgement.timings_ms.values()],
        latency_ms=judgement.latency_ms,
        pose_age_ms=judgement.pose_age_ms,
        frame_budget_ms=health.frame_budget_ms,
        since_last_cloud=health.since_last_cloud_s,
        # of the clouds whose fate is known, so that the sum holds at every moment
        clouds_received=counters.judged,
        clouds_processed=counters.processed,
        clouds_dropped=counters.total_dropped,
        drop_reasons=list(counters.dropped),
        drop_counts=list(counters.dropped.values()),
        clouds_late=counters.late,
        poses_published=counters.poses_published,
        state_changes=health.history.total,
        transition_names=list(health.history.counts),
        transition_counts=list(health.history.counts.values()),
        points_truncated=counters.points_truncated,
        cells_truncated=counters.cells_truncated,
    )
    _fill_quality(status, judgement)
    if (last := health.history.last) is not None:
        status.last_transition = last.name
        status.last_transition_code, status.last_transition_reason = last.reason_code, last.reason
        status.last_transition_stamp = header("", last.stamp_ns).stamp
    return status


def _fill_quality(status: TrackingStatus, judgement: Judgement) -> None:
    nan = float("nan")
    quality = judgement.registration.quality if judgement.registration is not None else None
    status.inlier_ratio = quality.inlier_ratio if quality else nan
    status.residual_rmse = quality.residual_rmse_m if quality else nan
    status.visible_fraction = quality.visible_fraction if quality else nan
    status.mask_fraction = quality.mask_fraction if quality else nan
    status.free_space_violation = quality.free_space_violation if quality else nan
    status.normal_agreement = quality.normal_agreement if quality else nan
    status.inliers = int(quality.inliers) if quality else 0
    status.position_stddev = judgement.position_stddev_m
    status.rotation_stddev = judgement.rotation_stddev_rad


def vertebra_message(pose: LevelPose) -> VertebraPose:
    """One vertebra."""
    return VertebraPose(
        level=pose.level,
        pose=pose_with_covariance(pose.T_camera_level, pose.covariance),
        inlier_ratio=pose.quality.inlier_ratio,
        residual_rmse=pose.quality.residual_rmse_m,
        visible_fraction=pose.quality.visible_fraction,
        held=pose.held,
    )


class StatusPublisher:
    """The latched status; lives as long as the node, so that it can tell why nothing else speaks."""

    def __init__(self, node: Node) -> None:
        self._publisher = node.create_publisher(TrackingStatus, "status", qos.latched())

    def publish(self, health: Health) -> None:
        """Tell everything."""
        self._publisher.publish(status_message(health))


class ResultPublishers:
    """Poses and segmentation of one case; ``filtered``: whether what is shown is a filtered pose."""

    def __init__(self, node: Node, case: Case, filtered: bool = False) -> None:
        self._node = node
        self._pose = node.create_publisher(PoseWithCovarianceStamped, "spine/pose", qos.result())
        self._filtered = (
            node.create_publisher(PoseWithCovarianceStamped, "spine/filtered_pose", qos.result())
            if filtered
            else None
        )
        self._network = node.create_publisher(PoseStamped, "spine/network_pose", qos.result())
        self._spine_cp = node.create_publisher(PoseStamped, "spine/measured_cp", qos.result())
        self._level_cp = {
            level: node.create_publisher(PoseStamped, f"{level}/measured_cp", qos.result())
            for level in case.levels
        }
        self._vertebrae = node.create_publisher(VertebraPoseArray, "vertebrae", qos.result())
        self._segmentation = node.create_publisher(PointCloud2, "segmentation", qos.sensor_output())

    def publish_raw(self, cloud: Cloud, registration: Registration, levels: list[LevelPose]) -> None:
        """Spine and vertebrae with their covariance, never filtered, all with the cloud's frame and stamp."""
        frame_id, stamp_ns = cloud.frame_id, cloud.stamp_ns
        T, covariance = registration.T_camera_model, sound_covariance(registration.covariance)
        self._pose.publish(pose_with_covariance_stamped(frame_id, stamp_ns, T, covariance))
        if registration.network is not None and self._network.get_subscription_count() > 0:
            network = registration.network
            self._network.publish(pose_stamped(frame_id, network.stamp_ns, network.T_camera_model))
        array = VertebraPoseArray(
            header=header(frame_id, stamp_ns), vertebrae=[vertebra_message(p) for p in levels]
        )
        self._vertebrae.publish(array)

    def publish_shown(self, cloud: Cloud, shown: Registration, levels: list[LevelPose]) -> None:
        """What TF shows, as measured_cp: filtered where a filter is on, and then as a pose with covariance, too."""
        frame_id, stamp_ns, T = cloud.frame_id, cloud.stamp_ns, shown.T_camera_model
        self._spine_cp.publish(pose_stamped(frame_id, stamp_ns, T))
        for pose in levels:
            self._level_cp[pose.level].publish(pose_stamped(frame_id, stamp_ns, pose.T_camera_level))
        if self._filtered is not None:
            covariance = sound_covariance(shown.covariance)
            self._filtered.publish(pose_with_covariance_stamped(frame_id, stamp_ns, T, covariance))

    def publish_segmentation(self, cloud: Cloud, registration: Registration | None) -> None:
        """Only while somebody looks."""
        if self._segmentation.get_subscription_count() > 0:
            self._segmentation.publish(segmentation_message(cloud, registration))

    def close(self) -> None:
        """Give all publishers back."""
        publishers = [
            self._pose,
            *filter(None, [self._filtered]),
            self._network,
            self._spine_cp,
            *self._level_cp.values(),
            self._vertebrae,
            self._segmentation,
        ]
        for publisher in publishers:
            self._node.destroy_publisher(publisher)
