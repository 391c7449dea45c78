"""What TF answers with and without a pose: by tf2's rules, and by tf2 itself where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tf_rules import LATEST, LookupFault, TfRules

from end2reg_ros import names, se3

pytestmark = pytest.mark.ros

MS = 1_000_000
T0 = 100_000 * MS
PERIOD = 100 * MS
CAMERA = "camera"
Answer = Callable[[int], float | None]


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
