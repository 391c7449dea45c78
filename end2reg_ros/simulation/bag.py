"""A moving sequence as a rosbag2 (mcap): the camera's clouds as a RealSense would send them, the truth on /tf, and a start
from simulated landmark picks on /initial_pose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from end2reg_ros import se3
from end2reg_ros.errors import End2RegError
from end2reg_ros.names import CAMERA_FRAME, INITIAL_POSE, SIMULATED_POINTS, SPINE, TF, TRUTH_PREFIX
from end2reg_ros.simulation.camera.realsense import encode_realsense
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
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        points = writer.add_connection(SIMULATED_POINTS, "sensor_msgs/msg/PointCloud2", typestore=store)
        start = writer.add_connection(
            f"/{INITIAL_POSE}", "geometry_msgs/msg/PoseWithCovarianceStamped", typestore=store
        )
        tf = writer.add_connection(TF, "tf2_msgs/msg/TFMessage", typestore=store)
        for k in range(count):
            frame = sequence.frame(k / settings.rate_hz)
            stamp = START_NS + round(frame.t_s * 1e9)
            if k == 0 and frame.tags["spine"] and len(sequence.case.landmark_array()) >= 3:
                message = _initial_pose(store.types, sequence, frame, settings.frame_id, stamp)
                writer.write(start, stamp, store.serialize_cdr(message, start.msgtype))
            for connection, message in (
                (points, _cloud(store.types, frame, settings, stamp)),
                (tf, _truth(store.types, frame, settings.frame_id, stamp)),
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


def _header(types: Any, frame_id: str, stamp_ns: int) -> Any:
    stamp = types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)


def _cloud(types: Any, frame: SimulatedFrame, settings: BagSettings, stamp_ns: int) -> Any:
    encoded = encode_realsense(frame.points, frame.colours, settings.ordered)
    field = types["sensor_msgs/msg/PointField"]
    return types["sensor_msgs/msg/PointCloud2"](
        header=_header(types, settings.frame_id, stamp_ns),
        height=encoded.height,
        width=encoded.width,
        fields=[
            field(name=f.name, offset=f.offset, datatype=f.datatype, count=f.count) for f in encoded.fields
        ],
        is_bigendian=False,
        point_step=encoded.point_step,
        row_step=encoded.row_step,
        data=encoded.data,
        is_dense=encoded.is_dense,
    )


def _truth(types: Any, frame: SimulatedFrame, frame_id: str, stamp_ns: int) -> Any:
    """The TF tree of the truth: camera -> ground_truth/spine -> ground_truth/L1, ...; none without a spine."""
    transforms = []
    if frame.tags["spine"]:
        spine = TRUTH_PREFIX + SPINE
        transforms.append(_transform(types, frame_id, spine, frame.T_camera_model, stamp_ns))
        T_model_camera = se3.inverse(frame.T_camera_model)
        for level, T_camera_level in frame.T_camera_levels.items():
            T = T_model_camera @ T_camera_level
            transforms.append(_transform(types, spine, TRUTH_PREFIX + level, T, stamp_ns))
    return types["tf2_msgs/msg/TFMessage"](transforms=transforms)


def _initial_pose(
    types: Any, sequence: SimulatedSequence, frame: SimulatedFrame, frame_id: str, stamp_ns: int
) -> Any:
    """The pose that picks with 3 mm of noise give, with its covariance."""
    levels = frame.T_camera_levels if sequence.settings.articulation is not None else None
    prior = picked_prior(sequence.case, frame.T_camera_model, sequence.settings.seed, PICK_RMS_M, levels)
    x, y, z, w = (float(v) for v in se3.quaternion_from_rotation(prior.T_camera_model[:3, :3]))
    px, py, pz = (float(v) for v in prior.T_camera_model[:3, 3])
    pose = types["geometry_msgs/msg/Pose"](
        position=types["geometry_msgs/msg/Point"](x=px, y=py, z=pz),
        orientation=types["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w),
    )
    covariance = prior_covariance(prior, sequence.case.centroid()).ravel()
    return types["geometry_msgs/msg/PoseWithCovarianceStamped"](
        header=_header(types, frame_id, stamp_ns),
        pose=types["geometry_msgs/msg/PoseWithCovariance"](pose=pose, covariance=covariance),
    )


def _transform(types: Any, parent: str, child: str, T: np.ndarray, stamp_ns: int) -> Any:
    x, y, z, w = (float(v) for v in se3.quaternion_from_rotation(T[:3, :3]))
    px, py, pz = (float(v) for v in T[:3, 3])
    return types["geometry_msgs/msg/TransformStamped"](
        header=_header(types, parent, stamp_ns),
        child_frame_id=child,
        transform=types["geometry_msgs/msg/Transform"](
            translation=types["geometry_msgs/msg/Vector3"](x=px, y=py, z=pz),
            rotation=types["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w),
        ),
    )
