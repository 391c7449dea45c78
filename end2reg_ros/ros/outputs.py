"""A case's results on their topics: TF, poses, vertebrae, segmentation, markers. Called from the working thread."""

from __future__ import annotations

from time import monotonic
from typing import Any

from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.clock import ROSClock
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage

from end2reg_ros import names
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.msg import VertebraPose, VertebraPoseArray
from end2reg_ros.registration.types import Registration
from end2reg_ros.ros import qos
from end2reg_ros.ros.conversions import (
    header,
    pose_stamped,
    pose_with_covariance,
    pose_with_covariance_stamped,
)
from end2reg_ros.ros.markers import MarkerPublisher
from end2reg_ros.ros.segmentation import segmentation_message
from end2reg_ros.ros.settings import TrackerParameters
from end2reg_ros.ros.status import StatusPublisher
from end2reg_ros.ros.tf import TrackedChain, static_transforms
from end2reg_ros.runtime.poses import LevelPose, level_poses, sound_covariance
from end2reg_ros.runtime.status import NodeStatus
from end2reg_ros.tracking import PUBLISHING_STATES, State

WARN_PERIOD_S = 10.0


class TopicOutput:
    """The ``Output`` of a ``TrackerRuntime``. Everything of one cloud carries its frame and stamp.

    TF goes out as one message a cloud, in the way of tf2_ros' broadcasters, which the wheels of ROS lack.
    """

    def __init__(
        self, node: Node, case: Case, parameters: TrackerParameters, status: StatusPublisher
    ) -> None:
        self._node = node
        self._case = case
        self._status = status
        self._prefix = parameters.frame_prefix
        self._filter = parameters.pose_filter(case)
        self._made: list[Any] = []
        self._chain: TrackedChain | None = None
        self._static = self._filtered = None
        if parameters.publish_tf:
            tf = self._publisher(TFMessage, names.TF, qos.tf())
            detaches = parameters.tf_on_loss == "detach"
            self._chain = TrackedChain(tf.publish, self._prefix, detaches, self._simulated_now_ns)
            self._static = self._publisher(TFMessage, names.TF_STATIC, qos.tf_static())
        if parameters.filter != "none":
            self._filtered = self._publisher(PoseWithCovarianceStamped, names.FILTERED_POSE, qos.result())
        self._pose = self._publisher(PoseWithCovarianceStamped, names.SPINE_POSE, qos.result())
        self._network_pose = self._publisher(PoseStamped, names.NETWORK_POSE, qos.result())
        self._measured_cp = {
            name: self._publisher(PoseStamped, names.measured_cp(name), qos.result())
            for name in (names.SPINE, *case.levels)
        }
        self._vertebrae = self._publisher(VertebraPoseArray, names.VERTEBRAE, qos.result())
        self._segmentation = self._publisher(PointCloud2, names.SEGMENTATION, qos.sensor_output())
        self._markers = (
            MarkerPublisher(node, self._prefix, case, parameters.marker_triangles)
            if parameters.publish_markers
            else None
        )
        self._warned_s: dict[str, float] = {}

    def _publisher(self, kind: type, topic: str, profile: QoSProfile) -> Any:
        self._made.append(self._node.create_publisher(kind, topic, profile))
        return self._made[-1]

    def announce(self) -> None:
        """Once, when active: what does not depend on any cloud."""
        transforms = static_transforms(self._prefix, self._case)
        if self._static is not None and transforms:
            self._static.publish(TFMessage(transforms=transforms))

    def now_ns(self) -> int:
        """ROS time (simulated where ``use_sim_time`` is set), nanoseconds."""
        return int(self._node.get_clock().now().nanoseconds)

    def _simulated_now_ns(self) -> int | None:
        clock = self._node.get_clock()
        return self.now_ns() if isinstance(clock, ROSClock) and clock.ros_time_is_active else None

    def result(self, cloud: Cloud, registration: Registration) -> None:
        """A pose that may be used: raw, and as the filter shows it (the raw one where nothing filters)."""
        shown = self._filter.smooth(cloud.stamp_ns, registration)
        levels = level_poses(registration, self._case)
        shown_levels = levels if shown is registration else level_poses(shown, self._case)
        self._publish_shown(cloud, shown, shown_levels)
        self._publish_raw(cloud, registration, levels)

    def _publish_shown(self, cloud: Cloud, shown: Registration, levels: list[LevelPose]) -> None:
        """TF and CRTK's measured poses; where a filter is on, its spine pose with covariance, too."""
        frame_id, stamp_ns, T = cloud.frame_id, cloud.stamp_ns, shown.T_camera_model
        if self._chain is not None:
            self._chain.attach(frame_id, stamp_ns, T, {pose.level: pose.T_camera_level for pose in levels})
        self._measured_cp[names.SPINE].publish(pose_stamped(frame_id, stamp_ns, T))
        for pose in levels:
            self._measured_cp[pose.level].publish(pose_stamped(frame_id, stamp_ns, pose.T_camera_level))
        if self._filtered is not None:
            covariance = sound_covariance(shown.covariance)
            self._filtered.publish(pose_with_covariance_stamped(frame_id, stamp_ns, T, covariance))

    def _publish_raw(self, cloud: Cloud, registration: Registration, levels: list[LevelPose]) -> None:
        """Spine and vertebrae with their covariance, never filtered."""
        frame_id, stamp_ns = cloud.frame_id, cloud.stamp_ns
        T, covariance = registration.T_camera_model, sound_covariance(registration.covariance)
        self._pose.publish(pose_with_covariance_stamped(frame_id, stamp_ns, T, covariance))
        network = registration.network
        if network is not None and self._network_pose.get_subscription_count() > 0:
            self._network_pose.publish(pose_stamped(frame_id, network.stamp_ns, network.T_camera_model))
        vertebrae = [vertebra_message(pose) for pose in levels]
        self._vertebrae.publish(VertebraPoseArray(header=header(frame_id, stamp_ns), vertebrae=vertebrae))

    def segmentation(self, cloud: Cloud, registration: Registration | None) -> None:
        """Only while somebody looks."""
        if self._segmentation.get_subscription_count() > 0:
            self._segmentation.publish(segmentation_message(cloud, registration))

    def detach(self) -> None:
        """TF no longer tells where the spine is; from any thread."""
        if self._chain is not None:
            self._chain.detach()

    def show(self, state: State) -> None:
        """A new state: markers and TF as it allows; the filter forgets a track that was lost."""
        if state not in PUBLISHING_STATES:
            self.detach()
        self._filter.show(state)
        if self._markers is not None:
            self._markers.publish(state)

    def status(self, status: NodeStatus) -> None:
        """Everything known."""
        self._status.publish(status)

    def warn(self, reason_code: str, text: str) -> None:
        """Into the log, each reason at most every ten seconds: clouds come at 30 Hz."""
        now_s = monotonic()
        if now_s - self._warned_s.get(reason_code, -WARN_PERIOD_S) >= WARN_PERIOD_S:
            self._warned_s[reason_code] = now_s
            self._node.get_logger().warning(f"{reason_code}: {text}")

    def close(self) -> None:
        """Give all publishers back."""
        for publisher in self._made:
            self._node.destroy_publisher(publisher)
        if self._markers is not None:
            self._markers.close()


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
