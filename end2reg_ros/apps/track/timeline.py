"""What the pictures of a track over time share: the state behind a panel, lines that break, one time axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.apps.track.run import FrameRecord
from end2reg_ros.evaluation.plot_style import GRID, STATE_COLOURS, new_figure

Array = NDArray[np.float64]

DROPPED = "#334155"
GAP_FRAMES = 2.5  # a line is broken where more than this many frames are missing
WIDTH_IN = 11.0


def tall_figure(heights: Sequence[float]) -> tuple[Any, list[Any]]:
    """Panels of these heights over one time axis."""
    height = 1.0 + 1.15 * sum(heights)
    return new_figure(WIDTH_IN, height, rows=len(heights), heights=heights, sharex=True)


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
    return STATE_COLOURS[record.update.state.name] if record.update is not None else DROPPED


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


def from_zero(axes: Any, *values: Array) -> None:
    """The panel from zero to a little above the highest value."""
    finite = np.concatenate([np.zeros(1), *values])
    highest = float(finite[np.isfinite(finite)].max())
    axes.set_ylim(0, 1.1 * highest if highest > 0 else 1.0)
