"""The tracker's state machine as a table: (state, event) -> state. Whatever is not in it changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from end2reg_ros.tracking.types import State


class Event(Enum):
    """What a cloud, a silence or a person did to the track."""

    CONFIRMED = "enough consecutive good fits agree"
    GOOD = "fit above the upper thresholds"
    FAIR = "fit accepted, below the upper thresholds"
    DEMOTED = "enough consecutive fits below the upper thresholds"
    RECOVERED = "enough consecutive fits above the upper thresholds"
    FAILED = "no acceptable fit"
    SILENCE = "no usable cloud in time"
    RESTART = "prior or track dropped on request"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.SEARCHING, Event.CONFIRMED): State.TRACKING,
    (State.TRACKING, Event.DEMOTED): State.DEGRADED,
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


def edge_name(before: State, after: State) -> str:
    """A change of state as text: ``TRACKING->LOST``."""
    return f"{before.name}->{after.name}"


EDGES = tuple(dict.fromkeys(edge_name(before, after) for (before, _), after in TRANSITIONS.items()))


@dataclass(frozen=True)
class Change:
    """One change of state: why, and the stamp of the cloud at which it happened (the last one, where none did it)."""

    before: State
    after: State
    event: Event
    reason_code: str
    reason: str
    stamp_ns: int

    @property
    def name(self) -> str:
        """The edge: ``TRACKING->LOST``."""
        return edge_name(self.before, self.after)


@dataclass(frozen=True)
class History:
    """How often each edge was taken, and the last change. Never altered: another thread may keep one.

    Attributes:
        counts: name of the edge -> changes; every edge of the table is there.
        last: None before the first change.
    """

    counts: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(EDGES, 0))
    last: Change | None = None

    @property
    def total(self) -> int:
        """All changes."""
        return sum(self.counts.values())

    def after(self, change: Change) -> History:
        """The history with one more change."""
        return History({**self.counts, change.name: self.counts[change.name] + 1}, change)


def mermaid() -> str:
    """The table as a drawing: source of a mermaid state diagram. The documents hold the same."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.SEARCHING.name}"]
    for edge in EDGES:
        events = [e.name for (b, e), a in TRANSITIONS.items() if edge_name(b, a) == edge]
        before, after = edge.split("->")
        lines.append(f"    {before} --> {after}: {', '.join(events)}")
    return "\n".join(lines)


def markdown() -> str:
    """The table as a table: a row an edge. The documents hold the same."""
    lines = ["| state | event | what happened | next state |", "|---|---|---|---|"]
    lines += [f"| {b.name} | {e.name} | {e.value} | {a.name} |" for (b, e), a in TRANSITIONS.items()]
    return "\n".join(lines)
