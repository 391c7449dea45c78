"""The paper's tables from trials: 1 (TRE), 2 (RMSE), 3 (two trainings compared), as rows and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation.benchmark import Trial
from end2reg_ros.evaluation.metrics import WRONG_MM
from end2reg_ros.evaluation.spread import Spread, spread
from end2reg_ros.evaluation.statistics import SIGNIFICANT, Comparison
from end2reg_ros.evaluation.tables import number, percent, plus_minus, table_of

NOTES = (
    "TRE, RMSE, RRE and RTE: over all scenes with a pose, whatever the method says of it. RMSE: root mean square over the "
    "model's points, mean ± standard deviation over scenes.",
    "> 10 mm: share of all scenes with a mean TRE above 10 mm, or without a pose. Wrong as success: share of all scenes with "
    "a vertebra more than 10 mm off (or no pose) that the method reports as success.",
)


@dataclass(frozen=True)
class PaperRow:
    """One method on one region with one prior, as the paper tells it.

    Attributes:
        trials: of the row; ``poses`` of them have a finite pose.
        tre_mm: median and quartiles over scenes, of the mean over a scene's landmarks.
        outliers: share of all trials with that mean above 10 mm, or without a pose.
        reported: share of all trials that the method reports as success.
        wrong_reported: share of all trials that are so reported and have a vertebra more than 10 mm off, or no pose.
        rmse_mean_mm, rmse_sd_mm: over scenes, of the root mean square over the model's points; sd with n - 1.
        wall_ms: of one frame, region finder included.
    """

    method: str
    region: str
    prior: str
    trials: int
    poses: int
    tre_mm: Spread
    outliers: float
    reported: float
    wrong_reported: float
    rmse_mean_mm: float
    rmse_sd_mm: float
    rre_deg: Spread
    rte_mm: Spread
    wall_ms: Spread


def paper_rows(trials: Sequence[Trial]) -> list[PaperRow]:
    """One row per method, region and prior, in the order of their first trials."""
    groups: dict[tuple[str, str, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.method, trial.region, trial.prior), []).append(trial)
    return [paper_row(group) for group in groups.values()]


def paper_row(trials: Sequence[Trial]) -> PaperRow:
    """The row of the trials of one method, region and prior; at least one."""
    errors = [trial.errors for trial in trials if trial.errors is not None]
    off = sum(t.errors is None or t.errors.mean_tre_mm > WRONG_MM for t in trials)
    wrong = sum(t.success and (t.errors is None or t.errors.worst_level_mm > WRONG_MM) for t in trials)
    rmse = np.array([e.rmse_mm for e in errors])
    return PaperRow(
        method=trials[0].method,
        region=trials[0].region,
        prior=trials[0].prior,
        trials=len(trials),
        poses=len(errors),
        tre_mm=spread(e.mean_tre_mm for e in errors),
        outliers=off / len(trials),
        reported=sum(t.success for t in trials) / len(trials),
        wrong_reported=wrong / len(trials),
        rmse_mean_mm=float(rmse.mean()) if len(rmse) else float("nan"),
        rmse_sd_mm=float(rmse.std(ddof=1)) if len(rmse) > 1 else float("nan"),
        rre_deg=spread(e.rre_deg for e in errors),
        rte_mm=spread(e.rte_mm for e in errors),
        wall_ms=spread(t.wall_ms for t in trials),
    )


def rows_of_document(document: Mapping[str, Any]) -> list[PaperRow]:
    """The rows of an evaluation.json.

    Raises:
        End2RegError: not such a document, or one of a version without these rows.
    """
    try:
        return [_row(plain) for plain in document["paper"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise End2RegError(
            "the document holds no rows of the paper's tables: run end2reg evaluate again"
        ) from error


def _row(plain: Mapping[str, Any]) -> PaperRow:
    def known(value: Any) -> Any:
        if isinstance(value, Mapping):
            return Spread(**{name: known(figure) for name, figure in value.items()})
        return float("nan") if value is None else value

    return PaperRow(**{name: known(value) for name, value in plain.items()})


def table_1(rows: Mapping[str, Sequence[PaperRow]]) -> list[str]:
    """Table 1: suite -> rows, as lines of Markdown. TRE, outliers, verdicts and time."""
    return table_of(
        [
            {
                **_begin(suite, row), "TRE mm": row.tre_mm.text(), "> 10 mm": percent(row.outliers),
                "reported": percent(row.reported), "wrong as success": percent(row.wrong_reported),
                "RRE deg": row.rre_deg.text(), "RTE mm": row.rte_mm.text(),
                "ms p50": number(row.wall_ms.median, 0), "ms p95": number(row.wall_ms.p95, 0),
            }
            for suite, members in rows.items() for row in members
        ]
    )  # fmt: skip


def table_2(rows: Mapping[str, Sequence[PaperRow]]) -> list[str]:
    """Table 2: suite -> rows, as lines of Markdown. RMSE over the model's points, mean ± standard deviation."""
    return table_of(
        [
            {
                **_begin(suite, row), "poses": str(row.poses),
                "RMSE mm": plus_minus(row.rmse_mean_mm, row.rmse_sd_mm),
            }
            for suite, members in rows.items() for row in members
        ]
    )  # fmt: skip


def table_3(comparisons: Mapping[str, Comparison]) -> list[str]:
    """Table 3: suite -> comparison, as lines of Markdown; an asterisk marks p < 0.05, at the smaller TRE."""
    rows = []
    for suite, found in comparisons.items():
        for k, name in enumerate(found.names):
            ahead = found.test.pairs > 0 and (found.test.z < 0) == (k == 0)
            star = " *" if ahead and found.test.p < SIGNIFICANT else ""
            rows.append(
                {
                    "suite": suite, "training": name, "n": str(found.scenes), "TRE mm": found.tre_mm[k].text() + star,
                    "> 10 mm": percent(found.outliers[k]), "Wilcoxon signed-rank": found.test.text() if k else "",
                }
            )  # fmt: skip
    return table_of(rows)


def _begin(suite: str, row: PaperRow) -> dict[str, str]:
    head = {"suite": suite, "method": row.method, "region": row.region, "prior": row.prior}
    return {**head, "n": str(row.trials)}
