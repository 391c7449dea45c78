"""The ROS-free parts of the node: mailbox, counters, order of a stream, watchdog, parameters, priors."""

from __future__ import annotations

import math
import platform
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from end2reg_ros.cloud.stream import PeriodMeter, StreamGuard, StreamSettings
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CloudError
from end2reg_ros.registration.find.initial_pose import (
    PriorRefused,
    PriorRequest,
    PriorRules,
    no_lookup,
    prior_for,
)
from end2reg_ros.registration.types import Prior
from end2reg_ros.ros.parameters import ParameterFault, build, config_hash, group_maximum, parameter, specs
from end2reg_ros.ros.settings import TrackerParameters
from end2reg_ros.runtime.status import Counters
from end2reg_ros.runtime.watchdog import Silence, Watchdog, WatchdogSettings
from end2reg_ros.runtime.worker import Worker
from end2reg_ros.simulation.picks import prior_covariance

SECOND = 1_000_000_000


# Worker


def test_newest_frame_wins_and_every_frame_is_accounted_for() -> None:
    begun, go_on = threading.Event(), threading.Event()
    worked: list[int] = []
    superseded: list[int] = []

    def work(frame: int) -> None:
        worked.append(frame)
        begun.set()
        go_on.wait(5)

    worker: Worker[int] = Worker(work, superseded.append, lambda fault: None)
    worker.start()
    worker.submit(0)
    assert begun.wait(5)
    for frame in (1, 2, 3):
        worker.submit(frame)
    go_on.set()
    deadline = time.monotonic() + 5
    while len(worked) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert worker.stop(2.0)
    assert worked == [0, 3]
    assert superseded == [1, 2]


def test_commands_run_in_order_before_the_frame_and_also_when_closing() -> None:
    begun, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def first() -> None:
        begun.set()
        go_on.wait(5)

    worker: Worker[str] = Worker(
        order.append, lambda frame: order.append(f"left {frame}"), lambda fault: None
    )
    worker.start()
    worker.call(first)
    assert begun.wait(5)
    worker.submit("frame")
    worker.call(lambda: order.append("a"))
    worker.call(lambda: order.append("b"))
    stopper = threading.Thread(target=worker.stop, args=(5.0,))
    stopper.start()
    while not order:
        time.sleep(0.005)
    go_on.set()
    stopper.join(5)
    assert order == ["left frame", "a", "b"]
    worker.submit("late")
    assert order[-1] == "left late"


def test_a_fault_is_reported_and_the_thread_goes_on() -> None:
    told: list[str] = []
    done = threading.Event()

    def work(frame: int) -> None:
        if frame == 0:
            raise ValueError("broken frame")
        done.set()

    worker: Worker[int] = Worker(work, lambda frame: None, lambda fault: told.append(str(fault)))
    worker.start()
    worker.submit(0)
    while not told:
        time.sleep(0.005)
    worker.submit(1)
    assert done.wait(5)
    assert told == ["broken frame"]
    assert worker.stop(2.0)


def test_a_fault_that_cannot_be_reported_is_counted_and_the_thread_goes_on() -> None:
    failing = True
    worked: list[int] = []

    def work(frame: int) -> None:
        if failing:
            raise ValueError("broken frame")
        worked.append(frame)

    def on_fault(fault: Exception) -> None:
        raise RuntimeError("cannot publish")

    worker: Worker[int] = Worker(work, lambda frame: None, on_fault)
    worker.start()
    for frame in range(3):
        worker.submit(frame)
        wait_for(lambda count=frame + 1: worker.unreported == count)  # type: ignore[misc]
    failing = False
    worker.submit(3)
    wait_for(lambda: worked == [3] and worker.unreported == 0)
    assert worker.stop(2.0)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# Counters


def test_counters_always_add_up() -> None:
    counters = Counters()
    for _ in range(5):
        counters.receive()
    counters.process(0.0, points_truncated=7)
    counters.publish_pose(late=True)
    counters.publish_pose(late=False)
    counters.drop("superseded")
    counters.drop("wrong_frame")
    counters.drop("superseded")
    counts = counters.counts
    assert (counts.received, counts.processed, counts.pending, counts.total_dropped) == (5, 1, 1, 3)
    assert counts.dropped == {"superseded": 2, "wrong_frame": 1}
    assert (counts.points_truncated, counts.late, counts.poses_published) == (7, 1, 2)
    assert counts.received == counts.processed + counts.total_dropped + counts.pending


def test_rate_is_that_of_the_last_two_seconds() -> None:
    counters = Counters()
    for k in range(40):
        counters.process(0.1 * k)
    assert counters.rate_hz(3.95) == pytest.approx(10.0, abs=0.5)
    assert counters.rate_hz(10.0) == 0.0


# Order of a stream


def guard() -> StreamGuard:
    stream = StreamGuard(StreamSettings(jump_back_s=1.0))
    assert stream.check_order("camera", 10 * SECOND) is None
    return stream


@pytest.mark.parametrize(
    ("stamp_ns", "code", "text"),
    [
        (10 * SECOND, "frozen", "the stamp equals that of the cloud before: the camera repeats itself"),
        (
            10 * SECOND - 200_000_000,
            "stamp_backwards",
            "the stamp is 200 ms older than that of the cloud before",
        ),
    ],
)
def test_a_stamp_that_does_not_advance_is_refused(stamp_ns: int, code: str, text: str) -> None:
    stream = guard()
    with pytest.raises(CloudError) as fault:
        stream.check_order("camera", stamp_ns)
    assert (fault.value.code, str(fault.value)) == (code, text)
    # the refused stamp is not remembered
    assert stream.check_order("camera", 10 * SECOND + 1) is None


def test_a_jump_back_begins_a_new_stream() -> None:
    restart = guard().check_order("camera", 5 * SECOND)
    assert restart is not None
    assert restart.reason_code == "clock_jumped_back"
    assert restart.reason == "stamps jumped back by 5.0 s: a recording or clock restarted"


def test_another_frame_begins_a_new_stream() -> None:
    restart = guard().check_order("other", 11 * SECOND)
    assert restart is not None
    assert (restart.reason_code, restart.reason) == (
        "frame_changed",
        "the frame_id changed from 'camera' to 'other'",
    )


def test_equal_data_are_a_frozen_camera_unless_that_is_allowed() -> None:
    stream = StreamGuard(StreamSettings())
    stream.check_data(b"abc")
    stream.check_data(b"abd")
    with pytest.raises(CloudError) as fault:
        stream.check_data(b"abd")
    assert fault.value.code == "frozen"
    noise_free = StreamGuard(StreamSettings(check_frozen=False))
    noise_free.check_data(b"abc")
    noise_free.check_data(b"abc")


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, list, partial(array, "B"), partial(np.array, dtype=np.uint8)]
)
def test_data_of_every_kind_are_compared_as_bytes(kind: Callable[[list[int]], Any]) -> None:
    stream = StreamGuard(StreamSettings())
    long = [7] * 10_000
    for data in ([1, 2, 3], [1, 2], [1, 4], long, [*long[:-1], 8], [8, *long[1:]]):
        stream.check_data(kind(data))
    with pytest.raises(CloudError) as fault:
        stream.check_data(kind([8, *long[1:]]))
    assert fault.value.code == "frozen"


# Watchdog


def test_watchdog_waits_longer_for_the_first_cloud() -> None:
    watchdog = Watchdog(WatchdogSettings(first_s=2.0, gap_s=0.5, source="/points"), now_s=100.0)
    assert watchdog.since_arrival_s(101.0) == -1.0
    assert watchdog.check(101.9) is None
    assert watchdog.check(102.5) == Silence(
        "no_cloud", "nothing has arrived on /points in 2.5 s: does the camera run, is the topic right?"
    )
    watchdog.arrived(103.0)
    watchdog.used(103.05)
    assert watchdog.check(103.4) is None
    assert watchdog.check(103.75) == Silence(
        "no_cloud", "nothing on /points for 0.75 s: the camera stopped, or its connection"
    )
    assert watchdog.since_arrival_s(104.0) == pytest.approx(1.0)


def test_watchdog_tells_why_clouds_that_arrive_are_of_no_use() -> None:
    watchdog = Watchdog(WatchdogSettings(first_s=2.0, gap_s=0.5), now_s=0.0)
    watchdog.arrived(1.0)
    watchdog.used(1.0)
    for k in range(3):
        watchdog.arrived(1.1 + 0.1 * k)
        watchdog.refused("wrong_frame", "frame 'a', expected 'b'")
        if k < 2:
            assert watchdog.check(1.11 + 0.1 * k) is None
    assert watchdog.check(1.31) == Silence("wrong_frame", "frame 'a', expected 'b'")  # 2.5 periods of 0.1 s
    watchdog.used(1.4)
    assert watchdog.check(1.45) is None


def camera(period_s: float, clouds: int = 20) -> tuple[Watchdog, float]:
    """A watchdog that has heard so many clouds, and when the last came."""
    watchdog, jitter = Watchdog(WatchdogSettings(gap_s=0.5, source="/points"), 0.0), np.random.default_rng(0)
    for k in range(clouds):
        now = 10.0 + period_s * (k + 0.1 * jitter.random())
        watchdog.arrived(now)
        watchdog.used(now + 0.02)
    return watchdog, now


@pytest.mark.parametrize(
    ("rate_hz", "patience_s"), [(60, 0.1), (30, 0.1), (15, 0.167), (10, 0.25), (5, 0.5), (2, 0.5)]
)
def test_a_stopped_camera_is_noticed_by_its_own_rate(rate_hz: float, patience_s: float) -> None:
    """Within 100 ms or two periods of the first cloud that did not come, whichever is longer; but not before one is late."""
    watchdog, last = camera(1 / rate_hz)
    assert watchdog.check(last + 0.9 * patience_s) is None
    told = watchdog.check(last + 1.25 * patience_s)
    assert told is not None and told.reason_code == "no_cloud"
    if rate_hz >= 5:
        assert 1.25 * patience_s - 1 / rate_hz <= max(0.1, 2 / rate_hz) + 0.025


def test_a_single_lost_cloud_and_a_camera_that_became_slower_are_no_silence() -> None:
    watchdog, last = camera(1 / 15)
    assert watchdog.check(last + 1.95 / 15) is None  # the cloud between was lost
    watchdog, last = camera(1 / 30)
    assert watchdog.check(last + 0.12) is not None  # once
    for k in range(1, 6):
        watchdog.arrived(last + 0.125 * k)
        watchdog.used(last + 0.125 * k)
        assert watchdog.check(last + 0.125 * (k + 0.99)) is None


def test_an_irregular_camera_is_given_more_time() -> None:
    """Every third gap of a 30 Hz camera is 90 ms: 2.5 periods are 83 ms, and a gap of 130 ms is no surprise."""
    watchdog, last = camera(1 / 30)
    for gap_s in (0.033, 0.033, 0.09) * 4 + (0.033,):
        last += gap_s
        watchdog.arrived(last)
        watchdog.used(last)
    assert watchdog.check(last + 0.13) is None
    assert watchdog.check(last + 0.14) is not None


def test_time_in_which_nobody_listened_is_no_silence_of_the_camera() -> None:
    """The receiving thread stood still for 0.3 s: clouds may lie unread; it is given the patience of a stream."""
    watchdog, last = camera(1 / 30)
    for k in range(3):
        watchdog.tick(last + 0.025 * k)
    watchdog.tick(last + 0.3)
    assert watchdog.check(last + 0.3) is None
    for k in range(1, 5):
        watchdog.tick(last + 0.3 + 0.025 * k)
    assert watchdog.check(last + 0.39) is None
    told = watchdog.check(last + 0.41)
    assert told is not None and told.reason.startswith("nothing on /points for 0.41 s")
    # However often it stands still: never longer than the largest patience.
    watchdog, last = camera(1 / 30)
    for k in range(6):
        watchdog.tick(last + 0.09 * k)
    assert watchdog.check(last + 0.45) is None
    assert watchdog.check(last + 0.51) is not None


def test_the_second_frozen_cloud_in_a_row_is_told() -> None:
    watchdog, last = camera(1 / 5)
    watchdog.refused("frozen", "again")
    assert watchdog.check(last + 0.03) is None
    watchdog.used(last + 0.04)
    watchdog.refused("frozen", "again")
    watchdog.refused("wrong_frame", "b")
    watchdog.refused("frozen", "again")
    assert watchdog.check(last + 0.05) is None
    watchdog.refused("frozen", "again")
    assert watchdog.check(last + 0.05) == Silence("frozen", "again")


def test_a_period_is_the_median_of_the_last_gaps() -> None:
    meter = PeriodMeter()
    for k, at_s in enumerate((1.0, 1.1, 1.2)):
        meter.add(at_s)
        assert math.isnan(meter.period_s), k
    for at_s in (1.3, 1.3, 1.2, 1.3, 1.9, 12.0, 12.1):  # stood still, went back, lost clouds, stopped
        meter.add(at_s)
    assert meter.period_s == pytest.approx(0.1)
    assert meter.latest_s == pytest.approx(0.1)
    assert meter.longest_s == pytest.approx(0.1)  # 0.6 s, once, is an accident
    for k in range(30):
        meter.add(13.0 + k)
    assert meter.period_s == pytest.approx(1.0)


# Memory


FAULTS = """
import resource, sys
from end2reg_ros.runtime.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
blocks = lambda: [bytearray(b"x" * 18_000_000) for _ in range(2)]
blocks(), blocks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    blocks()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_big_blocks_are_reused_without_page_faults() -> None:
    def faults(how: str) -> int:
        command = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert faults("leave") > 10_000
    assert faults("keep") < 500


# Parameters


@dataclass(frozen=True)
class Sample:
    rate: float = parameter(15.0, "Hertz.", minimum=0.1, maximum=60.0)
    count: int = parameter(3, "How many.", minimum=0)
    kind: str = parameter("a", "Which.", choices=("a", "b"))
    box: tuple[float, ...] = parameter((0.0, 1.0), "From, to.")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"rate": 61.0}, "parameter 'rate' is 61.0, must lie in 0.1 .. 60"),
        ({"rate": float("nan")}, "parameter 'rate' is not a finite number: nan"),
        ({"rate": "fast"}, "parameter 'rate' must be of type float, not str: 'fast'"),
        ({"count": -1}, "parameter 'count' is -1, must lie in 0 .. inf"),
        ({"count": True}, "parameter 'count' must be of type int, not bool: True"),
        ({"kind": "c"}, "parameter 'kind' is 'c', must be one of a, b"),
        ({"box": [1.0]}, "parameter 'box' needs 2 numbers, not 1"),
    ],
)
def test_bad_values_are_refused_with_one_line(values: dict[str, object], text: str) -> None:
    with pytest.raises(ParameterFault) as fault:
        build(Sample, values)
    assert str(fault.value) == text


def test_an_integer_is_welcome_where_a_float_is_meant() -> None:
    sample = build(Sample, {"rate": 30, "box": [0, 2]})
    assert (sample.rate, sample.box) == (30.0, (0.0, 2.0))
    assert isinstance(sample.rate, float)


def test_every_tracker_parameter_is_described_and_reaches_the_settings() -> None:
    known = {spec.name: spec for spec in specs(TrackerParameters)}
    assert all(len(spec.description) > 10 for spec in known.values())
    values = {"tracking.upper.min_inlier_ratio": 0.9, "accept.min_inliers": 300, "watchdog_gap_s": 0.7}
    built = build(TrackerParameters, values)
    assert built.tracker().upper.min_inlier_ratio == 0.9
    assert built.tracker().silence_s == 0.7
    assert built.registration().accept.min_inliers == 300
    assert config_hash(built.hashed()) != config_hash(TrackerParameters().hashed())
    manual = build(TrackerParameters, {"autostart": False})
    assert config_hash(manual.hashed()) == config_hash(TrackerParameters().hashed())


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"accept.min_inlier_ratio": 95.0},
            "parameter 'accept.min_inlier_ratio' is 95.0, must lie in 0 .. 1",
        ),
        (
            {"tracking.upper.max_position_stddev_m": 1.2},
            "parameter 'tracking.upper.max_position_stddev_m' is 1.2, must lie in 0 .. 1",
        ),
        ({"prior_stddev_m": 0.01}, "parameter 'prior_stddev_m' is 0.01, must lie in 0.0001 .. 0.008"),
        ({"max_prior_age_s": 0.0}, "parameter 'max_prior_age_s' is 0.0, must lie in 0.1 .. 600"),
    ],
)
def test_thresholds_in_the_wrong_unit_are_refused(values: dict[str, float], text: str) -> None:
    with pytest.raises(ParameterFault) as fault:
        build(TrackerParameters, values)
    assert str(fault.value) == text


def test_every_number_of_the_tracker_has_a_range() -> None:
    for spec in specs(TrackerParameters):
        sample = spec.default[0] if isinstance(spec.default, tuple) else spec.default
        if isinstance(sample, int | float) and not isinstance(sample, bool):
            assert spec.minimum is not None and spec.maximum is not None, spec.name
            spec.coerce(spec.default)
    names = ("min_level_inlier_ratio_following", "step_m", "speed_m_s", "step_rad", "turn_rad_s", "silence_s")
    assert [group_maximum(n) for n in names] == [
        1.0,
        1.0,
        10.0,
        pytest.approx(3.14159, abs=1e-4),
        100.0,
        600.0,
    ]


def test_limits_of_the_cloud_come_from_the_parameters() -> None:
    assert TrackerParameters().limits().crop is None
    box = build(TrackerParameters, {"crop_box": [-1, -1, 0, 1, 1, 2], "z_max": 1.5}).limits()
    assert box.crop == ((-1.0, -1.0, 0.0), (1.0, 1.0, 2.0))
    assert box.z_max == 1.5
    with pytest.raises(ParameterFault, match=r"^parameter 'z_min' is 2 m, must be below 'z_max', 1 m$"):
        build(TrackerParameters, {"z_min": 2, "z_max": 1}).limits()
    with pytest.raises(ParameterFault, match=r"^parameter 'crop_box' is empty"):
        build(TrackerParameters, {"crop_box": [1, -1, 0, -1, 1, 2]}).limits()


# Priors


CLOUD = Cloud(np.zeros((1, 3), np.float32), None, "camera", 5 * SECOND)
RULES = PriorRules(default_stddev_m=0.003, max_age_s=10.0)


def request(
    frame: str = "camera",
    covariance: np.ndarray | None = None,
    stamp_ns: int = SECOND,
    distance_m: float = 0.0,
) -> PriorRequest:
    T = np.eye(4)
    T[2, 3] = distance_m
    return PriorRequest(frame, stamp_ns, T, np.zeros((6, 6)) if covariance is None else covariance)


def test_a_prior_in_the_clouds_frame_is_taken_with_its_uncertainty_at_the_spine() -> None:
    centre = np.array([0.0, 0.4, 1.0])  # the model's origin is a metre away from the spine
    truth = Prior(np.eye(4), "landmarks", 0.0025)
    told = request(covariance=prior_covariance(truth, centre))
    prior = prior_for(CLOUD, told, centre, RULES)
    assert prior.source == "initial_pose"
    assert prior.stddev_m == pytest.approx(0.0025, rel=1e-6)
    assert np.sqrt(told.covariance[0, 0]) > 0.02  # about the origin it is far larger
    assert prior_for(CLOUD, request(), centre, RULES).stddev_m == 0.003


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (
            request("map"),
            "it is in 'map', the cloud in 'camera': tf2_ros is not installed: send the pose in the camera's frame",
        ),
        (request(""), "its frame_id is empty, the cloud's is 'camera'"),
        (
            request(covariance=np.diag([-1.0] + [1e-6] * 5)),
            "its covariance has negative or non-finite variances",
        ),
        (
            request(covariance=np.diag([0.25] * 3 + [0.0] * 3)),
            "it is uncertain by 500 mm at the spine; a start needs 10 mm or better",
        ),
        (
            request(stamp_ns=15 * SECOND + 100_000_000),
            "its stamp is 10.1 s newer than the cloud's (limit 10 s)",
        ),
        (
            request("map", stamp_ns=0),
            "it is in 'map', the cloud in 'camera': between frames its stamp must not be zero",
        ),
        (request(distance_m=450.0), "it lies 450 m away: its unit seems to be mm, metres are needed"),
    ],
)
def test_a_prior_that_cannot_be_used_is_refused_with_a_reason(told: PriorRequest, text: str) -> None:
    with pytest.raises(PriorRefused) as refused:
        prior_for(CLOUD, told, np.zeros(3), RULES, no_lookup)
    assert str(refused.value) == text


def test_a_prior_older_than_the_limit_is_refused_and_stamp_zero_means_now() -> None:
    late = replace(CLOUD, stamp_ns=20 * SECOND)
    with pytest.raises(PriorRefused, match=r"^its stamp is 19\.0 s older than the cloud's \(limit 10 s\)$"):
        prior_for(late, request(), np.zeros(3), RULES)
    assert prior_for(late, request(), np.zeros(3), replace(RULES, max_age_s=19.0)).stddev_m == 0.003
    assert prior_for(late, request(stamp_ns=0), np.zeros(3), RULES).stddev_m == 0.003


def test_a_prior_in_another_frame_is_moved_by_tf_at_its_own_stamp() -> None:
    asked: list[tuple[str, str, int]] = []

    def lookup(target: str, source: str, stamp_ns: int) -> np.ndarray:
        asked.append((target, source, stamp_ns))
        T = np.eye(4)
        T[:3, 3] = [1.0, 2.0, 3.0]
        return T

    prior = prior_for(CLOUD, request("map"), np.zeros(3), RULES, lookup)
    assert asked == [("camera", "map", SECOND)]
    assert prior.T_camera_model[:3, 3].tolist() == [1.0, 2.0, 3.0]
