"""Methods take turns on the same frames, a few at a time, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

from end2reg_ros.apps.bench.input import StoredFrame, StoredStream
from end2reg_ros.apps.bench.methods import MethodSpec
from end2reg_ros.apps.bench.process import MethodProcess
from end2reg_ros.apps.bench.runner import TimedFrame, TimedRegistration

Member = TypeVar("Member")
Part = TypeVar("Part")
Row = TypeVar("Row")


def in_turns(
    methods: Sequence[MethodProcess], parts: Iterable[Part], work: Callable[[MethodProcess, Part], list[Row]]
) -> dict[MethodSpec, list[Row]]:
    """All parts through all methods, one a turn; who begins changes from turn to turn."""
    rows: dict[MethodSpec, list[Row]] = {method.spec: [] for method in methods}
    for turn, part in enumerate(parts):
        for method in rotated(methods, turn):
            rows[method.spec] += work(method, part)
    return rows


def stream_in_turns(
    methods: Sequence[MethodProcess], stream: StoredStream, block: int, paced: bool = False
) -> dict[MethodSpec, list[TimedFrame]]:
    """All frames through all methods, ``block`` frames a turn.

    ``paced``: frames come at the camera's rate, not as fast as a method takes them.
    """
    for method in methods:
        method.begin(stream.prior, paced)
    blocks = (stream.frames[first : first + block] for first in range(0, len(stream.frames), block))
    return in_turns(methods, blocks, lambda method, frames: method.run(frames))


def start_in_turns(
    methods: Sequence[MethodProcess], views: Sequence[StoredFrame]
) -> dict[MethodSpec, list[TimedRegistration]]:
    """All views through all methods from nothing."""
    return in_turns(methods, views, lambda method, view: [method.from_nothing(view)])


def follow_in_turns(
    methods: Sequence[MethodProcess], frames: Sequence[StoredFrame]
) -> dict[MethodSpec, list[TimedRegistration]]:
    """All frames but the first through all methods, each from the true pose of the frame before."""
    return in_turns(
        methods, pairwise(frames), lambda method, two: [method.follow(two[1], two[0].T_camera_model)]
    )


def rotated(members: Sequence[Member], turn: int) -> list[Member]:
    """The same, beginning with another one each turn."""
    shift = turn % max(len(members), 1)
    return [*members[shift:], *members[:shift]]
