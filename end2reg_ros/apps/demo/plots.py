"""Plots of the report as inline SVG: error over time with the states behind it, error per level, age of the poses."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from end2reg_ros.apps.demo.summary import FALSE_POSE_MM, intervals
from end2reg_ros.evaluation.frame_log import FrameRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATE_COLOURS = {"SEARCHING": "#cbd5e1", "TRACKING": "#bbf7d0", "DEGRADED": "#fde68a", "LOST": "#fecaca"}
INK, GRID, ACCENT, WARN, NETWORK = "#1e293b", "#e2e8f0", "#0f766e", "#b91c1c", "#7c3aed"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "end2reg",  # the same log gives the same file
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": "#94a3b8",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


Plot = Callable[[Sequence[FrameRow]], str]


def _styled(plot: Plot) -> Plot:
    @wraps(plot)
    def inner(rows: Sequence[FrameRow]) -> str:
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return plot(rows)

    return inner


@_styled
def error_over_time(rows: Sequence[FrameRow]) -> str:
    """Median and worst-vertebra error of each published pose (mm) over time, and the network's own; states behind.

    Below: the visible share.
    """
    from matplotlib.patches import Patch

    figure, (top, bottom) = _figure(10.5, 4.6, 2, {"height_ratios": [3.2, 1], "hspace": 0.09}, sharex=True)
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
        top.axvspan(span.start, span.end, color=STATE_COLOURS.get(span.state, GRID), linewidth=0)
    top.plot(
        t,
        np.minimum(worst, limit),
        ".",
        color="#64748b",
        markersize=3.5,
        label="worst vertebra (mean of its landmarks)",
    )
    if len(network):
        at = np.array([row.t for row in alone])
        label = "network alone, median"
        top.plot(at, np.minimum(network, limit), "x", color=NETWORK, markersize=3.5, alpha=0.7, label=label)
    top.plot(
        *_broken(t, np.minimum(median, limit)), color=ACCENT, linewidth=1.6, label="median over all landmarks"
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
    if limit > FALSE_POSE_MM:
        top.axhline(FALSE_POSE_MM, color=WARN, linestyle="--", linewidth=1)
    top.set_ylim(0, limit)
    top.set_ylabel("error (TRE), mm")
    lines = top.get_legend_handles_labels()[0]
    patches = [
        Patch(color=STATE_COLOURS[s], label=s) for s in STATE_COLOURS if any(p.state == s for p in spans)
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
    return _svg(figure)


@_styled
def error_per_level(rows: Sequence[FrameRow]) -> str:
    """Box plot of the landmark errors (mm) of each level; whiskers at 5 and 95 %."""
    errors: dict[str, list[float]] = {}
    for row in rows:
        for level, values in row.errors_mm.items():
            errors.setdefault(level, []).extend(values)
    figure, axes = _figure(5.1, 3.3)
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
    return _svg(figure)


@_styled
def age_histogram(rows: Sequence[FrameRow]) -> str:
    """Histogram of the pose ages (ms) with p50, p95 and p99."""
    ages = np.array([row.age_ms for row in rows if row.published and row.age_ms is not None])
    figure, axes = _figure(5.1, 3.3)
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
    return _svg(figure)


def _figure(
    width: float, height: float, rows: int = 1, grid: dict[str, Any] | None = None, sharex: bool = False
) -> tuple[Any, Any]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)  # no pyplot: no global state, no display
    return figure, figure.subplots(rows, 1, sharex=sharex, gridspec_kw=grid or {})


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None}
    figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _broken(t: np.ndarray, y: np.ndarray, gap_s: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """The line broken where no pose was published for a while: silence must not look like a value."""
    at = np.nonzero(np.diff(t) > gap_s)[0] + 1
    return np.insert(t.astype(float), at, np.nan), np.insert(y.astype(float), at, np.nan)
