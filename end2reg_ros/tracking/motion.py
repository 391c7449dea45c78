"""Where a spine was last seen, how it moved, and where to look for it next. Searches begin there; no pose comes from here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from end2reg_ros.registration.fit.posture import Posture
from end2reg_ros.se3 import apply, from_rotation_translation, rotation_angle, rotation_from_vector

Array = NDArray[np.float64]

REST_M_S = 0.02


class MotionMemory:
    """Remembers published poses: the last one, the last one at rest, the posture, and the velocity between the last two.

    Args:
        centre: (3,) point of the model whose motion is followed, metres.
        horizon_s: a velocity older than this says nothing.
    """

    def __init__(self, centre: Array, horizon_s: float) -> None:
        self.centre = centre
        self.horizon_s = horizon_s
        self.last: tuple[Array, int] | None = None
        self.posture: Posture | None = None
        self._rest: Array | None = None
        self._velocity: tuple[Array, Array] | None = (
            None  # of the centre (m/s) and of rotation (rad/s), camera axes
        )

    def forget(self) -> None:
        """As if nothing had been seen."""
        self.last = self._rest = self._velocity = self.posture = None

    def difference(self, T_from: Array, T_to: Array) -> tuple[Array, float]:
        """Shift of the centre (3,) in metres, camera axes, and the turn in radians."""
        shift = apply(T_to, self.centre) - apply(T_from, self.centre)
        return shift, rotation_angle(T_to[:3, :3] @ T_from[:3, :3].T)

    def remember(self, T_camera_model: Array, stamp_ns: int, posture: Posture | None = None) -> None:
        """Keep a published pose, and how the vertebrae stood to one another."""
        self.posture = posture
        self._velocity = None
        if self.last is not None:
            T_before, before_ns = self.last
            dt = (stamp_ns - before_ns) * 1e-9
            if 0 < dt <= self.horizon_s:
                shift, _ = self.difference(T_before, T_camera_model)
                turn = Rotation.from_matrix(T_camera_model[:3, :3] @ T_before[:3, :3].T).as_rotvec()
                self._velocity = (shift / dt, turn / dt)
        if self._velocity is None or float(np.linalg.norm(self._velocity[0])) < REST_M_S:
            self._rest = T_camera_model
        self.last = (T_camera_model, stamp_ns)

    def predicted(self, stamp_ns: int) -> Array:
        """(4, 4) the last pose moved on at constant velocity.

        Raises:
            LookupError: nothing was remembered.
        """
        if self.last is None:
            raise LookupError("no pose to predict from")
        T, last_ns = self.last
        dt = (stamp_ns - last_ns) * 1e-9
        if self._velocity is None or not 0 < dt <= self.horizon_s:
            return T
        velocity, turn = self._velocity
        R = rotation_from_vector(turn * dt) @ T[:3, :3]
        centre = apply(T, self.centre) + velocity * dt
        return from_rotation_translation(R, centre - R @ self.centre)

    def anchors(self, stamp_ns: int) -> list[Array]:
        """Poses around which a lost track is worth a search: predicted, and the last at rest if that is another."""
        found = [self.predicted(stamp_ns)]
        if self._rest is not None:
            shift, angle = self.difference(self._rest, found[0])
            if float(np.linalg.norm(shift)) > 0.002 or angle > 0.02:
                found.append(self._rest)
        return found

    def seconds_since(self, stamp_ns: int) -> float:
        """Seconds since the last pose; infinite without one, and for stamps that went back."""
        seconds = (stamp_ns - self.last[1]) * 1e-9 if self.last is not None else np.inf
        return float(seconds) if seconds >= 0 else float("inf")
