"""Pictures of an evaluation: TRE distribution, success against initial misalignment, time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from end2reg_ros.evaluation.benchmark import Trial
from end2reg_ros.evaluation.metrics import SUCCESS_MM, WRONG_MM
from end2reg_ros.evaluation.summary import misalignment_bins

_Groups = dict[str, list[Trial]]
_MIN_TRIALS = 4  # fewer draw no line


def write_plots(folder: Path, trials: Sequence[Trial]) -> list[Path]:
    """Write the pictures that the trials can fill; their paths."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups: _Groups = {}
    for trial in trials:
        groups.setdefault(f"{trial.method}, prior {trial.prior}, {trial.region}", []).append(trial)
    written = []
    for name, draw in (
        ("tre.png", _draw_tre),
        ("success_vs_misalignment.png", draw_success),
        ("time.png", _draw_time),
    ):
        figure = draw(pyplot, groups)
        if figure is not None:
            path = folder / name
            figure.savefig(path, dpi=120)
            pyplot.close(figure)
            written.append(path)
    return written


def _draw_tre(pyplot: Any, groups: _Groups) -> Any:
    found = {n: [t.errors.mean_tre_mm for t in g if t.errors is not None] for n, g in groups.items()}
    values = {name: np.sort(v) for name, v in found.items() if v}
    if not values:
        return None
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for name, tre in values.items():
        shares = np.arange(1, len(tre) + 1) / len(groups[name])
        left.step(
            np.append(tre, max(tre[-1], 200.0)), np.append(shares, shares[-1]), where="post", label=name
        )
    left.set(xlabel="TRE (mm, mean over the landmarks of a scene)", ylabel="share of scenes", xscale="log")
    left.set(xlim=(0.1, 200.0), ylim=(0.0, 1.02), title="TRE of all registrations")
    for limit in SUCCESS_MM:
        left.axvline(limit, color="0.8", linewidth=0.8, zorder=0)
    left.axvline(WRONG_MM, color="tab:red", linewidth=0.8, zorder=0)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    labels = [f"{name}\nn = {len(tre)}" for name, tre in values.items()]
    _boxes(right, list(values.values()), labels)
    right.axvline(WRONG_MM, color="tab:red", linewidth=0.8, zorder=0)
    right.set(xlabel="TRE (mm)", xscale="log", title="median, quartiles, 5-95 %")
    return figure


def draw_success(pyplot: Any, groups: _Groups) -> Any:
    """Success rate against the initial misalignment with 95 % intervals, one panel a limit."""
    binned = {f"{name} (n = {len(group)})": misalignment_bins(group) for name, group in groups.items()}
    binned = {name: b for name, b in binned.items() if sum(x.initial_tre_mm.count for x in b) >= _MIN_TRIALS}
    if not binned:
        return None
    figure, panels = pyplot.subplots(1, len(SUCCESS_MM), figsize=(13, 4.5), sharey=True, layout="constrained")
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
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _draw_time(pyplot: Any, groups: _Groups) -> Any:
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.5 * len(groups)), layout="constrained")
    times = [[trial.wall_ms for trial in group] for group in groups.values()]
    labels = [f"{name} (n = {len(group)})" for name, group in groups.items()]
    _boxes(axes, times, labels)
    axes.set(title="median, quartiles, 5-95 %", xlabel="time of one registration (ms)", xscale="log")
    return figure


def _boxes(axes: Any, groups: Sequence[Any], labels: Sequence[str]) -> None:
    """Lying boxes. By hand, because matplotlib's argument for lying ones differs between the versions in use."""
    for row, values in enumerate(groups):
        low, q1, median, q3, high = np.percentile(values, [5, 25, 50, 75, 95])
        axes.plot([low, high], [row, row], color="0.4", linewidth=1)
        axes.plot([q1, q3], [row, row], color=f"C{row % 10}", linewidth=11, solid_capstyle="butt")
        axes.plot([median, median], [row - 0.3, row + 0.3], color="black", linewidth=1.5)
        outside = [v for v in values if v < low or v > high]
        axes.plot(outside, [row] * len(outside), ".", color="0.4", markersize=3)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(len(labels) - 0.4, -0.6)
