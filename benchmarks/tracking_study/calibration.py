"""Whether errors are as large as the covariances say: normalised errors, ratios along the spine's axes, shares inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.tracking_study.observer import SPINE, unpacked
from end2reg_ros.evaluation.rows import CloudRow
from end2reg_ros.evaluation.spread import Spread, share, spread

Array = NDArray[np.float64]
AXES = ("left-right", "anterior", "along", "about left-right", "about anterior", "about along")
INSIDE = {0.68: 7.0092, 0.95: 12.5916}  # squared radius of the ellipsoid of 6 degrees of freedom
LEVER_M = 0.1  # turns a rotation's bias into metres, as the refinement does


@dataclass(frozen=True)
class Calibration:
    """Errors against what was told of them.

    Attributes:
        poses: of ``runs`` sequences: poses of one sequence share film, view and so most of their error.
        normalised: e^T C^-1 e / 6 over the poses; 1 on average where C is right.
        mean, run_mean: its mean, over poses and over the runs' means (median): one bad run does not hide the others.
        error: root mean square error along each of ``AXES``, mm and degrees; ``bias``: the mean error; ``told``: root
            mean square of the standard deviation told; ``ratio``: error / told, 1 where it is right.
        inside: share of the poses within the 68 % and the 95 % ellipsoid.
    """

    poses: int
    runs: int
    normalised: Spread
    mean: float
    run_mean: float
    error: tuple[float, ...]
    bias: tuple[float, ...]
    told: tuple[float, ...]
    ratio: tuple[float, ...]
    inside: dict[float, float]


@dataclass(frozen=True)
class Told:
    """(N, 6) errors and (N, 6, 6) covariances of poses, and the number of the run of each (N,)."""

    errors: Array
    covariances: Array
    run: NDArray[np.int64]


def told_by(runs: Sequence[Sequence[CloudRow]], held: bool | None = None) -> dict[str, Told]:
    """``spine`` and levels -> what was told of their poses.

    Args:
        held: only levels that were (not) marked as held; None for all.
    """
    found: dict[str, list[tuple[Array, Array, int]]] = {}
    for number, run in enumerate(runs):
        for row in run:
            for name, numbers in row.uncertain.items():
                if name != SPINE and held is not None and (name in row.held) != held:
                    continue
                error, covariance = unpacked(numbers)
                if np.isfinite(error).all() and np.isfinite(covariance).all():
                    found.setdefault(name, []).append((error, covariance, number))
    return {
        name: Told(
            np.stack([e for e, _, _ in members]),
            np.stack([c for _, c, _ in members]),
            np.array([n for _, _, n in members]),
        )
        for name, members in found.items()
    }


def normalised_errors(told: Told) -> Array:
    """(N,) e^T C^-1 e / 6. A covariance that is not positive gives infinity: such a pose promises the impossible."""
    units = np.array([1.0, 1.0, 1.0, 1 / LEVER_M, 1 / LEVER_M, 1 / LEVER_M])  # so that C is well conditioned
    errors = told.errors / units
    scaled = told.covariances / np.outer(units, units)
    values, vectors = np.linalg.eigh(scaled)
    along = np.einsum("nji,nj->ni", vectors, errors)
    positive = values > 0
    squares = np.where(positive, along**2 / np.where(positive, values, 1.0), np.inf)
    return np.asarray(squares.sum(axis=1) / 6.0)


def calibration(told: Told) -> Calibration:
    """Figures of some poses; at least one."""
    normalised = normalised_errors(told)
    runs = np.unique(told.run)
    units = np.array([1e3] * 3 + [float(np.degrees(1.0))] * 3)
    error = units * np.sqrt(np.mean(told.errors**2, axis=0))
    variance = np.diagonal(told.covariances, axis1=1, axis2=2)
    stddev = units * np.sqrt(np.mean(np.clip(variance, 0.0, None), axis=0))
    return Calibration(
        poses=len(normalised),
        runs=len(runs),
        normalised=spread(normalised),
        mean=float(normalised.mean()),
        run_mean=float(np.median([normalised[told.run == run].mean() for run in runs])),
        error=tuple(error.tolist()),
        bias=tuple((units * told.errors.mean(axis=0)).tolist()),
        told=tuple(stddev.tolist()),
        ratio=tuple((error / np.maximum(stddev, 1e-12)).tolist()),
        inside={level: share(normalised * 6.0 <= radius) for level, radius in INSIDE.items()},
    )


def calibrations(runs: Sequence[Sequence[CloudRow]], held: bool | None = None) -> dict[str, Calibration]:
    """``spine`` and levels -> their figures."""
    return {name: calibration(told) for name, told in told_by(runs, held).items()}


@dataclass(frozen=True)
class Tuned:
    """Settings of the refinement's covariance that would have told the spine's errors best.

    Attributes:
        factor: on ``correlation_points``; ``bias_stddev``: metres.
        log_likelihood: mean of a pose, against ``before`` as it was.
        mean: of the normalised error with them.
    """

    factor: float
    bias_stddev: float
    log_likelihood: float
    before: float
    mean: float


FACTORS = tuple(float(f) for f in np.geomspace(0.1, 30.0, 25))
BIASES_M = tuple(float(b) for b in np.linspace(0.0, 0.0015, 31))


def tune(told: Told, bias_stddev: float) -> Tuned:
    """The likeliest factor and bias on a grid, each run weighing the same.

    The told covariance is taken as noise + bias^2 B, with B = diag(1, 1, 1, 1/0.1^2, ...) about the spine's centre; the
    refinement puts B about the middle of what it sees, which is near. An error is taken as normally distributed: large ones, few
    as they are, speak loudest.

    Args:
        told: of the spine.
        bias_stddev: with which it was told, metres.
    """
    B = np.diag([1.0] * 3 + [1 / LEVER_M**2] * 3)
    values, vectors = np.linalg.eigh(told.covariances - bias_stddev**2 * B)
    noise = np.einsum("nij,nj,nkj->nik", vectors, np.clip(values, 1e-16, None), vectors)
    weights = np.array([1.0 / np.count_nonzero(told.run == run) for run in told.run])
    weights /= weights.sum()
    best: tuple[float, float, float] | None = None
    for factor in FACTORS:
        for bias in BIASES_M:
            fits = _log_likelihood(told.errors, factor * noise + bias**2 * B, weights)
            if best is None or fits > best[0]:
                best = (fits, factor, bias)
    assert best is not None
    after = Told(told.errors, best[1] * noise + best[2] ** 2 * B, told.run)
    before = _log_likelihood(told.errors, told.covariances, weights)
    return Tuned(best[1], best[2], best[0], before, float(normalised_errors(after).mean()))


def _log_likelihood(errors: Array, covariances: Array, weights: Array) -> float:
    sign, logdet = np.linalg.slogdet(covariances)
    solved = np.linalg.solve(covariances, errors[..., None])[..., 0]
    squares = np.einsum("ni,ni->n", errors, solved)
    fits = np.where(sign > 0, -0.5 * (squares + logdet), -np.inf)
    return float((weights * fits).sum())


def calibration_plain(found: Mapping[str, Calibration]) -> dict[str, dict[str, object]]:
    """For JSON, four digits."""

    def short(values: Sequence[float]) -> list[float]:
        return [float(f"{value:.4g}") for value in values]

    return {
        name: {
            "poses": c.poses, "runs": c.runs, "mean": c.mean, "run_mean": c.run_mean, "median": c.normalised.median,
            "p95": c.normalised.p95, "error_mm_deg": short(c.error), "bias_mm_deg": short(c.bias),
            "told_mm_deg": short(c.told), "ratio": short(c.ratio),
            "inside_68": c.inside[0.68], "inside_95": c.inside[0.95],
        }
        for name, c in found.items()
    }  # fmt: skip
