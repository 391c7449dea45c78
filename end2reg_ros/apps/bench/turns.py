"""Methods take turns on the same frames, a few at a time, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from end2reg_ros.apps.bench.input import StoredFrame, StoredStream
from end2reg_ros.apps.bench.methods import MethodSpec
from end2reg_ros.apps.bench.process import MethodProcess
from end2reg_ros.apps.bench.runner import TimedFrame, TimedRegistration

Member = TypeVar("Member")


def stream_in_turns(
    methods: Sequence[MethodProcess], stream: StoredStream, block: int, paced: bool = False
) -> dict[MethodSpec, list[TimedFrame]]:
    """All frames through all methods, ``block`` frames a turn; who begins changes from turn to turn.

    ``paced``: frames come at the camera's rate, not as fast as a method takes them.
    """
    rows: dict[MethodSpec, list[TimedFrame]] = {method.spec: [] for method in methods}
    for method in methods:
        method.begin(stream.prior, paced)
    for turn, first in enumerate(range(0, len(stream.frames), block)):
        for method in rotated(methods, turn):
            rows[method.spec] += method.run(stream.frames[first : first + block])
    return rows


def start_in_turns(
    methods: Sequence[MethodProcess], views: Sequence[StoredFrame]
) -> dict[MethodSpec, list[TimedRegistration]]:
    """All views through all methods from nothing, one a turn."""
    rows: dict[MethodSpec, list[TimedRegistration]] = {method.spec: [] for method in methods}
    for turn, view in enumerate(views):
        for method in rotated(methods, turn):
            rows[method.spec].append(method.from_nothing(view))
    return rows


def follow_in_turns(
    methods: Sequence[MethodProcess], frames: Sequence[StoredFrame]
) -> dict[MethodSpec, list[TimedRegistration]]:
    """All frames but the first through all methods, one a turn, each from the true pose of the frame before."""
    rows: dict[MethodSpec, list[TimedRegistration]] = {method.spec: [] for method in methods}
    for turn, (before, frame) in enumerate(pairwise(frames)):
        for method in rotated(methods, turn):
            rows[method.spec].append(method.follow(frame, before.T_camera_model))
    return rows


def rotated(members: Sequence[Member], turn: int) -> list[Member]:
    """All members in their order, beginning with another one each turn."""
    shift = turn % max(len(members), 1)
    return [*members[shift:], *members[:shift]]
