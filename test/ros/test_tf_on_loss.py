"""What TF answers with and without a pose: by tf2's rules, and by tf2 itself where it is installed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ros_rig import Ear, Process, free_domain, wait
from tf_rules import LATEST, LookupFault, TfRules

from end2reg_ros import names, se3

pytestmark = pytest.mark.ros

TRACKER = "end2reg_ros.ros.tracker_main"
CAMERA_NODE = "end2reg_ros.ros.simulated_camera_main"
MS = 1_000_000
T0 = 100_000 * MS
PERIOD = 100 * MS
CAMERA = "camera"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "poses.md"


class RealTf2:
    """A BufferCore of tf2."""

    def __init__(self) -> None:
        self._tf2 = pytest.importorskip(
            "tf2_py", reason="tf2 is not installed (it is among no wheels): its rules alone are tested"
        )
        self._buffer = self._tf2.BufferCore()

    def set_transform(self, transform: Any, authority: str) -> None:
        """Take one transform."""
        self._buffer.set_transform(transform, authority)

    def position(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """Of ``source`` in ``target``; LookupFault where tf2 raises."""
        from rclpy.time import Time

        try:
            found = self._buffer.lookup_transform_core(target, source, Time(nanoseconds=stamp_ns))
        except self._tf2.TransformException as fault:
            raise LookupFault(f"{type(fault).__name__}: {fault}") from None
        t = found.transform.translation
        return np.array([t.x, t.y, t.z])


class Listener:
    """A chain whose messages go into a buffer; poses move along x by a metre a period."""

    def __init__(self, buffer: Any, prefix: str = "", detaches: bool = True) -> None:
        from end2reg_ros.ros.tf import TrackedChain

        self.buffer, self.prefix = buffer, prefix
        self.sent: list[Any] = []
        self.simulated_now_ns: int | None = None
        self.chain = TrackedChain(self._take, prefix, detaches, lambda: self.simulated_now_ns)

    def _take(self, message: Any) -> None:
        self.sent.append(message)
        for transform in message.transforms:
            self.buffer.set_transform(transform, "tracker")

    def pose(self, period: int) -> None:
        """A pose of cloud number ``period``."""
        T = se3.from_rotation_translation(np.eye(3), np.array([float(period), 0.0, 0.5]))
        self.chain.attach(CAMERA, T0 + period * PERIOD, T, {"L3": T})

    def x(self, period: float) -> float | None:
        """Of L3 at a time in periods, at the latest time for NaN; None where the lookup raises."""
        stamp_ns = LATEST if np.isnan(period) else T0 + round(period * PERIOD)
        try:
            return float(self.buffer.position(CAMERA, self.prefix + "L3", stamp_ns)[0])
        except LookupFault:
            return None


@pytest.fixture(params=[TfRules, RealTf2], ids=["rules", "tf2"])
def buffer(request: pytest.FixtureRequest) -> Iterator[Any]:
    return request.param()


NEWEST = float("nan")


@pytest.mark.parametrize("prefix", ["", "patient/"])
def test_no_lookup_succeeds_from_the_last_pose_to_the_next(buffer: Any, prefix: str) -> None:
    heard = Listener(buffer, prefix)
    heard.pose(0)
    heard.pose(1)
    assert (heard.x(NEWEST), heard.x(0), heard.x(0.5), heard.x(1), heard.x(2)) == (1, 0, 0.5, 1, None)
    heard.chain.detach()  # the clouds 2 to 5 are refused
    silent = [NEWEST, 1.01, 1.5, 2, 3.5, 5]
    assert [heard.x(period) for period in silent] == [None] * len(silent)
    assert (heard.x(0), heard.x(0.5), heard.x(1)) == (0, 0.5, 1)
    heard.pose(6)
    assert [heard.x(period) for period in (1.01, 1.5, 2, 3.5, 5, 5.99)] == [None] * 6
    assert (heard.x(NEWEST), heard.x(0), heard.x(1), heard.x(6)) == (6, 0, 1, 6)
    heard.pose(7)
    assert (heard.x(6.5), heard.x(1.5), heard.x(NEWEST)) == (6.5, None, 7)


def test_detached_it_is_one_transform_and_only_after_a_pose(buffer: Any) -> None:
    from end2reg_ros.ros.conversions import ns_from_stamp

    heard = Listener(buffer, "patient/")
    heard.chain.detach()
    assert heard.sent == []
    heard.pose(3)
    heard.chain.detach()
    heard.chain.detach()
    assert len(heard.sent) == 2
    [end] = heard.sent[-1].transforms
    assert (end.header.frame_id, end.child_frame_id) == ("patient/untracked", "patient/spine")
    assert ns_from_stamp(end.header.stamp) == T0 + 3 * PERIOD + 1
    assert names.UNTRACKED == "untracked"


def test_kept_it_answers_with_an_old_pose_and_invents_some(buffer: Any) -> None:
    heard = Listener(buffer, detaches=False)
    heard.pose(0)
    heard.chain.detach()
    assert heard.x(NEWEST) == 0
    heard.pose(4)
    assert heard.x(2) == 2


def test_a_recording_that_begins_anew_leaves_nothing_in_the_future_of_tf2(buffer: Any) -> None:
    heard = Listener(buffer)
    heard.simulated_now_ns = T0 + 10 * PERIOD
    heard.pose(9)
    heard.simulated_now_ns = T0
    heard.chain.detach()
    assert len(heard.sent) == 1
    heard.pose(10)
    heard.simulated_now_ns = T0 + 11 * PERIOD
    heard.chain.detach()
    assert len(heard.sent) == 3


# --- the table of docs/poses.md ------------------------------------------------------------------------------------

LAST, FIRST_REFUSED, AGAIN = 1, 2, 6  # clouds: 0 and 1 give poses, 2 to 5 none, 6 and 7 poses again
LOOKUPS = {
    "latest (`Time()`)": NEWEST,
    "the stamp of the last pose before": LAST,
    "half a period after it": LAST + 0.5,
    "the stamp of the first refused cloud": FIRST_REFUSED,
    "later in the gap": 4.5,
}


def played(buffer: Any, state: str) -> Listener:
    """What a client has heard in a state of the table."""
    heard = Listener(buffer, detaches=state != "killed, or `keep`")
    heard.pose(0)
    heard.pose(LAST)
    if state != "tracking":
        heard.chain.detach()
    if state == "track back":
        heard.pose(AGAIN)
        heard.pose(AGAIN + 1)
    return heard


def test_the_documents_table_is_what_tf_answers(buffer: Any) -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if "|" in line
    ]
    start = next(k for k, row in enumerate(rows) if row[0] == "lookup of a level at ...")
    states = rows[start][1:]
    told = {
        row[0]: dict(zip(states, row[1:], strict=True)) for row in rows[start + 2 : start + 2 + len(LOOKUPS)]
    }
    assert states == ["tracking", "first refused cloud to the next pose", "track back", "killed, or `keep`"]
    answers: dict[str, dict[str, str]] = {lookup: {} for lookup in LOOKUPS}
    for state in states:
        heard = played(buffer if state == states[0] else type(buffer)(), state)
        for lookup, period in LOOKUPS.items():
            x = heard.x(period)
            newest = AGAIN + 1 if state == "track back" else LAST
            right = newest if np.isnan(period) else LAST if period == LAST else None
            answers[lookup][state] = (
                "fails" if x is None else "the pose" if x == right else f"invented: {x:g}"
            )
    answers["latest (`Time()`)"]["killed, or `keep`"] = "**the last pose, for ever**"  # it has no newer one
    assert told == answers


# --- a tracker over DDS ----------------------------------------------------------------------------------------------


@pytest.fixture
def ear() -> Iterator[tuple[int, Ear]]:
    domain = free_domain()
    made = Ear(domain)
    try:
        yield domain, made
    finally:
        made.close()


def test_a_tracker_that_falls_silent_dies_or_ends_is_heard_by_its_clients(
    ear: tuple[int, Ear], buffer: Any
) -> None:
    from rclpy.event_handler import SubscriptionEventCallbacks
    from std_srvs.srv import SetBool, Trigger
    from tf2_msgs.msg import TFMessage

    from end2reg_ros.msg import TrackingStatus
    from end2reg_ros.ros import qos

    domain, listener = ear
    frame = names.CAMERA_FRAME
    statuses: list[Any] = []
    alive: list[int] = []
    overdue: list[float] = []

    def on_tf(message: Any) -> None:
        for transform in message.transforms:
            buffer.set_transform(transform, "tracker")

    def x(stamp_ns: int = LATEST) -> float | None:
        try:
            return float(buffer.position(frame, "L3", stamp_ns)[0])
        except LookupFault:
            return None

    def say() -> str:
        return f"{statuses[-1:]} {tracker.output[-1000:]}"

    def is_tracked() -> bool:
        return bool(statuses) and statuses[-1].state_name in ("TRACKING", "DEGRADED") and x() is not None

    def start() -> Process:
        return Process(domain, TRACKER, "-r", f"points:={names.SIMULATED_POINTS}", "-p", "method:=icp")

    listener.hear_tf()
    listener.node.create_subscription(TFMessage, names.TF, on_tf, qos.tf())
    events = SubscriptionEventCallbacks(
        liveliness=lambda event: alive.append(event.alive_count),
        deadline=lambda event: overdue.append(time.monotonic()),
    )
    listener.node.create_subscription(
        TrackingStatus, names.STATUS, statuses.append, qos.status(), event_callbacks=events
    )
    tracker, camera = start(), Process(domain, CAMERA_NODE, "-p", "scenario:=still", "-p", "rate:=10")
    try:
        wait(is_tracked, 60, say)
        assert listener.call(SetBool, "enable", SetBool.Request(data=False)).success
        wait(lambda: x() is None, 2, say)
        gap_began = max(stamp for stamp, children in dict(listener.transforms).items() if "spine" in children)
        assert listener.detached[-1] == gap_began + 1
        time.sleep(0.5)
        assert listener.call(SetBool, "enable", SetBool.Request(data=True)).success
        wait(is_tracked, 20, say)
        heard = dict(listener.transforms)
        published = sorted(stamp for stamp, children in heard.items() if "spine" in children)
        gap_ended = next(stamp for stamp in published if stamp > gap_began)
        assert gap_ended - gap_began > 300 * MS
        refused = [s for s in heard if gap_began < s < gap_ended]  # the truth tells the clouds' stamps
        assert len(refused) >= 3
        assert [x(stamp) for stamp in refused] == [None] * len(refused)
        assert x(gap_began) is not None and x(gap_ended) is not None

        before = len(listener.detached)
        tracker.end(signal.SIGINT)  # an ordered end says so on TF
        wait(lambda: len(listener.detached) > before and x() is None, 5, say)

        tracker.close()
        tracker = start()
        wait(lambda: statuses[-1].reason_code == "no_prior", 60, say)
        assert listener.call(Trigger, "simulated_camera/pick", Trigger.Request()).success
        wait(is_tracked, 60, say)
        alive.clear()
        overdue.clear()
        tracker.popen.kill()  # a death does not; the middleware tells of it
        wait(lambda: bool(alive) and alive[-1] == 0, 10, say)
        wait(lambda: bool(overdue), 10, say)
    finally:
        tracker.close()
        camera.close()
