"""Pictures of an evaluation: TRE distribution, success against initial misalignment, time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from end2reg_ros.evaluation.benchmark import Trial
from end2reg_ros.evaluation.metrics import SUCCESS_MM
from end2reg_ros.evaluation.plot_style import (
    legend_below,
    lying_boxes,
    mark_wrong,
    new_figure,
    save_png,
    styled,
)
from end2reg_ros.evaluation.summary import misalignment_bins

_Groups = dict[str, list[Trial]]
_MIN_TRIALS = 4  # fewer draw no line
_FARTHEST_MM = 200.0


@styled
def write_plots(folder: Path, trials: Sequence[Trial]) -> list[Path]:
    """Write the pictures that the trials can fill; their paths."""
    groups: _Groups = {}
    for trial in trials:
        groups.setdefault(f"{trial.method}, prior {trial.prior}, {trial.region}", []).append(trial)
    figures = {
        "tre.png": _draw_tre(groups),
        "success_vs_misalignment.png": draw_success(groups),
        "time.png": _draw_time(groups),
    }
    return [save_png(figure, folder / name) for name, figure in figures.items() if figure is not None]


def _draw_tre(groups: _Groups) -> Any:
    found = {n: [t.errors.mean_tre_mm for t in g if t.errors is not None] for n, g in groups.items()}
    values = {name: np.sort(v) for name, v in found.items() if v}
    if not values:
        return None
    figure, (left, right) = new_figure(12, 4.5, columns=2)
    for name, tre in values.items():
        shares = np.arange(1, len(tre) + 1) / len(groups[name])
        ends = np.append(tre, max(tre[-1], _FARTHEST_MM)), np.append(shares, shares[-1])
        left.step(*ends, where="post", label=name)
    left.set(xlabel="TRE (mm, mean over the landmarks of a scene)", ylabel="share of scenes", xscale="log")
    left.set(xlim=(0.1, _FARTHEST_MM), ylim=(0.0, 1.02), title="TRE of all registrations")
    for limit in SUCCESS_MM:
        left.axvline(limit, color="0.8", linewidth=0.8, zorder=0)
    legend_below(figure, left)
    lying_boxes(
        right, [list(tre) for tre in values.values()], [f"{n}\nn = {len(v)}" for n, v in values.items()]
    )
    for axes in (left, right):
        mark_wrong(axes, vertical=True)
    right.set(xlabel="TRE (mm)", xscale="log", title="median, quartiles, 5-95 %")
    return figure


def draw_success(groups: _Groups) -> Any:
    """Success rate against the initial misalignment with 95 % intervals, one panel a limit; None of too few trials."""
    binned = {f"{name} (n = {len(group)})": misalignment_bins(group) for name, group in groups.items()}
    binned = {name: b for name, b in binned.items() if sum(x.initial_tre_mm.count for x in b) >= _MIN_TRIALS}
    if not binned:
        return None
    figure, panels = new_figure(13, 4.5, columns=len(SUCCESS_MM), sharey=True)
    for axes, limit in zip(panels, SUCCESS_MM, strict=True):
        for name, bins in binned.items():
            x = [b.initial_tre_mm.median for b in bins]
            y = [b.success[limit] for b in bins]
            # Rounding may put a share of 0 or 1 outside its interval by 1e-17.
            low = [max(0.0, b.success[limit] - b.interval[limit][0]) for b in bins]
            high = [max(0.0, b.interval[limit][1] - b.success[limit]) for b in bins]
            axes.errorbar(
                x, y, yerr=[low, high], marker="o", markersize=4, capsize=2, linewidth=1, label=name
            )
        axes.set(xlabel="initial misalignment (TRE of the prior, mm)", title=f"TRE < {limit:g} mm")
        axes.set(ylim=(-0.03, 1.03))
        axes.set_xlim(0.0, 1.05 * max(b.initial_tre_mm.median for bins in binned.values() for b in bins))
    panels[0].set_ylabel("share of scenes (95 % intervals)")
    legend_below(figure, panels[0])
    return figure


def _draw_time(groups: _Groups) -> Any:
    figure, (axes,) = new_figure(8, 1.2 + 0.5 * len(groups))
    times = [[trial.wall_ms for trial in group] for group in groups.values()]
    lying_boxes(axes, times, [f"{name} (n = {len(group)})" for name, group in groups.items()])
    axes.set(title="median, quartiles, 5-95 %", xlabel="time of one registration (ms)", xscale="log")
    return figure
