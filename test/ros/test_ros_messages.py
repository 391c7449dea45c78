"""From results to messages and back, in this process: exact values, no DDS."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from end2reg_ros import se3
from end2reg_ros.case.model import Case, Screw
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.find.initial_pose import matrix_from_pose
from end2reg_ros.registration.types import LazyIndices, LevelResult, Quality, Registration
from end2reg_ros.runtime.poses import level_poses, sound_covariance
from end2reg_ros.runtime.status import Counts, Identity, NodeStatus, TrackingReport
from end2reg_ros.tracking import State
from end2reg_ros.tracking.transitions import Change, Event, History

pytestmark = pytest.mark.ros

STAMP_NS = 1_234_567_890_123_456_789
IDENTITY = Identity("icp", "cpu", "", "demo", "case", "config")


def transform(seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    rotation = se3.rotation_from_vector(random.normal(size=3))
    return se3.from_rotation_translation(rotation, random.normal(size=3))


def registration(T: np.ndarray, levels: tuple[LevelResult, ...] = ()) -> Registration:
    quality = Quality(0.9, 0.0006, 0.5, 0.2, 0.01, 800, 0.81)
    covariance = np.diag([1e-6, 4e-6, 1e-6, 1e-5, 4e-5, 1e-5])
    used = LazyIndices(lambda: np.array([1], dtype=np.int64))
    return Registration(T, True, "ok", "", quality, covariance, "icp", "cpu", {}, levels=levels, used=used)


def test_transforms_and_stamps_survive_the_round_trip() -> None:
    from end2reg_ros.ros import conversions

    T = transform()
    np.testing.assert_allclose(matrix_from_pose(conversions.pose_from_matrix(T)), T, atol=1e-15, rtol=1e-12)
    sent = conversions.transform_stamped("a", "b", T, STAMP_NS)
    np.testing.assert_allclose(conversions.matrix_from_transform(sent.transform), T, atol=1e-15, rtol=1e-12)
    assert (sent.header.frame_id, sent.child_frame_id) == ("a", "b")
    assert conversions.ns_from_stamp(sent.header.stamp) == STAMP_NS


@pytest.mark.parametrize("field", ["position", "orientation"])
def test_a_pose_that_is_none_is_refused(field: str) -> None:
    from geometry_msgs.msg import Pose

    pose = Pose()
    getattr(pose, field).x = float("nan")
    with pytest.raises(ValueError, match=r"^not a (position|quaternion)"):
        matrix_from_pose(pose)


def test_levels_without_a_result_of_their_own_move_with_the_spine(case: Case) -> None:
    T = transform(1)
    own = LevelResult("L2", transform(2), 1e-6 * np.eye(6), Quality(0.7), held=False)
    poses = {p.level: p for p in level_poses(registration(T, (own,)), case)}
    assert list(poses) == list(case.levels)
    np.testing.assert_array_equal(poses["L2"].T_camera_level, own.T_camera_level)
    assert not poses["L2"].held
    vertebra = case.vertebrae[2]
    np.testing.assert_allclose(poses["L3"].T_camera_level, T @ vertebra.T_model_level)
    # 6 mrad about y at a distance: the position's uncertainty grows with the lever
    lever = float(np.linalg.norm((T @ vertebra.T_model_level)[:3, 3] - T[:3, 3]))
    stddev = math.sqrt(np.linalg.eigvalsh(poses["L3"].covariance[:3, :3]).max())
    assert 0.002 < stddev < 0.0021 + 0.0064 * lever


@pytest.mark.parametrize("bad", [np.zeros((6, 6)), np.full((6, 6), np.nan), np.zeros((3, 3))])
def test_a_published_covariance_is_never_zero_nor_not_a_number(bad: np.ndarray) -> None:
    covariance = sound_covariance(bad)
    assert covariance.shape == (6, 6)
    assert (np.linalg.eigvalsh(covariance) > 0).all()
    if not np.isfinite(bad).all():
        assert covariance[0, 0] == 1.0  # unknown is told as a metre


def test_tf_chain_of_one_cloud(case: Case) -> None:
    from end2reg_ros.ros.conversions import matrix_from_transform, spine_transforms

    T = transform(3)
    poses = level_poses(registration(T), case)
    levels = {pose.level: pose.T_camera_level for pose in poses}
    sent = spine_transforms("patient/", "camera", STAMP_NS, T, levels)
    names = [(t.header.frame_id, t.child_frame_id) for t in sent]
    assert names == [("camera", "patient/spine")] + [("patient/spine", f"patient/{p.level}") for p in poses]
    for pose, message in zip(poses, sent[1:], strict=True):
        chain = matrix_from_transform(sent[0].transform) @ matrix_from_transform(message.transform)
        np.testing.assert_allclose(chain, pose.T_camera_level, atol=1e-12)


@pytest.mark.parametrize("direction", [(1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.3, 0.8, -0.52)])
def test_a_screws_frame_has_z_along_the_trajectory(direction: tuple[float, ...]) -> None:
    from end2reg_ros.ros.tf import screw_pose

    entry = np.array([0.01, 0.02, 0.03])
    tip = entry + 0.045 * np.array(direction) / np.linalg.norm(direction)
    T = screw_pose(Screw("left", entry, tip, 0.006, 0.045))
    assert se3.is_rigid(T)
    np.testing.assert_allclose(T[:3, 3], entry)
    np.testing.assert_allclose(se3.apply(T, np.array([0.0, 0.0, 0.045])), tip, atol=1e-12)


def test_markers_are_small_metric_and_in_the_vertebras_frame(case: Case) -> None:
    from visualization_msgs.msg import Marker

    from end2reg_ros.ros.markers import case_markers

    markers = case_markers("", case, triangles=300).markers
    meshes = [m for m in markers if m.type == Marker.TRIANGLE_LIST]
    screws = [m for m in markers if m.type == Marker.CYLINDER]
    assert len(meshes) == len(case.vertebrae)
    assert len(screws) == sum(len(v.screws) for v in case.vertebrae)
    for marker, vertebra in zip(meshes, case.vertebrae, strict=True):
        assert 0.6 * 900 <= len(marker.points) <= 1.1 * 900
        points = np.array([[p.x, p.y, p.z] for p in marker.points])
        full = se3.apply(se3.inverse(vertebra.T_model_level), vertebra.mesh.vertices)
        np.testing.assert_allclose(np.ptp(points, axis=0), np.ptp(full, axis=0), atol=0.006)
    assert len({(m.ns, m.id) for m in markers}) == len(markers)


def test_segmentation_keeps_every_point_and_marks_the_used_ones() -> None:
    from end2reg_ros.cloud.pointcloud2 import decode
    from end2reg_ros.ros.segmentation import segmentation_message

    points = np.array([[0.1, 0.2, 0.5], [0.3, -0.1, 0.6], [0.0, 0.0, 0.7]], np.float32)
    colours = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], np.uint8)
    message = segmentation_message(Cloud(points, colours, "camera", STAMP_NS), registration(np.eye(4)))
    decoded = decode(message)
    np.testing.assert_array_equal(decoded.points, points)
    assert decoded.colours is not None
    np.testing.assert_array_equal(decoded.colours[[0, 2]], colours[[0, 2]])
    np.testing.assert_array_equal(decoded.colours[1], [0xF2, 0xD1, 0x6B])
    assert bytes(message.data)[16::20] == b"\0\1\0"
    assert (decoded.frame_id, decoded.stamp_ns) == ("camera", STAMP_NS)


def test_status_of_a_moment(case: Case) -> None:
    from end2reg_ros.ros.conversions import ns_from_stamp
    from end2reg_ros.ros.status import status_message, valid_message

    counts = Counts(
        received=11, processed=7, dropped={"frozen": 1, "superseded": 2}, late=2, poses_published=5
    )
    told = TrackingReport(
        State.DEGRADED,
        "low_quality",
        "inlier ratio 0.90 below 0.96",
        "camera",
        STAMP_NS,
        replace(registration(np.eye(4)), position_stddev_m=0.002, rotation_stddev_rad=0.006),
        {"wait": 1.0, "decode": 2.5},
        latency_ms=40.0,
        pose_age_ms=55.0,
    )
    status = status_message(
        NodeStatus(IDENTITY, told, counts, 0.02, history=lost_once(), frame_budget_ms=66.5)
    )
    assert (status.state, status.state_name) == (status.DEGRADED, "DEGRADED")
    assert (status.clouds_received, status.clouds_processed, status.clouds_dropped) == (10, 7, 3)
    assert (status.drop_reasons, list(status.drop_counts)) == (["frozen", "superseded"], [1, 2])
    assert list(zip(status.stage_names, status.stage_ms, strict=True)) == [("wait", 1.0), ("decode", 2.5)]
    assert (status.position_stddev, status.rotation_stddev) == pytest.approx((0.002, 0.006))
    assert (status.normal_agreement, status.inliers) == (pytest.approx(0.81), 800)
    assert (status.clouds_late, status.frame_budget_ms) == (2, pytest.approx(66.5))
    counted = dict(zip(status.transition_names, status.transition_counts, strict=True))
    assert (counted["TRACKING->LOST"], sum(counted.values()), status.state_changes) == (1, 1, 1)
    assert (status.last_transition, status.last_transition_code) == ("TRACKING->LOST", "covered")
    assert status.last_transition_reason == "9 % of the surface is in view, 10 % needed"
    assert ns_from_stamp(status.last_transition_stamp) == STAMP_NS
    empty = status_message(NodeStatus(IDENTITY, TrackingReport(), Counts(), -1.0))
    assert math.isnan(empty.inlier_ratio) and math.isnan(empty.normal_agreement)
    assert math.isnan(empty.position_stddev) and math.isnan(empty.rotation_stddev)
    assert empty.inliers == 0
    assert math.isnan(empty.pose_age_ms)
    assert (empty.pose_stamp.sec, empty.pose_stamp.nanosec) == (0, 0)
    spoken = NodeStatus(IDENTITY, told, counts, 0.02, pose_stamp_ns=STAMP_NS)
    assert ns_from_stamp(status_message(spoken).pose_stamp) == STAMP_NS
    valid = valid_message(spoken)
    assert (valid.valid, valid.reason_code, valid.header.frame_id) == (True, "low_quality", "camera")
    assert ns_from_stamp(valid.header.stamp) == STAMP_NS
    assert not valid_message(replace(spoken, report=replace(told, state=State.LOST))).valid
    refused = replace(told, state=State.LOST, reason_code="few_inliers")
    lost = status_message(NodeStatus(IDENTITY, refused, counts, 0.02))
    figures = ("inlier_ratio", "residual_rmse", "visible_fraction", "mask_fraction", "free_space_violation")
    figures += ("normal_agreement", "position_stddev", "rotation_stddev")
    assert [name for name in figures if not math.isnan(getattr(lost, name))] == []
    assert lost.inliers == 0
    assert (empty.header.stamp.sec, empty.header.frame_id) == (0, "")
    assert empty.since_last_cloud == -1.0
    assert math.isnan(empty.frame_budget_ms)
    assert (empty.last_transition, empty.last_transition_stamp.sec, len(empty.transition_names)) == ("", 0, 9)


@pytest.mark.parametrize(
    ("state", "code", "received", "level"),
    [
        (State.TRACKING, "ok", 5, b"\0"),
        (State.DEGRADED, "low_quality", 5, b"\1"),
        (State.SEARCHING, "no_prior", 5, b"\1"),
        (State.SEARCHING, "no_cloud", 5, b"\2"),
        (State.SEARCHING, "stalled", 5, b"\2"),
        (State.LOST, "few_inliers", 5, b"\2"),
    ],
)
def test_diagnostics_level(state: State, code: str, received: int, level: bytes) -> None:
    from builtin_interfaces.msg import Time

    from end2reg_ros.ros.status import diagnostic_array

    counts = Counts(received=received, dropped={"frozen": 3})
    status = NodeStatus(IDENTITY, TrackingReport(state, code, "why"), counts, 0.1, rate_hz=12.34)
    [told] = diagnostic_array("tracker", Time(sec=1), status).status
    values = {v.key: v.value for v in told.values}
    assert told.level == level
    assert told.message == f"{state.name}: why"
    assert values["registrations_per_second"] == "12.3"
    assert values["dropped/frozen"] == "3"
    assert (values["clouds_late"], values["frame_budget_ms"]) == ("0", "nan")
    assert (values["changes/TRACKING->LOST"], "last_change" in values) == ("0", False)


def lost_once() -> History:
    text = "9 % of the surface is in view, 10 % needed"
    return History().after(Change(State.TRACKING, State.LOST, Event.FAILED, "covered", text, STAMP_NS))


def test_diagnostics_tell_changes_and_lateness() -> None:
    from builtin_interfaces.msg import Time

    from end2reg_ros.ros.status import diagnostic_array

    status = NodeStatus(
        IDENTITY, TrackingReport(), Counts(late=4), 0.1, history=lost_once(), frame_budget_ms=33.34
    )
    [told] = diagnostic_array("tracker", Time(sec=1), status).status
    values = {v.key: v.value for v in told.values}
    assert (values["clouds_late"], values["frame_budget_ms"]) == ("4", "33.3")
    assert (values["changes/TRACKING->LOST"], values["changes/LOST->TRACKING"]) == ("1", "0")
    assert values["last_change"] == "TRACKING->LOST, covered: 9 % of the surface is in view, 10 % needed"


class StandInNode:
    """Keeps the callbacks of the subscriptions by topic."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Any] = {}

    def create_subscription(
        self, kind: type, topic: str, callback: Any, profile: Any, event_callbacks: Any = None
    ) -> str:
        self.callbacks[topic] = callback
        return topic

    def destroy_subscription(self, topic: str) -> None:
        del self.callbacks[topic]


class StandInReceiver:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.frames: list[Any] = []
        self.dropped: list[tuple[str, str]] = []

    def receive(self, message: Any) -> None:
        self.frames.append(message)

    def drop(self, reason_code: str, reason: str) -> None:
        self.dropped.append((reason_code, reason))

    def count_lost(self, total: int) -> None:
        raise AssertionError


def test_depth_and_colour_are_paired_by_equal_stamps_and_the_rest_is_counted() -> None:
    from sensor_msgs.msg import CameraInfo, Image

    from end2reg_ros.cloud.decoding import decoder
    from end2reg_ros.errors import CloudError
    from end2reg_ros.ros.conversions import header
    from end2reg_ros.ros.inputs import CameraInput
    from end2reg_ros.ros.parameters import build
    from end2reg_ros.ros.settings import TrackerParameters

    def image(second: int, encoding: str, size: int, value: int) -> Image:
        data = np.full((2, 2, size), value, np.uint8).tobytes()
        head = header("camera", second * 1_000_000_000)
        return Image(header=head, height=2, width=2, encoding=encoding, step=2 * size, data=data)

    node, receiver = StandInNode(), StandInReceiver()
    parameters = build(TrackerParameters, {"input": "depth", "pair_colour": True})
    camera = CameraInput(node, parameters, receiver)  # type: ignore[arg-type]
    assert set(node.callbacks) == {"depth/image", "depth/camera_info", "color/image"}
    decode, data = decoder("depth")
    for second in (1, 2):
        node.callbacks["depth/image"](image(second, "16UC1", 2, 2))  # 0x0202 mm
    node.callbacks["color/image"](image(2, "rgb8", 3, 7))
    assert receiver.dropped == [("no_colour_image", "a depth image came without a color/image of its stamp")]
    assert [frame.header.stamp.sec for frame in receiver.frames] == [2]
    limits = parameters.limits()
    with pytest.raises(CloudError, match=r"^no depth/camera_info has arrived") as fault:
        decode(receiver.frames[0], limits)
    assert fault.value.code == "no_camera_info"

    k = [2.0, 0.0, 0.5, 0.0, 2.0, 0.5, 0.0, 0.0, 1.0]
    node.callbacks["depth/camera_info"](CameraInfo(height=2, width=2, k=k))
    node.callbacks["color/image"](image(3, "rgb8", 3, 7))
    node.callbacks["depth/image"](image(3, "16UC1", 2, 2))
    cloud = decode(receiver.frames[1], limits)
    np.testing.assert_allclose(cloud.points[:, 2], 0.514)
    np.testing.assert_allclose(cloud.points[0, :2], -0.25 * 0.514, rtol=1e-6)
    assert cloud.colours is not None
    assert (cloud.colours == 7).all()
    assert bytes(data(receiver.frames[1])) == b"\2" * 8
    camera.close()
    assert node.callbacks == {}


def test_the_older_claim_keeps_the_name() -> None:
    from end2reg_ros.ros.claim import Claim, own_claim

    first = own_claim("a")
    second = own_claim("b")
    assert first < second
    assert Claim.from_text(first.to_text()) == first
    assert Claim.from_text("nonsense") is None
    assert Claim.from_text("a b c d") is None
    for text in (
        "\u00b2 a b 1",
        "1 a b \u00b2",
        "1 a b 1 2",
        "-1 a b 1",
        f"{'9' * 5000} a b 1",
        "",
        "\0 \0 \0 \0",
    ):
        assert Claim.from_text(text) is None


def test_parameter_files_hold_the_defaults() -> None:
    import yaml

    from end2reg_ros.ros.camera_settings import CameraParameters
    from end2reg_ros.ros.parameters import build, specs
    from end2reg_ros.ros.settings import TrackerParameters

    folder = Path(__file__).resolve().parents[2] / "config"
    for name, cls in (("tracker", TrackerParameters), ("simulated_camera", CameraParameters)):
        values = yaml.safe_load((folder / f"{name}.yaml").read_text())["/**"]["ros__parameters"]
        assert build(cls, values) == cls()
        listed = {spec.name for spec in specs(cls) if "." not in spec.name}
        assert set(values) == listed
