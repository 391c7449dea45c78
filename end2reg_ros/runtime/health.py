"""What the node thinks of itself at one moment: the one source of status and diagnostics. Free of ROS."""

from __future__ import annotations

from dataclasses import dataclass, field

from end2reg_ros.reasons import Reason
from end2reg_ros.registration.types import Registration
from end2reg_ros.runtime.counters import CounterSnapshot
from end2reg_ros.tracking.transitions import History
from end2reg_ros.tracking.types import State


@dataclass(frozen=True)
class Identity:
    """What runs: constant from configure to clean-up; ``engine_text`` describes the engine for a person."""

    method: str
    engine: str
    engine_hash: str
    case_name: str
    case_hash: str
    config_hash: str
    engine_text: str = ""


@dataclass(frozen=True)
class Judgement:
    """State and reason after the latest event.

    Attributes:
        frame_id, stamp_ns: of the last cloud registered, not of one refused since; empty and 0 before the first.
        registration: the latest fit; None where none was attempted.
        position_stddev_m, rotation_stddev_rad: largest standard deviations of that fit at the spine's middle, over all
            directions; NaN without one.
        timings_ms: stage -> milliseconds of that cloud.
        latency_ms: from reception to publication; pose_age_ms: from the stamp to publication. NaN where
            there is none.
    """

    state: State = State.SEARCHING
    reason_code: str = Reason.INACTIVE
    reason: str = "the node is not active"
    frame_id: str = ""
    stamp_ns: int = 0
    registration: Registration | None = None
    position_stddev_m: float = float("nan")
    rotation_stddev_rad: float = float("nan")
    timings_ms: dict[str, float] = field(default_factory=dict)
    latency_ms: float = float("nan")
    pose_age_ms: float = float("nan")


@dataclass(frozen=True)
class Health:
    """Everything that status and diagnostics tell.

    Attributes:
        history: how often each edge of the state machine was taken since configure.
        frame_budget_ms: the camera's period, learned from the stamps; NaN before it is known.
    """

    identity: Identity
    judgement: Judgement
    counters: CounterSnapshot
    since_last_cloud_s: float
    rate_hz: float = 0.0
    lost_in_transport: int = 0
    history: History = field(default_factory=History)
    frame_budget_ms: float = float("nan")
