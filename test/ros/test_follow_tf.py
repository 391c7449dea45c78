"""examples/follow_tf.py: poses that may be used, from a tracker over DDS; what it refuses, and in which words."""

from __future__ import annotations

import importlib.util
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from ros_rig import Process, free_domain, wait

from end2reg_ros.names import SIMULATED_POINTS

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = "examples.follow_tf"


@pytest.fixture(scope="module")
def domain() -> Iterator[int]:
    """A domain with a tracker at work."""
    number = free_domain()
    remap = ("-r", f"points:={SIMULATED_POINTS}")
    tracker = Process(number, "end2reg_ros.ros.tracker_main", *remap, "-p", "method:=icp")
    camera = Process(
        number, "end2reg_ros.ros.simulated_camera_main", "-p", "scenario:=still", "-p", "rate:=10"
    )
    try:
        yield number
    finally:
        tracker.close()
        camera.close()


def finish(process: Process, timeout_s: float = 60.0) -> tuple[int, str]:
    """Exit code and output of an example that ends by itself."""
    try:
        wait(lambda: process.popen.poll() is not None, timeout_s, lambda: process.output)
        return process.popen.returncode, process.output
    finally:
        process.close()


def test_prints_the_poses_of_its_level_and_ends(domain: int) -> None:
    code, output = finish(Process(domain, EXAMPLE, "--", "L3", "--poses", "5"))
    assert code == 0, output
    used = re.findall(
        r"^\d+\.\d{9} L3 in camera_depth_optical_frame: \S+ \S+ (\S+) mm$", output, re.MULTILINE
    )
    assert len(used) == 5
    assert np.ptp([float(z) for z in used]) < 2.0


def test_an_unknown_level_is_one_line(domain: int) -> None:
    code, output = finish(Process(domain, EXAMPLE, "--", "L9"))
    assert code == 1
    assert output.splitlines()[-1] == "follow_tf: there is no level 'L9'; the tracker has L1, L2, L3, L4, L5"


def test_a_silent_tracker_gives_no_pose_and_the_reason() -> None:
    code, output = finish(Process(free_domain(), EXAMPLE, "--", "L3", "--patience", "2"))
    assert (code, output) == (1, "L3 not used: the tracker's status was never heard\n")


def test_ends_with_ctrl_c() -> None:
    process = Process(free_domain(), EXAMPLE, "--", "L3")
    try:
        wait(lambda: "not used" in process.output, 20, lambda: process.output)
        code, _ = process.end(signal.SIGINT)
        assert code == 1
        assert "Traceback" not in process.output
    finally:
        process.close()


# --- what it refuses -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("follow_tf", ROOT / "examples" / "follow_tf.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_status_that_vouches_for_nothing(example: ModuleType) -> None:
    from end2reg_ros.msg import TrackingStatus

    good = TrackingStatus(state=TrackingStatus.TRACKING, state_name="TRACKING")
    lost = TrackingStatus(state=TrackingStatus.LOST, state_name="LOST", reason="the bone is covered")
    degraded = TrackingStatus(state=TrackingStatus.DEGRADED, state_name="DEGRADED", reason="few points")
    assert example.doubt(good, 1.4) is None
    assert example.doubt(None, 0.0) == "the tracker's status was never heard"
    assert example.doubt(good, 3.0) == "the tracker's status is 3 s old"
    assert example.doubt(lost, 0.0) == "state is LOST: the bone is covered"
    assert example.doubt(degraded, 0.0) == "state is DEGRADED: few points"


def test_a_pose_that_is_held_or_uncertain(example: ModuleType) -> None:
    from end2reg_ros.msg import VertebraPose

    def pose(position_m: float, rotation_deg: float, held: bool = False) -> VertebraPose:
        variances = [position_m**2] * 3 + [np.radians(rotation_deg) ** 2] * 3
        vertebra = VertebraPose(level="L3", held=held)
        vertebra.pose.covariance = np.diag(variances).ravel()
        return vertebra

    assert example.refusal(pose(0.001, 1.0)) is None
    assert (
        example.refusal(pose(0.001, 1.0, held=True)) == "too little of L3 is seen, it follows its neighbours"
    )
    assert example.refusal(pose(0.003, 1.0)) == "uncertain by 3.0 mm, 1.0 deg"
    assert example.refusal(pose(0.001, 4.0)) == "uncertain by 1.0 mm, 4.0 deg"
