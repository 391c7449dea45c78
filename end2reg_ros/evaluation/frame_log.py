"""The listener's log: one JSON line for every cloud the camera sent, with what the tracker said about it and the truth."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3

Array = NDArray[np.float64]
PUBLISHING = ("TRACKING", "DEGRADED")


@dataclass(frozen=True)
class FrameRow:
    """One cloud of the camera, as a stranger on the network saw it judged.

    Attributes:
        t: seconds since the camera's first cloud (difference of stamps).
        stamp_ns: the cloud's stamp, nanoseconds.
        state, reason_code, reason: of the tracker's status at this stamp; of the last one before it where the cloud
            was not judged (``judged`` False: superseded by a newer one, or the tracker was not ready).
        published: poses with exactly this stamp arrived on TF.
        age_ms: arrival of the poses at the listener minus the stamp; None without poses.
        visible_fraction: share of the exposed spine that the camera sees, from the truth; None without a truth.
        errors_mm: level -> errors of its landmarks in mm (target registration error), between pose and truth.
        network_errors_mm: the same for the network's own pose before refinement; empty where none was heard.
        T_camera_levels, T_camera_levels_true: level -> 16 numbers, row-major, metres.
        repeats: further messages with poses for this stamp (0 in a correct run).
        late: the poses were first heard when they were no longer waited for.
        unknown: poses at a stamp at which the camera sent no cloud (0 such rows in a correct run).
        latency_ms, stages_ms: as the tracker says them, milliseconds.
    """

    t: float
    stamp_ns: int
    state: str
    reason_code: str = ""
    reason: str = ""
    judged: bool = False
    published: bool = False
    age_ms: float | None = None
    visible_fraction: float | None = None
    errors_mm: dict[str, list[float]] = field(default_factory=dict)
    T_camera_levels: dict[str, list[float]] = field(default_factory=dict)
    T_camera_levels_true: dict[str, list[float]] = field(default_factory=dict)
    repeats: int = 0
    late: bool = False
    unknown: bool = False
    latency_ms: float | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    network_errors_mm: dict[str, list[float]] = field(default_factory=dict)

    def tre_mm(self) -> float | None:
        """Median error over all landmarks, mm."""
        return _median_mm(self.errors_mm)

    def network_tre_mm(self) -> float | None:
        """The same for the network's own pose."""
        return _median_mm(self.network_errors_mm)

    def level_tre_mm(self) -> dict[str, float]:
        """Level -> mean error of its landmarks, mm."""
        return {level: float(np.mean(errors)) for level, errors in self.errors_mm.items() if errors}

    def worst_level_mm(self) -> float | None:
        """Mean landmark error of the worst vertebra, mm: the figure by which a pose is called false."""
        return max(self.level_tre_mm().values(), default=None)


def landmark_errors_mm(
    T_camera_level: Array, T_camera_level_true: Array, landmarks_level: Array
) -> list[float]:
    """Distances in mm between landmarks (K, 3) (metres, vertebra frame) under the estimated and the true pose."""
    difference = se3.apply(T_camera_level, landmarks_level) - se3.apply(T_camera_level_true, landmarks_level)
    return [float(d) for d in 1000.0 * np.linalg.norm(difference, axis=1)]


def to_line(row: FrameRow) -> str:
    """One JSON line (no newline), short floats; not-a-number becomes null."""
    return json.dumps({"kind": "frame", **_clean(asdict(row))}, allow_nan=False, separators=(",", ":"))


def from_dict(data: dict[str, Any]) -> FrameRow:
    """The row of a decoded line; unknown keys are left out."""
    names = FrameRow.__dataclass_fields__
    return FrameRow(**{key: value for key, value in data.items() if key in names})


def latest(rows: Iterable[FrameRow]) -> list[FrameRow]:
    """Rows by stamp. Of several rows for a cloud the last one holds: it knows of poses that came late or again.

    A row without a cloud never takes the place of a cloud's row.
    """
    kept: dict[tuple[int, bool], FrameRow] = {}
    for row in rows:
        kept[row.stamp_ns, row.unknown] = row
        if not row.unknown:
            kept.pop((row.stamp_ns, True), None)
    return sorted(kept.values(), key=lambda row: row.stamp_ns)


def read_rows(path: Path) -> list[FrameRow]:
    """All frame rows of a log, as ``latest``. A line cut off at the end (a killed listener) is left out.

    Raises:
        FileNotFoundError: no such file.
    """
    rows = []
    for line in path.read_text().splitlines():
        try:
            data = json.loads(line)
        except json.JSONDecodeError:
            continue
        if data.get("kind") == "frame":
            rows.append(from_dict(data))
    return latest(rows)


def write_rows(path: Path, rows: Iterable[FrameRow]) -> None:
    """Write a log."""
    path.write_text("".join(to_line(row) + "\n" for row in rows))


def _median_mm(errors_mm: dict[str, list[float]]) -> float | None:
    errors = [e for level in errors_mm.values() for e in level]
    return float(np.median(errors)) if errors else None


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    if isinstance(value, float):
        return round(value, 9) if np.isfinite(value) else None
    return value
