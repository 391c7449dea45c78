"""The examples without ROS, as a reader starts them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from views import bundled_case, cloud_of, frame

from end2reg_ros import bundled_case_path
from end2reg_ros.cloud.ply import PlyPoints, write_ply
from end2reg_ros.simulation.bag import BagSettings, write_bag
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence

ROOT = Path(__file__).resolve().parents[2]
CASE = str(bundled_case_path())


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        command, capture_output=True, text=True, timeout=110, env=os.environ | {"PYTHONPATH": path}
    )


def test_register_one_cloud_prints_every_level_where_it_is(tmp_path: Path) -> None:
    seen = frame(0)
    cloud = cloud_of(seen)
    write_ply(tmp_path / "cloud.ply", PlyPoints(cloud.points, cloud.colours))
    done = run("register_one_cloud.py", CASE, str(tmp_path / "cloud.ply"))
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^(L\d): (\S+) (\S+) (\S+) mm in the camera's frame", done.stdout, re.MULTILINE)
    assert [level for level, *_ in found] == ["L1", "L2", "L3", "L4", "L5"]
    truth = [(seen.T_camera_model @ v.T_model_level)[:3, 3] for v in bundled_case().vertebrae]
    np.testing.assert_allclose(
        np.array([xyz for _, *xyz in found], dtype=float), 1000 * np.array(truth), atol=2
    )


def test_register_one_cloud_says_that_a_view_without_a_spine_has_no_pose(tmp_path: Path) -> None:
    x, y = np.meshgrid(np.linspace(-0.2, 0.2, 200), np.linspace(-0.2, 0.2, 200))
    table = np.stack([x, y, np.full_like(x, 0.6)], axis=-1).reshape(-1, 3)
    np.save(tmp_path / "table.npy", table)
    done = run("register_one_cloud.py", CASE, str(tmp_path / "table.npy"))
    assert done.returncode == 1
    assert re.fullmatch(r"no pose: .+\n", done.stderr)
    assert done.stdout == ""


def test_track_a_recording_prints_a_line_a_cloud(tmp_path: Path) -> None:
    sequence = SimulatedSequence(bundled_case(), SequenceSettings(seed=0, scenario="still"))
    frames = write_bag(tmp_path / "bag", sequence, BagSettings(rate_hz=8.0, duration_s=1.0))
    done = run("track_a_recording.py", CASE, str(tmp_path / "bag"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == frames
    assert re.fullmatch(r"\d+\.\d{3} TRACKING: \S+ \S+ \S+ mm", lines[-1])


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("register_one_cloud.py", "register_one_cloud: nowhere: no such file\n"),
        ("track_a_recording.py", "track_a_recording: nowhere: no such recording\n"),
    ],
)
def test_a_wrong_input_is_one_line(name: str, fault: str) -> None:
    done = run(name, CASE, "nowhere")
    assert (done.returncode, done.stderr) == (1, fault)
    without_case = run(name, "nowhere", "nowhere")
    what = name.removesuffix(".py")
    assert (without_case.returncode, without_case.stderr) == (1, f"{what}: nowhere: no such case folder\n")
    assert f"python examples/{name} CASE" in run(name).stderr
