"""Sweeps as a table and as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper.sweeps import AXES, SweepName, SweepRow
from end2reg_ros.evaluation.metrics import WRONG_MM
from end2reg_ros.evaluation.plot_style import legend_below, mark_wrong, new_figure, save_png, styled
from end2reg_ros.evaluation.spread import Spread, spread
from end2reg_ros.evaluation.tables import percent, table_of

GOOD_MM = 5.0


@dataclass(frozen=True)
class SweepFigure:
    """One method at one value of a sweep.

    Attributes:
        measured: median of the values that the scenes really have.
        tre_mm: over the scenes with a pose.
        good: share of all scenes with TRE below 5 mm; ``reported``: reported as success; ``wrong_reported``: of all, those
            so reported with a vertebra more than 10 mm off or no pose.
    """

    sweep: SweepName
    value: float
    method: str
    scenes: int
    measured: float
    tre_mm: Spread
    good: float
    reported: float
    wrong_reported: float


def sweep_figures(rows: Sequence[SweepRow]) -> list[SweepFigure]:
    """Figures by sweep, method and value, in the order of their first rows."""
    groups: dict[tuple[SweepName, str, float], list[SweepRow]] = {}
    for row in rows:
        groups.setdefault((row.point.sweep, row.trial.method, row.point.value), []).append(row)
    figures = []
    for (sweep, method, value), members in groups.items():
        trials, count = [row.trial for row in members], len(members)
        tre = [t.errors.mean_tre_mm for t in trials if t.errors is not None]
        wrong = [t.success and (t.errors is None or t.errors.worst_level_mm > WRONG_MM) for t in trials]
        figures.append(
            SweepFigure(
                sweep, value, method, count, float(np.median([row.measured for row in members])), spread(tre),
                sum(v < GOOD_MM for v in tre) / count, sum(t.success for t in trials) / count, sum(wrong) / count,
            )
        )  # fmt: skip
    return figures


def sweep_table(figures: Sequence[SweepFigure]) -> list[str]:
    """Lines of a Markdown table."""
    return table_of(
        [
            {
                "sweep": f.sweep, "method": f.method, "value": f"{f.value:g}", "measured": f"{f.measured:.2f}",
                "n": str(f.scenes), "TRE mm": f.tre_mm.text(), "< 5 mm": percent(f.good),
                "reported": percent(f.reported), "wrong as success": percent(f.wrong_reported),
            }
            for f in figures
        ]
    )  # fmt: skip


@styled
def write_sweep_picture(path: Path, figures: Sequence[SweepFigure]) -> None:
    """One column a sweep: median TRE with quartiles above, share below 5 mm underneath."""
    sweeps = list(dict.fromkeys(f.sweep for f in figures))
    methods = list(dict.fromkeys(f.method for f in figures))
    drawn, panels = new_figure(3.4 * len(sweeps) + 0.6, 6.4, rows=2, columns=len(sweeps), sharey="row")
    above, below = panels[: len(sweeps)], panels[len(sweeps) :]
    for top, bottom, sweep in zip(above, below, sweeps, strict=True):
        for number, method in enumerate(methods):
            mine = [f for f in figures if f.sweep == sweep and f.method == method]
            _draw((top, bottom), sorted(mine, key=lambda f: f.value), method, f"C{number % 10}")
        top.set(title=sweep, yscale="log")
        mark_wrong(top)
        bottom.set(xlabel=AXES[sweep], ylim=(-0.03, 1.03))
    above[0].set_ylabel("TRE (mm): median, quartiles")
    below[0].set_ylabel(f"share of scenes with TRE < {GOOD_MM:g} mm")
    legend_below(drawn, below[0], columns=4)
    save_png(drawn, path)


def _draw(panels: Any, figures: Sequence[SweepFigure], method: str, colour: str) -> None:
    x = [f.measured for f in figures]
    panels[1].plot(x, [f.good for f in figures], "o-", color=colour, label=method, markersize=4, linewidth=1)
    known = [f for f in figures if f.tre_mm.count]
    x = [f.measured for f in known]
    panels[0].plot(x, [f.tre_mm.median for f in known], "o-", color=colour, markersize=4, linewidth=1)
    low, high = [f.tre_mm.q1 for f in known], [f.tre_mm.q3 for f in known]
    panels[0].fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
