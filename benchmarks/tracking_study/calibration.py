"""Whether errors are as large as the covariances say: normalised errors, ratios along the spine's axes, shares inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.tracking_study.figures import rows_of
from benchmarks.tracking_study.observer import SPINE, unpacked
from benchmarks.tracking_study.runner import Kept, Line, Report, Study, code_hash
from benchmarks.tracking_study.sequences import Sequences
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation.plot_style import cumulative, new_figure
from end2reg_ros.evaluation.rows import CloudRow
from end2reg_ros.evaluation.spread import Spread, share, spread
from end2reg_ros.evaluation.tables import number, percent, table_of

Array = NDArray[np.float64]
AXES = ("left-right", "anterior", "along", "about left-right", "about anterior", "about along")
INSIDE = {0.68: 7.0092, 0.95: 12.5916}  # squared radius of the ellipsoid of 6 degrees of freedom
LEVER_M = 0.1  # turns a rotation's bias into metres, as the refinement does


@dataclass(frozen=True)
class Calibrations(Study):
    """Errors against covariances, over the sequences' poses in the work folder (all lengths and postures there)."""

    name = "calibration"
    scenario: str | None = None
    """Only sequences of this scenario."""
    held: Literal["all", "yes", "no"] = "all"
    """Levels marked as held: all levels, only held ones, only the others."""

    def lines(self) -> list[Line]:
        """The sequences of these cases, seeds and scenario that are there already.

        Raises:
            End2RegError: none is there.
        """
        kept = Kept(self.work / f"{Sequences.name}.jsonl", code_hash())
        names, seeds = {case.name for case in self.case_folders()}, self.seed_numbers()
        keys = [(line, line["key"]) for line in kept.lines()]
        found = [line for line, key in keys if key["case"] in names and key["seed"] in seeds]
        found = [line for line in found if self.scenario in (None, line["key"]["scenario"])]
        if not found:
            why = "no poses of these cases, seeds and scenario: run the sequences first"
            raise End2RegError(f"{kept.path}: {why}")
        return found[: self.limit]

    def report(self, lines: Sequence[Line]) -> Report:
        """Normalised errors, ratios along the spine's axes, shares inside."""
        held = {"all": None, "yes": True, "no": False}[self.held]
        told = told_by([rows_of(line) for line in lines], held)
        found = {name: calibration(one) for name, one in told.items()}
        text = [
            "e^T C^-1 e / 6 of the poses, 1 on average where the covariance is right; root mean square error / told standard "
            "deviation = ratio, along the spine's axes:",
            "",
            *calibration_lines(found),
        ]
        notes = [
            f"{len(lines)} sequences; poses of one sequence share view and film: they are not independent."
        ]
        summary = {"reported": calibration_plain(found), "held": held}
        picture = draw_calibration(told)
        return Report("Calibration of the covariances", summary, text, notes, {"shares": picture})


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
    for k, run in enumerate(runs):
        for row in run:
            for name, numbers in row.uncertain.items():
                if name != SPINE and held is not None and (name in row.held) != held:
                    continue
                error, covariance = unpacked(numbers)
                if np.isfinite(error).all() and np.isfinite(covariance).all():
                    found.setdefault(name, []).append((error, covariance, k))
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


def calibration_lines(found: Mapping[str, Calibration]) -> list[str]:
    """One row a pose (spine, levels): normalised error, shares inside, ratio error / told along each axis."""
    heads = [f"{axis} {unit}" for axis, unit in zip(AXES, ["mm"] * 3 + ["deg"] * 3, strict=True)]
    rows = []
    for name, c in found.items():
        told = [f"{e:.2f} / {s:.2f} = {r:.2f}" for e, s, r in zip(c.error, c.told, c.ratio, strict=True)]
        rows.append(
            {
                "": name, "poses (runs)": f"{c.poses} ({c.runs})", "mean": number(c.mean),
                "median of the runs' means": number(c.run_mean), "in 68 %": percent(c.inside[0.68]),
                "in 95 %": percent(c.inside[0.95]), **dict(zip(heads, told, strict=True)),
            }
        )  # fmt: skip
    return table_of(rows)


def draw_calibration(told: Mapping[str, Told]) -> Any:
    """Share of the poses inside an ellipsoid against the share that ought to be."""
    from scipy.stats import chi2

    figure, (axes,) = new_figure(5.5, 5)
    for name, one in told.items():
        inside = chi2.cdf(6.0 * normalised_errors(one), 6)
        cumulative(axes, inside, f"{name} (n = {len(inside)})")
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlabel="ellipsoid that ought to hold this share", ylabel="share of the poses inside")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(fontsize=8)
    return figure
