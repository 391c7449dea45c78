"""Figures of a stream of tracked clouds against the truth: the one definition that demo, bench and report use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.evaluation.metrics import WRONG_MM
from end2reg_ros.evaluation.spread import Spread, spread
from end2reg_ros.tracking.types import PUBLISHING_STATES, State

Array = NDArray[np.float64]
IN_VIEW = 0.2  # a pose is expected from this share of the exposed spine on
CLEAR_VIEW = 0.5  # from this share on a loss must not last
NOTHING_IN_VIEW = 0.01


@dataclass(frozen=True)
class StreamFrame:
    """One cloud of a stream.

    Attributes:
        stamp_ns: the sensor's stamp.
        state: of the tracker after this cloud.
        published: a pose was published for this cloud.
        errors_mm: level -> errors of its landmarks; empty when the pose could not be compared with the truth.
        places_m: (N, 3) origins of the published vertebra frames in the camera frame; empty without a pose.
        level_slip: vertebrae by which the pose is off along the spine, see ``metrics.level_slip``.
        visible_fraction: share of the exposed spine that is in view; None where the truth does not tell.
        judged: the tracker gave a status for this cloud (otherwise it was superseded by a newer one).
        age_ms: time from the sensor's stamp to the pose's arrival; None where it was not measured.
        at_rest: neither camera nor spine moved since the frame before (for jitter).
        network_errors_mm: as ``errors_mm``, of the network's own pose before refinement; empty where there is none.
    """

    stamp_ns: int
    state: State
    published: bool
    errors_mm: Mapping[str, Sequence[float]] = field(default_factory=dict)
    places_m: Array = field(default_factory=lambda: np.zeros((0, 3)))
    level_slip: int = 0
    visible_fraction: float | None = 1.0
    judged: bool = True
    age_ms: float | None = None
    at_rest: bool = False
    network_errors_mm: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def in_view(self) -> bool:
        """Enough of the spine is visible for a pose to be expected."""
        return self.visible_fraction is not None and self.visible_fraction >= IN_VIEW

    @property
    def compared(self) -> bool:
        """A pose with errors, all of them numbers."""
        return self.published and bool(self.errors_mm) and bool(np.isfinite(_joined([self.errors_mm])).all())

    @property
    def compared_twice(self) -> bool:
        """A pose with errors, and the network's own one with errors at the same levels."""
        return self.compared and self.network_errors_mm.keys() == self.errors_mm.keys()

    @property
    def wrong(self) -> bool:
        """A vertebra is more than 10 mm off, by the mean of its landmarks."""
        return self.compared and max(float(np.mean(e)) for e in self.errors_mm.values()) > WRONG_MM


@dataclass(frozen=True)
class StreamFigures:
    """Figures of a stream; times in seconds by the sensor's stamps, NaN or empty where there was nothing to measure.

    Attributes:
        frames, published: counts.
        availability: share of the frames in view with a published pose, from the first pose on.
        availability_judged: the same over the judged frames only (what the tracker decided, not how fast it is).
        time_to_first_pose_s: from the first frame in view to the first published pose.
        reacquisition_s: one for each loss: from the first frame in view to the next published pose. A loss begins with
            the first judged frame without a pose after one with a pose.
        never_reacquired: losses with the spine in view again that the stream's end left without a pose (0 or 1).
        unserved_s: longest stretch after the last pose in which at least half of the spine was in view all the time.
        tre_mm: over the landmarks of all published poses.
        outlier_share: share of these above 10 mm.
        jitter_mm: root mean square 3-D distance of the published vertebra origins from their mean, over stretches at
            rest of at least three poses.
        age_percentiles_ms: p50, p95 and p99 of the published poses' age.
        level_slips: published poses that are a level or more off.
        blind_poses: published while nothing of the spine was in view; must be 0.
        uncompared: published without a truth to compare with; must be 0.
        false_poses: published with a vertebra more than 10 mm off; ``false_tracking`` those in TRACKING, must be 0.
        compared_twice: published poses of which the network's own pose before refinement is known, too.
        network_tre_mm, refined_tre_mm: over the landmarks of these, before and after refinement.
    """

    frames: int
    published: int
    availability: float
    availability_judged: float
    time_to_first_pose_s: float
    reacquisition_s: tuple[float, ...]
    never_reacquired: int
    unserved_s: float
    tre_mm: Spread
    outlier_share: float
    jitter_mm: float
    age_percentiles_ms: tuple[float, float, float]
    level_slips: int
    blind_poses: int
    uncompared: int
    false_poses: int
    false_tracking: int
    compared_twice: int
    network_tre_mm: Spread
    refined_tre_mm: Spread


def stream_figures(frames: Sequence[StreamFrame]) -> StreamFigures:
    """Figures of a stream in the order of its stamps. A pose in a state that publishes none is still counted."""
    published = [frame for frame in frames if frame.published]
    tre = _joined([frame.errors_mm for frame in published if frame.compared])
    twice = [frame for frame in published if frame.compared_twice]
    start = next((k for k, frame in enumerate(frames) if frame.published), len(frames))
    expected = [frame for frame in frames[start:] if frame.in_view]
    judged = [frame for frame in expected if frame.judged]
    ages = [frame.age_ms for frame in published if frame.age_ms is not None]
    p50, p95, p99 = (float(v) for v in np.percentile(ages, [50, 95, 99])) if ages else (float("nan"),) * 3
    waits, never = _reacquisitions(frames)
    return StreamFigures(
        frames=len(frames),
        published=len(published),
        availability=_ratio(sum(frame.published for frame in expected), len(expected)),
        availability_judged=_ratio(sum(frame.published for frame in judged), len(judged)),
        time_to_first_pose_s=_first_pose_s(frames),
        reacquisition_s=waits,
        never_reacquired=never,
        unserved_s=_unserved_s(frames),
        tre_mm=spread(tre),
        outlier_share=_ratio(int((tre > WRONG_MM).sum()), tre.size),
        jitter_mm=_jitter_mm(frames),
        age_percentiles_ms=(p50, p95, p99),
        level_slips=sum(frame.level_slip != 0 for frame in published),
        blind_poses=sum(
            frame.visible_fraction is not None and frame.visible_fraction <= NOTHING_IN_VIEW
            for frame in published
        ),
        uncompared=sum(not frame.compared for frame in published),
        false_poses=sum(frame.wrong for frame in published),
        false_tracking=sum(frame.wrong and frame.state == State.TRACKING for frame in published),
        compared_twice=len(twice),
        network_tre_mm=spread(_joined([frame.network_errors_mm for frame in twice])),
        refined_tre_mm=spread(_joined([frame.errors_mm for frame in twice])),
    )


def _joined(errors_mm: Sequence[Mapping[str, Sequence[float]]]) -> Array:
    """All landmarks' errors of some poses, (N,)."""
    return np.array([e for pose in errors_mm for level in pose.values() for e in level], dtype=np.float64)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _first_pose_s(frames: Sequence[StreamFrame]) -> float:
    seen = next((frame.stamp_ns for frame in frames if frame.in_view), None)
    posed = next((frame.stamp_ns for frame in frames if frame.published), None)
    return float("nan") if seen is None or posed is None else (posed - seen) / 1e9


@dataclass(frozen=True)
class Loss:
    """A lost track with the spine in view: from the first frame that shows it to the next published pose.

    Attributes:
        since: the first frame in view after the loss.
        found: the frame with the next pose; None where the stream ended before.
    """

    since: StreamFrame
    found: StreamFrame | None

    @property
    def wait_s(self) -> float:
        """By the sensor's stamps; infinite without a pose."""
        return float("inf") if self.found is None else (self.found.stamp_ns - self.since.stamp_ns) / 1e9


def losses(frames: Sequence[StreamFrame]) -> list[Loss]:
    """Losses after the first pose; one that nothing of the spine was in view after until the stream's end is none."""
    told: list[Loss] = []
    since: StreamFrame | None = None
    had_pose = lost = False
    for frame in frames:
        if frame.published:
            if since is not None:
                told.append(Loss(since, frame))
            had_pose, lost, since = True, False, None
            continue
        lost = lost or (had_pose and frame.judged and frame.state not in PUBLISHING_STATES)
        if not frame.in_view:
            since = None  # nothing to find: the wait begins when the spine is back
        elif lost and since is None:
            since = frame
    return told if since is None else [*told, Loss(since, None)]


def _reacquisitions(frames: Sequence[StreamFrame]) -> tuple[tuple[float, ...], int]:
    """Waits for a pose after the first one, and how many of them the stream's end cut off."""
    told = losses(frames)
    return tuple(loss.wait_s for loss in told if loss.found is not None), sum(
        loss.found is None for loss in told
    )


def _unserved_s(frames: Sequence[StreamFrame]) -> float:
    """Not by states: a tracker that fell silent for good has lost the spine, too."""
    last = max((k for k, frame in enumerate(frames) if frame.published), default=-1)
    longest, since = 0.0, None
    for frame in frames[last + 1 :]:
        clear = frame.visible_fraction is not None and frame.visible_fraction >= CLEAR_VIEW
        since = None if not clear else frame.stamp_ns if since is None else since
        if since is not None:
            longest = max(longest, (frame.stamp_ns - since) / 1e9)
    return longest


def _jitter_mm(frames: Sequence[StreamFrame]) -> float:
    stretches: list[list[Array]] = [[]]
    for frame in frames:
        if not frame.at_rest:
            stretches.append([])
        if frame.published and len(frame.places_m) and frame.state in PUBLISHING_STATES:
            stretches[-1].append(frame.places_m)
    squares: list[Array] = []
    for stretch in stretches:
        if len(stretch) >= 3 and len({len(places) for places in stretch}) == 1:
            rest = np.stack(stretch)
            squares.append((np.linalg.norm(rest - rest.mean(axis=0), axis=-1) ** 2).ravel())
    return float(1000.0 * np.sqrt(np.concatenate(squares).mean())) if squares else float("nan")
