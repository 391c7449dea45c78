"""What the pictures of a track over time share: the state behind a panel, lines that break, one time axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.apps.track.run import FrameRecord

Array = NDArray[np.float64]

COLOURS = {"SEARCHING": "#cbd5e1", "TRACKING": "#86efac", "DEGRADED": "#fde047", "LOST": "#fca5a5"}
DROPPED, SEEN, HELD = "#334155", "#5eead4", "#f97316"
INK, GRID, SPINE, NETWORK, WARN = "#1e293b", "#e2e8f0", "#0f172a", "#7c3aed", "#b91c1c"
STYLE: Any = {
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#94a3b8",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
}
GAP_FRAMES = 2.5  # a line is broken where more than this many frames are missing
WIDTH_IN = 11.0


def tall_figure(heights: Sequence[float]) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, 1.0 + 1.15 * sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)  # no pyplot: no global state, no display
    ratios = {"height_ratios": list(heights)}
    return figure, list(
        figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw=ratios)[:, 0]
    )


def finish(figure: Any, panels: list[Any], records: Sequence[FrameRecord]) -> None:
    end = (records[-1].stamp_ns - records[0].stamp_ns) * 1e-9 + period_s(records)
    for axes in panels:
        axes.set_xlim(0, end)
        axes.grid(axis="x", color=GRID, linewidth=0.6)
    panels[-1].set_xlabel("time since the first cloud, s")
    figure.align_ylabels(panels)


def shade(axes: Any, records: Sequence[FrameRecord]) -> None:
    """The state behind a panel; nothing behind dropped clouds."""
    for began, width, colour in runs_of(records, lambda r: colour_of(r) if r.update is not None else ""):
        axes.axvspan(began, began + width, color=colour, alpha=0.35, linewidth=0)


def runs_of(
    records: Sequence[FrameRecord], colour: Callable[[FrameRecord], str]
) -> list[tuple[float, float, str]]:
    """Begin and length in seconds of every stretch of frames of one colour; no stretch where there is none.

    A frame lasts until the next one, but no longer than a gap.
    """
    t, period = seconds_of([r.stamp_ns for r in records], records), period_s(records)
    ends = np.append(t[1:], t[-1] + period)
    ends = np.where((ends < t) | (ends - t > gap_s(records)), t + period, ends)
    runs: list[tuple[float, float, str]] = []
    for began, end, record in zip(t, ends, records, strict=True):
        found = colour(record)
        if runs and runs[-1][2] == found and abs(runs[-1][0] + runs[-1][1] - began) < 1e-6:
            runs[-1] = (runs[-1][0], float(end - runs[-1][0]), found)
        else:
            runs.append((float(began), float(end - began), found))
    return [run for run in runs if run[2]]


def colour_of(record: FrameRecord) -> str:
    return COLOURS[record.update.state.name] if record.update is not None else DROPPED


def seconds_of(stamps_ns: Iterable[int], records: Sequence[FrameRecord]) -> Array:
    """Stamps as seconds since the first cloud."""
    return np.array([(stamp - records[0].stamp_ns) * 1e-9 for stamp in stamps_ns], dtype=np.float64)


def period_s(records: Sequence[FrameRecord]) -> float:
    """Usual time between two frames."""
    stamps = np.array([record.stamp_ns for record in records], dtype=np.float64)
    steps = np.diff(stamps)
    return float(np.median(steps[steps > 0]) * 1e-9) if (steps > 0).any() else 0.1


def gap_s(records: Sequence[FrameRecord]) -> float:
    return GAP_FRAMES * period_s(records)


def broken(t: Array, y: Array, gap: float) -> tuple[Array, Array]:
    """The line broken where frames are missing: silence must not look like a value."""
    at = np.nonzero(np.diff(t) > gap)[0] + 1
    return np.insert(t.astype(float), at, np.nan), np.insert(y.astype(float), at, np.nan)


def from_zero(axes: Any, *values: Array) -> None:
    """The panel from zero to a little above the highest value."""
    finite = np.concatenate([np.zeros(1), *values])
    highest = float(finite[np.isfinite(finite)].max())
    axes.set_ylim(0, 1.1 * highest if highest > 0 else 1.0)


def legend(axes: Any, handles: list[Any] | None = None) -> None:
    """Beside the panel, where it hides nothing."""
    more = {} if handles is None else {"handles": handles}
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), **more)
