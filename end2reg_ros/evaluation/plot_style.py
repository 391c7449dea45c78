"""One look for all pictures: colours, figures without pyplot, files that the same data makes the same way."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.evaluation.metrics import WRONG_MM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
T = TypeVar("T")
Array = NDArray[np.float64]

STATE_COLOURS = {"SEARCHING": "#cbd5e1", "TRACKING": "#86efac", "DEGRADED": "#fde047", "LOST": "#fca5a5"}
INK, GRID, MUTED, ACCENT, WARN, NETWORK = "#1e293b", "#e2e8f0", "#64748b", "#0f766e", "#b91c1c", "#7c3aed"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "end2reg",  # the same data gives the same file
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": "#94a3b8",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
}
DPI = 110


@contextmanager
def plot_style() -> Iterator[None]:
    """Draw and save in this style inside of it."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        yield


def styled(plot: Callable[P, T]) -> Callable[P, T]:
    """A function that draws, run in ``plot_style``."""

    @wraps(plot)
    def inner(*args: P.args, **kwargs: P.kwargs) -> T:
        with plot_style():
            return plot(*args, **kwargs)

    return inner


def new_figure(
    width: float,
    height: float,
    rows: int = 1,
    columns: int = 1,
    heights: Sequence[float] | None = None,
    **subplots: Any,
) -> tuple[Figure, list[Any]]:
    """A figure and its panels, row by row. No pyplot: no global state, no display.

    Args:
        width, height: inches.
        heights: relative ones of the rows; equal when None.
        subplots: more for ``Figure.subplots``, such as ``sharex=True``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    grid = {} if heights is None else {"height_ratios": list(heights)}
    panels = figure.subplots(rows, columns, squeeze=False, gridspec_kw=grid, **subplots)
    return figure, list(panels.ravel())


def save_png(figure: Figure, path: Path) -> Path:
    """Write a figure, its folder made if missing; the path. No time of making in the file: the same data, the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    return path


def svg_text(figure: Figure) -> str:
    """A figure as an SVG element for a page, transparent."""
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None}
    figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def broken_line(t: Array, y: Array, gap: float) -> tuple[Array, Array]:
    """A line (N,), (N,) broken where neighbours in ``t`` are more than ``gap`` apart: silence must not look like a value."""
    at = np.nonzero(np.diff(t) > gap)[0] + 1
    return np.insert(t.astype(float), at, np.nan), np.insert(y.astype(float), at, np.nan)


def mark_wrong(axes: Axes, vertical: bool = False) -> None:
    """A line at 10 mm, beyond which a vertebra's pose is called wrong."""
    draw = axes.axvline if vertical else axes.axhline
    draw(WRONG_MM, color=WARN, linestyle="--", linewidth=0.8, zorder=0)


def cumulative(axes: Axes, values: Sequence[float] | Array, label: str, of: int = 0, **line: Any) -> None:
    """Steps of the share of values up to each of them, of all (or of ``of``, where some have no value); nothing of none."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if len(ordered):
        shares = np.arange(1, len(ordered) + 1) / (of or len(ordered))
        axes.step(ordered, shares, where="post", label=label, **line)


def lying_boxes(axes: Axes, groups: Sequence[Sequence[float]], labels: Sequence[str]) -> None:
    """One box a group: median, quartiles, 5-95 %, and what is outside.

    By hand, because matplotlib's argument for lying boxes differs between the versions in use.
    """
    for row, values in enumerate(groups):
        low, q1, median, q3, high = np.percentile(values, [5, 25, 50, 75, 95])
        axes.plot([low, high], [row, row], color="0.4", linewidth=1)
        axes.plot([q1, q3], [row, row], color=f"C{row % 10}", linewidth=11, solid_capstyle="butt")
        axes.plot([median, median], [row - 0.3, row + 0.3], color="black", linewidth=1.5)
        outside = [v for v in values if v < low or v > high]
        axes.plot(outside, [row] * len(outside), ".", color="0.4", markersize=3)
    label_rows(axes, labels)


def label_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Name the rows 0, 1, ... of a lying plot, the first on top."""
    axes.set_yticks(range(len(labels)), list(labels), fontsize=8)
    axes.set_ylim(len(labels) - 0.4, -0.6)


def log_axes(axes: Axes) -> None:
    """Both axes logarithmic, with plain numbers at 1, 2 and 5 of every decade."""
    from matplotlib.ticker import FuncFormatter

    def text(value: float, position: int) -> str:
        first = f"{value:.0e}"[0] if value > 0 else ""
        return f"{value:g}" if first in ("1", "2", "5") else ""

    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(text))
        axis.set_minor_formatter(FuncFormatter(text))
    axes.grid(True, which="both", color=GRID)


def legend_beside(axes: Axes, handles: Sequence[Any] | None = None) -> None:
    """The legend right of a panel, where it hides nothing."""
    more = {} if handles is None else {"handles": handles}
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), **more)


def legend_below(figure: Figure, axes: Axes, columns: int = 3) -> None:
    """One legend under all panels, of what ``axes`` names."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
