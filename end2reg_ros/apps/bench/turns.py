"""Methods take turns on the same frames, a few at a time, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol, TypeVar

from end2reg_ros.apps.bench.input import StoredFrame, StoredStream
from end2reg_ros.apps.bench.methods import MethodSpec
from end2reg_ros.apps.bench.runner import Array, FrameRow, StepRow
from end2reg_ros.registration.types import Prior

Member = TypeVar("Member")


class Participant(Protocol):
    """A method that can be told to go on: see ``process.MethodProcess``."""

    @property
    def spec(self) -> MethodSpec: ...
    def begin(self, prior: Prior, paced: bool = False) -> None: ...
    def run(self, frames: Sequence[StoredFrame]) -> list[FrameRow]: ...
    def from_nothing(self, view: StoredFrame) -> StepRow: ...
    def follow(self, frame: StoredFrame, T_camera_model: Array) -> StepRow: ...


def stream_in_turns(
    methods: Sequence[Participant], stream: StoredStream, block: int, paced: bool = False
) -> dict[MethodSpec, list[FrameRow]]:
    """All frames through all methods, ``block`` frames a turn; who begins changes from turn to turn.

    ``paced``: frames come at the camera's rate, not as fast as a method takes them.
    """
    rows: dict[MethodSpec, list[FrameRow]] = {method.spec: [] for method in methods}
    for method in methods:
        method.begin(stream.prior, paced)
    for turn, first in enumerate(range(0, len(stream.frames), block)):
        for method in rotated(methods, turn):
            rows[method.spec] += method.run(stream.frames[first : first + block])
    return rows


def start_in_turns(
    methods: Sequence[Participant], views: Sequence[StoredFrame]
) -> dict[MethodSpec, list[StepRow]]:
    """All views through all methods from nothing, one a turn."""
    rows: dict[MethodSpec, list[StepRow]] = {method.spec: [] for method in methods}
    for turn, view in enumerate(views):
        for method in rotated(methods, turn):
            rows[method.spec].append(method.from_nothing(view))
    return rows


def follow_in_turns(
    methods: Sequence[Participant], frames: Sequence[StoredFrame]
) -> dict[MethodSpec, list[StepRow]]:
    """All frames but the first through all methods, one a turn, each from the true pose of the frame before."""
    rows: dict[MethodSpec, list[StepRow]] = {method.spec: [] for method in methods}
    for turn, (before, frame) in enumerate(pairwise(frames)):
        for method in rotated(methods, turn):
            rows[method.spec].append(method.follow(frame, before.T_camera_model))
    return rows


def rotated(members: Sequence[Member], turn: int) -> list[Member]:
    """The same, beginning with another one each turn."""
    shift = turn % max(len(members), 1)
    return [*members[shift:], *members[:shift]]
