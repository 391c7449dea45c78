"""Figures of a stream of tracked frames against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.evaluation.metrics import WRONG_MM, Pose, PoseErrors, Targets, level_transform, pose_errors
from end2reg_ros.evaluation.spread import Spread, spread
from end2reg_ros.se3 import apply
from end2reg_ros.tracking.types import PUBLISHING_STATES, State


@dataclass(frozen=True)
class StreamFrame:
    """One cloud of a stream.

    Attributes:
        stamp_ns: the sensor's stamp.
        state: of the tracker after this cloud.
        pose: what was published for this cloud, or None.
        truth: where the spine was.
        visible: whether any of the spine was in view.
        age_ms: time from the sensor's stamp to the pose's arrival; None where it was not measured.
        at_rest: whether neither camera nor spine moved since the frame before (for jitter).
    """

    stamp_ns: int
    state: State
    pose: Pose | None
    truth: Pose
    visible: bool = True
    age_ms: float | None = None
    at_rest: bool = False


@dataclass(frozen=True)
class StreamFigures:
    """Figures of a stream; times in seconds by the sensor's stamps, NaN or empty where there was nothing to measure.

    Attributes:
        frames, visible_frames, published: counts.
        availability: share of the visible frames with a published pose.
        time_to_first_pose_s: from the first visible frame to the first published pose.
        reacquisition_s: for every time the spine came back into view, and for every loss while it was in view: from
            then to the next published pose.
        never_reacquired: such times that the stream ended without a pose.
        tre_mm: over the landmarks of all published poses.
        outlier_share: share of these above 10 mm.
        jitter_mm: root mean square 3-D distance of the published landmark positions from their mean, over stretches at
            rest of at least three poses.
        age_ms: of the published poses; p50, p95 and p99 as ``age_percentiles_ms``.
        level_slips: published poses that are a level or more off.
        blind_poses: published while nothing of the spine was in view; must be 0.
        false_poses: published with a vertebra more than 10 mm off; ``false_tracking`` those in TRACKING, must be 0.
    """

    frames: int
    visible_frames: int
    published: int
    availability: float
    time_to_first_pose_s: float
    reacquisition_s: tuple[float, ...]
    never_reacquired: int
    tre_mm: Spread
    outlier_share: float
    jitter_mm: float
    age_percentiles_ms: tuple[float, float, float]
    level_slips: int
    blind_poses: int
    false_poses: int
    false_tracking: int


def stream_figures(frames: Sequence[StreamFrame], targets: Targets) -> StreamFigures:
    """Figures of a stream in the order of its stamps. A pose in a state that publishes none is still counted."""
    published = [frame for frame in frames if frame.pose is not None]
    errors = [pose_errors(frame.pose, frame.truth, targets) for frame in published if frame.pose is not None]
    tre = np.concatenate([np.zeros(0), *(_all_tre(e) for e in errors)])
    visible = [frame for frame in frames if frame.visible]
    ages = [frame.age_ms for frame in published if frame.age_ms is not None]
    p50, p95, p99 = (float(v) for v in np.percentile(ages, [50, 95, 99])) if ages else (float("nan"),) * 3
    waits, never = _reacquisitions(frames)
    wrong = [
        frame.state for frame, error in zip(published, errors, strict=True) if error.worst_level_mm > WRONG_MM
    ]
    return StreamFigures(
        frames=len(frames),
        visible_frames=len(visible),
        published=len(published),
        availability=_ratio(sum(frame.pose is not None for frame in visible), len(visible)),
        time_to_first_pose_s=_first_pose_s(frames),
        reacquisition_s=waits,
        never_reacquired=never,
        tre_mm=spread(tre),
        outlier_share=_ratio(int((tre > WRONG_MM).sum()), tre.size),
        jitter_mm=_jitter_mm(frames, targets),
        age_percentiles_ms=(p50, p95, p99),
        level_slips=sum(error.level_slip != 0 for error in errors),
        blind_poses=sum(not frame.visible for frame in published),
        false_poses=len(wrong),
        false_tracking=sum(state == State.TRACKING for state in wrong),
    )


def _all_tre(errors: PoseErrors) -> NDArray[np.float64]:
    return np.concatenate(list(errors.tre_mm.values()))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _first_pose_s(frames: Sequence[StreamFrame]) -> float:
    seen = next((frame.stamp_ns for frame in frames if frame.visible), None)
    posed = next((frame.stamp_ns for frame in frames if frame.pose is not None), None)
    return float("nan") if seen is None or posed is None else (posed - seen) / 1e9


def _reacquisitions(frames: Sequence[StreamFrame]) -> tuple[tuple[float, ...], int]:
    """Waits for a pose after the first one, and how many of them the stream's end cut off."""
    waits: list[float] = []
    waiting_since: int | None = None
    had_pose = False
    for frame in frames:
        if frame.pose is not None:
            if waiting_since is not None:
                waits.append((frame.stamp_ns - waiting_since) / 1e9)
            waiting_since, had_pose = None, True
        elif had_pose and not frame.visible:
            waiting_since = None  # nothing to find: the wait begins when the spine is back
        elif had_pose and waiting_since is None:
            waiting_since = frame.stamp_ns
    return tuple(waits), int(waiting_since is not None)


def _jitter_mm(frames: Sequence[StreamFrame], targets: Targets) -> float:
    stretches: list[list[NDArray[np.float64]]] = [[]]
    for frame in frames:
        if not frame.at_rest:
            stretches.append([])
        if frame.pose is not None and frame.state in PUBLISHING_STATES:
            pose = frame.pose
            places = [apply(level_transform(pose, n, targets), p) for n, p in targets.landmarks.items()]
            stretches[-1].append(np.concatenate(places))
    squares: list[NDArray[np.float64]] = []
    for stretch in stretches:
        if len(stretch) >= 3:
            rest = np.stack(stretch)
            squares.append((np.linalg.norm(rest - rest.mean(axis=0), axis=-1) ** 2).ravel())
    return float(1000.0 * np.sqrt(np.concatenate(squares).mean())) if squares else float("nan")
