"""Pictures of measured tracks: error and state over time, error by level, curves of sweeps, first poses, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tracking_study.calibration import Told, normalised_errors
from benchmarks.tracking_study.sweeps import SweepPoint
from end2reg_ros.evaluation.plot_style import (
    STATE_COLOURS,
    cumulative,
    mark_wrong,
    new_figure,
    save_png,
    styled,
)
from end2reg_ros.evaluation.rows import IN_VIEW, CloudRow, mean_mm

TARGETS_MM = (1.5, 3.0)  # wanted: median and 95th percentile
LINES = {"spine": {"color": "black"}, "network alone": {"color": "black", "linestyle": ":"}}


@styled
def draw_timelines(path: Path, runs: Mapping[str, Sequence[CloudRow]]) -> Path:
    """One strip a run: TRE of spine and worst level over time, the state as a band, the share of bone in view."""
    figure, panels = new_figure(13, 0.6 + 1.5 * len(runs), rows=len(runs), sharex=True)
    for axes, (name, rows) in zip(panels, runs.items(), strict=True):
        t = np.array([row.t for row in rows])
        edges = np.append(t, 2 * t[-1] - t[-2] if len(t) > 1 else t[-1] + 1)
        for state, colour in STATE_COLOURS.items():
            spans = [(edges[k], edges[k + 1] - edges[k]) for k, row in enumerate(rows) if row.state == state]
            axes.broken_barh(spans, (0.012, 0.008), color=colour, linewidth=0, label=state)
        _errors(axes, t, [mean_mm(row.spine_errors_mm) for row in rows], "spine", "tab:blue")
        worst = [max(row.level_tre_mm().values(), default=float("nan")) for row in rows]
        _errors(axes, t, worst, "worst level", "tab:orange")
        axes.set(yscale="log", ylim=(0.012, 60.0), ylabel="TRE mm")
        mark_wrong(axes)
        axes.set_title(name, fontsize=8, loc="left", pad=2)
        view = axes.twinx()
        view.plot(
            t,
            [np.nan if row.visible_fraction is None else row.visible_fraction for row in rows],
            color="0.6",
            linewidth=0.7,
        )
        view.axhline(IN_VIEW, color="0.8", linewidth=0.5, linestyle=":")
        view.set(ylim=(0, 1.6), yticks=[0, 1])
    panels[-1].set_xlabel("s (grey line: share of the exposed bone in view)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=6, fontsize=8)
    return save_png(figure, path)


def _errors(axes: Any, t: Any, values: Sequence[float], label: str, colour: str) -> None:
    axes.plot(t, values, ".", markersize=2, color=colour, label=label)


@styled
def draw_errors(path: Path, runs: Sequence[Sequence[CloudRow]]) -> Path:
    """Shares of the poses below an error: spine, network alone, each level."""
    poses = [row for run in runs for row in run if row.published]
    levels = list(dict.fromkeys(level for row in poses for level in row.level_tre_mm()))
    curves = {"spine": [mean_mm(row.spine_errors_mm) for row in poses]}
    curves |= {
        level: [row.level_tre_mm()[level] for row in poses if level in row.level_tre_mm()] for level in levels
    }
    curves["network alone"] = [mean_mm(row.network_errors_mm) for row in poses if row.network_errors_mm]
    figure, (axes,) = new_figure(7.5, 4.5)
    for name, values in curves.items():
        line: dict[str, Any] = LINES.get(name, {})
        cumulative(axes, values, f"{name} (n = {len(values)})", **line)
    for limit in TARGETS_MM:
        axes.axvline(limit, color="0.8", linewidth=0.8, zorder=0)
    mark_wrong(axes, vertical=True)
    axes.set(
        xscale="log",
        xlim=(0.02, 60),
        ylim=(0, 1.01),
        xlabel="TRE (mm)",
        ylabel="share of the published poses",
    )
    axes.legend(fontsize=8)
    return save_png(figure, path)


@styled
def draw_sweep(path: Path, points: Sequence[SweepPoint], axis: str) -> Path:
    """Error (median, 95th percentile) and availability against the value."""
    figure, (left, right) = new_figure(11, 4, columns=2)
    for name, attribute, colour in (
        ("spine, rigid", "spine_tre_mm", "black"),
        ("levels, own poses", "levels_tre_mm", "tab:blue"),
        ("levels, rigid pose", "rigid_levels_tre_mm", "tab:orange"),
    ):
        known = [p for p in points if getattr(p.figures, attribute).count]
        x = [p.value for p in known]
        spreads = [getattr(p.figures, attribute) for p in known]
        left.plot(x, [s.median for s in spreads], "o-", color=colour, markersize=4, label=f"{name}: median")
        left.plot(x, [s.p95 for s in spreads], "o--", color=colour, markersize=3, linewidth=0.8, label="95 %")
    mark_wrong(left)
    left.set(yscale="log", xlabel=axis, ylabel="TRE (mm)")
    left.legend(fontsize=8)
    x = [p.value for p in points]
    for label, values in (
        ("frames with a pose", [p.figures.stream.availability_from_start for p in points]),
        ("from the first pose on", [p.figures.stream.availability for p in points]),
        ("runs with a pose", [p.figures.stream.found for p in points]),
    ):
        right.plot(x, values, "o-", markersize=4, label=label)
    posed = [p for p in points if p.figures.levels_tre_mm.count]
    held = [p.figures.held_tre_mm.count / p.figures.levels_tre_mm.count for p in posed]
    right.plot([p.value for p in posed], held, "x:", color="0.5", label="levels held")
    right.set(xlabel=axis, ylabel="share", ylim=(-0.03, 1.03))
    right.legend(fontsize=8)
    return save_png(figure, path)


@styled
def draw_shares(path: Path, groups: Mapping[str, Sequence[float]], axis: str) -> Path:
    """Shares of waiting times below a time."""
    figure, (axes,) = new_figure(7, 4)
    for name, values in groups.items():
        if len(values):
            v = np.sort(np.asarray(values))
            shares = np.arange(1, len(v) + 1) / len(v)
            axes.step(np.append(0.0, v), np.append(0.0, shares), where="post", label=f"{name} (n = {len(v)})")
    axes.axhline(0.95, color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlabel=axis, ylabel="share", ylim=(0, 1.01), xlim=(0, None))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    return save_png(figure, path)


@styled
def draw_calibration(path: Path, told: Mapping[str, Told]) -> Path:
    """Share of the poses inside an ellipsoid against the share that ought to be."""
    from scipy.stats import chi2

    figure, (axes,) = new_figure(5.5, 5)
    for name, one in told.items():
        inside = chi2.cdf(6.0 * normalised_errors(one), 6)
        cumulative(axes, inside, f"{name} (n = {len(inside)})")
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
    axes.set(
        xlabel="ellipsoid that ought to hold this share", ylabel="share of the poses inside", aspect="equal"
    )
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.legend(fontsize=8)
    return save_png(figure, path)
