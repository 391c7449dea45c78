"""Figures of streams of tracked clouds against the truth: the one definition, whoever made the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.evaluation.metrics import WRONG_MM
from end2reg_ros.evaluation.rows import PUBLISHING, CloudRow, joined, origins
from end2reg_ros.evaluation.spread import Spread, percentiles, share, spread

Array = NDArray[np.float64]
Run = Sequence[CloudRow]
CLEAR_VIEW = 0.5  # from this share of the exposed spine in view on a loss must not last
FORBIDDEN = ("false_poses", "blind_poses", "level_slips", "uncompared_poses")  # figures that must be 0


@dataclass(frozen=True)
class StreamFigures:
    """Figures of one stream, or of several taken together; times by the sensor's stamps, NaN or empty where there is nothing.

    Attributes:
        runs, frames, judged, in_view, published: counts.
        found: share of the runs with at least one pose.
        availability: share of the frames in view with a published pose, from each run's first pose on.
        availability_judged: of these frames, only the judged ones (what the tracker decided, not how fast it is).
        availability_from_start: over all frames in view.
        time_to_first_pose_s: from the first frame in view to the first published pose; median over the runs with both.
        reacquisition_s: one for each loss: from the first frame in view to the next published pose. A loss begins with
            the first judged frame without a pose after one with a pose.
        reacquisition_heard_s: to the moment at which that pose was there: with its age.
        never_reacquired: losses with the spine in view again that a run's end left without a pose.
        unserved_s: longest stretch after a run's last pose in which at least half of the spine was in view all the time.
        tre_mm: over the landmarks of all published poses, of the vertebrae's own poses.
        outliers: share of these above 10 mm.
        jitter_mm: root mean square 3-D distance of the published vertebra origins from their mean, over stretches at
            rest of at least three poses.
        pose_age_ms: p50, p95 and p99 of the published poses' age.
        level_slips: published poses that are a level or more off.
        blind_poses: published while nothing of the spine was in view; must be 0.
        uncompared_poses: published without a truth to compare with; must be 0.
        false_poses: published with a vertebra more than 10 mm off; ``false_tracking`` those in TRACKING, must be 0.
        repeated_poses: further messages for a stamp already published; must be 0.
        unknown_poses: messages with poses at a stamp at which no cloud was sent, in no other figure; must be 0.
        late_poses: of the published ones, those first heard when they were no longer waited for.
        compared_twice: published poses of which the network's own pose before refinement is known, too.
        network_tre_mm, refined_tre_mm: over the landmarks of these, before and after refinement.
    """

    runs: int
    frames: int
    judged: int
    in_view: int
    published: int
    found: float
    availability: float
    availability_judged: float
    availability_from_start: float
    time_to_first_pose_s: float
    reacquisition_s: tuple[float, ...]
    reacquisition_heard_s: tuple[float, ...]
    never_reacquired: int
    unserved_s: float
    tre_mm: Spread
    outliers: float
    jitter_mm: float
    pose_age_ms: tuple[float, ...]
    level_slips: int
    blind_poses: int
    uncompared_poses: int
    false_poses: int
    false_tracking: int
    repeated_poses: int
    unknown_poses: int
    late_poses: int
    compared_twice: int
    network_tre_mm: Spread
    refined_tre_mm: Spread

    @property
    def clean(self) -> bool:
        """Nothing was published that must not be: no pose that is false, blind, a level off or without a truth."""
        return not any(getattr(self, name) for name in FORBIDDEN)


def stream_figures(*heard: Run) -> StreamFigures:
    """Figures over the rows of some runs, each in the order of its stamps.

    A pose in a state that publishes none is still counted.
    """
    runs = [[row for row in run if not row.unknown] for run in heard]
    rows = [row for run in runs for row in run]
    published = [row for row in rows if row.published]
    tre = joined(row.errors_mm for row in published if row.compared)
    twice = [row for row in published if row.compared_twice]
    viewed = [row for row in rows if row.in_view]
    expected = [row for run in runs for row in from_first_pose(run) if row.in_view]
    waits = [loss for run in runs for loss in losses(run)]
    back = [loss for loss in waits if loss.found is not None]
    first = [seconds for run in runs if np.isfinite(seconds := _first_pose_s(run))]
    return StreamFigures(
        runs=len(runs),
        frames=len(rows),
        judged=sum(row.judged for row in rows),
        in_view=len(viewed),
        published=len(published),
        found=share(any(row.published for row in run) for run in runs),
        availability=share(row.published for row in expected),
        availability_judged=share(row.published for row in expected if row.judged),
        availability_from_start=share(row.published for row in viewed),
        time_to_first_pose_s=float(np.median(first)) if first else float("nan"),
        reacquisition_s=tuple(loss.wait_s for loss in back),
        reacquisition_heard_s=tuple(loss.heard_s for loss in back),
        never_reacquired=len(waits) - len(back),
        unserved_s=max((_unserved_s(run) for run in runs), default=0.0),
        tre_mm=spread(tre),
        outliers=share(tre > WRONG_MM),
        jitter_mm=_jitter_mm(runs),
        pose_age_ms=tuple(percentiles(r.age_ms for r in published if r.age_ms is not None).values()),
        level_slips=sum(row.level_slip != 0 for row in published),
        blind_poses=sum(row.blind for row in published),
        uncompared_poses=sum(not row.compared for row in published),
        false_poses=sum(row.false_pose for row in published),
        false_tracking=sum(row.false_pose and row.state == "TRACKING" for row in published),
        repeated_poses=sum(row.repeats for run in heard for row in run),
        unknown_poses=sum(row.unknown for run in heard for row in run),
        late_poses=sum(row.late for row in rows),
        compared_twice=len(twice),
        network_tre_mm=spread(joined(row.network_errors_mm for row in twice)),
        refined_tre_mm=spread(joined(row.errors_mm for row in twice)),
    )


def from_first_pose(run: Run) -> Run:
    """The rows from the first published pose on."""
    return run[next((k for k, row in enumerate(run) if row.published), len(run)) :]


@dataclass(frozen=True)
class Loss:
    """A lost track with the spine in view: from the first cloud that shows it to the next published pose.

    Attributes:
        since: the first cloud in view after the loss.
        found: the cloud with the next pose; None where the stream ended before.
    """

    since: CloudRow
    found: CloudRow | None

    @property
    def wait_s(self) -> float:
        """By the sensor's stamps; infinite without a pose."""
        return float("inf") if self.found is None else (self.found.stamp_ns - self.since.stamp_ns) / 1e9

    @property
    def heard_s(self) -> float:
        """Until the pose was there, with its age; infinite without a pose."""
        return self.wait_s + 1e-3 * ((self.found and self.found.age_ms) or 0.0)


def losses(run: Run) -> list[Loss]:
    """Losses after the first pose; one that nothing of the spine was in view after until the stream's end is none."""
    told: list[Loss] = []
    since: CloudRow | None = None
    had_pose = lost = False
    for row in run:
        if row.published:
            if since is not None:
                told.append(Loss(since, row))
            had_pose, lost, since = True, False, None
            continue
        lost = lost or (had_pose and row.judged and row.state not in PUBLISHING)
        if not row.in_view:
            since = None  # nothing to find: the wait begins when the spine is back
        elif lost and since is None:
            since = row
    return told if since is None else [*told, Loss(since, None)]


def _first_pose_s(run: Run) -> float:
    seen = next((row.stamp_ns for row in run if row.in_view), None)
    posed = next((row.stamp_ns for row in run if row.published), None)
    return float("nan") if seen is None or posed is None else (posed - seen) / 1e9


def _unserved_s(run: Run) -> float:
    """Not by states: a tracker that fell silent for good has lost the spine, too."""
    last = max((k for k, row in enumerate(run) if row.published), default=-1)
    longest, since = 0.0, None
    for row in run[last + 1 :]:
        clear = row.visible_fraction is not None and row.visible_fraction >= CLEAR_VIEW
        since = None if not clear else row.stamp_ns if since is None else since
        if since is not None:
            longest = max(longest, (row.stamp_ns - since) / 1e9)
    return longest


def _jitter_mm(runs: Sequence[Run]) -> float:
    stretches: list[list[Array]] = []
    for run in runs:
        for k, row in enumerate(run):
            if k == 0 or not row.rests_since(run[k - 1]):
                stretches.append([])
            if row.published and row.T_camera_levels and row.state in PUBLISHING:
                stretches[-1].append(origins(row.T_camera_levels, row.T_camera_levels))
    squares: list[Array] = []
    for stretch in stretches:
        if len(stretch) >= 3 and len({len(places) for places in stretch}) == 1:
            rest = np.stack(stretch)
            squares.append((np.linalg.norm(rest - rest.mean(axis=0), axis=-1) ** 2).ravel())
    return float(1000.0 * np.sqrt(np.concatenate(squares).mean())) if squares else float("nan")
