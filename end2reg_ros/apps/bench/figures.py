"""From what every frame cost to the figures of a method: percentiles of stages, poses, failures, error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from end2reg_ros.apps.bench.input import StoredFrame
from end2reg_ros.apps.bench.runner import TimedFrame, TimedRegistration
from end2reg_ros.evaluation.figures import StreamFigures, stream_figures
from end2reg_ros.evaluation.metrics import (
    WRONG_MM,
    Pose,
    PoseErrors,
    Targets,
    landmark_errors,
    level_slip,
    pose_errors,
)
from end2reg_ros.evaluation.rows import CloudRow
from end2reg_ros.evaluation.spread import Spread, percentiles, spread

# The stages as they are told, in order; what a method calls otherwise keeps its own name, before ``other``.
STAGES = ("decode", "regions", "crop", "tables", "crop and tables", "network", "search", "refine", "judge", "refine and judge",
          "waiting for the network", "second fit", "other")  # fmt: skip
# Where a frame waits for the network, that ran side by side with what comes before the wait.
WAIT = "waiting for the network"
BESIDE = ("network",)
# What was done since an earlier frame while others went through: no part of any frame's time.
BACKGROUND = " (background)"
OF_NETWORK = ("crop", "tables", "crop and tables", "network")
STAGE_OF = {
    "thin": "crop",
    "ransac": "search",
    "kiss_matcher": "search",
    "quality": "judge",
    "rivals": "judge",
}


def stages_of(timings_ms: Mapping[str, float], total_ms: float) -> dict[str, float]:
    """Stage -> milliseconds of one frame.

    ``other`` is what no stage accounts for, so that they add up to the total, those side by side with others left out.
    """
    stages: dict[str, float] = {}
    for name, ms in timings_ms.items():
        stage = STAGE_OF.get(name, name)
        stages[stage] = stages.get(stage, 0.0) + ms
    beside = side_by_side(stages)
    stages["other"] = max(0.0, total_ms - sum(ms for stage, ms in stages.items() if stage not in beside))
    return stages


def side_by_side(stages: Iterable[str]) -> tuple[str, ...]:
    """Those of a frame's stages that ran beside the others."""
    names = list(stages)
    beside = BESIDE if WAIT in names else ()
    return tuple(name for name in names if name in beside or name.endswith(BACKGROUND))


def stage_percentiles(
    rows: Sequence[TimedFrame] | Sequence[TimedRegistration],
) -> dict[str, dict[str, float]]:
    """Stage -> percentiles over all rows (0 where a stage did not run), and in how many ``frames`` it ran.

    Of what ran in the background: over the frames that it was ready for.
    """
    each = [stages_of(row.timings_ms, row.total_ms) for row in rows]
    names = {name for stages in each for name in stages}
    ordered = [name for name in STAGES if name in names]
    ordered[-1:-1] = sorted(names - set(STAGES))  # before ``other``
    return {
        name: percentiles(
            stages.get(name, 0.0) for stages in each if name in stages or not name.endswith(BACKGROUND)
        )
        | {"frames": float(sum(name in stages for stages in each))}
        for name in ordered
    }


def cost(rows: Sequence[TimedFrame] | Sequence[TimedRegistration]) -> dict[str, Any]:
    """Time and processor time of some rows."""
    total = sum(row.total_ms for row in rows)
    return {
        "frames": len(rows),
        "total_ms": percentiles(row.total_ms for row in rows),
        "cpu_ms": percentiles(row.cpu_ms for row in rows),
        "stages_ms": stage_percentiles(rows),
        "side_by_side": list(dict.fromkeys(name for row in rows for name in side_by_side(row.timings_ms))),
        "frames_per_s": 1e3 * len(rows) / total if total > 0 else None,
        "cores_used": sum(row.cpu_ms for row in rows) / total if total > 0 else None,
    }


def stream_document(
    rows: Sequence[TimedFrame], frames: Sequence[StoredFrame], targets: Targets
) -> dict[str, Any]:
    """One method's stream: its cost while it follows and while it searches, poses, failures, error."""
    seen = {frame.stamp_ns: frame for frame in frames}
    figures = stream_figures(
        [stream_frame(row, frame, targets, seen) for row, frame in zip(rows, frames, strict=True)]
    )
    failed = Counter(row.reason_code for row in rows if not row.published)
    return {
        "frames": figures.frames,
        "poses": figures.published,
        "failures": dict(failed.most_common()),
        "followed": cost([row for row in rows if row.followed]),
        "searched": cost([row for row in rows if not row.followed]),
        "network": network_document(rows, figures),
        "accuracy": {
            **spread_document(figures.tre_mm),
            "over_10mm": figures.outliers,
            "availability": figures.availability,
            "wrong_poses": figures.false_poses,
            "wrong_in_tracking": figures.false_tracking,
            "level_slips": figures.level_slips,
            "blind_poses": figures.blind_poses,
        },
    }


def network_document(rows: Sequence[TimedFrame], figures: StreamFigures) -> dict[str, Any]:
    """The network's own poses beside the published ones: how many, their time and error, and that of the same, refined."""
    spent = []
    for row in rows:
        laps = {name.removesuffix(BACKGROUND): ms for name, ms in row.timings_ms.items()}
        if row.followed and "network" in laps:
            spent.append(sum(laps.get(name, 0.0) for name in OF_NETWORK))
    return {
        "poses": figures.compared_twice,
        "total_ms": percentiles(spent),
        "accuracy": spread_document(figures.network_tre_mm),
        "accuracy_refined": spread_document(figures.refined_tre_mm),
    }


def spread_document(tre: Spread) -> dict[str, float]:
    """TRE in mm."""
    return {
        "tre_median_mm": tre.median,
        "tre_q1_mm": tre.q1,
        "tre_q3_mm": tre.q3,
        "tre_p95_mm": tre.p95,
        "tre_max_mm": tre.maximum,
    }


def stream_frame(
    row: TimedFrame, frame: StoredFrame, targets: Targets, seen: Mapping[int, StoredFrame]
) -> CloudRow:
    """One frame against the truth; the network's pose against that of the frame that it saw (``seen``, by stamp)."""
    errors_mm: dict[str, list[float]] = {}
    network_mm: dict[str, list[float]] = {}
    slip = 0
    if row.published and row.T_camera_model is not None:
        truth = Pose(frame.T_camera_model, frame.T_camera_levels)
        shown = seen.get(row.network_stamp_ns)
        if row.T_network is not None and shown is not None:
            then = Pose(shown.T_camera_model, shown.T_camera_levels)
            network_mm = landmark_errors(Pose(row.T_network), then, targets)
        found = Pose(row.T_camera_model, row.T_camera_levels)
        errors_mm, slip = landmark_errors(found, truth, targets), level_slip(found, truth, targets)
    return CloudRow(
        1e-9 * frame.stamp_ns,
        frame.stamp_ns,
        row.state.name,
        row.reason_code,
        published=row.published,
        visible_fraction=frame.visible_fraction,
        errors_mm=errors_mm,
        network_errors_mm=network_mm,
        slip=slip,
    )


def starts_document(
    rows: Sequence[TimedRegistration], views: Sequence[StoredFrame], targets: Targets
) -> dict[str, Any]:
    """One method's registrations from nothing: cost, what it reports, and what of that is right."""
    errors = [view_errors(row, view, targets) for row, view in zip(rows, views, strict=True)]
    reported = [e for row, e in zip(rows, errors, strict=True) if row.success and e is not None]
    found = spread(e.mean_tre_mm for e in errors if e is not None)
    return {
        **cost(rows),
        "reported": sum(row.success for row in rows),
        "right": sum(e.worst_level_mm <= WRONG_MM for e in reported),
        "reasons": dict(Counter(row.reason_code for row in rows).most_common()),
        "accuracy": spread_document(found),
        "accuracy_reported": spread_document(spread(e.mean_tre_mm for e in reported)),
    }


def view_errors(row: TimedRegistration, view: StoredFrame, targets: Targets) -> PoseErrors | None:
    """Of the pose of a registration from nothing, reported or not."""
    if row.T_camera_model is None:
        return None
    truth = Pose(view.T_camera_model, view.T_camera_levels)
    return pose_errors(Pose(row.T_camera_model), truth, targets)
