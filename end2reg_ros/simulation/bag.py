"""A moving sequence as a rosbag2 (mcap): the camera's clouds as a RealSense would send them, the truth on /tf, and a start
from simulated landmark picks on /initial_pose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from end2reg_ros import se3
from end2reg_ros.cloud.ros_messages import PoseWithCovarianceStamped, pose_with_covariance, transform
from end2reg_ros.errors import End2RegError
from end2reg_ros.names import CAMERA_FRAME, INITIAL_POSE, SIMULATED_POINTS, SPINE, TF, TRUTH_PREFIX
from end2reg_ros.simulation.camera.realsense import cloud_message, encode_realsense
from end2reg_ros.simulation.picks import PICK_RMS_M, picked_prior, prior_covariance
from end2reg_ros.simulation.sequence import SimulatedFrame, SimulatedSequence

START_NS = (
    1_700_000_000_000_000_000  # stamps of recordings start here: a stamp of zero means "no time" to ROS
)

MAX_RATE_HZ, MAX_DURATION_S = 1000.0, 86400.0

TF_DEFINITION = "geometry_msgs/TransformStamped[] transforms\n"  # tf2_msgs/TFMessage


@dataclass(frozen=True)
class BagSettings:
    """What is recorded.

    Attributes:
        rate_hz: frames a second.
        duration_s: length.
        ordered: organised clouds with (0, 0, 0) for invalid points instead of dropping these.
        frame_id: of the clouds.
    """

    rate_hz: float = 15.0
    duration_s: float = 20.0
    ordered: bool = False
    frame_id: str = CAMERA_FRAME

    def frame_count(self) -> int:
        """Number of frames.

        Raises:
            End2RegError: rate or duration make no recording or are out of all bounds.
        """
        # Written so that NaN fails too.
        for what, value, most in (
            ("rate is {:g} Hz", self.rate_hz, MAX_RATE_HZ),
            ("duration is {:g} s", self.duration_s, MAX_DURATION_S),
        ):
            if not 0.0 < value <= most:
                raise End2RegError(f"the {what.format(value)}, must be above 0 and at most {most:g}")
        count = int(np.floor(self.duration_s * self.rate_hz + 1e-9))
        if count < 1:
            raise End2RegError(
                f"no frame in {self.duration_s:g} s at {self.rate_hz:g} Hz: longer or faster, please"
            )
        return count


def write_bag(
    folder: Path,
    sequence: SimulatedSequence,
    settings: BagSettings,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Record a sequence; returns the number of frames.

    Args:
        folder: made; must not exist.
        progress: called with (frames done, frames in all).
    Raises:
        End2RegError: the folder exists, or as ``BagSettings.frame_count``.
    """
    from rosbags.rosbag2 import StoragePlugin, Writer

    if folder.exists():
        raise End2RegError(f"{folder}: exists already; a recording needs a new folder")
    count = settings.frame_count()
    store = _typestore()
    tf_message = store.types["tf2_msgs/msg/TFMessage"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        points = writer.add_connection(SIMULATED_POINTS, "sensor_msgs/msg/PointCloud2", typestore=store)
        start = writer.add_connection(
            f"/{INITIAL_POSE}", "geometry_msgs/msg/PoseWithCovarianceStamped", typestore=store
        )
        message: Any
        tf = writer.add_connection(TF, "tf2_msgs/msg/TFMessage", typestore=store)
        for k in range(count):
            frame = sequence.frame(k / settings.rate_hz)
            stamp = START_NS + round(frame.t_s * 1e9)
            if k == 0 and frame.tags["spine"] and len(sequence.case.landmark_array()) >= 3:
                message = _initial_pose(sequence, frame, settings.frame_id, stamp)
                writer.write(start, stamp, store.serialize_cdr(message, start.msgtype))
            encoded = encode_realsense(frame.points, frame.colours, settings.ordered)
            for connection, message in (
                (points, cloud_message(encoded, settings.frame_id, stamp)),
                (tf, tf_message(_truth(frame, settings.frame_id, stamp))),
            ):
                writer.write(connection, stamp, store.serialize_cdr(message, connection.msgtype))
            if progress is not None:
                progress(k + 1, count)
    return count


def _typestore() -> Any:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    if "tf2_msgs/msg/TFMessage" not in store.types:
        store.register(get_types_from_msg(TF_DEFINITION, "tf2_msgs/msg/TFMessage"))
    return store


def _truth(frame: SimulatedFrame, frame_id: str, stamp_ns: int) -> list[Any]:
    """The TF tree of the truth: camera -> ground_truth/spine -> ground_truth/L1, ...; none without a spine."""
    if not frame.tags["spine"]:
        return []
    spine = TRUTH_PREFIX + SPINE
    T_model_camera = se3.inverse(frame.T_camera_model)
    return [
        transform(frame_id, spine, frame.T_camera_model, stamp_ns),
        *(
            transform(spine, TRUTH_PREFIX + level, T_model_camera @ T_camera_level, stamp_ns)
            for level, T_camera_level in frame.T_camera_levels.items()
        ),
    ]


def _initial_pose(
    sequence: SimulatedSequence, frame: SimulatedFrame, frame_id: str, stamp_ns: int
) -> PoseWithCovarianceStamped:
    """The pose that picks with 3 mm of noise give, with its covariance."""
    levels = frame.T_camera_levels if sequence.settings.articulation is not None else None
    prior = picked_prior(sequence.case, frame.T_camera_model, sequence.settings.seed, PICK_RMS_M, levels)
    covariance = prior_covariance(prior, sequence.case.centroid())
    return pose_with_covariance(frame_id, prior.T_camera_model, covariance, stamp_ns)
