"""Lifecycle by services, and starts that must fail with one clear line."""

from __future__ import annotations

import random
import time
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


def test_requests_that_do_not_fit_are_refused_and_nothing_ends(ear: tuple[int, Ear]) -> None:
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState, GetState

    domain, listener = ear
    tracker = Process(domain, TRACKER, "-p", "method:=icp")

    def state() -> str:
        answer = listener.call(GetState, "/tracker/get_state", GetState.Request(), 30)
        return str(answer.current_state.label)

    def change(number: int, label: str = "") -> bool:
        request = ChangeState.Request(transition=Transition(id=number, label=label))
        return bool(listener.call(ChangeState, "/tracker/change_state", request, 30).success)

    try:
        wait(lambda: "active, waiting" in tracker.output, 60, lambda: tracker.output)
        fitting = {  # what ends the process by design is left out
            "unconfigured": {Transition.TRANSITION_CONFIGURE},
            "inactive": {Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_CLEANUP},
            "active": {Transition.TRANSITION_DEACTIVATE},
        }
        shutdown = {"unconfigured": 5, "inactive": 6, "active": 7}
        draw = random.Random(0)
        done = 0
        for _ in range(200):
            before = state()
            number = draw.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 30, 32, 41, 50, 60, 77, 97, 99, 255])
            if number == shutdown[before]:
                number = draw.choice([3, 4])
            fits = number in fitting[before]
            assert change(number) == fits, (before, number)
            assert fits or state() == before
            done += fits
        assert done >= 5
        assert not change(0, "no such label")
        assert not change(0, "transition_success")
        assert tracker.popen.poll() is None, tracker.output
        assert "refused: no transition with id 255 from the present state" in tracker.output
        assert "Traceback" not in tracker.output
        code, _ = tracker.end()
        assert code == 0
    finally:
        tracker.close()


def test_no_text_on_the_claims_topic_ends_the_tracker(ear: tuple[int, Ear]) -> None:
    from std_msgs.msg import String

    from end2reg_ros.ros import qos

    domain, listener = ear
    tracker = Process(domain, TRACKER, "-p", "method:=icp")
    try:
        wait(lambda: "active, waiting" in tracker.output, 60, lambda: tracker.output)
        claims: list[String] = []
        listener.node.create_subscription(String, "/tracker/claim", claims.append, qos.claims())
        publisher = listener.node.create_publisher(String, "/tracker/claim", qos.claims())
        wait(lambda: publisher.get_subscription_count() >= 2 and bool(claims), 10, lambda: tracker.output)
        _, token, host, process = claims[0].data.split(" ")
        texts = ["² a b 1", "1 a b 1", "", "1", f"1 {token} {host} {process}", f"{'9' * 5000} a b 1"]
        texts += [f"{number} {number:032x} recorded {number}" for number in range(100)]
        for text in texts:
            publisher.publish(String(data=text))
            time.sleep(0.01)
        time.sleep(1.5)
        assert tracker.popen.poll() is None, tracker.output
        assert tracker.output.count("/tracker/claim: a text that is no claim is ignored") == 1
        assert "Traceback" not in tracker.output
    finally:
        tracker.close()


@pytest.mark.parametrize(
    ("module", "raises", "told"),
    [
        (
            "onnxruntime",
            "RuntimeError('CUDA error\\nat line 5')",
            "configure failed: RuntimeError: CUDA error",
        ),
        (
            "small_gicp",
            "ModuleNotFoundError('No module named small_gicp')",
            "error: No module named small_gicp: run 'source .venv/bin/activate' in the package's folder",
        ),
    ],
)
def test_any_exception_at_the_start_is_one_line_and_exit_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, raises: str, told: str
) -> None:
    (tmp_path / f"{module}.py").write_text(f"raise {raises}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    tracker = Process(free_domain(), TRACKER, "-p", "engine:=onnxruntime")
    try:
        assert tracker.popen.wait(60) == 1, tracker.output
        assert told in tracker.output
        assert len(tracker.output.strip().splitlines()) == 1, tracker.output
    finally:
        tracker.close()
