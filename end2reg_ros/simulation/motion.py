"""Everything that moves, as smooth functions of time: breathing, table, camera, instruments. Same seed, same motion.

World frame: the patient frame at rest. Times in seconds. Motions repeat with ``Scenario.period_s``, so a sequence may
run for as long as anyone likes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from end2reg_ros import se3
from end2reg_ros.simulation.field.occluders import Kind
from end2reg_ros.simulation.field.surfaces import Array


@dataclass(frozen=True)
class Pass:
    """An occluder that comes over the wound, stays and leaves.

    Attributes:
        kind: what comes.
        start_s, end_s: from leaving its place aside to being back there.
        travel_s: of each way.
        over_m: (right, superior) of its tip from the middle of the wound while it stays.
        above_m: height of its tip over the laminae.
        side: from the patient's right (1) or left (-1).
        turn_deg: about the posterior axis.
        on_patient: it lies on the patient and moves along; else it is held in the room, not quite steadily.
    """

    kind: Kind
    start_s: float
    end_s: float
    travel_s: float = 0.9
    over_m: tuple[float, float] = (0.0, 0.0)
    above_m: float = 0.08
    side: float = 1.0
    turn_deg: float = 0.0
    on_patient: bool = False


@dataclass(frozen=True)
class Move:
    """Something goes to another place within ``duration_s`` and, when ``until_s`` is given, comes back from then on.

    ``shift_m`` (3,) and ``turn_deg`` (3,) say where to; turns of several moves add up as rotation vectors.
    """

    at_s: float
    duration_s: float
    shift_m: tuple[float, float, float]
    turn_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    until_s: float | None = None


class CameraMove(Move):
    """A move of the camera, in its own axes at rest."""


class TableMove(Move):
    """A move of the table with the patient on it, in the axes of the patient frame, about the middle of the wound."""


@dataclass(frozen=True)
class Scenario:
    """A named course of events.

    Attributes:
        breathing_m: amplitude (half of the travel) towards anterior-posterior; ``breathing_hz`` its rate.
        drift_m: how far the table moves (left-right, anterior, superior) over one period, and back over the next.
        vibration_m: amplitude of small quick motion.
        spine: False when there is no wound.
        period_s: after it all passes and moves come again; a move without a way back is taken back by the next period.
    """

    name: str
    breathing_m: float = 0.0
    breathing_hz: float = 0.23
    drift_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    drift_deg: float = 0.0
    vibration_m: float = 0.0
    passes: tuple[Pass, ...] = ()
    camera_moves: tuple[CameraMove, ...] = ()
    table_moves: tuple[TableMove, ...] = ()
    spine: bool = True
    period_s: float = 20.0


_DEMO = Scenario(
    "demo",
    breathing_m=0.0015,
    drift_m=(0.006, 0.0, -0.008),
    drift_deg=1.0,
    vibration_m=0.00005,
    passes=(
        Pass("suction", 3.0, 6.5, over_m=(0.012, 0.03), above_m=0.004, side=1.0),
        Pass("towel", 8.0, 11.0, travel_s=1.1, above_m=0.13, side=1.0),
        Pass("hand_suction", 16.0, 19.0, over_m=(-0.01, -0.05), above_m=0.006, side=-1.0),
    ),
    camera_moves=(CameraMove(14.0, 0.5, (0.012, -0.008, 0.006), (0.8, -0.6, 1.0)),),
)

# A minute of surgery. The first two seconds are calm: a start.
_THEATRE = Scenario(
    "theatre",
    breathing_m=0.0015,
    drift_m=(0.008, 0.001, -0.010),
    drift_deg=1.5,
    vibration_m=0.00005,
    passes=(
        Pass("suction", 3.0, 5.6, over_m=(0.012, 0.03), above_m=0.004),
        Pass("suction", 6.2, 8.6, over_m=(0.004, -0.02), above_m=0.004),
        Pass("forceps", 9.2, 12.4, over_m=(-0.01, 0.01), above_m=0.004, side=-1.0),
        Pass("hand", 14.6, 19.0, over_m=(-0.01, 0.03), above_m=0.06, turn_deg=10.0),
        Pass("towel", 20.5, 25.2, travel_s=0.8, above_m=0.10),
        Pass("hand_suction", 26.0, 30.5, over_m=(-0.01, -0.05), above_m=0.006, side=-1.0),
        Pass("driver", 38.5, 41.5, over_m=(0.015, 0.02), above_m=0.003),
        Pass("hand_suction", 42.0, 45.0, over_m=(-0.015, -0.02), above_m=0.004),
        Pass("suction", 53.0, 55.5, over_m=(0.0, 0.04), above_m=0.004, side=-1.0),
        Pass("hand_suction", 56.0, 59.5, over_m=(0.01, -0.04), above_m=0.006),
    ),
    camera_moves=(
        CameraMove(13.0, 0.5, (0.008, -0.008, 0.004), (0.6, -0.48, 0.64)),  # 12 mm and 1 degree
        CameraMove(32.0, 0.3, (0.040, -0.020, -0.040), (2.0, 4.0, 4.0)),  # 60 mm and 6 degrees
        CameraMove(46.0, 1.3, (0.0, 0.0, 0.0), (0.0, 75.0, 0.0), until_s=49.2),  # looks away, and comes back
        CameraMove(47.4, 1.6, (-0.012, 0.016, 0.0), (0.0, -3.0, -4.0)),  # to a place 20 mm and 5 degrees off
    ),
    table_moves=(TableMove(34.5, 3.0, (0.0, -0.02, 0.015), (2.0, 0.0, 0.0)),),
    period_s=60.0,
)

SCENARIOS: dict[str, Scenario] = {
    "still": Scenario("still"),
    "demo": _DEMO,
    "stress": replace(
        _DEMO,
        name="stress",
        breathing_m=0.003,
        breathing_hz=0.3,
        drift_m=(0.02, 0.004, 0.03),
        drift_deg=4.0,
        vibration_m=0.00015,
        passes=(
            Pass("driver", 0.5, 7.5, over_m=(0.015, 0.02), above_m=0.003),
            Pass("hand", 2.5, 6.0, over_m=(0.02, -0.03), above_m=0.06, side=-1.0, turn_deg=20.0),
            Pass("towel", 8.0, 11.5, travel_s=0.7, above_m=0.10),
            Pass("hand_suction", 12.0, 19.0, travel_s=0.6, over_m=(0.0, 0.04), above_m=0.005),
            Pass("forceps", 12.5, 18.0, travel_s=0.6, over_m=(-0.01, -0.03), above_m=0.004, side=-1.0),
        ),
        camera_moves=(
            CameraMove(4.0, 0.4, (0.02, 0.01, -0.01), (1.5, 2.0, -3.0)),
            CameraMove(14.0, 0.3, (-0.03, 0.02, 0.015), (-2.0, 1.5, 5.0)),
        ),
    ),
    "leave": replace(
        _DEMO,
        name="leave",
        passes=(),
        camera_moves=(CameraMove(6.0, 1.5, (0.0, 0.0, 0.0), (0.0, 75.0, 0.0), until_s=11.0),),
    ),
    "empty": replace(_DEMO, name="empty", spine=False),
    "theatre": _THEATRE,
    "occlude": Scenario(
        "occlude",
        breathing_m=0.0015,
        passes=(Pass("towel", 2.0, 4.8, travel_s=0.5, above_m=0.10),),
        period_s=5.0,
    ),
}


def T_world_patient(scenario: Scenario, pivot: Array, seed: int, t_s: float) -> Array:
    """(4, 4) of the patient at time t: breathing, drift and table moves about ``pivot`` (3,), vibration."""
    rng = np.random.default_rng((seed, 41))
    phase = rng.uniform(0, 2 * np.pi, size=8)
    breath = 2 * np.pi * scenario.breathing_hz * t_s + phase[0]
    # Breathing in is quicker than breathing out: a second harmonic; the head end goes along a little.
    swing = np.sin(breath) + 0.22 * np.sin(2 * breath + 0.6)
    move = scenario.breathing_m * np.array([0.06, -1.0, 0.25]) * swing
    there = 0.5 - 0.5 * np.cos(np.pi * t_s / scenario.period_s)
    move = move + np.asarray(scenario.drift_m) * there
    quick = np.sin(2 * np.pi * np.array([5.3, 7.9, 11.2]) * t_s + phase[1:4])
    move = move + scenario.vibration_m * quick
    tilt = np.radians(scenario.drift_deg) * there * np.array([0.3, 0.0, 1.0])
    tilt = tilt + (scenario.breathing_m / 0.5) * swing * np.array([1.0, 0.0, 0.0])
    for table_move in scenario.table_moves:
        gone = _move_share(scenario, table_move, t_s)
        move = move + gone * np.asarray(table_move.shift_m)
        tilt = tilt + gone * np.radians(table_move.turn_deg)
    R = se3.rotation_from_vector(tilt)
    return se3.from_rotation_translation(R, pivot + move - R @ pivot)


def T_rest_camera(scenario: Scenario, t_s: float) -> Array:
    """(4, 4) the camera's pose at time t in its own frame at rest."""
    shift, turn = np.zeros(3), np.zeros(3)
    for move in scenario.camera_moves:
        share = _move_share(scenario, move, t_s)
        shift += share * np.asarray(move.shift_m)
        turn += share * np.radians(move.turn_deg)
    return se3.from_rotation_translation(se3.rotation_from_vector(turn), shift)


def _move_share(scenario: Scenario, move: Move, t_s: float) -> float:
    """0 at rest, 1 moved. Without ``until_s`` every second period brings it back, so that no jump appears."""
    turn, t = divmod(t_s, scenario.period_s)
    share = smoother((t - move.at_s) / move.duration_s)
    if move.until_s is not None:
        return share - smoother((t - move.until_s) / move.duration_s)
    return share if turn % 2 == 0 else 1.0 - share


def pass_share(scenario: Scenario, event: Pass, t_s: float) -> float:
    """How far an occluder has come at time t: 0 aside (not in the scene), 1 over the wound."""
    t = t_s % scenario.period_s
    if not event.start_s < t < event.end_s:
        return 0.0
    return min(smoother((t - event.start_s) / event.travel_s), smoother((event.end_s - t) / event.travel_s))


def T_base_occluder(event: Pass, share: float, target: Array, t_s: float) -> Array:
    """(4, 4) of an occluder's frame in the world, or in the patient for one that lies on the patient.

    ``target`` (3,) is the middle of the wound in the frame of either at rest.
    """
    # The body reaches along +x: coming from the left means turning it round the posterior axis.
    turn = np.radians(event.turn_deg) + (np.pi if event.side < 0 else 0.0)
    R = se3.rotation_from_vector(np.array([0.0, turn, 0.0]))
    aside = np.array([0.75 * event.side, -0.12, 0.0])
    tremor = 0.002 * np.array([np.sin(2.1 * t_s), 0.3 * np.sin(3.3 * t_s), np.sin(1.7 * t_s + 1.0)])
    over = target + np.array([event.over_m[0], -event.above_m, event.over_m[1]])
    if event.on_patient:
        tremor = np.zeros(3)
    return se3.from_rotation_translation(R, over + (1.0 - share) * aside + tremor)


def smoother(x: float) -> float:
    """0 below 0, 1 above 1, twice differentiable between (Perlin 2002)."""
    x = min(max(x, 0.0), 1.0)
    return x * x * x * (x * (6.0 * x - 15.0) + 10.0)
