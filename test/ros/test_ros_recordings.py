"""Real recordings played into the node: there is no spine in them, so there must be no pose."""

from __future__ import annotations

import array
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ros_rig import END_LIMIT_S, Ear, Process, free_domain, wait

from end2reg_ros.reasons import Origin, Reason

pytestmark = [pytest.mark.ros, pytest.mark.shared]

TRACKER = "end2reg_ros.ros.tracker_main"
# Of a cloud with which no fit was attempted.
NOT_TRIED = {
    Reason.NO_PRIOR,
    Reason.PRIOR_REFUSED,
    *(r for r in Reason if r.origin in (Origin.NODE, Origin.CLOUD)),
}
DEPTH = "/device_0/sensor_0/Depth_0/image/data"
INFO = "/device_0/sensor_0/Depth_0/info/camera_info"


def to_ros(kind: type, recorded: Any) -> Any:
    """A recorded message as one of rclpy's."""
    message = kind()
    for name, told in kind.get_fields_and_field_types().items():  # type: ignore[attr-defined]
        value: Any = getattr(recorded, name, getattr(recorded, name.upper(), None))
        if told == "sequence<sensor_msgs/PointField>":
            from sensor_msgs.msg import PointField

            value = [to_ros(PointField, v) for v in value]
        elif told == "sequence<uint8>":
            value = array.array("B", bytes(value))
        elif "/" in told:
            value = to_ros(type(getattr(message, name)), value)
        elif isinstance(value, np.ndarray):
            value = value.tolist()
        elif isinstance(value, np.generic):
            value = value.item()
        setattr(message, name, value)
    return message


def recorded(folder: Path, *topics: str) -> list[Any]:
    """All messages of the topics, ready to be published."""
    from end2reg_ros.cloud.recording import Recording

    with Recording(folder) as recording:
        found = [m for topic in topics for m in recording.messages(topic)]
        return [to_ros(_kind(m.message), m.message) for m in found]


def _kind(message: Any) -> type:
    import sensor_msgs.msg

    name = getattr(message, "__msgtype__", type(message).__name__).split("/")[-1].split("__")[-1]
    kind: type = getattr(sensor_msgs.msg, name)
    return kind


@pytest.fixture
def player() -> Iterator[tuple[int, Ear, list[Process]]]:
    domain = free_domain()
    ear = Ear(domain)
    processes: list[Process] = []
    try:
        yield domain, ear, processes
    finally:
        ear.close()
        for process in processes:
            process.close()


def listen(ear: Ear) -> None:
    from geometry_msgs.msg import PoseWithCovarianceStamped
    from sensor_msgs.msg import PointCloud2

    from end2reg_ros.msg import TrackingStatus
    from end2reg_ros.ros import qos

    ear.hear_tf()
    ear.hear(TrackingStatus, "status", qos.claims())
    ear.hear(PoseWithCovarianceStamped, "spine/pose", qos.prior())
    ear.hear(PointCloud2, "segmentation", qos.sensor_output())


def prior_at(frame: str, stamp: Any, depth_m: float) -> Any:
    """A start in the middle of the view: the spine's middle at this depth, its back to the camera."""
    from end2reg_ros.case import load_case
    from end2reg_ros.case.bundled import bundled_case_path
    from end2reg_ros.registration.classical import unguided_start
    from end2reg_ros.ros.conversions import ns_from_stamp, pose_with_covariance_stamped

    T = unguided_start(load_case(bundled_case_path()).centroid(), np.array([0.0, 0.0, depth_m]))
    return pose_with_covariance_stamped(frame, ns_from_stamp(stamp), T, np.zeros((6, 6)))


def advance(message: Any) -> None:
    """The stamp of the next frame of a 10 Hz camera."""
    stamp = message.header.stamp
    total = stamp.nanosec + 100_000_000
    stamp.sec, stamp.nanosec = stamp.sec + total // 1_000_000_000, total % 1_000_000_000


def refused_fits(statuses: list[Any]) -> int:
    """Clouds that were registered from a start and whose fit was refused; each tells a reason, none tells figures."""
    tried = [s for s in statuses if s.reason_code not in NOT_TRIED]
    for s in tried:
        assert s.reason_code not in ("", "ok", "confirming"), s.reason_code
        assert s.reason
        assert s.state_name == "SEARCHING"
        assert math.isnan(s.inlier_ratio) and math.isnan(s.position_stddev)
    return len({(s.header.stamp.sec, s.header.stamp.nanosec) for s in tried})


def test_a_real_cloud_without_a_spine_gives_no_pose(
    player: tuple[int, Ear, list[Process]], shared_data: Path
) -> None:
    from geometry_msgs.msg import PoseWithCovarianceStamped
    from sensor_msgs.msg import PointCloud2

    from end2reg_ros.ros import qos

    domain, ear, processes = player
    # one recorded cloud stands for a stream: its data repeat
    tracker = Process(
        domain, TRACKER, "-p", "method:=icp", "-p", "check_frozen:=false", "-p", "input_reliability:=reliable"
    )
    processes.append(tracker)
    listen(ear)
    clouds = ear.node.create_publisher(PointCloud2, "points", qos.result())
    starts = ear.node.create_publisher(PoseWithCovarianceStamped, "initial_pose", qos.prior())

    def say() -> str:
        return tracker.output

    wait(lambda: clouds.get_subscription_count() > 0 and starts.get_subscription_count() > 0, 40, say)
    [cloud] = recorded(shared_data / "sensors" / "openni_640x480_mcap", "/camera/depth_registered/points")
    assert (cloud.width, cloud.height, cloud.point_step) == (640, 480, 32)
    statuses = ear.heard["status"]

    def play() -> Any:
        processed = statuses[-1].clouds_processed if statuses else 0
        advance(cloud)
        clouds.publish(cloud)
        wait(lambda: bool(statuses) and statuses[-1].clouds_processed > processed, 20, say)
        return statuses[-1]

    assert play().reason_code == "no_prior"
    wait(lambda: len(ear.heard["segmentation"]) > 0, 10, say)
    assert ear.heard["segmentation"][-1].width == 233_301
    depths = (0.75, 0.9, 1.2)
    for depth_m in depths:
        fits = refused_fits(statuses)
        starts.publish(prior_at(cloud.header.frame_id, cloud.header.stamp, depth_m))
        # four clouds: twice what it takes to confirm a start
        wait(lambda: play() is not None and refused_fits(statuses) >= fits + 4, 40, say)  # noqa: B023
    assert refused_fits(statuses) >= 4 * len(depths)
    assert not any(s.reason_code == "prior_refused" for s in statuses)
    assert {s.state_name for s in statuses} == {"SEARCHING"}
    assert statuses[-1].poses_published == 0
    assert not ear.heard["spine/pose"]
    assert not ear.transforms
    assert statuses[-1].drop_reasons == []
    code, seconds = tracker.end()
    assert (code, seconds < END_LIMIT_S) == (0, True)
    assert "Traceback" not in tracker.output


def test_real_depth_images_without_a_spine_give_no_pose(
    player: tuple[int, Ear, list[Process]], shared_data: Path
) -> None:
    from geometry_msgs.msg import PoseWithCovarianceStamped
    from sensor_msgs.msg import CameraInfo, Image

    from end2reg_ros.cloud.depth import decode_depth
    from end2reg_ros.ros import qos

    domain, ear, processes = player
    options = (
        "-p",
        "method:=icp",
        "-p",
        "input:=depth",
        "-p",
        "input_reliability:=reliable",
        "-p",
        "check_frozen:=false",
    )
    tracker = Process(domain, TRACKER, *options)
    processes.append(tracker)
    listen(ear)
    depths = ear.node.create_publisher(Image, "depth/image", qos.result())
    infos = ear.node.create_publisher(CameraInfo, "depth/camera_info", qos.result())
    starts = ear.node.create_publisher(PoseWithCovarianceStamped, "initial_pose", qos.prior())

    def say() -> str:
        return tracker.output

    wait(lambda: depths.get_subscription_count() > 0 and infos.get_subscription_count() > 0, 40, say)
    folder = shared_data / "sensors" / "realsense_d435_mcap"
    [info] = recorded(folder, INFO)
    first, second = recorded(folder, DEPTH)
    # the recorder left the optical frame and the stamp's order to luck: a driver's headers
    statuses = ear.heard["status"]
    assert (first.header.frame_id, first.encoding, first.width, first.height) == ("0", "mono16", 640, 480)
    first.header.stamp.sec = 100

    def said(code: str) -> bool:
        return any(s.reason_code == code for s in statuses)

    depths.publish(first)
    wait(lambda: said("no_camera_info"), 10, say)
    infos.publish(info)
    second.header.stamp.sec = 101
    expected = len(decode_depth(second, info).points)
    assert expected > 200_000

    def play() -> Any:
        processed = statuses[-1].clouds_processed
        advance(second)
        depths.publish(second)
        wait(lambda: statuses[-1].clouds_processed > processed, 10, say)
        return statuses[-1]

    wait(lambda: bool(ear.heard["segmentation"]) or play() is None, 10, say)
    assert ear.heard["segmentation"][0].width == expected
    middle = float(np.median(decode_depth(second, info).points[:, 2]))
    distances = (middle, 0.8 * middle, 1.2 * middle)
    for depth_m in distances:
        fits = refused_fits(statuses)
        starts.publish(prior_at("0", second.header.stamp, depth_m))
        wait(lambda: play() is not None and refused_fits(statuses) >= fits + 4, 40, say)  # noqa: B023
    assert refused_fits(statuses) >= 4 * len(distances)
    assert not any(s.reason_code == "prior_refused" for s in statuses)
    assert statuses[-1].poses_published == 0
    assert {s.state_name for s in statuses} == {"SEARCHING"}
    assert not ear.heard["spine/pose"]
    assert not ear.transforms
    code, _ = tracker.end()
    assert code == 0
    assert "Traceback" not in tracker.output
