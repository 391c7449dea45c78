"""Files of an offline run: TUM trajectories, one CSV line a frame, times, a summary.

A recording gives the same bytes on every run but for ``timings.csv`` and the summary's ``latency_ms``.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from end2reg_ros.apps.track.run import FrameRecord
from end2reg_ros.evaluation.spread import percentiles
from end2reg_ros.evaluation.tables import finite
from end2reg_ros.se3 import apply, inverse, quaternion_from_rotation
from end2reg_ros.tracking.types import State

COLUMNS = (
    "stamp_s", "state", "reason_code", "reason", "points", "inlier_ratio", "visible_fraction",
    "free_space_violation", "residual_rmse_mm", "inliers", "normal_agreement", "mask_fraction",
    "position_stddev_mm", "rotation_stddev_deg", "held", "network_distance_mm",
)  # fmt: skip


def write_track(
    folder: Path,
    records: Sequence[FrameRecord],
    complete: bool = True,
    about: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write ``trajectory.tum``, ``trajectory_<level>.tum``, ``frames.csv``, ``timings.csv`` and ``summary.json``.

    TUM lines: stamp in seconds, x y z in metres, quaternion x y z w; ``trajectory.tum`` is T_camera_model, the others
    T_camera_level. Only published poses are in them. ``complete``: whether the records reach the recording's end;
    ``about``: what was run, for the beginning of the summary; ``more``: what else is known, for its end. Returns the summary.
    """
    folder.mkdir(parents=True, exist_ok=True)
    poses: dict[str, list[str]] = {"trajectory": []}
    for record in records:
        update = record.update
        if update is None or not update.published or update.registration is None:
            continue
        poses["trajectory"].append(tum_line(record.stamp_ns, update.registration.T_camera_model))
        for level in update.registration.levels:
            poses.setdefault(f"trajectory_{level.level}", []).append(
                tum_line(record.stamp_ns, level.T_camera_level)
            )
    for name, lines in poses.items():
        (folder / f"{name}.tum").write_text("".join(lines))
    apart = network_distances_mm(records)
    with (folder / "frames.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(csv_row(record, apart.get(record.stamp_ns)) for record in records)
    write_timings(folder / "timings.csv", records)
    summary = {**(about or {}), **summarise(records), "complete": complete, **(more or {})}
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def tum_line(stamp_ns: int, T: np.ndarray) -> str:
    """One line of a TUM trajectory."""
    numbers = [*T[:3, 3], *quaternion_from_rotation(T[:3, :3])]
    return f"{seconds_text(stamp_ns)} " + " ".join(f"{v:.9f}" for v in numbers) + "\n"


def csv_row(record: FrameRecord, apart_mm: float | None = None) -> list[Any]:
    """Values of ``COLUMNS`` for one frame; ``apart_mm`` of ``network_distances_mm``."""
    stamp, update = seconds_text(record.stamp_ns), record.update
    row: list[Any] = [stamp, "", f"dropped:{record.dropped}", "", 0]
    if update is not None:
        row = [stamp, update.state.name, update.reason_code, update.reason, record.points]
    if update is None or update.registration is None:
        return row + [""] * (len(COLUMNS) - len(row))
    q = update.registration.quality
    figures = [q.inlier_ratio, q.visible_fraction, q.free_space_violation, 1000 * q.residual_rmse_m]
    row += [*(f"{v:.4f}" for v in figures), q.inliers, f"{q.normal_agreement:.4f}", f"{q.mask_fraction:.4f}"]
    position_m, rotation_rad = record.stddevs or (np.nan, np.nan)
    held = " ".join(level.level for level in update.registration.levels if level.held)
    apart = "" if apart_mm is None else f"{apart_mm:.3f}"
    return [*row, f"{1000 * position_m:.3f}", f"{np.degrees(rotation_rad):.3f}", held, apart]


def write_timings(path: Path, records: Sequence[FrameRecord]) -> None:
    """Milliseconds of every stage of every frame, and their sum; these differ from run to run."""
    times = [(r.stamp_ns, r.update.timings_ms) for r in records if r.update is not None]
    stages = list(dict.fromkeys(name for _, stage_ms in times for name in stage_ms))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["stamp_s", "latency_ms", *stages])
        for stamp_ns, stage_ms in times:
            told = [f"{stage_ms[name]:.2f}" if name in stage_ms else "" for name in stages]
            writer.writerow([seconds_text(stamp_ns), f"{sum(stage_ms.values()):.1f}", *told])


def seconds_text(stamp_ns: int) -> str:
    """Seconds with every nanosecond: a float would round them."""
    return f"{stamp_ns // 1_000_000_000}.{stamp_ns % 1_000_000_000:09d}"


def network_distances_mm(records: Sequence[FrameRecord]) -> dict[int, float]:
    """Stamp of a cloud with a published pose -> how far refinement moved the network's own pose of that cloud, mm.

    The largest distance of a vertebra's origin. No error: without the truth nobody knows which of the two is nearer to it.
    The network may have spoken of a cloud some frames later: the two are paired by its stamp.
    """
    updates = [(r.stamp_ns, r.update) for r in records if r.update is not None]
    found = {stamp: u.registration for stamp, u in updates if u.registration is not None}
    published = {stamp: found[stamp] for stamp, u in updates if u.published and stamp in found}
    distances: dict[int, float] = {}
    for stamp, registration in found.items():
        if registration.network is None:
            continue
        seen = registration.network.stamp_ns or stamp
        refined = published.get(seen)
        if refined is not None and refined.levels:
            origins = np.stack([level.T_camera_level[:3, 3] for level in refined.levels])
            alone = apply(registration.network.T_camera_model @ inverse(refined.T_camera_model), origins)
            distances[seen] = float(1000.0 * np.linalg.norm(alone - origins, axis=1).max())
    return distances


def summarise(records: Sequence[FrameRecord]) -> dict[str, Any]:
    """Counts that add up (received = processed + dropped by reason), states, percentiles.

    ``network_distance_mm``: of the published poses, how far refinement moved the network's own ones; absent from the
    classical methods' summary.
    """
    updates = [r.update for r in records if r.update is not None]
    dropped = Counter(r.dropped for r in records if r.dropped is not None)
    latency = [sum(u.timings_ms.values()) for u in updates if u.timings_ms]
    apart = list(network_distances_mm(records).values())
    networks = [u.registration.network for u in updates if u.registration is not None]
    return {
        "clouds_received": len(records),
        "clouds_processed": len(updates),
        "dropped": dict(dropped),
        "restarts": dict(Counter(r.restart for r in records if r.restart is not None)),
        "poses_published": sum(u.published for u in updates),
        "frames_by_state": {s.name: sum(u.state is s for u in updates) for s in State},
        "reasons": dict(Counter(u.reason_code for u in updates)),
        "state_changes": sum(u.changed for u in updates),
        "latency_ms": finite(percentiles(latency, 1)),
        **({"network_distance_mm": finite(percentiles(apart, 3))} if apart else {}),
        "cells_truncated": sum(network.cells_truncated for network in networks if network is not None),
    }
