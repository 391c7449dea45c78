"""An optional filter of the published pose: constant velocity, on SE(3). Off by default; it smooths, so it lags.

The state is where the spine's centre is, how the spine is turned, and how fast both change, all along the camera's axes. Its
error is 12 numbers: (centre, rotation, velocity, turn), with the rotation's error on the left, ``R_true = Exp(error) R``, as
in the covariance of a ROS pose. About the centre, because a CT's origin may lie decimetres away: there a turn that is hardly
known would look like a shift that is hardly known.

A pose comes out only for a pose that went in, under its stamp. Whatever constant velocity cannot explain starts the filter
anew with the raw pose: a knocked camera is followed at once, never smoothed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from end2reg_ros.case.model import Case
from end2reg_ros.registration.types import Registration
from end2reg_ros.se3 import (
    apply,
    covariance_at,
    from_rotation_translation,
    inverse,
    move_covariance,
    rotation_from_vector,
    skew,
)
from end2reg_ros.tracking.types import PUBLISHING_STATES, State

Array = NDArray[np.float64]

# An acceleration holds for this long, then is drawn anew: what makes m/s^2 a noise density, at any camera rate.
HOLD_S = 1.0 / 30.0
# A raw pose is never known better than this, frame against frame (0.03 mm, 0.03 deg).
FLOOR = np.diag([9e-10] * 3 + [2.7e-7] * 3)


@dataclass(frozen=True)
class FilterSettings:
    """How much the filter smooths, and when it does not. Metres, radians, seconds.

    Attributes:
        acceleration_m_s2, angular_acceleration_rad_s2: standard deviation of the acceleration that the spine is expected to
            make by itself, drawn anew 30 times a second: smaller smooths more, lags more, and starts anew more often.
        noise_share: share of a pose's standard deviation that is new in each frame. The rest (surface left uncovered, depth
            scale) stays from frame to frame: no filter takes it away, and it says nothing of how far a jump can be told.
        gate: largest squared innovation, in units of its covariance; chi-square with 6 degrees of freedom passes 27.9 once
            in 10 000 frames.
        max_apart_m: no vertebra's filtered origin lies further than this from its raw one.
        max_gap_s: a pose that comes later than this after the one before starts anew.
        start_speed_m_s, start_turn_rad_s: standard deviation of the velocity that a new filter knows nothing of.
    """

    acceleration_m_s2: float = 0.03
    angular_acceleration_rad_s2: float = 0.2
    noise_share: float = 0.2
    gate: float = 27.9
    max_apart_m: float = 0.001
    max_gap_s: float = 0.5
    start_speed_m_s: float = 0.05
    start_turn_rad_s: float = 0.2


class Filtered(NamedTuple):
    """A filtered pose.

    Attributes:
        T_camera_model: (4, 4).
        covariance: (6, 6), camera axes, about the posed model origin, as a registration's.
        restarted: the filter began anew with this pose: it is the raw one.
    """

    T_camera_model: Array
    covariance: Array
    restarted: bool


class PoseFilter:
    """An error-state Kalman filter with constant velocity.

    Args:
        centre: (3,) point of the model whose motion is followed.
        points: (N, 3) model points that are held near their raw places: the vertebrae's origins.
    """

    def __init__(self, centre: Array, points: Array, settings: FilterSettings | None = None) -> None:
        self.settings = settings or FilterSettings()
        self.centre = centre
        self.points = points
        self._stamp_ns: int | None = None
        self._place, self._turned = np.zeros(3), np.eye(3)
        self._velocity, self._turn = np.zeros(3), np.zeros(3)
        self._P = np.zeros((12, 12))

    def forget(self) -> None:
        """The next pose starts anew."""
        self._stamp_ns = None

    def update(self, stamp_ns: int, T_camera_model: Array, covariance: Array) -> Filtered:
        """Take a raw pose in.

        Args:
            stamp_ns: of its cloud; irregular ones are welcome, one that is not later than the last starts anew.
            T_camera_model: (4, 4) raw pose.
            covariance: (6, 6) of it, camera axes, about the posed model origin.
        """
        at_centre = covariance_at(covariance, T_camera_model, self.centre)
        noise = self.settings.noise_share**2 * at_centre + FLOOR
        gap_s = np.inf if self._stamp_ns is None else (stamp_ns - self._stamp_ns) * 1e-9
        follows = 0.0 < gap_s <= self.settings.max_gap_s and self._follow(gap_s, T_camera_model, noise)
        if not follows:
            self._start(T_camera_model, noise)
        self._stamp_ns = stamp_ns
        T = self._pose()
        # What stays from frame to frame is not filtered away.
        spread = at_centre * (1.0 - self.settings.noise_share**2) + self._P[:6, :6]
        offset = T[:3, 3] - self._place
        return Filtered(T, move_covariance(spread, offset), not follows)

    def _start(self, T: Array, noise: Array) -> None:
        """Know what one raw pose tells, and nothing of velocity."""
        s = self.settings
        self._place, self._turned = apply(T, self.centre), T[:3, :3].copy()
        self._velocity, self._turn = np.zeros(3), np.zeros(3)
        self._P = np.zeros((12, 12))
        self._P[:6, :6] = noise
        self._P[6:, 6:] = np.diag([s.start_speed_m_s**2] * 3 + [s.start_turn_rad_s**2] * 3)

    def _follow(self, dt: float, T: Array, noise: Array) -> bool:
        """Predict over ``dt`` seconds and correct; False where the raw pose does not fit what was expected."""
        F = transition(self._turn, dt)
        P = F @ self._P @ F.T + self._process_noise(dt)
        place = self._place + self._velocity * dt
        turned = rotation_from_vector(self._turn * dt) @ self._turned
        innovation = np.concatenate([apply(T, self.centre) - place, _log(T[:3, :3] @ turned.T)])
        S = P[:6, :6] + noise
        if innovation @ np.linalg.solve(S, innovation) > self.settings.gate:
            return False
        K = np.linalg.solve(S, P[:6]).T
        error = K @ innovation
        self._place, self._turned = place + error[:3], rotation_from_vector(error[3:6]) @ turned
        self._velocity, self._turn = self._velocity + error[6:9], self._turn + error[9:]
        # Joseph's form stays symmetric and positive whatever is rounded. The correction of a degree or less turns the
        # error's axes so little that the covariance is kept as it is.
        A = np.eye(12)
        A[:, :6] -= K
        self._P = A @ P @ A.T + K @ noise @ K.T
        apart = np.linalg.norm(apply(self._pose(), self.points) - apply(T, self.points), axis=1)
        return bool(apart.max() <= self.settings.max_apart_m)

    def _process_noise(self, dt: float) -> Array:
        """(12, 12) what white acceleration adds in ``dt`` seconds; the same in one step as in several."""
        s = self.settings
        densities = HOLD_S * np.array([s.acceleration_m_s2**2] * 3 + [s.angular_acceleration_rad_s2**2] * 3)
        Q = np.zeros((12, 12))
        Q[:6, :6], Q[6:, 6:] = np.diag(densities * dt**3 / 3), np.diag(densities * dt)
        Q[:6, 6:] = Q[6:, :6] = np.diag(densities * dt**2 / 2)
        return Q

    def _pose(self) -> Array:
        return from_rotation_translation(self._turned, self._place - self._turned @ self.centre)


def transition(turn: Array, dt: float) -> Array:
    """(12, 12) how the state's error grows over ``dt`` seconds at the angular velocity ``turn`` (3,), rad/s."""
    F = np.eye(12)
    F[:3, 6:9] = dt * np.eye(3)
    F[3:6, 3:6] = rotation_from_vector(turn * dt)
    F[3:6, 9:] = dt * left_jacobian(turn * dt)
    return F


def left_jacobian(v: Array) -> Array:
    """(3, 3) J with ``Exp(v + d) = Exp(J d) Exp(v)`` for small d."""
    angle = float(np.linalg.norm(v))
    K = skew(v)
    if angle < 1e-4:
        return np.eye(3) + K / 2 + K @ K / 6
    return np.asarray(
        np.eye(3) + (1 - np.cos(angle)) / angle**2 * K + (angle - np.sin(angle)) / angle**3 * K @ K
    )


def _log(R: Array) -> Array:
    return np.asarray(Rotation.from_matrix(R).as_rotvec(), dtype=np.float64)


class ConstantVelocity:
    """Filters the spine's pose and carries the vertebrae along: their raw pose against the spine's stays as it is.

    One filter, not one a vertebra: filters that start anew in different frames would show vertebrae moving against each
    other that do not.
    """

    def __init__(self, case: Case, settings: FilterSettings | None = None) -> None:
        origins = np.stack([v.T_model_level[:3, 3] for v in case.vertebrae])
        self.filter = PoseFilter(case.centroid(), origins, settings)

    def smooth(self, stamp_ns: int, registration: Registration) -> Registration:
        """See ``TrackFilter.smooth``. The vertebrae keep their raw covariance."""
        raw = registration.T_camera_model
        found = self.filter.update(stamp_ns, raw, registration.covariance)
        carry = found.T_camera_model @ inverse(raw)
        levels = tuple(
            replace(level, T_camera_level=carry @ level.T_camera_level) for level in registration.levels
        )
        return replace(
            registration, T_camera_model=found.T_camera_model, covariance=found.covariance, levels=levels
        )

    def show(self, state: State) -> None:
        """A track that was lost starts anew."""
        if state not in PUBLISHING_STATES:
            self.filter.forget()
