"""``end2reg register`` and ``end2reg track``: the same pipeline as the node's, from files, the same on every run."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from messages import point_field
from views import bundled_case, cloud_of, frame, registrar, tre_mm

from end2reg_ros.apps.track import truth as track_truth
from end2reg_ros.apps.track.run import OfflineInput, RecordedStart, track_recording
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.cli.main import main
from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.ply import PlyPoints, write_ply
from end2reg_ros.cloud.recording import Recorded, Recording
from end2reg_ros.cloud.ros_messages import PointCloud2, header
from end2reg_ros.errors import CloudError
from end2reg_ros.frame import Tracker
from end2reg_ros.registration.types import Prior
from end2reg_ros.se3 import (
    apply,
    from_rotation_translation,
    inverse,
    quaternion_from_rotation,
    rotation_from_quaternion,
)
from end2reg_ros.simulation.bag import BagSettings, write_bag
from end2reg_ros.simulation.picks import simulate_picks
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence

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
    write_bag(folder, sequence, BagSettings(rate_hz=5.0, duration_s=0.8))
    return folder


# What differs from run to run: times alone.
TIMED = ("summary.json", "timings.csv")


def same_bytes(one: Path, two: Path) -> list[str]:
    """Names of the files of two runs, which are equal byte by byte but for those with times."""
    names = sorted(file.name for file in one.iterdir())
    assert names == sorted(file.name for file in two.iterdir())
    for name in names:
        if name not in TIMED:
            assert (one / name).read_bytes() == (two / name).read_bytes(), name
    return names


def test_track_is_deterministic_and_right(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recording carries its own initial_pose. Two runs give the same bytes; every pose is within 1 mm."""
    arguments = ["track", "--case", CASE, "--bag", str(recording), "--engine", "onnxruntime", "--json"]
    assert main([*arguments, "--out", str(tmp_path / "one")]) == 0
    assert main([*arguments, "--out", str(tmp_path / "two"), "--no-plots"]) == 0
    drawn = {name: (tmp_path / "one" / name).read_bytes()[:4] for name in ("track.png", "error.png")}
    assert set(drawn.values()) == {b"\x89PNG"}
    for name in drawn:
        (tmp_path / "one" / name).unlink()
    names = same_bytes(tmp_path / "one", tmp_path / "two")
    levels = bundled_case().levels
    expected = [f"trajectory{part}.tum" for part in ("", *(f"_{level}" for level in levels))]
    assert set(names) == {*expected, *TIMED, "frames.csv", "errors.csv"}
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    assert summary["clouds_received"] == summary["clouds_processed"] + sum(summary["dropped"].values()) == 4
    assert summary["poses_published"] == 3  # the first good fit waits for a second
    assert summary["complete"] and summary["restarts"] == {}
    assert summary["frames_by_state"] == {"SEARCHING": 1, "TRACKING": 3, "DEGRADED": 0, "LOST": 0}
    told = summary["accuracy_against_recorded_truth"]
    assert (told["poses_compared"], told["poses_without_truth"]) == (3, 0)
    assert list(told["tre_at_landmarks_mm"]) == ["spine", *levels]
    sequence = SimulatedSequence(bundled_case(), SequenceSettings(seed=0, scenario="still"))
    for name, vertebra in (("spine", None), ("L3", bundled_case().vertebrae[2])):
        file = tmp_path / "one" / ("trajectory.tum" if vertebra is None else f"trajectory_{name}.tum")
        worst = []
        for line in file.read_text().splitlines():
            stamp, *numbers = (float(v) for v in line.split())
            T = from_rotation_translation(
                rotation_from_quaternion(np.array(numbers[3:])), np.array(numbers[:3])
            )
            truth = sequence.T_camera_model(stamp - 1_700_000_000)
            if vertebra is not None:
                T = T @ inverse(vertebra.T_model_level)
            assert tre_mm(T, truth) < 1.0
            points = bundled_case().landmark_array() if vertebra is None else vertebra.landmarks.as_array()
            worst.append(1000 * np.linalg.norm(apply(T, points) - apply(truth, points), axis=1).max())
        assert told["tre_at_landmarks_mm"][name]["max"] == pytest.approx(max(worst), abs=0.02)
    with (tmp_path / "one" / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and "latency_ms" not in rows[0]
    assert all(
        0 < float(row["position_stddev_mm"]) < 2 and float(row["normal_agreement"]) > 0.6 for row in rows
    )
    timings = (tmp_path / "one" / "timings.csv").read_text().splitlines()
    assert timings[0].startswith("stamp_s,latency_ms,") and len(timings) == 5


def test_a_classical_track_is_deterministic_and_never_looks_at_the_truth(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run finds no truth: it gives the same bytes but for what compares with it."""
    arguments = ["track", "--case", CASE, "--bag", str(recording), "--method", "icp", "--no-plots"]
    assert main([*arguments, "--out", str(tmp_path / "one")]) == 0
    monkeypatch.setattr(track_truth, "TRUTH_PREFIX", "nobody/")
    assert main([*arguments, "--out", str(tmp_path / "blind")]) == 0
    (tmp_path / "one" / "errors.csv").unlink()
    assert {"frames.csv", "trajectory.tum", "trajectory_L3.tum"} <= set(
        same_bytes(tmp_path / "one", tmp_path / "blind")
    )
    told, blind = (json.loads((tmp_path / run / "summary.json").read_text()) for run in ("one", "blind"))
    assert set(told) - set(blind) == {"accuracy_against_recorded_truth"}


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (KeyboardInterrupt(), "interrupted; {out} holds the 3 clouds before"),
        (CloudError("unreadable", "bag: is damaged"), "bag: is damaged; {out} holds the 3 clouds before"),
    ],
)
def test_what_was_tracked_is_written_when_the_recording_ends_early(
    recording: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    stop: BaseException,
    text: str,
) -> None:
    whole = Recording.messages

    def damaged(self: Recording, *topics: str) -> Iterator[Recorded]:
        for count, message in enumerate(whole(self, *topics)):
            if count == 4 and len(topics) == 2:  # the start and three clouds; the truth comes later
                raise stop
            yield message

    monkeypatch.setattr(Recording, "messages", damaged)
    out = tmp_path / "run"
    arguments = ["track", "--case", CASE, "--bag", str(recording), "--method", "icp", "--out", str(out)]
    assert main(arguments) == 1
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("end2reg: error: ")]
    assert error == [f"end2reg: error: {text.format(out=out)}"]
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["clouds_received"], summary["poses_published"], summary["complete"]) == (3, 2, False)
    assert len((out / "trajectory.tum").read_text().splitlines()) == 2
    assert len((out / "frames.csv").read_text().splitlines()) == 4


def pose_message(frame_id: str, T: np.ndarray, stamp_ns: int) -> Any:
    (x, y, z), q = T[:3, 3], quaternion_from_rotation(T[:3, :3])
    pose = SimpleNamespace(
        position=SimpleNamespace(x=x, y=y, z=z),
        orientation=SimpleNamespace(x=q[0], y=q[1], z=q[2], w=q[3]),
    )
    covariance = SimpleNamespace(pose=pose, covariance=np.zeros(36))
    return SimpleNamespace(header=header(frame_id, stamp_ns), pose=covariance)


class Listed:
    """Stands for a recording: messages from a list."""

    def __init__(self, messages: list[tuple[str, Any]]) -> None:
        self._messages = messages

    def messages(self, *topics: str) -> Iterator[Recorded]:
        """Those of the topics."""
        return (Recorded(topic, 0, m) for topic, m in self._messages if topic in topics)


class Watched(Tracker):
    """A tracker that writes down what it is told."""

    def __init__(self) -> None:
        super().__init__(registrar(), bundled_case())
        self.told: list[str] = []

    def set_prior(self, prior: Prior) -> None:
        super().set_prior(prior)
        self.told.append("start")

    def reset(self, reason_code: str = "", reason: str = "") -> None:
        super().reset()
        self.told.append("reset")


def small_cloud(k: int, stamp_s: float, frame_id: str = "camera", **changes: Any) -> tuple[str, Any]:
    data = (0.5 + 0.1 * np.random.default_rng(k).random((500, 3))).astype("<f4").tobytes()
    fields = tuple(point_field(name, 4 * axis) for axis, name in enumerate("xyz"))
    base: dict[str, Any] = {
        "header": header(frame_id, round(stamp_s * 1e9)),
        "height": 1,
        "width": 500,
        "fields": fields,
        "point_step": 12,
    }
    base |= {"is_bigendian": False, "is_dense": False, "row_step": 6000, "data": data}
    return "points", PointCloud2(**(base | changes))


def test_a_recording_keeps_to_the_nodes_rules() -> None:
    """A start waits for a cloud that decodes; a new stream forgets it; nothing of the clouds is kept."""
    T = frame(0).T_camera_model
    tracker = Watched()
    messages = [
        ("start", pose_message("camera", T, 100_000_000_000)),
        small_cloud(0, 100.0, data=b"short"),
        small_cloud(1, 100.1),
        small_cloud(2, 100.1),
        small_cloud(3, 50.0),
        small_cloud(4, 50.1, frame_id="other"),
        small_cloud(5, 0.0, frame_id="other"),
        ("start", pose_message("other", T, 30_000_000_000)),
        small_cloud(6, 50.2, frame_id="other"),
    ]
    chosen = OfflineInput("points", None, ("start",))
    records = list(track_recording(Listed(messages), chosen, tracker, CloudLimits()))  # type: ignore[arg-type]
    assert [r.dropped for r in records] == ["short_data", None, "frozen", None, None, "zero_stamp", None]
    assert tracker.told == ["start", "reset", "reset"]
    restarts = [r.restart for r in records]
    assert restarts == [None, None, None, "clock_jumped_back", "frame_changed", None, None]
    codes = [r.update.reason_code for r in records if r.update is not None]
    assert codes[0] != "no_prior" and codes[1:] == ["no_prior"] * 3  # the last start is 20 s too old
    first = records[1].update
    assert first is not None and first.registration is not None
    assert first.registration.relevant is None


def test_a_recorded_start_in_another_frame_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker(registrar(), bundled_case())
    start = RecordedStart(tracker)
    start.offer(pose_message("map", frame(0).T_camera_model, 5))
    start.apply(cloud_of(frame(0)))
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
        "--method",
        "icp",
        "--json",
    ]
    assert main(arguments) == 1
    summary = json.loads(capsys.readouterr().out)
    assert (summary["clouds_received"], summary["poses_published"]) == (2, 0)
    assert summary["reasons"] == {"no_prior": 2}
