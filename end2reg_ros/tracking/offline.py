"""The tracker over a recording: every cloud in order, nothing superseded, the same result on every run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from end2reg_ros.cloud.depth import decode_depth
from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.messages import stamp_ns
from end2reg_ros.cloud.pointcloud2 import decode
from end2reg_ros.cloud.recording import CAMERA_INFO, IMAGE, POINT_CLOUD, Recording
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CloudError
from end2reg_ros.registration.initial_pose import PriorRefused, PriorRequest, no_lookup, prior_for
from end2reg_ros.se3 import from_rotation_translation, rotation_from_quaternion
from end2reg_ros.tracking.stream_guard import StreamGuard, StreamSettings
from end2reg_ros.tracking.tracker import Tracker
from end2reg_ros.tracking.types import TrackingUpdate

UNKNOWN_STDDEV_M = 0.003  # of a pose that tells no covariance, as of picked landmarks
POSE_WITH_COVARIANCE = "geometry_msgs/msg/PoseWithCovarianceStamped"


@dataclass(frozen=True)
class FrameRecord:
    """One message of the recording: what it did to the track, or why it was dropped."""

    stamp_ns: int
    update: TrackingUpdate | None
    dropped: str | None
    points: int


@dataclass(frozen=True)
class OfflineInput:
    """Topics of a recording: the clouds or depth images, their camera_info, and poses that start the track."""

    clouds: str
    camera_info: str | None
    initial_poses: tuple[str, ...]


def choose_input(recording: Recording, topic: str | None) -> OfflineInput:
    """Find the topics to read.

    Args:
        recording: open recording.
        topic: cloud or depth topic; None for the only PointCloud2 topic.

    Raises:
        CloudError: no such topic, several candidates, or a depth topic without camera_info.
    """
    types = {t.name: t.type for t in recording.topics}
    poses = tuple(
        n for n, kind in types.items() if kind == POSE_WITH_COVARIANCE and n.endswith("initial_pose")
    )
    if topic is None or types.get(topic) != IMAGE:
        return OfflineInput(recording.choose_topic(POINT_CLOUD, topic), None, poses)
    infos = [name for name, kind in types.items() if kind == CAMERA_INFO]
    if not infos:
        raise CloudError(
            "no_camera_info", f"{recording.path}: no camera_info for the depth images of {topic}"
        )
    # Drivers keep an image and its calibration in one branch of the topic tree: the longest common beginning wins.
    nearest = max(infos, key=lambda name: len(os.path.commonpath([name, topic])))
    return OfflineInput(topic, nearest, poses)


def track_recording(
    recording: Recording, chosen: OfflineInput, tracker: Tracker, limits: CloudLimits
) -> Iterator[FrameRecord]:
    """Run the tracker over a recording; one record a cloud, in order."""
    guard = StreamGuard(StreamSettings())
    topics = [chosen.clouds, *chosen.initial_poses, *([chosen.camera_info] if chosen.camera_info else [])]
    info: Any = None
    for topic, _, message in recording.messages(*topics):
        if topic in chosen.initial_poses:
            offer_prior(message, tracker)
        elif topic == chosen.camera_info:
            info = message
        else:
            yield process(message, info, guard, tracker, limits)


def offer_prior(message: Any, tracker: Tracker) -> None:
    """Start the tracker from a recorded pose; one that is none starts nothing, and the clouds go on."""
    p, q = message.pose.pose.position, message.pose.pose.orientation
    try:
        rotation = rotation_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
        T = from_rotation_translation(rotation, np.array([p.x, p.y, p.z]))
        covariance = np.asarray(message.pose.covariance, dtype=np.float64).reshape(6, 6)
        frame = message.header.frame_id
        request = PriorRequest(frame, stamp_ns(message), T, covariance)
        tracker.set_prior(prior_for(frame, request, tracker.centre, UNKNOWN_STDDEV_M, no_lookup))
    except (ValueError, PriorRefused):
        return


def process(
    message: Any, info: Any, guard: StreamGuard, tracker: Tracker, limits: CloudLimits
) -> FrameRecord:
    """One cloud or depth image through guard, decoder and tracker."""
    stamp = stamp_ns(message)
    try:
        restart = guard.check_order(message.header.frame_id, stamp)
        if restart is not None:
            tracker.relocalize()
        cloud = decode_message(message, info, limits)
        guard.check_data(bytes(message.data))  # an array would compare element by element
    except CloudError as fault:
        return FrameRecord(stamp, None, fault.code, 0)
    return FrameRecord(stamp, tracker.update(cloud), None, len(cloud.points))


def decode_message(message: Any, info: Any, limits: CloudLimits) -> Cloud:
    """A PointCloud2, or a depth image with its camera_info, as a cloud.

    Raises:
        CloudError: whatever the decoders refuse; ``no_camera_info`` for an image before its camera_info.
    """
    if hasattr(message, "fields"):
        return decode(message, limits)
    if info is None:
        raise CloudError("no_camera_info", "a depth image came before its camera_info")
    return decode_depth(message, info, None, limits)
