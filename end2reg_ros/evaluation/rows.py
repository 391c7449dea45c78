"""One row a cloud: what the tracker said of it, which poses came, and how far they are from the truth. And logs of rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation.metrics import WRONG_MM, point_errors_mm, slip_of_places
from end2reg_ros.tracking.types import PUBLISHING_STATES

Array = NDArray[np.float64]
Errors = Mapping[str, Sequence[float]]  # level -> errors of its landmarks, mm
Poses = Mapping[str, Sequence[float]]  # level -> 16 numbers of its (4, 4) pose, row-major, metres

PUBLISHING = tuple(state.name for state in PUBLISHING_STATES)
IN_VIEW = 0.2  # a pose is expected from this share of the exposed spine on
NOTHING_IN_VIEW = 0.01
AT_REST = 1e-6  # largest change of the truth between two clouds, in metres and in entries of the rotation


@dataclass(frozen=True)
class CloudRow:
    """One cloud of a stream.

    Attributes:
        t: seconds of its stamp since the stream began.
        stamp_ns: the sensor's stamp, nanoseconds.
        state, reason_code, reason: of the tracker after this cloud; of the last one before it where this one was not judged.
        judged: the tracker judged this cloud; else it was superseded by a newer one, or the tracker was not ready.
        published: poses with exactly this stamp came out.
        age_ms: from the stamp until the poses were there (on the network: heard); None where it was not measured.
        visible_fraction: share of the exposed spine in view; None where the truth does not tell.
        visible_levels: level -> share of its exposed bone in view.
        errors_mm: level -> target registration errors at its landmarks, of the vertebra's own pose.
        spine_errors_mm: of the spine's one rigid pose against the true rigid spine, where that was looked at.
        rigid_errors_mm: of the spine's one rigid pose against the true vertebra; empty where nothing moves in the spine.
        network_errors_mm: of the network's own pose of this cloud, before refinement; empty where there is none.
        T_camera_levels, T_camera_levels_true: level -> 16 numbers of the published and the true pose.
        slip: vertebrae by which the pose is off along the spine; None: follows from the poses.
        held: levels whose pose is held to their neighbours'.
        latency_ms, stages_ms: time of the tracker's update, whole and by stage.
        repeats: further messages with poses for this stamp (0 in a correct run).
        late: the poses were first heard when they were no longer waited for.
        unknown: poses at a stamp at which the camera sent no cloud (0 such rows in a correct run).
        uncertain: ``spine`` and levels -> 27 numbers: error (6) and upper triangle of the covariance (21) that was told
            with it, metres and radians, in the spine's axes (left-right, anterior, along the spine), about the
            spine's centre or the vertebra's origin.
    """

    t: float
    stamp_ns: int
    state: str
    reason_code: str = ""
    reason: str = ""
    judged: bool = True
    published: bool = False
    age_ms: float | None = None
    visible_fraction: float | None = None
    errors_mm: Errors = field(default_factory=dict)
    T_camera_levels: Poses = field(default_factory=dict)
    T_camera_levels_true: Poses = field(default_factory=dict)
    spine_errors_mm: Errors = field(default_factory=dict)
    rigid_errors_mm: Errors = field(default_factory=dict)
    network_errors_mm: Errors = field(default_factory=dict)
    visible_levels: Mapping[str, float] = field(default_factory=dict)
    slip: int | None = None
    held: tuple[str, ...] = ()
    latency_ms: float | None = None
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    repeats: int = 0
    late: bool = False
    unknown: bool = False
    uncertain: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def tre_mm(self) -> float | None:
        """Median error over all landmarks, mm."""
        return _median_mm(self.errors_mm)

    def network_tre_mm(self) -> float | None:
        """Median error over all landmarks of the network's own pose, mm."""
        return _median_mm(self.network_errors_mm)

    def level_tre_mm(self) -> dict[str, float]:
        """Level -> mean error of its landmarks, mm."""
        return _level_means(self.errors_mm)

    def worst_level_mm(self) -> float | None:
        """Mean landmark error of the worst vertebra, mm, of its own pose or of the spine's: by it a pose is called false."""
        means = [*self.level_tre_mm().values(), *_level_means(self.spine_errors_mm).values()]
        return max(means, default=None)

    @property
    def in_view(self) -> bool:
        """Enough of the spine is visible for a pose to be expected."""
        return self.visible_fraction is not None and self.visible_fraction >= IN_VIEW

    @property
    def blind(self) -> bool:
        """A pose while nothing of the spine was in view."""
        return (
            self.published and self.visible_fraction is not None and self.visible_fraction <= NOTHING_IN_VIEW
        )

    @property
    def compared(self) -> bool:
        """A pose with errors, all of them numbers."""
        told = [*joined([self.errors_mm]), *joined([self.spine_errors_mm])]
        return self.published and bool(self.errors_mm) and bool(np.isfinite(told).all())

    @property
    def compared_twice(self) -> bool:
        """A pose with errors, and the network's own one with errors at the same levels."""
        return self.compared and self.network_errors_mm.keys() == self.errors_mm.keys()

    @property
    def false_pose(self) -> bool:
        """A vertebra is more than 10 mm off, by the mean of its landmarks."""
        return self.compared and (self.worst_level_mm() or 0.0) > WRONG_MM

    @property
    def level_slip(self) -> int:
        """Vertebrae by which the pose is off along the spine, see ``metrics.level_slip``; 0 where it cannot be told."""
        if self.slip is not None:
            return self.slip
        shared = [level for level in self.T_camera_levels_true if level in self.T_camera_levels]
        ours, theirs = origins(self.T_camera_levels, shared), origins(self.T_camera_levels_true, shared)
        return slip_of_places(ours, theirs)

    def rests_since(self, before: CloudRow) -> bool:
        """Neither camera nor spine moved since the cloud before, by the truth; False where the truth is not known."""
        then, now = before.T_camera_levels_true, self.T_camera_levels_true
        if not then or then.keys() != now.keys():
            return False
        return max(float(np.abs(np.subtract(then[level], now[level])).max()) for level in now) < AT_REST


def origins(poses: Poses, levels: Iterable[str]) -> Array:
    """(N, 3) origins of vertebra frames, metres."""
    return np.array([np.reshape(poses[level], (4, 4))[:3, 3] for level in levels]).reshape(-1, 3)


def joined(errors: Iterable[Errors]) -> Array:
    """(N,) errors of all landmarks of some poses, mm."""
    return np.array([e for pose in errors for level in pose.values() for e in level], dtype=np.float64)


def mean_mm(errors: Errors) -> float:
    """Mean over all landmarks; NaN of none."""
    values = joined([errors])
    return float(values.mean()) if len(values) else float("nan")


def _median_mm(errors: Errors) -> float | None:
    values = joined([errors])
    return float(np.median(values)) if len(values) else None


def _level_means(errors: Errors) -> dict[str, float]:
    return {level: float(np.mean(values)) for level, values in errors.items() if len(values)}


@dataclass(frozen=True)
class LevelTargets:
    """Where the errors of vertebrae's own poses are told; metres.

    Attributes:
        landmarks: level -> (3, 3) points, vertebra frame; only levels that have landmarks.
        T_model_levels: level -> (4, 4) vertebra frame in the model's.
    """

    landmarks: dict[str, Array]
    T_model_levels: dict[str, Array]

    @staticmethod
    def of(case: Case) -> LevelTargets:
        """Of all levels that have landmarks."""
        marked = [(v, v.landmarks) for v in case.vertebrae if v.landmarks is not None]
        marks = {v.level: se3.apply(se3.inverse(v.T_model_level), points.as_array()) for v, points in marked}
        return LevelTargets(marks, {v.level: v.T_model_level for v in case.vertebrae})

    def poses_of(self, T_camera_model: Array) -> dict[str, Array]:
        """Level -> (4, 4) T_camera_level of a rigid spine."""
        return {level: T_camera_model @ T for level, T in self.T_model_levels.items()}

    def errors_mm(self, estimated: Mapping[str, Array], true: Mapping[str, Array]) -> dict[str, list[float]]:
        """Level -> errors of its landmarks, of the levels that both know; poses are (4, 4) T_camera_level."""
        return {
            level: landmark_errors_mm(T, true[level], self.landmarks[level])
            for level, T in estimated.items()
            if level in true and level in self.landmarks
        }


def landmark_errors_mm(
    T_camera_level: Array, T_camera_level_true: Array, landmarks_level: Array
) -> list[float]:
    """Distances in mm between landmarks (K, 3) (metres, vertebra frame) under the estimated and the true pose."""
    return [float(d) for d in point_errors_mm(T_camera_level, T_camera_level_true, landmarks_level)]


def to_line(row: CloudRow) -> str:
    """One JSON line (no newline) with every entry, nine decimals; not-a-number becomes null."""
    plain = _rounded(asdict(row), lambda value: round(value, 9))
    return json.dumps({"kind": "frame", **plain}, allow_nan=False, separators=(",", ":"))


def to_plain(row: CloudRow) -> dict[str, Any]:
    """Plain values for JSON: six digits, and only entries that tell something."""
    empty = asdict(CloudRow(row.t, row.stamp_ns, row.state))
    told = {name: value for name, value in asdict(row).items() if value != empty[name]}
    short: dict[str, Any] = _rounded(told, lambda value: float(f"{value:.6g}"))
    return {"t": row.t, "stamp_ns": row.stamp_ns, "state": row.state, **short}


def from_plain(plain: Mapping[str, Any]) -> CloudRow:
    """The row of ``to_plain``.

    Raises:
        End2RegError: entries that no row has: it was written by another version.
    """
    unknown = plain.keys() - CloudRow.__dataclass_fields__.keys()
    if unknown:
        raise End2RegError(f"a row of another version, with {', '.join(sorted(unknown))}: measure it again")
    return CloudRow(**{**plain, "held": tuple(plain.get("held", ()))})


def from_dict(data: Mapping[str, Any]) -> CloudRow:
    """The row of a decoded line; unknown entries are left out."""
    return from_plain({key: data[key] for key in CloudRow.__dataclass_fields__ if key in data})


def latest(rows: Iterable[CloudRow]) -> list[CloudRow]:
    """Rows by stamp. Of several rows for a cloud the last one holds: it knows of poses that came late or again.

    A row without a cloud never takes the place of a cloud's row.
    """
    kept: dict[tuple[int, bool], CloudRow] = {}
    for row in rows:
        kept[row.stamp_ns, row.unknown] = row
        if not row.unknown:
            kept.pop((row.stamp_ns, True), None)
    return sorted(kept.values(), key=lambda row: row.stamp_ns)


def _rounded(value: Any, number: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item, number) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item, number) for item in value]
    if isinstance(value, float):
        return number(value) if np.isfinite(value) else None
    return value
