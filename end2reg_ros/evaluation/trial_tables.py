"""The results of ``end2reg evaluate`` as Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from end2reg_ros.evaluation.benchmark import BenchmarkSettings, Trial
from end2reg_ros.evaluation.host import environment
from end2reg_ros.evaluation.metrics import SUCCESS_MM, PoseErrors
from end2reg_ros.evaluation.summary import Accuracy, GroupSummary
from end2reg_ros.evaluation.tables import NOTHING, finite, percent, table_of
from end2reg_ros.evaluation.tables_paper import NOTES, PaperRow, paper_rows, table_1, table_2


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
    return table_of(
        [
            {
                **_group(summary), "n": str(a.trials), "TRE mm": a.tre_mm.text(),
                "TRE vertebra poses mm": a.level_pose_tre_mm.text(),
                "landmarks > 10 mm": percent(a.landmark_outliers, 0),
                **{f"< {limit:g} mm": percent(a.success[limit], 0) for limit in SUCCESS_MM},
                "RMSE mm": a.rmse_mm.text(), "mean_distance mm": a.mean_distance_mm.text(), "RRE deg": a.rre_deg.text(),
                "RTE mm": a.rte_mm.text(), "level slips": str(a.level_slips),
            }
            for summary, a in rows
        ]
    )  # fmt: skip


def _verdict_table(summaries: Sequence[GroupSummary]) -> list[str]:
    return table_of(
        [
            {
                **_group(s), "scenes": str(s.all.trials), "reported success": str(s.reported.trials),
                "of these wrong (a vertebra > 10 mm)": str(s.wrong_reported), "initial TRE mm": s.initial_tre_mm.text(),
                "ms a registration": s.wall_ms.text(0), "ms p95": f"{s.wall_ms.p95:.0f}",
                "reasons": ", ".join(f"{code} {count}" for code, count in s.reasons.items()),
            }
            for s in summaries
        ]
    )  # fmt: skip


def _level_table(summaries: Sequence[GroupSummary]) -> list[str]:
    levels = list(dict.fromkeys(level for s in summaries for level in s.all.level_tre_mm))
    rows = []
    for s in summaries:
        found = s.reported.level_tre_mm
        rows.append(
            {**_group(s), **{name: found[name].text() if name in found else NOTHING for name in levels}}
        )
    return table_of(rows)


def _group(summary: GroupSummary) -> dict[str, str]:
    return {"method": summary.method, "prior": summary.prior, "region": summary.region}


def _trial(trial: Trial) -> dict[str, Any]:
    return vars(trial) | {"errors": _errors(trial.errors), "level_errors": _errors(trial.level_errors)}


def _errors(errors: PoseErrors | None) -> dict[str, Any] | None:
    if errors is None:
        return None
    tre_mm = {level: values.tolist() for level, values in errors.tre_mm.items()}
    return vars(errors) | {"tre_mm": tre_mm, "mean_tre_mm": errors.mean_tre_mm}
