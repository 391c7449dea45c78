"""What the simulation writes: RealSense bytes, scene folders, recordings and the command."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.cli.main import main
from end2reg_ros.cloud.pointcloud2 import decode
from end2reg_ros.cloud.recording import Recording
from end2reg_ros.cloud.scene_folder import find_scenes, read_scene
from end2reg_ros.errors import End2RegError
from end2reg_ros.names import CAMERA_FRAME, INITIAL_POSE, SIMULATED_POINTS, TF
from end2reg_ros.simulation.bag import (
    START_NS,
    BagSettings,
    write_bag,
)
from end2reg_ros.simulation.camera.realsense import (
    cloud_message,
    encode_realsense,
)
from end2reg_ros.simulation.camera.sensor import SENSORS
from end2reg_ros.simulation.random_scenes import (
    RANGES,
    SceneSettings,
    simulate_scene,
    write_simulated_scene,
)
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence

SMALL = replace(SENSORS["d435"], width=320, height=240)


@pytest.fixture(scope="module")
def sequence(case: Case) -> SimulatedSequence:
    return SimulatedSequence(case, SequenceSettings(seed=0, sensor=SMALL))


def random_cloud() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    points = rng.uniform(0.3, 0.9, size=(12, 16, 3)).astype(np.float32)
    points[rng.random((12, 16)) < 0.3] = np.nan
    return points, rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)


def encode_realsense_reference(points: np.ndarray, colours: np.ndarray) -> bytes:
    """The data of a cloud without its invalid points, point by point."""
    rows = zip(points.reshape(-1, 3), colours.reshape(-1, 3), strict=True)
    return b"".join(
        struct.pack("<fff4xBBBx", *map(float, p), int(c[2]), int(c[1]), int(c[0]))
        for p, c in rows
        if np.isfinite(p[2])
    )


def test_encoded_bytes_are_those_of_the_realsense_driver() -> None:
    points, colours = random_cloud()
    cloud = encode_realsense(points, colours)
    assert cloud.data.tobytes() == encode_realsense_reference(points, colours)
    valid = int(np.isfinite(points[..., 2]).sum())
    assert (cloud.width, cloud.height, cloud.is_dense) == (valid, 1, True)
    assert cloud.row_step * cloud.height == len(cloud.data)
    message = cloud_message(cloud, "camera", 1)
    assert (message.point_step, message.row_step) == (20, cloud.row_step)
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
        ("x", 0, 7, 1),
        ("y", 4, 7, 1),
        ("z", 8, 7, 1),
        ("rgb", 16, 7, 1),
    ]


def test_ordered_cloud_keeps_the_image_and_zeroes_what_is_invalid() -> None:
    points, colours = random_cloud()
    cloud = encode_realsense(points, colours, ordered=True)
    assert (cloud.width, cloud.height, cloud.row_step, cloud.is_dense) == (16, 12, 320, False)
    stored = cloud.data.view("<f4").reshape(12, 16, 5)[..., :3]
    np.testing.assert_array_equal(stored, np.nan_to_num(points, nan=0.0))
    rgb = cloud.data.reshape(12, 16, 20)[..., 16:19]
    np.testing.assert_array_equal(rgb[..., ::-1], colours)


@pytest.mark.parametrize("ordered", [False, True])
def test_encoded_cloud_is_decoded_to_the_same_points(ordered: bool) -> None:
    points, colours = random_cloud()
    valid = np.isfinite(points[..., 2])
    cloud = decode(cloud_message(encode_realsense(points, colours, ordered), "camera", 5_000_000_007))
    np.testing.assert_array_equal(cloud.points, points[valid])
    np.testing.assert_array_equal(cloud.colours, colours[valid])
    assert (cloud.frame_id, cloud.stamp_ns) == ("camera", 5_000_000_007)


def test_nothing_valid_encodes_to_an_empty_cloud() -> None:
    points, colours = random_cloud()
    cloud = encode_realsense(np.full_like(points, np.nan), colours)
    assert (cloud.width, cloud.height, len(cloud.data)) == (0, 1, 0)


def test_recording_reads_back_with_its_truth(sequence: SimulatedSequence, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    settings = BagSettings(rate_hz=10.0, duration_s=0.3)
    assert write_bag(tmp_path / "bag", sequence, settings, lambda k, n: done.append((k, n))) == 3
    assert done == [(1, 3), (2, 3), (3, 3)]
    with Recording(tmp_path / "bag") as recording:
        assert [(t.name, t.type, t.count) for t in recording.topics] == [
            (SIMULATED_POINTS, "sensor_msgs/msg/PointCloud2", 3),
            (f"/{INITIAL_POSE}", "geometry_msgs/msg/PoseWithCovarianceStamped", 1),
            (TF, "tf2_msgs/msg/TFMessage", 3),
        ]
        messages = list(recording.messages())
    clouds = [m for m in messages if m.topic == SIMULATED_POINTS]
    truths = [m for m in messages if m.topic == TF]
    for k, (recorded, truth) in enumerate(zip(clouds, truths, strict=True)):
        frame = sequence.frame(k / 10.0)
        cloud = decode(recorded.message)
        valid = np.isfinite(frame.points[..., 2])
        np.testing.assert_array_equal(cloud.points, frame.points[valid])
        np.testing.assert_array_equal(cloud.colours, frame.colours[valid])
        assert cloud.stamp_ns == START_NS + k * 100_000_000 and cloud.frame_id == CAMERA_FRAME
        links = {t.child_frame_id: t for t in truth.message.transforms}
        assert list(links) == [
            "ground_truth/spine",
            *(f"ground_truth/{name}" for name in frame.T_camera_levels),
        ]
        T_camera_spine = matrix(links["ground_truth/spine"])
        assert links["ground_truth/spine"].header.frame_id == CAMERA_FRAME
        np.testing.assert_allclose(T_camera_spine, frame.T_camera_model, atol=1e-12)
        for level, T in frame.T_camera_levels.items():
            link = links[f"ground_truth/{level}"]
            assert link.header.frame_id == "ground_truth/spine"
            np.testing.assert_allclose(T_camera_spine @ matrix(link), T, atol=1e-12)


def matrix(link: object) -> np.ndarray:
    t, q = link.transform.translation, link.transform.rotation  # type: ignore[attr-defined]
    R = se3.rotation_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
    return se3.from_rotation_translation(R, np.array([t.x, t.y, t.z]))


def test_recording_without_a_spine_has_no_truth(case: Case, tmp_path: Path) -> None:
    empty = SimulatedSequence(case, SequenceSettings(scenario="empty", sensor=SMALL))
    write_bag(tmp_path / "bag", empty, BagSettings(rate_hz=5.0, duration_s=0.2))
    with Recording(tmp_path / "bag") as recording:
        (truth,) = recording.messages(TF)
    assert len(truth.message.transforms) == 0


def test_recording_refuses_an_existing_folder_and_no_frames(
    sequence: SimulatedSequence, tmp_path: Path
) -> None:
    with pytest.raises(
        End2RegError, match=f"^{re.escape(str(tmp_path))}: exists already; a recording needs a new folder$"
    ):
        write_bag(tmp_path, sequence, BagSettings())
    with pytest.raises(End2RegError, match=r"^no frame in 0.05 s at 10 Hz: longer or faster, please$"):
        write_bag(tmp_path / "bag", sequence, BagSettings(rate_hz=10.0, duration_s=0.05))
    for settings, text in (
        (BagSettings(rate_hz=float("nan")), "the rate is nan Hz, must be above 0 and at most 1000"),
        (BagSettings(rate_hz=-1.0), "the rate is -1 Hz, must be above 0 and at most 1000"),
        (BagSettings(duration_s=float("inf")), "the duration is inf s, must be above 0 and at most 86400"),
    ):
        with pytest.raises(End2RegError, match=f"^{text}$"):
            write_bag(tmp_path / "bag", sequence, settings)
    assert not (tmp_path / "bag").exists()


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["easy", "hard"])
def test_scenes_keep_to_their_suite(case: Case, suite: str) -> None:
    limits = RANGES[suite]  # type: ignore[index]
    for seed in (0, 1):
        scene = simulate_scene(case, SceneSettings(suite, seed))  # type: ignore[arg-type]
        tags = scene.tags
        assert limits.distance_m[0] <= tags["height_m"] <= limits.distance_m[1]
        assert 0 <= tags["tilt_deg"] <= limits.tilt_deg and -180 <= tags["roll_deg"] <= 180
        assert tags["occlusion"] == pytest.approx(1 - scene.frame.visible_fraction, abs=1e-3)
        assert tags["occlusion"] <= limits.occlusion_max
        assert tags["bone_pixels"] >= limits.bone_pixels_min
        assert tags["noise"] == (2.0 if suite == "hard" else 1.0)
        assert len(tags["exposed_levels"]) == 5 if suite == "easy" else 1 <= len(tags["exposed_levels"]) <= 4


@pytest.mark.slow
def test_scene_folder_reads_back(case: Case, tmp_path: Path) -> None:
    tags = write_simulated_scene(tmp_path / "s0", case, SceneSettings("standard", 4, SMALL_FAR))
    scene = read_scene(tmp_path / "s0")
    assert scene.tags == tags and scene.cloud.frame_id == CAMERA_FRAME
    assert scene.case_hash == case.hash
    assert scene.case_path is not None and scene.case_path.resolve() == case.path.resolve()
    assert scene.bone is not None and len(scene.bone) == len(scene.cloud.points)
    frame = simulate_scene(case, SceneSettings("standard", 4, SMALL_FAR)).frame
    valid = np.isfinite(frame.points[..., 2])
    np.testing.assert_array_equal(scene.cloud.points, frame.points[valid])
    np.testing.assert_array_equal(scene.bone, frame.bone[valid])
    np.testing.assert_array_equal(scene.T_camera_model, frame.T_camera_model)
    assert set(scene.T_camera_levels) == set(case.levels)


SMALL_FAR = replace(SENSORS["d435"], hfov_deg=60.0)


@pytest.mark.slow
def test_command_writes_scenes_that_do_not_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        args = [
            "simulate",
            "--out",
            str(tmp_path / name),
            "--count",
            "2",
            "--seed",
            "7",
            "--suite",
            "easy",
            "--json",
        ]
        assert main(args) == 0
    result = json.loads(capsys.readouterr().out.split("\n}\n")[0] + "}")
    assert [Path(s["folder"]).name for s in result["scenes"]] == ["easy_00007", "easy_00008"]
    assert [p.name for p in find_scenes(tmp_path / "a")] == ["easy_00007", "easy_00008"]
    # Alone, the second scene is the same as in the row.
    assert (
        main(["simulate", "--out", str(tmp_path / "b"), "--count", "1", "--seed", "8", "--suite", "easy"])
        == 0
    )
    assert capsys.readouterr().out.startswith(f"1 scenes of suite 'easy' in {tmp_path / 'b'}; median ")
    for name in ("cloud.ply", "scene.json"):
        first, second = (tmp_path / folder / "easy_00008" / name for folder in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_command_writes_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = tmp_path / "bag"
    args = ["simulate", "--bag", str(bag), "--duration", "0.2", "--rate", "10", "--scenario", "leave"]
    assert main(args) == 0
    expected = f"2 clouds on /camera/depth/color/points in {bag} (scenario 'leave', seed 0)\n"
    assert capsys.readouterr().out == expected
    with Recording(bag) as recording:
        assert recording.count(SIMULATED_POINTS) == 2


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "give --out FOLDER for scene folders, or --bag FOLDER for a recording"),
        (
            ["--out", "a", "--bag", "b"],
            "give --out FOLDER for scene folders, or --bag FOLDER for a recording",
        ),
        (["--out", "a", "--seed", "-1"], "--seed must be 0 or more, not -1"),
        (["--bag", "a", "--rate", "nan"], "the rate is nan Hz, must be above 0 and at most 1000"),
        (["--bag", "a", "--duration", "inf"], "the duration is inf s, must be above 0 and at most 86400"),
        (["--bag", "a", "--seed", "-1"], "--seed must be 0 or more, not -1"),
        (["--out", "a", "--count", "0"], "--count must be 1 or more, not 0"),
        (["--case", "/nowhere", "--out", "a"], "/nowhere: no such case folder"),
    ],
)
def test_command_says_what_is_wrong(args: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", *args]) == 1
    assert capsys.readouterr().err == f"end2reg: error: {text}\n"
