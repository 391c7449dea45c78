"""Pictures of an offline track over time: state and reasons, quality, uncertainty, held vertebrae; errors with a truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.apps.track.files import network_distances_mm
from end2reg_ros.apps.track.run import FrameRecord
from end2reg_ros.apps.track.timeline import (
    DROPPED,
    colour_of,
    finish,
    from_zero,
    gap_s,
    runs_of,
    seconds_of,
    shade,
    tall_figure,
)
from end2reg_ros.apps.track.truth import TrackErrors, mean_errors
from end2reg_ros.evaluation.metrics import WRONG_MM
from end2reg_ros.evaluation.plot_style import (
    INK,
    NETWORK,
    STATE_COLOURS,
    WARN,
    broken_line,
    legend_beside,
    mark_wrong,
    save_png,
    styled,
)
from end2reg_ros.evaluation.spread import spread
from end2reg_ros.registration.types import Quality

Array = NDArray[np.float64]

SHARES: dict[str, Callable[[Quality], float]] = {
    "inlier ratio": lambda q: q.inlier_ratio,
    "visible": lambda q: q.visible_fraction,
    "normals agree": lambda q: q.normal_agreement,
    "mask": lambda q: q.mask_fraction,
    "seen through": lambda q: q.free_space_violation,
}
REASONS_SHOWN = 9
SEEN, HELD = "#5eead4", "#f97316"


@styled
def write_track_plots(folder: Path, records: Sequence[FrameRecord], errors: TrackErrors) -> list[Path]:
    """Write ``track.png``, and ``error.png`` where there are errors; their paths. Nothing without a frame."""
    if not records:
        return []
    written = [save_png(draw_track(records), folder / "track.png")]
    return (
        [*written, save_png(draw_errors(records, errors), folder / "error.png")] if errors.frames else written
    )


def draw_track(records: Sequence[FrameRecord]) -> Any:
    """Everything but errors: one column of panels over a common time."""
    apart = network_distances_mm(records)
    levels = _levels(records)
    reasons = _reasons(records)
    heights = [0.4 + 0.2 * len(reasons), 1.5, 0.9, 0.9, 0.3 + 0.17 * max(len(levels), 1)]
    figure, panels = tall_figure([*heights[:4], *([0.9] if apart else []), heights[4]])
    _draw_reasons(panels[0], records, reasons)
    _draw_quality(panels[1:3], records)
    _draw_stddev(panels[3], records)
    if apart:
        _draw_network(panels[4], records, apart)
    _draw_held(panels[-1], records, levels)
    finish(figure, panels, records)
    return figure


def _draw_network(axes: Any, records: Sequence[FrameRecord], apart: dict[int, float]) -> None:
    distances = np.array(list(apart.values()))
    shade(axes, records)
    label = "refinement moved\nthe network's pose\n(no error)"
    axes.plot(seconds_of(apart, records), distances, ".", color=NETWORK, markersize=3, label=label)
    from_zero(axes, distances)
    axes.set_ylabel("network, mm")
    legend_beside(axes)


def draw_errors(records: Sequence[FrameRecord], errors: TrackErrors) -> Any:
    """Errors at the landmarks over time with the state behind: the spine's rigid pose, each vertebra's own."""
    figure, panels = tall_figure([2.4, 2.4])
    t, gap = seconds_of([frame.stamp_ns for frame in errors.frames], records), gap_s(records)
    pooled = errors.pooled()
    means = {name: np.array([one[name] for one in map(mean_errors, errors.frames)]) for name in pooled}
    for k, (name, values) in enumerate(means.items()):
        axes, colour = (panels[0], INK) if name == "spine" else (panels[1], f"C{k - 1}")
        found = spread(pooled[name])
        label = f"{name}: median {found.median:.2f}, p95 {found.p95:.2f}, max {found.maximum:.2f} mm"
        axes.plot(*broken_line(t, values, gap), ".-", color=colour, markersize=2.5, linewidth=1, label=label)
    highest = max(float(values.max()) for values in means.values())
    for axes, title in zip(panels, ("spine, one rigid pose", "each vertebra's own pose"), strict=True):
        shade(axes, records)
        from_zero(axes, *means.values())
        if highest > WRONG_MM:
            mark_wrong(axes)
        axes.set_ylabel(f"TRE, mm\n{title}")
        legend_beside(axes)
    for at in seconds_of(errors.without_truth, records):
        panels[0].axvline(at, color=WARN, linewidth=0.8)
    text = "lines: mean over the landmarks of each published pose; figures: over all landmarks of all of them"
    if errors.without_truth:
        text += f"; red: {len(errors.without_truth)} poses without a truth"
    panels[0].set_title(text, fontsize=9, loc="left")
    finish(figure, panels, records)
    return figure


def _draw_reasons(axes: Any, records: Sequence[FrameRecord], reasons: list[str]) -> None:
    """One row a reason, in the colour of the state it led to."""
    from matplotlib.patches import Patch

    def row(record: FrameRecord) -> str:
        return _reason(record) if _reason(record) in reasons else "others"

    for k, name in enumerate(reasons):
        for began, width, colour in runs_of(records, lambda r: colour_of(r) if row(r) == name else ""):  # noqa: B023
            axes.broken_barh([(began, width)], (k - 0.41, 0.82), color=colour, linewidth=0)
    counts = Counter(row(record) for record in records)
    axes.set_yticks(range(len(reasons)), [f"{name} ({counts[name]})" for name in reasons], fontsize=8)
    axes.set_ylim(len(reasons) - 0.5, -0.5)
    told = {record.update.state.name for record in records if record.update is not None}
    patches = [Patch(color=STATE_COLOURS[name], label=name) for name in STATE_COLOURS if name in told]
    if any(record.update is None for record in records):
        patches.append(Patch(color=DROPPED, label="dropped"))
    legend_beside(axes, patches)
    axes.set_title("reason of every frame (frames), in the colour of the state", fontsize=9, loc="left")


def _draw_lines(
    axes: Any, records: Sequence[FrameRecord], t: Array, lines: Mapping[str, tuple[str, Array]], label: str
) -> None:
    """Label -> colour and values (N,) at seconds ``t`` (N,), over the state; from zero."""
    shade(axes, records)
    for name, (colour, values) in lines.items():
        axes.plot(*broken_line(t, values, gap_s(records)), color=colour, linewidth=1.2, label=name)
    from_zero(axes, *(values for _, values in lines.values()))
    axes.set_ylabel(label)
    legend_beside(axes)


def _draw_quality(panels: Sequence[Any], records: Sequence[FrameRecord]) -> None:
    """Shares and residual of every fit."""
    t, found = _fits(records)
    shares = {
        name: (f"C{k}", np.array([share(quality) for quality in found]))
        for k, (name, share) in enumerate(SHARES.items())
    }
    _draw_lines(panels[0], records, t, shares, "share")
    panels[0].set_ylim(-0.02, 1.02)
    residual = np.array([1000 * quality.residual_rmse_m for quality in found])
    named = {"rmse of the inliers\n(no accuracy)": (INK, residual)}
    _draw_lines(panels[1], records, t, named, "residual, mm")


def _draw_stddev(axes: Any, records: Sequence[FrameRecord]) -> None:
    """Of published poses only: a failed fit's may be metres."""
    shown = [r for r in records if r.stddevs is not None and r.update is not None and r.update.published]
    t = seconds_of([r.stamp_ns for r in shown], records)
    position = np.array([1000 * r.stddevs[0] for r in shown if r.stddevs])
    rotation = np.array([float(np.degrees(r.stddevs[1])) for r in shown if r.stddevs])
    lines = {"position, mm": ("C0", position), "rotation, deg": ("C1", rotation)}
    _draw_lines(axes, records, t, lines, "stddev,\nmid-spine")


def _draw_held(axes: Any, records: Sequence[FrameRecord], levels: list[str]) -> None:
    """Published vertebrae: seen well enough, or held to their neighbours."""
    from matplotlib.patches import Patch

    def colour(record: FrameRecord, name: str) -> str:
        update = record.update
        if update is None or not update.published or update.registration is None:
            return ""
        held = {level.level: level.held for level in update.registration.levels}
        return "" if name not in held else HELD if held[name] else SEEN

    for k, name in enumerate(levels):
        for began, width, found in runs_of(records, lambda r: colour(r, name)):  # noqa: B023
            axes.broken_barh([(began, width)], (k - 0.4, 0.8), color=found, linewidth=0)
    axes.set_yticks(range(len(levels)), levels, fontsize=8)
    axes.set_ylim(max(len(levels), 1) - 0.5, -0.5)
    legend_beside(axes, [Patch(color=SEEN, label="published"), Patch(color=HELD, label="published, held")])


def _fits(records: Sequence[FrameRecord]) -> tuple[Array, list[Quality]]:
    """Seconds and quality of the frames with a fit, good or bad; one that found no points at all has no quality."""
    updates = [(r.stamp_ns, r.update.registration) for r in records if r.update is not None]
    found = {stamp: fit.quality for stamp, fit in updates if fit is not None and fit.quality.inliers > 0}
    return seconds_of(found, records), list(found.values())


def _reason(record: FrameRecord) -> str:
    return record.update.reason_code if record.update is not None else f"dropped: {record.dropped}"


def _reasons(records: Sequence[FrameRecord]) -> list[str]:
    """In order of appearance; the rarest as ``others``."""
    names = [_reason(record) for record in records]
    common = sorted(dict.fromkeys(names), key=names.count, reverse=True)[:REASONS_SHOWN]
    shown = [name for name in dict.fromkeys(names) if name in common]
    return [*shown, "others"] if len(set(names)) > len(shown) else shown


def _levels(records: Sequence[FrameRecord]) -> list[str]:
    found = [
        r.update.registration.levels
        for r in records
        if r.update is not None and r.update.registration is not None
    ]
    return list(dict.fromkeys(level.level for levels in found for level in levels))
