"""How the vertebrae stand to one another, against the CT: one rigid motion a level, in the model frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.se3_batch import (
    each_applied,
    in_columns,
    inverses,
    level_by_level,
    rotation_angles,
    runs,
)

Array = NDArray[np.float64]

# Motion between neighbours against the CT that a spine can have taken up: 8 degrees and 4 mm, and a little for errors.
MAX_TURN_RAD = float(np.radians(11.0))
MAX_SHIFT_M = 0.006


@dataclass(frozen=True)
class Posture:
    """``motions`` (levels, 4, 4): where the CT's coordinates of each level have moved to, model frame, metres.

    All of them the identity: the spine stands as in the CT.
    """

    motions: Array

    def level_pose(self, T_camera_model: Array, vertebra: int) -> Array:
        """(4, 4) what maps the CT's coordinates of a level into the camera frame."""
        return np.asarray(T_camera_model @ self.motions[vertebra])

    def posed(self, points: Array, level_index: NDArray[np.integer]) -> Array:
        """(N, 3) the points (N, 3) of the levels ``level_index`` (N,) moved, model frame."""
        return self._each(points, level_index, turn_only=False)

    def turned(self, normals: Array, level_index: NDArray[np.integer]) -> Array:
        """(N, 3) directions of the levels ``level_index`` (N,) turned."""
        return self._each(normals, level_index, turn_only=True)

    def _each(self, points: Array, level_index: NDArray[np.integer], turn_only: bool) -> Array:
        order, bounds = runs(level_index, len(self.motions))
        if order is None:
            return level_by_level(self.motions, in_columns(points), bounds, turn_only).T
        result = np.empty(points.shape)
        result[order] = level_by_level(self.motions, in_columns(points[order]), bounds, turn_only).T
        return result


def straight(levels: int) -> Posture:
    """The posture of the CT."""
    return Posture(np.tile(np.eye(4), (levels, 1, 1)))


def segment_centres(case: Case) -> Array:
    """(levels - 1, 3) middle between the frames of each two neighbours, model frame: where a disc and two facets hold them."""
    origins = np.stack([v.T_model_level[:3, 3] for v in case.vertebrae])
    return np.asarray((origins[:-1] + origins[1:]) / 2)


def segment_motions(posture: Posture, centres: Array) -> list[tuple[float, float]]:
    """Turn (radians) and shift (metres, of the segment's centre) of each level against the next one, compared with the CT."""
    if len(centres) == 0:
        return []
    upper, lower = posture.motions[:-1], posture.motions[1:]
    moved = each_applied(lower, centres)
    D = upper @ inverses(lower)
    shift = np.linalg.norm(each_applied(D, moved) - moved, axis=1)
    return list(zip(rotation_angles(D[:, :3, :3]).tolist(), shift.tolist(), strict=True))


def implausible_segment(posture: Posture, case: Case, centres: Array) -> str | None:
    """A sentence on the first two neighbours that no spine holds so; None where all are held as they can be."""
    for k, (turn, shift) in enumerate(segment_motions(posture, centres)):
        upper, lower = case.vertebrae[k].level, case.vertebrae[k + 1].level
        if turn > MAX_TURN_RAD:
            return f"{upper} is turned by {np.degrees(turn):.1f} deg against {lower} (limit {np.degrees(MAX_TURN_RAD):.1f} deg)"
        if shift > MAX_SHIFT_M:
            return f"{upper} is shifted by {1000 * shift:.1f} mm against {lower} (limit {1000 * MAX_SHIFT_M:.1f} mm)"
    return None
