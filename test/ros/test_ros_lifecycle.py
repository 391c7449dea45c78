"""Lifecycle by services, and starts that must fail with one clear line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ros_rig import END_LIMIT_S, Ear, Process, free_domain, wait

pytestmark = pytest.mark.ros

TRACKER = "end2reg_ros.ros.tracker_main"
CAMERA = "end2reg_ros.ros.simulated_camera_main"


@pytest.fixture
def ear() -> Iterator[tuple[int, Ear]]:
    domain = free_domain()
    made = Ear(domain)
    try:
        yield domain, made
    finally:
        made.close()


def test_states_by_services_and_a_bad_case_goes_back_to_unconfigured(ear: tuple[int, Ear]) -> None:
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState, GetState
    from rcl_interfaces.msg import Parameter, ParameterValue
    from rcl_interfaces.srv import SetParameters
    from std_srvs.srv import Trigger

    from end2reg_ros.msg import TrackingStatus
    from end2reg_ros.ros import qos

    domain, listener = ear
    tracker = Process(domain, TRACKER, "-p", "autostart:=false", "-p", "case:=/nowhere", "-r", "__ns:=/or_1")

    def change(transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(listener.call(ChangeState, "/or_1/tracker/change_state", request, 30).success)

    def state() -> str:
        answer = listener.call(GetState, "/or_1/tracker/get_state", GetState.Request(), 30)
        return str(answer.current_state.label)

    def set_case(path: str) -> Any:
        value = ParameterValue(type=4, string_value=path)
        request = SetParameters.Request(parameters=[Parameter(name="case", value=value)])
        return listener.call(SetParameters, "/or_1/tracker/set_parameters", request).results[0]

    try:
        listener.hear(TrackingStatus, "/or_1/status", qos.claims(), key="status")
        assert state() == "unconfigured"
        assert not change(Transition.TRANSITION_CONFIGURE)
        assert state() == "unconfigured"
        assert "cannot configure: /nowhere" in tracker.output
        refused = listener.call(Trigger, "/or_1/relocalize", Trigger.Request())
        assert (refused.success, refused.message) == (False, "the node is not configured")

        assert set_case("").successful
        assert change(Transition.TRANSITION_CONFIGURE)
        assert state() == "inactive"
        assert not set_case("/elsewhere").successful
        assert change(Transition.TRANSITION_ACTIVATE)
        assert state() == "active"
        statuses = listener.heard["status"]
        wait(lambda: any(s.reason_code == "no_cloud" for s in statuses), 10, lambda: tracker.output)
        told = next(s for s in statuses if s.reason_code == "no_cloud")
        assert told.reason.startswith("nothing has arrived on /or_1/points in 2.")
        assert told.state_name == "SEARCHING"
        assert change(Transition.TRANSITION_DEACTIVATE)
        assert state() == "inactive"
        wait(lambda: statuses[-1].reason_code == "inactive", 5, lambda: tracker.output)
        assert change(Transition.TRANSITION_ACTIVATE)
        assert change(Transition.TRANSITION_DEACTIVATE)
        assert change(Transition.TRANSITION_CLEANUP)
        assert state() == "unconfigured"
        assert change(Transition.TRANSITION_CONFIGURE)
        code, seconds = tracker.end()
        assert (code, seconds < END_LIMIT_S) == (0, True)
        assert "Traceback" not in tracker.output
    finally:
        tracker.close()


def test_a_start_that_cannot_work_ends_with_one_clear_line(tmp_path: Path) -> None:
    parameters = tmp_path / "tracker.yaml"
    parameters.write_text("/**:\n  ros__parameters:\n    z_max: 1000.0\n")
    empty = tmp_path / "case"
    empty.mkdir()
    starts = {
        "error: parameter 'z_max' is 1000.0, must lie in 0.01 .. 100": (
            TRACKER,
            "--params-file",
            str(parameters),
        ),
        "error: parameter 'method' is 'magic', must be one of end2reg, icp, ransac_icp": (
            TRACKER,
            "-p",
            "method:=magic",
        ),
        f"cannot configure: {empty}": (TRACKER, "-p", f"case:={empty}"),
        "error: parameter 'scenario' is 'war', must be one of still, ": (CAMERA, "-p", "scenario:=war"),
    }
    domain = free_domain()
    processes = {text: Process(domain, *arguments) for text, arguments in starts.items()}
    try:
        for text, process in processes.items():
            assert process.popen.wait(40) == 1, process.output
            assert text in process.output
            assert "Traceback" not in process.output
            assert len(process.output.strip().splitlines()) == 1, process.output
    finally:
        for process in processes.values():
            process.close()


def test_integers_are_welcome_for_floats_and_the_camera_ends_by_itself() -> None:
    camera = Process(free_domain(), CAMERA, "-p", "rate:=5", "-p", "duration:=1", "-p", "scenario:=still")
    try:
        assert camera.popen.wait(40) == 0, camera.output
        assert "simulated landmark picks with 3 mm noise" in camera.output
        assert "scenario 'still', sensor 'd435', 5 Hz, seed 0" in camera.output
    finally:
        camera.close()
