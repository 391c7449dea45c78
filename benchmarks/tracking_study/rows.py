"""One row per cloud of a measured track: what the tracker said of it, and how far that is from the truth."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.evaluation.metrics import (
    WRONG_MM,
    Pose,
    level_slip,
    level_transform,
    point_errors_mm,
    targets_from_case,
)
from end2reg_ros.evaluation.stream import StreamFrame
from end2reg_ros.registration.types import Registration
from end2reg_ros.se3 import covariance_at
from end2reg_ros.simulation.sequence import SimulatedFrame
from end2reg_ros.tracking.track import spine_axis
from end2reg_ros.tracking.types import State, TrackingUpdate

Array = NDArray[np.float64]
SPINE = "spine"
UPPER = np.triu_indices(6)
REMEMBERED = 200  # clouds whose truth is kept: a network in the background speaks of earlier ones


@dataclass(frozen=True)
class TrackRow:
    """One cloud of a track.

    Attributes:
        t: stamp in seconds; ``stamp_ns`` the same in nanoseconds.
        visible: share of the exposed bone in view; None where the truth does not tell.
        judged: False where a newer cloud superseded it; state and reason are then those before.
        spine_mm: level -> errors at its landmarks (mm) of the rigid spine pose against the true rigid spine.
        levels_mm: the same of the vertebra's own pose against the true vertebra.
        rigid_mm: the same of the rigid spine pose against the true vertebra; empty where nothing moves within the spine.
        network_mm: as ``spine_mm``, of the network's own pose of this cloud; empty where there is none.
        held: levels whose pose is held to their neighbours; ``visible_levels``: level -> share of its exposed bone in view.
        level_slip: see ``metrics.level_slip``.
        processing_ms: time of the tracker's update.
        finished_s: when the update was done, on the clock of the stamps; None of a superseded cloud.
        uncertain: ``spine`` and levels -> 27 numbers: error (6) and upper triangle of the covariance (21) that was told with
            it, metres and radians, in the spine's axes (left-right, anterior, along the spine), about the spine's
            centre or the vertebra's origin.
    """

    t: float
    stamp_ns: int
    state: str
    published: bool
    reason_code: str
    reason: str
    visible: float | None
    judged: bool = True
    spine_mm: Mapping[str, Sequence[float]] = field(default_factory=dict)
    levels_mm: Mapping[str, Sequence[float]] = field(default_factory=dict)
    rigid_mm: Mapping[str, Sequence[float]] = field(default_factory=dict)
    network_mm: Mapping[str, Sequence[float]] = field(default_factory=dict)
    held: tuple[str, ...] = ()
    visible_levels: Mapping[str, float] = field(default_factory=dict)
    level_slip: int = 0
    processing_ms: float = 0.0
    finished_s: float | None = None
    uncertain: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def spine_tre_mm(self) -> float:
        """Mean over all landmarks of the rigid spine pose; NaN without a pose."""
        return _mean([e for errors in self.spine_mm.values() for e in errors])

    @property
    def level_tre_mm(self) -> dict[str, float]:
        """Level -> mean over its landmarks, of its own pose."""
        return {level: _mean(errors) for level, errors in self.levels_mm.items()}

    @property
    def rigid_tre_mm(self) -> dict[str, float]:
        """Level -> mean over its landmarks, of the rigid spine pose."""
        return {level: _mean(errors) for level, errors in (self.rigid_mm or self.spine_mm).items()}

    @property
    def network_tre_mm(self) -> float:
        """Mean over all landmarks of the network's own pose; NaN without one."""
        return _mean([e for errors in self.network_mm.values() for e in errors])

    @property
    def worst_mm(self) -> float:
        """Largest mean error of a level, of its own pose or of the spine's; NaN without a pose."""
        both = [*(_mean(e) for e in self.spine_mm.values()), *self.level_tre_mm.values()]
        return max(both, default=float("nan"))

    @property
    def wrong(self) -> bool:
        """Published with a vertebra more than 10 mm off, by its own pose or by the spine's, or off by no number at all."""
        return self.published and not self.worst_mm <= WRONG_MM

    def stream_frame(self) -> StreamFrame:
        """The same for ``stream.stream_figures``."""
        age = None if self.finished_s is None else 1e3 * (self.finished_s - self.t)
        return StreamFrame(
            self.stamp_ns, State[self.state], self.published, self.levels_mm, level_slip=self.level_slip,
            visible_fraction=self.visible, judged=self.judged, age_ms=age, network_errors_mm=self.network_mm,
        )  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def row_to_plain(row: TrackRow) -> dict[str, Any]:
    """Ready for JSON: six digits, nothing that equals its default."""
    empty = asdict(TrackRow(0.0, 0, "", False, "", "", None))
    plain = {name: _short(value) for name, value in asdict(row).items() if value != empty[name]}
    return {**plain, "t": row.t, "stamp_ns": row.stamp_ns, "state": row.state}


def row_from_plain(plain: Mapping[str, Any]) -> TrackRow:
    """The row of ``row_to_plain``."""
    known: dict[str, Any] = {"published": False, "reason_code": "", "reason": "", "visible": None, **plain}
    return TrackRow(**{**known, "held": tuple(known.get("held", ()))})


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_short(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value


class Observer:
    """Holds updates against the truth. One for each run: it remembers the truth of the last clouds.

    Args:
        case: with landmarks.
        with_uncertainty: fill ``TrackRow.uncertain``.

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
    ) -> TrackRow:
        """The row of a judged cloud; ``frame`` is what the cloud was made of."""
        there = bool(frame.tags.get("spine", True))
        true = Pose(frame.T_camera_model, frame.T_camera_levels)
        if there:
            self._truths.append((update.stamp_ns, true))
        row = TrackRow(
            frame.t_s, update.stamp_ns, update.state.name, update.published, update.reason_code, update.reason,
            frame.visible_fraction if there else 0.0, visible_levels=frame.visible_levels,
            processing_ms=processing_ms, finished_s=finished_s,
        )  # fmt: skip
        found = update.registration
        if found is None or not there:
            return row
        if found.network is not None:
            self._hear(found.network.stamp_ns or update.stamp_ns, found.network.T_camera_model)
        return self._compared(row, found, true) if update.published else row

    def finished(self, rows: Sequence[TrackRow]) -> list[TrackRow]:
        """The rows with what the network said of each cloud, which may have come some clouds later."""
        return [replace(row, network_mm=self._networks.get(row.stamp_ns, {})) for row in rows]

    def _hear(self, stamp_ns: int, T_network: Array) -> None:
        true = next((pose for stamp, pose in self._truths if stamp == stamp_ns), None)
        if true is not None:
            self._networks[stamp_ns] = self._errors(Pose(T_network), Pose(true.T_camera_model))

    def _errors(self, estimated: Pose, true: Pose) -> dict[str, list[float]]:
        return {
            level: point_errors_mm(
                level_transform(estimated, level, self.targets),
                level_transform(true, level, self.targets),
                points,
            ).tolist()
            for level, points in self.targets.landmarks.items()
        }

    def _compared(self, row: TrackRow, found: Registration, true: Pose) -> TrackRow:
        rigid = Pose(found.T_camera_model)
        own = Pose(found.T_camera_model, {level.level: level.T_camera_level for level in found.levels})
        spine_mm = self._errors(rigid, Pose(true.T_camera_model))
        rigid_mm = self._errors(rigid, true)
        moved = any(np.abs(np.subtract(rigid_mm[k], spine_mm[k])).max() > 1e-6 for k in spine_mm)
        return replace(
            row,
            spine_mm=spine_mm,
            levels_mm=self._errors(own, true),
            rigid_mm=rigid_mm if moved else {},
            held=tuple(level.level for level in found.levels if level.held),
            level_slip=level_slip(own, true, self.targets),
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
