"""The tracker over a recording: every cloud in order, nothing superseded, the same result on every run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.decoding import DepthFrame, decoder
from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.recording import CAMERA_INFO, IMAGE, POINT_CLOUD, Recording
from end2reg_ros.cloud.stream import StreamGuard, StreamSettings
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CloudError
from end2reg_ros.frame import Arrival, FrameProcess, Outcome, Tracker
from end2reg_ros.reasons import Reason
from end2reg_ros.registration.find.initial_pose import PriorRefused, PriorRules, prior_for, request_of
from end2reg_ros.se3 import covariance_at, largest_stddev
from end2reg_ros.tracking.types import TrackingUpdate

POSE_WITH_COVARIANCE = "geometry_msgs/msg/PoseWithCovarianceStamped"


@dataclass(frozen=True)
class FrameRecord:
    """One message of the recording: what it did to the track, or why it was dropped.

    ``restart``: reason code where the stream began anew with it. ``stddevs``: largest standard deviations of the fit at the
    spine's middle, metres and radians. The indices of the points used are not kept.
    """

    stamp_ns: int
    update: TrackingUpdate | None
    dropped: str | None
    points: int
    restart: str | None = None
    stddevs: tuple[float, float] | None = None


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
            Reason.NO_CAMERA_INFO, f"{recording.path}: no camera_info for the depth images of {topic}"
        )
    # Drivers keep an image and its calibration in one branch of the topic tree: the longest common beginning wins.
    nearest = max(infos, key=lambda name: len(os.path.commonpath([name, topic])))
    return OfflineInput(topic, nearest, poses)


class RecordedStart:
    """Holds a recorded initial_pose until the next cloud, as the node does."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._message: Any = None

    def offer(self, message: Any) -> None:
        """A PoseWithCovarianceStamped was recorded here."""
        self._message = message

    def apply(self, cloud: Cloud) -> None:
        """Start the tracker with this cloud; a pose that cannot be used starts nothing."""
        message, self._message = self._message, None
        if message is None:
            return
        try:
            prior = prior_for(cloud, request_of(message), self._tracker.centre, PriorRules())
        except PriorRefused as why:
            logging.getLogger(__name__).warning("initial_pose of the recording not used: %s", why)
            return
        self._tracker.set_prior(prior)


def track_recording(
    recording: Recording, chosen: OfflineInput, tracker: Tracker, limits: CloudLimits
) -> Iterator[FrameRecord]:
    """Run the tracker over a recording; one record a cloud, in order.

    Raises:
        CloudError: ``unreadable`` where the recording is damaged further on.
    """
    kind = "points" if chosen.camera_info is None else "depth"
    decode, data = decoder(kind)
    guard = StreamGuard(StreamSettings())
    frames = FrameProcess(tracker, decode, data, guard, limits)
    start = RecordedStart(tracker)
    topics = [chosen.clouds, *chosen.initial_poses, *([chosen.camera_info] if chosen.camera_info else [])]
    info: Any = None
    for topic, _, message in recording.messages(*topics):
        if topic in chosen.initial_poses:
            start.offer(message)
        elif topic == chosen.camera_info:
            info = message
        else:
            whole = message if kind == "points" else DepthFrame(message, info, None)
            yield record_of(frames.run(Arrival(whole, perf_counter()), start.apply), tracker.centre)


def record_of(outcome: Outcome, centre: NDArray[np.float64]) -> FrameRecord:
    """What is kept of a frame; ``centre`` (3,): the spine's middle in the model frame."""
    update, restart = outcome.update, outcome.restart.reason_code if outcome.restart else None
    if update is None or outcome.cloud is None:
        dropped = outcome.drop.code if outcome.drop is not None else None
        return FrameRecord(outcome.stamp_ns, None, dropped, 0, restart)
    stddevs = None
    if update.registration is not None:
        T, covariance = update.registration.T_camera_model, update.registration.covariance
        stddevs = largest_stddev(covariance_at(covariance, T, centre))
        # Of every cloud the indices alone would fill the memory over a long recording.
        update = replace(update, registration=replace(update.registration, used=None))
    return FrameRecord(outcome.stamp_ns, update, None, len(outcome.cloud.points), restart, stddevs)
