"""Fits that must agree before the first pose goes out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.reasons import Reason
from end2reg_ros.registration.fit.posture import Posture
from end2reg_ros.registration.types import Prior, Registration
from end2reg_ros.tracking.motion import MotionMemory
from end2reg_ros.tracking.settings import TrackerSettings
from end2reg_ros.tracking.transitions import Event

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """An unconfirmed pose.

    Attributes:
        T_camera_model: (4, 4) the newest fit.
        agreed: fits in a row that agreed on it.
        T_first: (4, 4) the first fit of its kind.
        T_anchor: (4, 4) where the search that found it began; None for the whole view.
        posture: how the vertebrae stood to one another in the newest fit.
    """

    T_camera_model: Array
    agreed: int
    T_first: Array
    T_anchor: Array | None
    posture: Posture | None = None


class Confirmation:
    """Counts good fits in a row that agree.

    Attributes:
        candidate: the pose that waits for confirmation; None where none does.
    """

    def __init__(self, settings: TrackerSettings, memory: MotionMemory) -> None:
        self._settings, self._memory = settings, memory
        self.candidate: Candidate | None = None

    def take(
        self, found: Registration, looked_for: Prior | None, resumes: bool, walks: bool
    ) -> tuple[Event, str, str]:
        """The event that a good fit is, with reason code and reason.

        Args:
            found: the fit.
            looked_for: where it was looked for; None for the whole view.
            resumes: it goes on with a track that was lost for a moment: it needs no other.
            walks: where it lies apart from the candidate, the spine may have moved meanwhile.
        """
        T, known = found.T_camera_model, self.candidate
        if known is None:
            anchor = None if looked_for is None else looked_for.T_camera_model
            newest = Candidate(T, 1, T, anchor, found.posture)
        else:
            shift, _ = self._memory.difference(known.T_camera_model, T)
            if float(np.linalg.norm(shift)) > self._settings.confirm_distance_m:
                return self._disagree(known, found, shift, walks)
            newest = replace(known, T_camera_model=T, agreed=known.agreed + 1, posture=found.posture)
        needed = self._settings.confirm_frames
        if newest.agreed >= needed or resumes:
            self.candidate = None
            return Event.CONFIRMED, Reason.OK, "tracking"
        self.candidate = newest
        return Event.GOOD, Reason.CONFIRMING, f"good fit {newest.agreed} of {needed}"

    def _disagree(
        self, known: Candidate, newer: Registration, shift: Array, walks: bool
    ) -> tuple[Event, str, str]:
        """Two fits in a row that disagree.

        A search takes so long that the spine may have moved a little meanwhile: the newer fit then takes the older one's
        place, as long as it stays near the first. Else this would be the start of a walk from fit to fit: the next search
        begins anew, as it does from a given start.
        """
        T = newer.T_camera_model
        walked, _ = self._memory.difference(known.T_first, T)
        near = float(np.linalg.norm(walked)) <= self._settings.max_axis_move_m
        moved = replace(known, T_camera_model=T, agreed=1, posture=newer.posture)
        self.candidate = moved if near and walks else None
        text = f"two fits in a row lie {1000 * np.linalg.norm(shift):.1f} mm apart"
        return Event.FAILED, Reason.UNCONFIRMED, text
