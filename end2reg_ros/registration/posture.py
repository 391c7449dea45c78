"""How the vertebrae stand to one another, against the CT: one rigid motion a level, in the model frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.se3 import apply, inverse, rotation_angle

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
        moved = np.empty(points.shape)
        for level, T in enumerate(self.motions):
            rows = np.flatnonzero(level_index == level)
            moved[rows] = apply(T, points[rows])
        return moved

    def turned(self, normals: Array, level_index: NDArray[np.integer]) -> Array:
        """(N, 3) directions of the levels ``level_index`` (N,) turned."""
        return np.asarray(np.einsum("nij,nj->ni", self.motions[level_index, :3, :3], normals))


def straight(levels: int) -> Posture:
    """The posture of the CT."""
    return Posture(np.tile(np.eye(4), (levels, 1, 1)))


def segment_centres(case: Case) -> Array:
    """(levels - 1, 3) middle between the frames of each two neighbours, model frame: where a disc and two facets hold them."""
    origins = np.stack([v.T_model_level[:3, 3] for v in case.vertebrae])
    return np.asarray((origins[:-1] + origins[1:]) / 2)


def segment_motions(posture: Posture, centres: Array) -> list[tuple[float, float]]:
    """Turn (radians) and shift (metres, of the segment's centre) of each level against the next one, compared with the CT."""
    found = []
    for k, centre in enumerate(centres):
        moved = apply(posture.motions[k + 1], centre)
        D = posture.motions[k] @ inverse(posture.motions[k + 1])
        found.append((rotation_angle(D[:3, :3]), float(np.linalg.norm(apply(D, moved) - moved))))
    return found


def implausible_segment(posture: Posture, case: Case, centres: Array) -> str | None:
    """A sentence on the first two neighbours that no spine holds so; None where all are held as they can be."""
    for k, (turn, shift) in enumerate(segment_motions(posture, centres)):
        upper, lower = case.vertebrae[k].level, case.vertebrae[k + 1].level
        if turn > MAX_TURN_RAD:
            return f"{upper} is turned by {np.degrees(turn):.1f} deg against {lower} (limit {np.degrees(MAX_TURN_RAD):.1f} deg)"
        if shift > MAX_SHIFT_M:
            return f"{upper} is shifted by {1000 * shift:.1f} mm against {lower} (limit {1000 * MAX_SHIFT_M:.1f} mm)"
    return None
