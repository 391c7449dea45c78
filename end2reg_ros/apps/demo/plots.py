"""Plots of the report as inline SVG: error over time with the states behind it, error per level, age of the poses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from end2reg_ros.apps.demo.summary import intervals, level_errors_mm
from end2reg_ros.evaluation.metrics import WRONG_MM
from end2reg_ros.evaluation.plot_style import (
    ACCENT,
    GRID,
    INK,
    MUTED,
    NETWORK,
    STATE_COLOURS,
    WARN,
    broken_line,
    mark_wrong,
    new_figure,
    styled,
    svg_text,
)
from end2reg_ros.evaluation.rows import CloudRow


@styled
def error_over_time(rows: Sequence[CloudRow]) -> str:
    """Median and worst-vertebra error of each published pose (mm) over time, and the network's own; states behind.

    Below: the visible share.
    """
    from matplotlib.patches import Patch

    figure, (top, bottom) = new_figure(10.5, 4.6, 2, heights=(3.2, 1), sharex=True)
    published = [row for row in rows if row.errors_mm]
    t = np.array([row.t for row in published])
    median = np.array([row.tre_mm() for row in published], dtype=float)
    worst = np.array([row.worst_level_mm() for row in published], dtype=float)
    alone = [row for row in published if row.network_errors_mm]
    network = np.array([row.network_tre_mm() for row in alone], dtype=float)
    highest = np.array([*worst, *network])
    limit = max(1.5, 1.25 * float(np.percentile(highest, 99))) if len(highest) else 1.5
    spans = intervals(rows)
    for span in spans:
        top.axvspan(span.start, span.end, color=STATE_COLOURS.get(span.state, GRID), alpha=0.6, linewidth=0)
    top.plot(
        t,
        np.minimum(worst, limit),
        ".",
        color=MUTED,
        markersize=3.5,
        label="worst vertebra (mean of its landmarks)",
    )
    if len(network):
        at = np.array([row.t for row in alone])
        label = "network alone, median"
        top.plot(at, np.minimum(network, limit), "x", color=NETWORK, markersize=3.5, alpha=0.7, label=label)
    top.plot(
        *broken_line(t, np.minimum(median, limit), 0.6),
        color=ACCENT,
        linewidth=1.6,
        label="median over all landmarks",
    )
    beyond = worst > limit
    if beyond.any():
        top.plot(
            t[beyond],
            np.full(int(beyond.sum()), limit * 0.985),
            "^",
            color=WARN,
            label=f"beyond {limit:.1f} mm",
        )
    if limit > WRONG_MM:
        mark_wrong(top)
    top.set_ylim(0, limit)
    top.set_ylabel("error (TRE), mm")
    lines = top.get_legend_handles_labels()[0]
    patches = [
        Patch(color=STATE_COLOURS[s], alpha=0.6, label=s)
        for s in STATE_COLOURS
        if any(p.state == s for p in spans)
    ]
    # Two rows where the network's crosses are named, too: a wider legend would narrow the plot.
    top.legend(handles=[*lines, *patches], ncols=4 if len(network) else 6, loc="lower left",
               bbox_to_anchor=(-0.01, 1.0), fontsize=8.5, columnspacing=1.2, handlelength=1.4)  # fmt: skip
    seen = [row for row in rows if row.visible_fraction is not None]
    bottom.fill_between(
        [r.t for r in seen],
        [100 * (r.visible_fraction or 0.0) for r in seen],
        color="#475569",
        alpha=0.55,
        linewidth=0,
    )
    bottom.set_ylim(0, 105)
    bottom.set_yticks([0, 50, 100])
    bottom.set_ylabel("visible, %")
    bottom.set_xlabel("time since the camera's first cloud, s")
    if rows:
        bottom.set_xlim(rows[0].t, max(rows[-1].t, rows[0].t + 1e-3))
    return svg_text(figure)


@styled
def error_per_level(rows: Sequence[CloudRow]) -> str:
    """Box plot of the landmark errors (mm) of each level; whiskers at 5 and 95 %."""
    errors = level_errors_mm(rows)
    figure, (axes,) = new_figure(5.1, 3.3)
    axes.grid(axis="y", color=GRID)
    if errors:
        boxes = axes.boxplot(
            list(errors.values()), whis=(5, 95), widths=0.55, showfliers=False, patch_artist=True,
            medianprops={"color": INK, "linewidth": 1.6},
        )  # fmt: skip
        for box in boxes["boxes"]:
            box.set(facecolor="#99f6e4", edgecolor=ACCENT)
        axes.set_xticks(range(1, len(errors) + 1), list(errors))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("error (TRE), mm")
    return svg_text(figure)


@styled
def age_histogram(rows: Sequence[CloudRow]) -> str:
    """Histogram of the pose ages (ms) with p50, p95 and p99."""
    ages = np.array([row.age_ms for row in rows if row.published and row.age_ms is not None])
    figure, (axes,) = new_figure(5.1, 3.3)
    axes.grid(axis="y", color=GRID)
    if len(ages):
        right = float(np.percentile(ages, 99.5)) * 1.15
        axes.hist(
            np.minimum(ages, right),
            bins=36,
            range=(0, right),
            color="#5eead4",
            edgecolor="white",
            linewidth=0.4,
        )
        top = axes.get_ylim()[1]
        axes.set_ylim(0, top * 1.22)
        for i, (name, q) in enumerate((("p50", 50), ("p95", 95), ("p99", 99))):
            value = float(np.percentile(ages, q))
            axes.axvline(value, ymax=0.98 - 0.075 * i, color=INK, linewidth=1, linestyle=("-", "--", ":")[i])
            axes.text(value, top * (1.15 - 0.09 * i), f" {name} {value:.0f} ms", fontsize=8.5)
        axes.set_xlim(0, right * 1.12)
    axes.set_xlabel("age of a pose when it is heard, ms")
    axes.set_ylabel("poses")
    return svg_text(figure)
