"""The node's runtime without ROS: what goes out for good, bad, late and missing clouds. The registration is a stand-in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from messages import point_field
from stand_in import StandInRegistrar

from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.pointcloud2 import decode
from end2reg_ros.cloud.ros_messages import PointCloud2, header
from end2reg_ros.cloud.stream import StreamSettings
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.frame import Tracker
from end2reg_ros.registration.find.initial_pose import PriorRequest, PriorRules
from end2reg_ros.registration.types import Prior, Quality, Registration
from end2reg_ros.runtime.status import Identity, NodeStatus
from end2reg_ros.runtime.tracker_runtime import RuntimeSettings, TrackerRuntime
from end2reg_ros.runtime.watchdog import WatchdogSettings
from end2reg_ros.tracking import PUBLISHING_STATES, State

SECOND = 1_000_000_000
FIELDS = tuple(point_field(name, 4 * k) for k, name in enumerate("xyz"))
IDENTITY = Identity("icp", "cpu", "", "demo", "c", "h")


class StandIn(StandInRegistrar):
    """A registration that finds what it is told to: success or not, quick or slow."""

    method, engine, engine_hash, engine_text, needs_prior = "icp", "cpu", "", "", True

    def __init__(self) -> None:
        self.success = True
        self.wait_s = 0.0
        self.fault: Exception | None = None

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        """The prior, judged as told."""
        if self.fault is not None:
            raise self.fault
        time.sleep(self.wait_s)
        assert prior is not None
        code = "ok" if self.success else "few_inliers"
        quality = Quality(1.0, 0.0003, 0.9, 0.2, 0.0, 2000, normal_agreement=1.0)
        return Registration(
            prior.T_camera_model,
            self.success,
            code,
            code,
            quality,
            1e-8 * np.eye(6),
            "icp",
            "cpu",
            {"refine": 1.0},
        )


class Ear:
    """Keeps what the runtime says."""

    def __init__(self) -> None:
        self.poses: list[int] = []
        self.tf: list[int | None] = []  # stamps of poses; None where they were detached
        self.statuses: list[NodeStatus] = []
        self.shown: list[State] = []
        self.warned: list[tuple[str, str]] = []
        self.broken = False

    def now_ns(self) -> int:
        return 100 * SECOND

    def result(self, cloud: Cloud, registration: Registration) -> None:
        self.poses.append(cloud.stamp_ns)
        self.tf.append(cloud.stamp_ns)

    def detach(self) -> None:
        if self.tf and self.tf[-1] is not None:
            self.tf.append(None)

    def segmentation(self, cloud: Cloud, registration: Registration | None) -> None:
        pass

    def show(self, state: State) -> None:
        self.shown.append(state)
        if state not in PUBLISHING_STATES:
            self.detach()

    def status(self, status: NodeStatus) -> None:
        if self.broken:
            raise RuntimeError("the middleware is gone")
        counts = status.counts
        assert counts.received == counts.processed + counts.total_dropped + counts.pending
        self.statuses.append(status)

    def warn(self, reason_code: str, text: str) -> None:
        self.warned.append((reason_code, text))

    @property
    def last(self) -> NodeStatus:
        return self.statuses[-1]


class Bench:
    """A runtime with its stand-ins, and a camera that can be told to misbehave."""

    def __init__(self) -> None:
        case = load_case(bundled_case_path())
        self.registrar = StandIn()
        self.ear = Ear()
        self.random = np.random.default_rng(0)
        self.stamp_ns = 10 * SECOND
        settings = RuntimeSettings(
            identity=IDENTITY,
            stream=StreamSettings(),
            watchdog=WatchdogSettings(first_s=0.3, gap_s=0.2, source="/points"),
            limits=CloudLimits(expected_frame="camera", max_points=100_000),
            prior=PriorRules(default_stddev_m=0.003, max_age_s=10.0),
            decode=decode,
            data=lambda message: message.data,
        )
        self.runtime = TrackerRuntime(Tracker(self.registrar, case), settings, self.ear)
        self.runtime.activate()
        self.wait(lambda: bool(self.ear.statuses) and self.ear.last.report.reason_code == "waiting")

    def cloud(self, **changes: Any) -> PointCloud2:
        self.stamp_ns += 66_000_000
        data = (0.5 + 0.1 * self.random.random((500, 3))).astype("<f4").tobytes()
        message = PointCloud2(header("camera", self.stamp_ns), 1, 500, FIELDS, False, 12, 6000, data, False)
        return replace(message, **changes)

    def send(self, message: PointCloud2 | None = None) -> NodeStatus:
        """Send one cloud and wait for what is said about it."""
        before = len(self.ear.statuses)
        self.runtime.receive(message or self.cloud())
        self.wait(lambda: len(self.ear.statuses) > before and self.ear.last.counts.pending == 0)
        # The cloud is counted a moment before it is judged: a command runs only after both.
        judged = threading.Event()
        self.runtime._worker.call(judged.set)
        assert judged.wait(5.0)
        return self.ear.last

    def wait(self, condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"timed out; last: {self.ear.statuses[-1:]}"
            time.sleep(0.002)

    def tick_until(self, condition: Callable[[], bool]) -> None:
        """As the node's timer does."""

        def ticked() -> bool:
            self.runtime.tick()
            return condition()

        self.wait(ticked)

    def track(self) -> None:
        self.runtime.offer_prior(PriorRequest("camera", self.stamp_ns, np.eye(4), np.zeros((6, 6))))
        self.wait(lambda: self.send().report.state == State.TRACKING)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    assert made.runtime.close(2.0)


def test_no_pose_without_a_start_then_poses_with_the_stamps_of_their_clouds(bench: Bench) -> None:
    report = bench.send().report
    assert (report.state, report.reason_code) == (State.SEARCHING, "no_prior")
    assert bench.ear.poses == []
    bench.track()
    first = len(bench.ear.poses)
    status = bench.send()
    assert status.report.stamp_ns == bench.stamp_ns == bench.ear.poses[-1] == status.pose_stamp_ns
    assert len(bench.ear.poses) == first + 1 == status.counts.poses_published
    assert list(status.report.timings_ms) == ["wait", "decode", "refine", "publish"]
    assert status.report.pose_age_ms == pytest.approx(1e-6 * (100 * SECOND - bench.stamp_ns))
    assert len(set(bench.ear.poses)) == len(bench.ear.poses)


BAD: dict[str, dict[str, Any]] = {
    "wrong_frame": {"header": header("other", 20 * SECOND)},
    "empty_frame": {"header": header("", 20 * SECOND)},
    "zero_stamp": {"header": header("camera", 0)},
    "stamp_backwards": {"header": header("camera", 10 * SECOND - 100_000_000)},
    "no_xyz_fields": {"fields": FIELDS[:2]},
    "short_data": {"data": b"\0" * 100},
    "empty_cloud": {"width": 0, "data": b""},
    "all_invalid": {"data": np.full((500, 3), np.nan, "<f4").tobytes()},
    "bad_point_step": {"point_step": 8},
    "out_of_range": {"data": np.full((500, 3), 50.0, "<f4").tobytes()},
}


@pytest.mark.parametrize("code", BAD)
def test_a_bad_cloud_is_a_counted_and_published_reason_and_no_pose(bench: Bench, code: str) -> None:
    bench.track()
    poses = len(bench.ear.poses)
    registered = bench.ear.last.report
    status = bench.send(bench.cloud(**BAD[code]))
    assert status.report.reason_code == code
    # the state rests on the last cloud registered: its header stays
    assert (status.report.state, status.report.stamp_ns) == (State.TRACKING, registered.stamp_ns)
    assert (status.report.frame_id, status.report.registration) == ("camera", None)
    assert status.report.reason
    assert status.counts.dropped == {code: 1}
    assert len(bench.ear.poses) == poses
    assert bench.ear.warned[-1][0] == code


def test_the_second_frozen_cloud_is_lost_with_that_reason(bench: Bench) -> None:
    bench.track()
    frozen = bench.cloud()
    bench.send(frozen)
    poses = len(bench.ear.poses)
    first, second = bench.send(frozen), bench.send(bench.cloud(data=frozen.data))  # the stamp, then the data
    assert (first.report.state, first.report.reason_code) == (State.TRACKING, "frozen")
    assert (second.report.state, second.report.reason_code) == (State.LOST, "frozen")
    assert second.report.reason == "the data equal those of the cloud before: the camera's picture is frozen"
    assert len(bench.ear.poses) == poses
    assert bench.ear.shown[-1] == State.LOST
    last = second.history.last
    assert last is not None and (last.name, last.reason_code) == ("TRACKING->LOST", "frozen")
    assert second.counts.dropped == {"frozen": 2}
    bench.wait(lambda: bench.send().report.state == State.TRACKING)  # without a restart


def test_a_camera_that_stops_is_lost_after_its_own_patience(bench: Bench) -> None:
    """At 100 Hz the patience is 0.1 s, not the 0.2 s of the settings."""
    bench.runtime._settings = replace(
        bench.runtime._settings, watchdog=WatchdogSettings(first_s=0.3, gap_s=2.0, source="/points")
    )
    bench.runtime.activate()
    bench.track()
    for _ in range(16):
        bench.send()
        time.sleep(0.01)
    assert bench.ear.last.report.state == State.TRACKING
    began = time.monotonic()
    bench.tick_until(lambda: bench.ear.last.report.state == State.LOST)
    assert 0.05 < time.monotonic() - began < 1.0
    report, last = bench.ear.last.report, bench.ear.last.history.last
    assert report.reason_code == "no_cloud"
    assert report.reason.startswith("nothing on /points for 0.")
    assert last is not None and (last.reason_code, last.reason) == ("no_cloud", report.reason)
    bench.wait(lambda: bench.send().report.state == State.TRACKING)


@pytest.mark.slow
def test_a_long_search_is_no_silence_while_clouds_arrive(bench: Bench) -> None:
    bench.runtime.offer_prior(PriorRequest("camera", bench.stamp_ns, np.eye(4), np.zeros((6, 6))))
    bench.registrar.wait_s = 0.6  # three times the watchdog's patience
    for _ in range(60):
        bench.runtime.receive(bench.cloud())
        bench.runtime.tick()
        time.sleep(0.015)
    bench.registrar.wait_s = 0.0
    bench.wait(lambda: bench.runtime.reporter.counters.counts.pending == 0)
    assert "no_cloud" not in {status.report.reason_code for status in bench.ear.statuses}
    assert bench.ear.warned == []


@pytest.mark.slow
def test_a_slow_frame_does_not_lose_the_track(bench: Bench) -> None:
    """One registration takes four times the watchdog's patience while clouds keep coming: the next one goes on."""
    bench.track()
    before = bench.runtime.reporter.status().history
    bench.registrar.wait_s = 0.8
    for _ in range(14):  # 0.066 s apart by their stamps: 0.9 s
        bench.runtime.receive(bench.cloud())
        bench.runtime.tick()
        time.sleep(0.066)
        if bench.runtime.reporter.counters.counts.late:
            bench.registrar.wait_s = 0.0
    bench.registrar.wait_s = 0.0
    bench.wait(lambda: bench.runtime.reporter.counters.counts.pending == 0)
    assert bench.send().report.state == State.TRACKING
    assert bench.runtime.reporter.status().history is before


def test_a_pose_later_than_the_cameras_period_is_counted(bench: Bench) -> None:
    assert np.isnan(bench.send().frame_budget_ms)
    bench.track()
    for _ in range(4):
        status = bench.send()
    assert status.frame_budget_ms == pytest.approx(66.0, abs=0.01)
    late = status.counts.late
    bench.registrar.wait_s = 0.1
    status = bench.send()
    assert status.counts.late == late + 1
    assert status.report.latency_ms > 100.0
    bench.registrar.success = False
    assert bench.send().counts.late == late + 1  # no pose, so none that is late
    counts = bench.ear.last.counts
    assert counts.received == counts.processed + counts.total_dropped


def test_changes_of_state_are_counted_by_edge_with_reason_and_stamp(bench: Bench) -> None:
    bench.track()
    stamp_ns = bench.stamp_ns
    first = bench.ear.last.history
    assert {k: n for k, n in first.counts.items() if n} == {"SEARCHING->TRACKING": 1}
    assert first.last is not None and first.last.stamp_ns == stamp_ns
    bench.registrar.success = False
    lost = bench.send().history
    assert {k: n for k, n in lost.counts.items() if n} == {"SEARCHING->TRACKING": 1, "TRACKING->LOST": 1}
    assert lost.last is not None
    assert (lost.last.reason_code, lost.last.reason, lost.last.stamp_ns) == (
        "few_inliers",
        "few_inliers",
        bench.stamp_ns,
    )
    bench.runtime.reset()
    bench.wait(lambda: bench.ear.last.report.reason_code == "reset")
    last = bench.ear.last.history.last
    assert last is not None and (last.name, last.reason) == (
        "LOST->SEARCHING",
        "reset on request: everything is forgotten",
    )


def test_the_watchdog_speaks_when_no_cloud_ever_comes(bench: Bench) -> None:
    bench.tick_until(lambda: bench.ear.last.report.reason_code == "no_cloud")
    assert bench.ear.last.report.state == State.SEARCHING
    assert bench.ear.last.report.reason.startswith("nothing has arrived on /points in 0.")
    assert bench.ear.last.since_last_cloud_s == -1.0


@pytest.mark.slow
def test_the_track_is_lost_when_clouds_stop_and_the_status_is_repeated(bench: Bench) -> None:
    bench.track()
    bench.tick_until(lambda: bench.ear.last.report.state == State.LOST)
    assert bench.ear.last.report.reason_code == "no_cloud"
    said = len(bench.ear.statuses)
    bench.tick_until(lambda: len(bench.ear.statuses) > said)
    assert bench.ear.last.report.state == State.LOST


def test_a_cloud_that_waited_while_the_camera_died_does_not_keep_the_track(bench: Bench) -> None:
    bench.track()
    bench.registrar.wait_s = 0.4  # longer than the watchdog's patience
    bench.runtime.receive(bench.cloud())
    time.sleep(0.05)
    bench.runtime.receive(bench.cloud())  # in the mailbox when the camera dies
    processed = bench.runtime.reporter.counters.counts.processed
    bench.tick_until(lambda: bench.runtime.reporter.counters.counts.processed == processed + 2)
    bench.tick_until(lambda: bench.ear.last.report.reason_code == "no_cloud")
    assert bench.ear.last.report.state == State.LOST
    said = len([w for w in bench.ear.warned if w[0] == "no_cloud"])
    for _ in range(30):
        bench.runtime.tick()
        time.sleep(0.01)
    assert bench.ear.last.report.state == State.LOST
    assert len([w for w in bench.ear.warned if w[0] == "no_cloud"]) == said  # told once, not at every tick


def test_a_new_stream_begins_without_the_old_start(bench: Bench) -> None:
    bench.track()
    bench.stamp_ns = 2 * SECOND
    bench.send()
    assert bench.send().report.reason_code == "no_prior"
    bench.track()


def test_a_replayed_recording_starts_over_with_a_reason(bench: Bench) -> None:
    bench.track()
    bench.stamp_ns = 2 * SECOND
    bench.send()
    reasons = [status.report.reason_code for status in bench.ear.statuses]
    assert "clock_jumped_back" in reasons
    after = bench.ear.statuses[reasons.index("clock_jumped_back")]
    assert after.report.state == State.SEARCHING
    assert all(stamp > 10 * SECOND for stamp in bench.ear.poses)
    bench.track()


def test_disabled_means_lost_and_silent(bench: Bench) -> None:
    bench.track()
    bench.runtime.enable(False)
    poses = len(bench.ear.poses)
    bench.wait(lambda: bench.ear.last.report.reason_code == "disabled")
    assert bench.ear.last.report.state == State.LOST
    bench.runtime.receive(bench.cloud())
    bench.wait(lambda: bench.runtime.reporter.counters.counts.dropped == {"disabled": 1})
    assert len(bench.ear.poses) == poses
    bench.runtime.enable(True)
    bench.wait(lambda: bench.send().report.state == State.TRACKING)


def test_nothing_is_published_once_deactivate_has_returned(bench: Bench) -> None:
    bench.track()
    bench.registrar.wait_s = 0.2
    bench.runtime.receive(bench.cloud())
    time.sleep(0.05)
    bench.runtime.deactivate()
    poses = len(bench.ear.poses)
    bench.wait(lambda: bench.ear.last.report.reason_code == "inactive")
    assert len(bench.ear.poses) == poses
    assert bench.ear.last.report.state == State.SEARCHING


def test_disabled_deactivated_and_activated_it_works_again(bench: Bench) -> None:
    bench.runtime.enable(False)
    bench.runtime.deactivate()
    bench.runtime.activate()
    bench.track()


def test_a_start_offered_while_nothing_works_is_dropped(bench: Bench) -> None:
    start = PriorRequest("camera", bench.stamp_ns, np.eye(4), np.zeros((6, 6)))
    bench.runtime.offer_prior(start)
    bench.runtime.enable(False)
    bench.runtime.offer_prior(start)
    bench.runtime.enable(True)
    assert bench.send().report.reason_code == "no_prior"
    assert ("prior_refused", "initial_pose refused: the tracker is stopped") in bench.ear.warned
    bench.runtime.deactivate()
    bench.runtime.offer_prior(start)
    bench.runtime.activate()
    bench.wait(lambda: bench.ear.last.report.reason_code == "waiting")
    assert bench.send().report.reason_code == "no_prior"


@pytest.mark.parametrize("action", ["relocalize", "reset"])
def test_relocalize_and_reset_forget_the_start(bench: Bench, action: str) -> None:
    bench.track()
    getattr(bench.runtime, action)()
    bench.wait(lambda: bench.ear.last.report.reason_code == action)
    assert bench.ear.last.report.state == State.SEARCHING
    assert bench.send().report.reason_code == "no_prior"
    bench.runtime.offer_prior(PriorRequest("camera", bench.stamp_ns, np.eye(4), np.zeros((6, 6))))
    getattr(bench.runtime, action)()  # a start not used yet is forgotten too
    assert bench.send().report.reason_code == "no_prior"
    bench.track()


def test_an_old_start_is_refused(bench: Bench) -> None:
    bench.runtime.offer_prior(
        PriorRequest("camera", bench.stamp_ns - 11 * SECOND + SECOND // 2, np.eye(4), np.zeros((6, 6)))
    )
    report = bench.send().report
    assert report.reason_code == "prior_refused"
    assert report.reason == ("initial_pose refused: its stamp is 10.6 s older than the cloud's (limit 10 s)")


def test_a_start_without_a_stamp_does_not_wait_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.runtime.offer_prior(PriorRequest("camera", 0, np.eye(4), np.zeros((6, 6))))
    later = time.perf_counter() + 60.0
    monkeypatch.setattr("end2reg_ros.runtime.priors.perf_counter", lambda: later)
    report = bench.send().report
    assert report.reason_code == "prior_refused"
    assert report.reason.startswith("initial_pose refused: it waited 60.")
    assert report.reason.endswith(" s for a cloud (limit 10 s)")


def test_frames_dropped_before_they_are_whole_keep_the_watchdog_informed(bench: Bench) -> None:
    bench.track()

    def lost() -> bool:
        bench.runtime.drop("no_colour_image", "a depth image came without a color/image of its stamp")
        return bench.ear.last.report.state == State.LOST

    bench.tick_until(lost)
    report = bench.ear.last.report
    assert report.reason_code == "no_colour_image"
    assert report.reason == "a depth image came without a color/image of its stamp"


def test_it_knows_when_it_cannot_make_itself_heard(bench: Bench) -> None:
    bench.track()
    bench.ear.broken = True
    assert not bench.runtime.cannot_report
    bench.runtime.receive(bench.cloud())
    bench.tick_until(lambda: bench.runtime.cannot_report)
    bench.ear.broken = False
    bench.tick_until(lambda: not bench.runtime.cannot_report)
    bench.track()


def test_a_refused_start_stays_readable(bench: Bench) -> None:
    bench.runtime.offer_prior(PriorRequest("map", bench.stamp_ns, np.eye(4), np.zeros((6, 6))))
    report = bench.send().report
    assert (report.state, report.reason_code) == (State.SEARCHING, "prior_refused")
    assert report.reason == (
        "initial_pose refused: it is in 'map', the cloud in 'camera': "
        "tf2_ros is not installed: send the pose in the camera's frame"
    )
    assert bench.send().report.reason_code == "prior_refused"
    bench.track()


def test_a_slow_registration_works_on_the_newest_cloud(bench: Bench) -> None:
    bench.track()
    bench.registrar.wait_s = 0.1
    processed = bench.runtime.reporter.counters.counts.processed
    for _ in range(6):
        bench.runtime.receive(bench.cloud())
        time.sleep(0.002)
    bench.wait(lambda: bench.runtime.reporter.counters.counts.pending == 0)
    counts = bench.runtime.reporter.counters.counts
    assert counts.processed == processed + 2
    assert counts.dropped == {"superseded": 4}
    assert bench.ear.poses[-1] == bench.stamp_ns


def test_a_fault_in_the_code_is_a_counted_reason_and_lost(bench: Bench) -> None:
    bench.track()
    bench.registrar.fault = RuntimeError("a bug")
    bench.runtime.receive(bench.cloud())
    bench.wait(lambda: bench.ear.last.report.reason_code == "internal_error")
    assert bench.ear.last.report.state == State.LOST
    assert bench.ear.last.counts.dropped == {"internal_error": 1}
    assert ("internal_error", "RuntimeError: a bug") in bench.ear.warned
    bench.registrar.fault = None
    bench.wait(lambda: bench.send().report.state == State.TRACKING)


def test_a_cloud_of_ten_million_points_is_bounded_in_time(bench: Bench) -> None:
    bench.track()
    data = np.zeros((10_000_000, 3), "<f4")
    data[:] = 0.5
    data[::7, 0] = 0.6
    message = bench.cloud(width=10_000_000, row_step=120_000_000, data=data.data.cast("B"))
    began = time.monotonic()
    status = bench.send(message)
    assert time.monotonic() - began < 2.0
    assert status.counts.points_truncated >= 9_900_000
    assert status.counts.dropped == {}


# --- TF is detached where there is no pose ---------------------------------------------------------------------------


def test_the_first_refused_cloud_detaches_and_the_next_pose_attaches(bench: Bench) -> None:
    bench.track()
    bench.registrar.success = False
    for _ in range(3):
        bench.send()
    assert bench.ear.tf[-1] is None
    assert bench.ear.tf.count(None) == 1
    bench.registrar.success = True
    bench.wait(lambda: bench.send().report.state == State.TRACKING)
    assert bench.ear.tf[-1] == bench.stamp_ns


@pytest.mark.parametrize("action", ["deactivate", "disable", "close"])
def test_requests_detach_before_they_return_even_while_a_cloud_is_worked_on(
    bench: Bench, action: str
) -> None:
    bench.track()
    bench.registrar.wait_s = 0.3
    bench.runtime.receive(bench.cloud())
    time.sleep(0.05)
    {
        "deactivate": bench.runtime.deactivate,
        "disable": lambda: bench.runtime.enable(False),
        "close": lambda: bench.runtime.close(0.0),
    }[action]()
    assert bench.ear.tf[-1] is None
    time.sleep(0.4)
    assert bench.ear.tf[-1] is None


@pytest.mark.parametrize("action", ["relocalize", "reset"])
def test_a_track_that_is_given_up_is_detached(bench: Bench, action: str) -> None:
    bench.track()
    getattr(bench.runtime, action)()
    bench.wait(lambda: bench.ear.last.report.reason_code == action)
    assert bench.ear.tf[-1] is None


def test_a_silent_camera_detaches(bench: Bench) -> None:
    bench.track()
    bench.tick_until(lambda: bench.ear.last.report.reason_code == "no_cloud")
    assert bench.ear.tf[-1] is None


# --- a registration that hangs ---------------------------------------------------------------------------------------


def test_a_registration_that_hangs_is_told_without_it_and_its_pose_ends_that(bench: Bench) -> None:
    bench.track()
    history = bench.runtime.reporter.status().history
    bench.registrar.wait_s = 1.5
    bench.runtime.receive(bench.cloud())
    began = time.monotonic()
    bench.tick_until(lambda: bench.ear.last.report.reason_code == "stalled")
    assert time.monotonic() - began < 0.5  # patience here: 0.2 s
    report = bench.ear.last.report
    assert report.state == State.LOST
    assert report.reason.startswith("no cloud was judged for 0.2 s: the registration hangs, or")
    assert bench.ear.tf[-1] is None
    assert [code for code, _ in bench.ear.warned] == ["stalled"]
    said = len(bench.ear.statuses)
    bench.tick_until(lambda: len(bench.ear.statuses) > said)  # once a second, and no more often
    assert (len(bench.ear.statuses), bench.ear.last.report.reason_code) == (said + 1, "stalled")
    bench.registrar.wait_s = 0.0
    processed = bench.ear.last.counts.processed
    bench.wait(lambda: bench.runtime.reporter.counters.counts.processed > processed)
    time.sleep(0.05)
    assert bench.ear.tf[-1] is None  # its pose comes too late to be given
    assert bench.ear.last.report.reason_code == "stalled"
    assert bench.send().report.state == State.TRACKING
    assert bench.ear.tf[-1] == bench.stamp_ns
    assert bench.runtime.reporter.status().history is history
    bench.send()
    assert bench.ear.tf[-2:] == [bench.stamp_ns - 66_000_000, bench.stamp_ns]


def test_a_search_is_given_more_time_than_a_track(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("end2reg_ros.runtime.tracker_runtime.STALLED_SEARCH_S", 0.5)
    bench.runtime.offer_prior(PriorRequest("camera", bench.stamp_ns, np.eye(4), np.zeros((6, 6))))
    bench.registrar.wait_s = 0.9
    bench.runtime.receive(bench.cloud())
    bench.tick_until(lambda: bench.ear.last.report.reason_code == "stalled")
    report = bench.ear.last.report
    assert report.state == State.SEARCHING
    assert report.reason.startswith("no cloud was judged for 0.5 s")
    bench.registrar.wait_s = 0.0
    bench.wait(lambda: "confirming" in {status.report.reason_code for status in bench.ear.statuses})


def test_a_busy_thread_is_not_handed_one_status_a_tick(bench: Bench) -> None:
    go_on = threading.Event()
    bench.runtime.run_before_next_cloud(go_on.wait)
    said = len(bench.ear.statuses)
    for _ in range(60):  # 1.5 s as the node ticks
        bench.runtime.tick()
        time.sleep(0.025)
    go_on.set()
    time.sleep(0.2)
    assert 1 <= len(bench.ear.statuses) - said <= 2  # what the watchdog says, and one that was due
