"""``end2reg register`` and ``end2reg track``: the same pipeline as the node's, from files, the same on every run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from views import bundled_case, cloud_of, frame, registrar, tre_mm

from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.cli.main import main
from end2reg_ros.cloud.ply import PlyPoints, write_ply
from end2reg_ros.registration.initial_pose import PriorRequest
from end2reg_ros.se3 import from_rotation_translation, inverse, rotation_from_quaternion
from end2reg_ros.simulation.bag import BagSettings, write_bag
from end2reg_ros.simulation.picks import simulate_picks
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence
from end2reg_ros.tracking import Tracker
from end2reg_ros.tracking.offline import start_from

CASE = str(bundled_case_path())
NAMES = ("spinous", "transverse_left", "transverse_right")


@pytest.fixture(scope="module")
def cloud_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cloud") / "cloud.ply"
    cloud = cloud_of(frame(0))
    write_ply(path, PlyPoints(cloud.points, cloud.colours))
    return path


@pytest.fixture(scope="module")
def landmarks_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    picks = simulate_picks(bundled_case(), frame(0).T_camera_model, seed=0)
    path = tmp_path_factory.mktemp("picks") / "picked.json"
    path.write_text(json.dumps({k: dict(zip(NAMES, v.tolist(), strict=True)) for k, v in picks.items()}))
    return path


def test_register_prints_the_contract_and_finds_the_pose(
    cloud_file: Path, landmarks_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        ["register", "--case", CASE, "--cloud", str(cloud_file), "--landmarks", str(landmarks_file), "--json"]
    )
    found = json.loads(capsys.readouterr().out)
    assert code == 0
    assert {"T_camera_model", "success", "quality", "timings_ms", "method", "engine"} <= set(found)
    assert {"inlier_ratio", "residual_rmse_m", "mask_fraction"} <= set(found["quality"])
    T = np.array(found["T_camera_model"]).reshape(4, 4)
    assert found["success"] and tre_mm(T, frame(0).T_camera_model) < 1.0
    assert set(found["levels"]) == {"L1", "L2", "L3", "L4", "L5"}


def test_register_from_the_wrong_place_exits_with_1_and_says_why(
    cloud_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    far = from_rotation_translation(np.eye(3), np.array([0.0, 0.0, 0.05])) @ frame(0).T_camera_model
    start = tmp_path / "T.json"
    start.write_text(json.dumps({"T_camera_model": far.ravel().tolist()}))
    code = main(["register", "--case", CASE, "--cloud", str(cloud_file), "--init", str(start)])
    assert code == 1
    assert "NO POSE: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cloud", "nowhere.ply"], "nowhere.ply: no such file"),
        (
            ["--cloud", "{cloud}", "--init", "a.json", "--landmarks", "b.json"],
            "give --init or --landmarks, not both",
        ),
        (["--cloud", "{cloud}", "--landmarks", "b.json"], "cannot read landmarks from b.json"),
        (["--cloud", "{cloud}", "--init", "a.json"], "cannot read a transform from a.json"),
    ],
)
def test_bad_arguments_give_one_line(
    arguments: list[str], message: str, cloud_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [a.replace("{cloud}", str(cloud_file)) for a in arguments]
    assert main(["register", "--case", CASE, *filled]) == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith("end2reg: error: ") and error.count("\n") == 1


def test_a_cloud_in_millimetres_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cloud = cloud_of(frame(0))
    path = tmp_path / "mm.ply"
    write_ply(path, PlyPoints(1000 * cloud.points))
    assert main(["register", "--case", CASE, "--cloud", str(path)]) == 1
    assert "its unit seems to be mm, metres are needed" in capsys.readouterr().err


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bag") / "still"
    sequence = SimulatedSequence(bundled_case(), SequenceSettings(seed=0, scenario="still"))
    write_bag(folder, sequence, BagSettings(rate_hz=5.0, duration_s=1.2))
    return folder


def test_track_is_deterministic_and_right(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recording carries its own initial_pose. Two runs give the same bytes; every pose is within 1 mm."""
    for run in ("one", "two"):
        assert (
            main(["track", "--case", CASE, "--bag", str(recording), "--out", str(tmp_path / run), "--json"])
            == 0
        )
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    assert summary["clouds_received"] == summary["clouds_processed"] + sum(summary["dropped"].values()) == 6
    assert summary["poses_published"] == 5  # the first good fit waits for a second
    assert summary["frames_by_state"] == {"SEARCHING": 1, "TRACKING": 5, "DEGRADED": 0, "LOST": 0}
    sequence = SimulatedSequence(bundled_case(), SequenceSettings(seed=0, scenario="still"))
    for name in ("trajectory", "trajectory_L3"):
        one, two = ((tmp_path / run / f"{name}.tum").read_text() for run in ("one", "two"))
        assert one == two
        for line in one.splitlines():
            stamp, *numbers = (float(v) for v in line.split())
            T = from_rotation_translation(
                rotation_from_quaternion(np.array(numbers[3:])), np.array(numbers[:3])
            )
            truth = sequence.T_camera_model(stamp - 1_700_000_000)
            if name == "trajectory_L3":
                T = T @ inverse(bundled_case().vertebrae[2].T_model_level)
            assert tre_mm(T, truth) < 1.0
    assert len((tmp_path / "one" / "frames.csv").read_text().splitlines()) == 7


def test_a_recorded_start_in_another_frame_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker(registrar(), bundled_case())
    request = PriorRequest("map", 5, frame(0).T_camera_model, np.zeros((6, 6)))
    start_from(request, "camera", tracker)
    update = tracker.update(cloud_of(frame(0)))
    assert update.reason_code == "no_prior"
    assert "initial_pose of the recording not used: it is in 'map', the cloud in 'camera'" in caplog.text


@pytest.mark.shared
def test_track_over_a_real_room_publishes_nothing(shared_data: Path, tmp_path: Path) -> None:
    """A real sensor's cloud without a spine, and a start that points into it: no pose, exit 1."""
    start = tmp_path / "T.json"
    T = frame(0).T_camera_model.copy()
    start.write_text(json.dumps(T.ravel().tolist()))
    bag = shared_data / "sensors" / "openni_640x480_mcap"
    arguments = [
        "track",
        "--case",
        CASE,
        "--bag",
        str(bag),
        "--out",
        str(tmp_path / "run"),
        "--init",
        str(start),
    ]
    assert main(arguments) == 1
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["poses_published"] == 0
    assert summary["clouds_received"] >= 1


@pytest.mark.shared
def test_real_depth_images_are_read_with_their_own_calibration(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = shared_data / "sensors" / "realsense_d435_mcap"
    topic = "/device_0/sensor_0/Depth_0/image/data"
    arguments = [
        "track",
        "--case",
        CASE,
        "--bag",
        str(bag),
        "--out",
        str(tmp_path),
        "--topic",
        topic,
        "--json",
    ]
    assert main(arguments) == 1
    summary = json.loads(capsys.readouterr().out)
    assert (summary["clouds_received"], summary["poses_published"]) == (2, 0)
    assert summary["reasons"] == {"no_prior": 2}
