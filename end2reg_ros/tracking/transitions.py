"""The tracker's state machine as a table: (state, event) -> state. Whatever is not in it changes nothing."""

from __future__ import annotations

from enum import Enum

from end2reg_ros.tracking.types import State


class Event(Enum):
    """What a cloud, a silence or a person did to the track."""

    CONFIRMED = "enough consecutive good fits agree"
    GOOD = "fit above the upper thresholds"
    FAIR = "fit accepted, below the upper thresholds"
    RECOVERED = "enough consecutive fits above the upper thresholds"
    FAILED = "no acceptable fit"
    SILENCE = "no cloud in time"
    RESTART = "prior or track dropped on request"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.SEARCHING, Event.CONFIRMED): State.TRACKING,
    (State.TRACKING, Event.FAIR): State.DEGRADED,
    (State.TRACKING, Event.FAILED): State.LOST,
    (State.TRACKING, Event.SILENCE): State.LOST,
    (State.TRACKING, Event.RESTART): State.SEARCHING,
    (State.DEGRADED, Event.RECOVERED): State.TRACKING,
    (State.DEGRADED, Event.FAILED): State.LOST,
    (State.DEGRADED, Event.SILENCE): State.LOST,
    (State.DEGRADED, Event.RESTART): State.SEARCHING,
    (State.LOST, Event.CONFIRMED): State.TRACKING,
    (State.LOST, Event.RESTART): State.SEARCHING,
}


def next_state(state: State, event: Event) -> State:
    """State after an event."""
    return TRANSITIONS.get((state, event), state)
