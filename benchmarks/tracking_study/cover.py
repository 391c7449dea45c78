"""A steady cover over a chosen share of the exposed bone, for sweeps of occlusion."""

from __future__ import annotations

from typing import Any

import numpy as np

from end2reg_ros.errors import End2RegError
from end2reg_ros.simulation.motion import Pass
from end2reg_ros.simulation.sequence import SimulatedSequence

ABOVE_M = 0.06  # over the laminae: clear of the spinous tips and of the skin; the retractors may stick out
TOLERANCE = 0.01  # of the share
BISECTIONS = 16
_REACH_M = 0.2  # from its middle, the edge is here past all of a wound
_LONGER_S = 10.0  # a pass that began before the period and ends after it never comes or goes


def steady_cover(sequence: SimulatedSequence, share: float, seed: int) -> tuple[Pass, ...]:
    """A flat cloth with a straight edge that lies over the wound for the whole sequence and moves with the patient.

    Add it to the occluders of the sequence: ``sequence.seen_from(sequence.placement, steady_cover(...))``, or as
    ``SequenceSettings.extra_passes``.

    Args:
        share: of the bone in the rest view (time 0) that it hides, 0 to below 1, met within ``TOLERANCE``. When the camera
            moves, the share changes a little: the cloth lies higher than the bone.
        seed: of the direction from which it comes, any of 360 degrees.
    Returns:
        the pass; none for a share of 0.
    Raises:
        End2RegError: a share out of range, or a view with no bone in it, or with too little to meet the share.
    """
    if not 0.0 <= share < 1.0:
        raise End2RegError(f"the share to cover is {share:g}, must be 0 to below 1")
    if share == 0.0:
        return ()
    if sequence.frame(0.0).bone_pixels == 0:
        raise End2RegError("nothing of the spine is in view: there is no share of it to cover")
    turn_deg = float(np.random.default_rng((seed, 93)).uniform(0.0, 360.0))
    low, high = -_REACH_M, _REACH_M  # the edge's place along its direction: all covered, nothing covered
    found: list[tuple[float, Pass]] = []
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        sheet = _sheet(sequence, turn_deg, middle)
        hidden = 1.0 - sequence.seen_from(sequence.placement, (sheet,)).frame(0.0).visible_fraction
        found.append((abs(hidden - share), sheet))
        if found[-1][0] <= 0.2 * TOLERANCE:
            break
        low, high = (low, middle) if hidden < share else (middle, high)
    off, sheet = min(found, key=lambda each: each[0])
    if off > TOLERANCE:
        raise End2RegError(f"no place of the cover hides {share:g} of the bone in view: off by {off:.2f}")
    return (sheet,)


def _sheet(sequence: SimulatedSequence, turn_deg: float, at_m: float) -> Pass:
    turn = np.radians(turn_deg)
    # The cloth lies on the far side of its edge, in the direction in which the turn takes its x axis.
    over: Any = at_m * np.array([np.cos(turn), -np.sin(turn)])
    period_s = sequence.scenario.period_s
    return Pass(
        "sheet",
        start_s=-_LONGER_S,
        end_s=period_s + _LONGER_S,
        over_m=(float(over[0]), float(over[1])),
        above_m=ABOVE_M,
        turn_deg=turn_deg,
        on_patient=True,
    )
