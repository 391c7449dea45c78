"""States of the tracker and what one update gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from end2reg_ros.registration.types import Registration


class State(IntEnum):
    """SEARCHING: no pose yet. TRACKING. DEGRADED: pose published, quality below the upper threshold. LOST."""

    SEARCHING = 0
    TRACKING = 1
    DEGRADED = 2
    LOST = 3


PUBLISHING_STATES = (State.TRACKING, State.DEGRADED)


@dataclass(frozen=True)
class TrackingUpdate:
    """What one cloud did to the track.

    Attributes:
        stamp_ns: stamp of the cloud; every message made from this update carries it.
        frame_id: camera frame of the poses.
        state: after the update; ``changed`` when it differs from before.
        reason_code, reason: why the state is what it is (``ok`` in TRACKING).
        registration: the last fit of this cloud, also when it failed; None when none was attempted.
        published: whether ``registration`` may go out as a pose (state is TRACKING or DEGRADED).
        timings_ms: stage -> milliseconds, in order.
    """

    stamp_ns: int
    frame_id: str
    state: State
    changed: bool
    reason_code: str
    reason: str
    registration: Registration | None
    published: bool
    timings_ms: dict[str, float] = field(default_factory=dict)
