"""The results of ``end2reg evaluate`` as Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from end2reg_ros.evaluation.benchmark import BenchmarkSettings, Trial
from end2reg_ros.evaluation.host import environment
from end2reg_ros.evaluation.metrics import SUCCESS_MM, PoseErrors
from end2reg_ros.evaluation.summary import Accuracy, GroupSummary
from end2reg_ros.evaluation.tables import finite, markdown_table, percent
from end2reg_ros.evaluation.tables_paper import NOTES, PaperRow, paper_rows, table_1, table_2

_GROUP = ("method", "prior", "region")


def markdown(summaries: Sequence[GroupSummary], heading: str, notes: Sequence[str]) -> str:
    """All tables of an evaluation."""
    lines = [f"# {heading}", "", *(f"- {note}" for note in notes), ""]
    lines += ["## All registrations, whatever the method says of them", ""]
    lines += _accuracy_table([(s, s.all) for s in summaries])
    lines += ["", "## Registrations that the method reports as success", ""]
    lines += _accuracy_table([(s, s.reported) for s in summaries])
    lines += ["", "## Verdicts and time", ""]
    lines += _verdict_table(summaries)
    lines += ["", "## TRE by level, reported registrations, mm", ""]
    lines += _level_table(summaries)
    return "\n".join(lines) + "\n"


def paper_markdown(rows: Sequence[PaperRow], suite: str) -> str:
    """Tables 1 and 2 of an evaluation as the paper tells them."""
    lines = ["", "## As the paper tells it", "", *(f"- {note}" for note in NOTES), ""]
    lines += [*table_1({suite: rows}), "", *table_2({suite: rows})]
    return "\n".join(lines) + "\n"


def document(
    trials: Sequence[Trial],
    summaries: Sequence[GroupSummary],
    settings: BenchmarkSettings,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Everything as plain numbers, ready for JSON (unknown figures as null)."""
    plain = {
        **about,
        "environment": environment(),
        "settings": asdict(settings),
        "summaries": [asdict(summary) for summary in summaries],
        "paper": [asdict(row) for row in paper_rows(trials)],
        "trials": [_trial(trial) for trial in trials],
    }
    cleaned: dict[str, Any] = finite(plain)
    return cleaned


def _accuracy_table(rows: Sequence[tuple[GroupSummary, Accuracy]]) -> list[str]:
    limits = [f"< {limit:g} mm" for limit in SUCCESS_MM]
    heads = [*_GROUP, "n", "TRE mm", "TRE vertebra poses mm", "landmarks > 10 mm", *limits]
    heads += ["RMSE mm", "mean_distance mm", "RRE deg", "RTE mm", "level slips"]
    body = []
    for summary, figures in rows:
        body.append(
            [
                *_group(summary),
                str(figures.trials),
                figures.tre_mm.text(),
                figures.level_pose_tre_mm.text(),
                percent(figures.landmark_outliers, 0),
                *(percent(figures.success[limit], 0) for limit in SUCCESS_MM),
                figures.rmse_mm.text(),
                figures.mean_distance_mm.text(),
                figures.rre_deg.text(),
                figures.rte_mm.text(),
                str(figures.level_slips),
            ]
        )
    return markdown_table(heads, body)


def _verdict_table(summaries: Sequence[GroupSummary]) -> list[str]:
    heads = [
        *_GROUP,
        "scenes",
        "reported success",
        "of these wrong (a vertebra > 10 mm)",
        "initial TRE mm",
    ]
    heads += ["ms a registration", "ms p95", "reasons"]
    body = []
    for s in summaries:
        reasons = ", ".join(f"{code} {count}" for code, count in s.reasons.items())
        p95 = f"{s.wall_ms.p95:.0f}"
        row = [*_group(s), str(s.all.trials), str(s.reported.trials), str(s.wrong_reported)]
        body.append([*row, s.initial_tre_mm.text(), s.wall_ms.text(0), p95, reasons])
    return markdown_table(heads, body)


def _level_table(summaries: Sequence[GroupSummary]) -> list[str]:
    levels = list(dict.fromkeys(level for s in summaries for level in s.all.level_tre_mm))
    body = []
    for s in summaries:
        found = s.reported.level_tre_mm
        body.append([*_group(s), *(found[name].text() if name in found else "–" for name in levels)])
    return markdown_table([*_GROUP, *levels], body)


def _group(summary: GroupSummary) -> list[str]:
    return [summary.method, summary.prior, summary.region]


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "scene": trial.scene,
        "method": trial.method,
        "prior": trial.prior,
        "region": trial.region,
        "success": trial.success,
        "reason_code": trial.reason_code,
        "errors": _errors(trial.errors),
        "level_errors": _errors(trial.level_errors),
        "initial_tre_mm": trial.initial_tre_mm,
        "wall_ms": trial.wall_ms,
        "timings_ms": trial.timings_ms,
        "tags": trial.tags,
    }


def _errors(errors: PoseErrors | None) -> dict[str, Any] | None:
    if errors is None:
        return None
    plain = asdict(errors)
    plain["tre_mm"] = {level: values.tolist() for level, values in errors.tre_mm.items()}
    plain["mean_tre_mm"] = errors.mean_tre_mm
    return plain
