"""From a tracker's updates to rows with their errors against the truth, and what was told of these errors beforehand."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.evaluation.metrics import Pose, landmark_errors, level_slip, targets_from_case
from end2reg_ros.evaluation.rows import CloudRow
from end2reg_ros.registration.types import Registration
from end2reg_ros.se3 import covariance_at
from end2reg_ros.simulation.sequence import SimulatedFrame
from end2reg_ros.tracking.track import spine_axis
from end2reg_ros.tracking.types import TrackingUpdate

Array = NDArray[np.float64]
SPINE = "spine"
UPPER = np.triu_indices(6)
REMEMBERED = 200  # clouds whose truth is kept: a network in the background speaks of earlier ones


class Observer:
    """Holds updates against the truth. One for each run: it remembers the truth of the last clouds.

    Args:
        case: with landmarks.
        with_uncertainty: fill ``CloudRow.uncertain``.

    Raises:
        CaseError: the case has no landmarks.
    """

    def __init__(self, case: Case, with_uncertainty: bool = False) -> None:
        self.targets = targets_from_case(case)
        self.centre = case.centroid()
        self.axes = spine_axes(case)
        self.with_uncertainty = with_uncertainty
        self._truths: deque[tuple[int, Pose]] = deque(maxlen=REMEMBERED)
        self._networks: dict[int, dict[str, list[float]]] = {}

    def row(
        self, update: TrackingUpdate, frame: SimulatedFrame, processing_ms: float, finished_s: float
    ) -> CloudRow:
        """The row of a judged cloud; ``frame`` is what the cloud was made of."""
        there = bool(frame.tags.get("spine", True))
        true = Pose(frame.T_camera_model, frame.T_camera_levels)
        if there:
            self._truths.append((update.stamp_ns, true))
        row = CloudRow(
            frame.t_s, update.stamp_ns, update.state.name, update.reason_code, update.reason, published=update.published,
            age_ms=1e3 * (finished_s - frame.t_s), visible_fraction=frame.visible_fraction if there else 0.0,
            visible_levels=frame.visible_levels, latency_ms=processing_ms,
        )  # fmt: skip
        found = update.registration
        if found is None or not there:
            return row
        if found.network is not None:
            self._hear(found.network.stamp_ns or update.stamp_ns, found.network.T_camera_model)
        return self._compared(row, found, true) if update.published else row

    def finished(self, rows: Sequence[CloudRow]) -> list[CloudRow]:
        """The rows with what the network said of each cloud, which may have come some clouds later."""
        return [replace(row, network_errors_mm=self._networks.get(row.stamp_ns, {})) for row in rows]

    def _hear(self, stamp_ns: int, T_network: Array) -> None:
        true = next((pose for stamp, pose in self._truths if stamp == stamp_ns), None)
        if true is not None:
            self._networks[stamp_ns] = landmark_errors(
                Pose(T_network), Pose(true.T_camera_model), self.targets
            )

    def _compared(self, row: CloudRow, found: Registration, true: Pose) -> CloudRow:
        rigid = Pose(found.T_camera_model)
        own = Pose(found.T_camera_model, {level.level: level.T_camera_level for level in found.levels})
        spine_mm = landmark_errors(rigid, Pose(true.T_camera_model), self.targets)
        rigid_mm = landmark_errors(rigid, true, self.targets)
        moved = any(np.abs(np.subtract(rigid_mm[k], spine_mm[k])).max() > 1e-6 for k in spine_mm)
        return replace(
            row,
            errors_mm=landmark_errors(own, true, self.targets),
            spine_errors_mm=spine_mm,
            rigid_errors_mm=rigid_mm if moved else {},
            held=tuple(level.level for level in found.levels if level.held),
            slip=level_slip(own, true, self.targets),
            uncertain=self._uncertain(found, true) if self.with_uncertainty else {},
        )

    def _uncertain(self, found: Registration, true: Pose) -> dict[str, list[float]]:
        T = found.T_camera_model
        axes = T[:3, :3] @ self.axes
        at_centre = covariance_at(found.covariance, T, self.centre)
        error = pose_error(T, true.T_camera_model, self.centre)
        told = {SPINE: packed(error, at_centre, axes)}
        for level in found.levels:
            if level.level in true.T_camera_levels:
                error = pose_error(level.T_camera_level, true.T_camera_levels[level.level], np.zeros(3))
                told[level.level] = packed(error, level.covariance, axes)
        return told


def spine_axes(case: Case) -> Array:
    """(3, 3) columns: left-right (towards the patient's right), anterior, along the spine (towards the head); model frame."""
    along = spine_axis(case)
    right = np.cross(np.array([0.0, 1.0, 0.0]), along)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(along, right), along], axis=1)


def pose_error(T_estimated: Array, T_true: Array, point: Array) -> Array:
    """(6,) error of a pose about its image of ``point`` (3,): metres and radians, camera axes, in the covariance's order."""
    shift = se3.apply(T_estimated, point) - se3.apply(T_true, point)
    turn = Rotation.from_matrix(T_estimated[:3, :3] @ T_true[:3, :3].T).as_rotvec()
    return np.concatenate([shift, turn])


def packed(error: Array, covariance: Array, axes: Array) -> list[float]:
    """27 numbers: a (6,) error and the upper triangle of its (6, 6) covariance, both turned into ``axes`` (3, 3) columns."""
    R6 = np.zeros((6, 6))
    R6[:3, :3] = R6[3:, 3:] = axes.T
    turned = R6 @ covariance @ R6.T
    return [*(R6 @ error).tolist(), *turned[UPPER].tolist()]


def unpacked(numbers: Sequence[float]) -> tuple[Array, Array]:
    """(6,) error and (6, 6) covariance of ``packed``."""
    covariance = np.zeros((6, 6))
    covariance[UPPER] = numbers[6:]
    covariance = covariance + covariance.T - np.diag(np.diag(covariance))
    return np.asarray(numbers[:6], dtype=np.float64), covariance
