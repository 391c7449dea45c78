"""Sends what the runtime has to tell to the topics. Called from the working thread."""

from __future__ import annotations

from rclpy.node import Node

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.types import Registration
from end2reg_ros.ros.markers import MarkerPublisher
from end2reg_ros.ros.publishers import ResultPublishers, StatusPublisher
from end2reg_ros.ros.settings import TrackerParameters
from end2reg_ros.ros.tf import TransformPublisher
from end2reg_ros.runtime.health import Health
from end2reg_ros.runtime.poses import level_poses
from end2reg_ros.tracking import State

WARN_PERIOD_S = 10.0


class TopicOutput:
    """The ``Output`` of a ``TrackerRuntime``: poses, TF, markers, status."""

    def __init__(
        self, node: Node, case: Case, parameters: TrackerParameters, status: StatusPublisher
    ) -> None:
        self._node = node
        self._case = case
        self._status = status
        self._filter = parameters.pose_filter(case)
        self._results = ResultPublishers(node, case, filtered=parameters.filter != "none")
        prefix = parameters.frame_prefix
        self._tf = TransformPublisher(node, prefix) if parameters.publish_tf else None
        self._markers = (
            MarkerPublisher(node, prefix, case, parameters.marker_triangles)
            if parameters.publish_markers
            else None
        )
        self._warned_s: dict[str, float] = {}

    def announce(self) -> None:
        """Once, when active: what does not depend on any cloud."""
        if self._tf is not None:
            self._tf.publish_static(self._case)

    def now_ns(self) -> int:
        """ROS time (simulated where ``use_sim_time`` is set), nanoseconds."""
        return int(self._node.get_clock().now().nanoseconds)

    def result(self, cloud: Cloud, registration: Registration) -> None:
        """A pose that may be used: raw, and as the filter shows it (the same where nothing filters)."""
        shown = self._filter.smooth(cloud.stamp_ns, registration)
        levels = level_poses(shown, self._case)
        if self._tf is not None:
            self._tf.publish(cloud.frame_id, cloud.stamp_ns, shown, levels)
        raw = levels if shown is registration else level_poses(registration, self._case)
        self._results.publish_raw(cloud, registration, raw)
        self._results.publish_shown(cloud, shown, levels)

    def segmentation(self, cloud: Cloud, registration: Registration | None) -> None:
        """Only while somebody looks."""
        self._results.publish_segmentation(cloud, registration)

    def show(self, state: State) -> None:
        """Markers as the state allows; the filter forgets a track that was lost."""
        self._filter.show(state)
        if self._markers is not None:
            self._markers.publish(state)

    def status(self, health: Health) -> None:
        """Everything known."""
        self._status.publish(health)

    def warn(self, reason_code: str, text: str) -> None:
        """Into the log, each reason at most every ten seconds: clouds come at 30 Hz."""
        from time import monotonic

        now = monotonic()
        if now - self._warned_s.get(reason_code, -WARN_PERIOD_S) >= WARN_PERIOD_S:
            self._warned_s[reason_code] = now
            self._node.get_logger().warning(f"{reason_code}: {text}")

    def close(self) -> None:
        """Give all publishers back."""
        for part in (self._results, self._tf, self._markers):
            if part is not None:
                part.close()
