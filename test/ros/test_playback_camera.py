"""The camera that plays stored clouds, and the light ear, in processes of their own over DDS."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from boxes_case import boxes_case
from playbacks import T_TRUE, made_up
from ros_rig import END_LIMIT_S, Ear, Process, free_domain, wait

from benchmarks.camera_rate.log import read_heard, read_sent
from benchmarks.camera_rate.stream import Playback, PlaybackError
from end2reg_ros.names import CAMERA_FRAME, SIMULATED_POINTS

pytestmark = pytest.mark.ros
CAMERA = "benchmarks.camera_rate.playback_camera"
RECORDER = "benchmarks.camera_rate.pose_recorder"
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def domain() -> int:
    return free_domain()


@pytest.fixture(scope="module")
def ear(domain: int) -> Iterator[Ear]:
    made = Ear(domain)
    yield made
    made.close()


@pytest.fixture
def playback(tmp_path: Path) -> Playback:
    return made_up(boxes_case(), tmp_path)


def test_the_camera_sends_stored_clouds_at_its_rate(
    domain: int, ear: Ear, tmp_path: Path, playback: Playback
) -> None:
    from geometry_msgs.msg import PoseWithCovarianceStamped
    from sensor_msgs.msg import PointCloud2

    from end2reg_ros.cloud.messages import stamp_ns
    from end2reg_ros.registration.find.initial_pose import matrix_from_pose
    from end2reg_ros.ros import qos

    ear.hear(PointCloud2, SIMULATED_POINTS, qos.tf())
    ear.hear(PoseWithCovarianceStamped, "initial_pose", qos.prior())
    log = tmp_path / "sent.txt"
    arguments = [f"stream:={tmp_path}", "rate:=20.0", "duration:=1.0", "send_start:=true", f"log:={log}"]
    camera = Process(domain, CAMERA, *(word for a in arguments for word in ("-p", a)))
    try:
        wait(lambda: '"done"' in camera.output, 30.0, lambda: camera.output)
        clouds = ear.heard[SIMULATED_POINTS]
        sent = read_sent(log)
        wait(lambda: len(clouds) == len(sent), 3.0, lambda: f"{len(clouds)} of {len(sent)}")
        assert camera.popen.poll() is None  # it stays: what it sent last lives in its memory
        code, seconds = camera.end()
        lines = [json.loads(line) for line in camera.output.splitlines() if line.startswith("{")]
    finally:
        camera.close()
    assert code == 0 and seconds < END_LIMIT_S
    assert [line["kind"] for line in lines] == ["playing", "done"]
    assert lines[1]["sent"] == len(sent) and lines[1]["sent"] + lines[1]["skipped"] == 20
    assert [stamp_ns(cloud) for cloud in clouds] == [cloud.stamp_ns for cloud in sent]
    gaps = np.diff([cloud.stamp_ns for cloud in sent]) / 1e9
    # 20 Hz of a sequence taken at 30 Hz: 0, 1.5, 3, ... of four frames to and fro
    assert [cloud.number for cloud in sent[:4]] == [0, 2, 3, 2] or lines[1]["skipped"]
    assert 0.04 < np.median(gaps) < 0.06
    assert len({bytes(cloud.data) for cloud in clouds}) == len(
        clouds
    )  # else the camera would seem to be frozen
    for cloud, (number, _, took_ms) in zip(clouds, sent, strict=True):
        data, stored = bytes(cloud.data), playback.frames[number].path.read_bytes()
        assert data[:12] + bytes(4) + data[16:] == stored
        assert 0 < took_ms < 1000
        assert (cloud.header.frame_id, cloud.width, cloud.height) == (CAMERA_FRAME, 300 + number, 1)
    (start,) = ear.heard["initial_pose"]
    np.testing.assert_allclose(matrix_from_pose(start.pose.pose), T_TRUE, atol=1e-9)


def test_a_camera_without_a_sequence_ends_with_one_line(domain: int, tmp_path: Path) -> None:
    camera = Process(domain, CAMERA, "-p", f"stream:={tmp_path}")
    try:
        assert camera.popen.wait(30.0) == 1
        assert f"error: {tmp_path}: holds no rendered sequence (stream.json is missing)" in camera.output
    finally:
        camera.close()


def test_the_recorder_writes_what_it_heard(domain: int, ear: Ear, tmp_path: Path) -> None:
    from geometry_msgs.msg import PoseWithCovarianceStamped

    from end2reg_ros.msg import TrackingStatus, VertebraPose, VertebraPoseArray
    from end2reg_ros.ros import qos
    from end2reg_ros.ros.conversions import header, pose_from_matrix, pose_with_covariance

    status = ear.node.create_publisher(TrackingStatus, "status", qos.latched())
    pose = ear.node.create_publisher(PoseWithCovarianceStamped, "spine/pose", qos.result())
    vertebrae = ear.node.create_publisher(VertebraPoseArray, "vertebrae", qos.result())
    out = tmp_path / "heard.jsonl"
    recorder = Process(domain, RECORDER, "-p", f"out:={out}")
    try:
        told = TrackingStatus(
            header=header(CAMERA_FRAME, 7 * SECOND),
            state_name="TRACKING",
            reason_code="ok",
            pose_age_ms=31.5,
            latency_ms=float("nan"),
            stage_names=["decode", "refine"],
            stage_ms=[2.0, 9.0],
            clouds_received=3,
            clouds_processed=2,
            poses_published=2,
            drop_reasons=["superseded"],
            drop_counts=[1],
        )
        status.publish(told)
        wait(lambda: '"heard"' in recorder.output, 30.0, lambda: recorder.output)
        wait(lambda: vertebrae.get_subscription_count() and pose.get_subscription_count(), 10.0)
        pose.publish(PoseWithCovarianceStamped(header=header(CAMERA_FRAME, 7 * SECOND)))
        entry = VertebraPose(level="L1", pose=pose_with_covariance(T_TRUE, np.eye(6)))
        assert entry.pose.pose == pose_from_matrix(T_TRUE)
        vertebrae.publish(VertebraPoseArray(header=header(CAMERA_FRAME, 7 * SECOND), vertebrae=[entry]))
        threading.Event().wait(0.5)  # it says nothing of what it hears
        assert recorder.end()[0] == 0
    finally:
        recorder.close()
    lines = {line["kind"]: line for line in read_heard(out)}
    assert lines.keys() == {"status", "pose", "vertebrae"}
    assert all(line["stamp_ns"] == 7 * SECOND for line in lines.values())
    heard = lines["status"]
    assert (heard["state"], heard["pose_age_ms"], heard["latency_ms"]) == ("TRACKING", 31.5, None)
    assert heard["stages_ms"] == {"decode": 2.0, "refine": 9.0}
    assert (heard["received"], heard["processed"], heard["poses"]) == (3, 2, 2)
    assert heard["drops"] == {"superseded": 1}
    np.testing.assert_allclose(
        np.array(lines["vertebrae"]["T_camera_levels"]["L1"]).reshape(4, 4), T_TRUE, atol=1e-9
    )


def test_clouds_are_read_ahead_in_order(playback: Playback) -> None:
    from benchmarks.camera_rate.playback_camera import read_ahead

    stop = threading.Event()
    frames = list(read_ahead(playback, 30.0, 8, stop))
    assert [(f.tick, f.number) for f in frames] == list(enumerate([0, 1, 2, 3, 2, 1, 0, 1]))
    data = frames[5].data.tobytes()
    assert data[:12] + bytes(4) + data[16:] == playback.frames[1].path.read_bytes()
    assert data[12:16] == bytes([5, 0, 0, 0])


def test_a_cloud_cut_short_is_told(playback: Playback) -> None:
    from benchmarks.camera_rate.playback_camera import read_ahead

    path = playback.frames[2].path
    path.write_bytes(path.read_bytes()[:100])
    frames = read_ahead(playback, 30.0, 8, threading.Event())
    assert [next(frames).number for _ in range(2)] == [0, 1]
    with pytest.raises(PlaybackError, match=r"frame_0002.bin: 100 bytes, expected 6040$"):
        next(frames)


def test_reading_ends_when_it_is_told_to(playback: Playback) -> None:
    from benchmarks.camera_rate.playback_camera import read_ahead

    stop = threading.Event()
    frames = read_ahead(playback, 30.0, 1_000_000, stop)
    next(frames)
    stop.set()
    assert list(frames) == []
