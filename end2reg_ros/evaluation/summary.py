"""Figures of a group of trials: one method with one prior on one region."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from end2reg_ros.evaluation.benchmark import Trial
from end2reg_ros.evaluation.metrics import SUCCESS_MM, WRONG_MM
from end2reg_ros.evaluation.spread import Spread, share, spread, success_interval


@dataclass(frozen=True)
class Accuracy:
    """Errors over a set of trials; spreads are over scenes, TRE being a scene's mean over its landmarks.

    Attributes:
        trials: in the set; ``poses`` of them with a finite pose, over which everything else is told.
        landmark_outliers: share of all single landmarks above 10 mm.
        success: share of all trials with TRE below 2, 3, 5 mm.
    """

    trials: int
    poses: int
    tre_mm: Spread
    level_pose_tre_mm: Spread
    landmark_outliers: float
    success: dict[float, float]
    rmse_mm: Spread
    mean_distance_mm: Spread
    rre_deg: Spread
    rte_mm: Spread
    level_slips: int
    level_tre_mm: dict[str, Spread]


@dataclass(frozen=True)
class MisalignmentBin:
    """Success of the trials whose prior was about as far off.

    Attributes:
        initial_tre_mm: TRE of their priors.
        success: share of them with TRE below 2, 3, 5 mm.
        interval: 95 % interval of each share.
    """

    initial_tre_mm: Spread
    success: dict[float, float]
    interval: dict[float, tuple[float, float]]


@dataclass(frozen=True)
class GroupSummary:
    """One method with one prior on one region.

    Attributes:
        all: every trial, whatever the method says of itself.
        reported: those that the method reports as success: what a user would get.
        wrong_reported: of these, how many have a vertebra more than 10 mm off (mean of its landmarks), or no pose at
            all. The dangerous ones.
        by_misalignment: success against the initial misalignment; empty without a prior.
        reasons: reason code -> trials.
    """

    method: str
    prior: str
    region: str
    all: Accuracy
    reported: Accuracy
    wrong_reported: int
    initial_tre_mm: Spread
    by_misalignment: list[MisalignmentBin]
    wall_ms: Spread
    reasons: dict[str, int]


def summarise_group(trials: Sequence[Trial]) -> GroupSummary:
    """Summary of the trials of one method, prior and region; at least one."""
    reported = [trial for trial in trials if trial.success]
    # The worst vertebra, not the scene's mean: a mean of 8 mm can hide one that is 12 mm off.
    wrong = [t for t in reported if t.errors is None or t.errors.worst_level_mm > WRONG_MM]
    return GroupSummary(
        method=trials[0].method,
        prior=trials[0].prior,
        region=trials[0].region,
        all=accuracy(trials),
        reported=accuracy(reported),
        wrong_reported=len(wrong),
        initial_tre_mm=spread(t.initial_tre_mm for t in trials if t.initial_tre_mm is not None),
        by_misalignment=misalignment_bins(trials),
        wall_ms=spread(trial.wall_ms for trial in trials),
        reasons=dict(Counter(trial.reason_code for trial in trials).most_common()),
    )


def summarise(trials: Sequence[Trial]) -> list[GroupSummary]:
    """Summaries by region, method and prior, in the order of their first trials."""
    groups: dict[tuple[str, str, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.region, trial.method, trial.prior), []).append(trial)
    return [summarise_group(group) for group in groups.values()]


def misalignment_bins(trials: Sequence[Trial]) -> list[MisalignmentBin]:
    """Success by initial misalignment, in at most 8 bins of equal count: bins of equal width are empty at the ends."""
    known = [(t.initial_tre_mm, t) for t in trials if t.initial_tre_mm is not None]
    known.sort(key=lambda pair: pair[0])
    bins = []
    for members in np.array_split(np.arange(len(known)), max(1, min(8, len(known) // 4))):
        if not len(members):
            continue
        errors = [known[i][1].errors for i in members]
        hits = {x: sum(e is not None and e.mean_tre_mm < x for e in errors) for x in SUCCESS_MM}
        count = len(members)
        bins.append(
            MisalignmentBin(
                initial_tre_mm=spread(known[i][0] for i in members),
                success={x: n / count for x, n in hits.items()},
                interval={x: success_interval(n, count) for x, n in hits.items()},
            )
        )
    return bins


def accuracy(trials: Sequence[Trial]) -> Accuracy:
    """Errors of a set of trials."""
    errors = [trial.errors for trial in trials if trial.errors is not None]
    scene_tre = [e.mean_tre_mm for e in errors]
    single = np.concatenate([np.zeros(0), *(v for e in errors for v in e.tre_mm.values())])
    by_level: dict[str, list[float]] = {}
    for e in errors:
        for level, values in e.tre_mm.items():
            by_level.setdefault(level, []).append(float(values.mean()))
    below = {limit: sum(tre < limit for tre in scene_tre) for limit in SUCCESS_MM}
    return Accuracy(
        trials=len(trials),
        poses=len(errors),
        tre_mm=spread(scene_tre),
        level_pose_tre_mm=spread(t.level_errors.mean_tre_mm for t in trials if t.level_errors is not None),
        landmark_outliers=share(single > WRONG_MM),
        success={limit: hits / len(trials) if trials else float("nan") for limit, hits in below.items()},
        rmse_mm=spread(e.rmse_mm for e in errors),
        mean_distance_mm=spread(e.mean_distance_mm for e in errors),
        rre_deg=spread(e.rre_deg for e in errors),
        rte_mm=spread(e.rte_mm for e in errors),
        level_slips=sum(e.level_slip != 0 for e in errors),
        level_tre_mm={level: spread(values) for level, values in by_level.items()},
    )
