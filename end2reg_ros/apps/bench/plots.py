"""Pictures of a speed measurement: stages, cost against cloud size, accuracy against speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from end2reg_ros.apps.bench.figures import BACKGROUND
from end2reg_ros.evaluation.plot_style import label_rows, legend_below, log_axes, new_figure, save_png, styled

STAGES_PICTURE, SCALING_PICTURE, ACCURACY_PICTURE = "stages.png", "cloud_size.png", "accuracy_speed.png"
# So that a stage has one colour in every picture.
COLOURS = {
    "decode": "tab:gray",
    "regions": "tab:olive",
    "crop": "tab:cyan",
    "tables": "tab:blue",
    "crop and tables": "steelblue",
    "network": "tab:red",
    "search": "tab:purple",
    "refine": "tab:green",
    "refine and judge": "yellowgreen",
    "judge": "tab:orange",
    "waiting for the network": "mistyrose",
    "second fit": "tab:brown",
    "other": "0.8",
}
SPARE_COLOURS = ("tab:pink", "gold", "lightgreen")


@dataclass(frozen=True)
class Dot:
    """One method on the accuracy-speed picture: median with quartiles of TRE (mm) against ms p50."""

    label: str
    ms: float
    tre_mm: float
    q1_mm: float
    q3_mm: float


def write_speed_plots(folder: Path, document: Mapping[str, Any]) -> list[Path]:
    """Write the pictures that the document of ``end2reg bench`` can fill; their paths."""
    methods = document["methods"]
    written = [_stages(folder / STAGES_PICTURE, methods)]
    if document["scaling"]["cloud"]:
        written.append(_cloud_sizes(folder / SCALING_PICTURE, document["scaling"]["cloud"]))
    dots = dots_of(methods)
    if dots:
        written.append(_accuracy_speed(folder / ACCURACY_PICTURE, dots))
    return written


def dots_of(methods: Sequence[Mapping[str, Any]]) -> list[Dot]:
    """One dot a method that published poses, and one for its network's own poses."""
    dots = []
    for m in methods:
        a, ms = m["accuracy"], m["followed"]["total_ms"]["p50"]
        if a["tre_median_mm"] is not None and ms is not None:
            dots.append(Dot(m["label"], ms, a["tre_median_mm"], a["tre_q1_mm"], a["tre_q3_mm"]))
        alone, ms = m["network"]["accuracy"], m["network"]["total_ms"]["p50"]
        if alone["tre_median_mm"] is not None and ms is not None:
            label = f"{m['label']}, network alone"
            dots.append(Dot(label, ms, alone["tre_median_mm"], alone["tre_q1_mm"], alone["tre_q3_mm"]))
    return dots


@styled
def _accuracy_speed(path: Path, dots: Sequence[Dot]) -> Path:
    """TRE against time, both logarithmic; every dot with a number that the list beside it explains."""
    figure, (axes,) = new_figure(10.5, 5.5)
    for number, dot in enumerate(sorted(dots, key=lambda dot: (dot.ms, dot.tre_mm)), 1):
        colour = f"C{(number - 1) % 10}"
        spread = [[max(0.0, dot.tre_mm - dot.q1_mm)], [max(0.0, dot.q3_mm - dot.tre_mm)]]
        text = f"{number}: {dot.label} ({dot.ms:.0f} ms, {dot.tre_mm:.2f} mm)"
        axes.errorbar(
            [dot.ms], [dot.tre_mm], spread, fmt="o", color=colour, capsize=2, linewidth=0.8, label=text
        )
        axes.annotate(str(number), (dot.ms, dot.tre_mm), (5, 4), textcoords="offset points", fontsize=9)
    axes.set(xlabel="time (ms, p50)", ylabel="TRE (mm): median, quartiles")
    log_axes(axes)
    figure.legend(loc="outside right upper", fontsize=8)
    return save_png(figure, path)


@styled
def _stages(path: Path, methods: Sequence[Mapping[str, Any]]) -> Path:
    """One bar a method, its stages' medians side by side."""
    from matplotlib.patches import Patch

    figure, (axes,) = new_figure(9.0, 1.2 + 0.55 * len(methods))
    every = (stage for m in methods for stage in m["followed"]["stages_ms"])
    names = list(dict.fromkeys(stage for stage in every if not stage.endswith(BACKGROUND)))
    spare = iter(SPARE_COLOURS * len(names))
    colours = {name: COLOURS.get(name) or next(spare) for name in names}
    for row, m in enumerate(methods):
        # What runs side by side with the rest gets a bar of its own underneath.
        aside = m["followed"]["side_by_side"]
        left = 0.0
        for name, stage in m["followed"]["stages_ms"].items():
            beside, width = name in aside, stage["p50"] or 0.0
            if name.endswith(BACKGROUND):
                continue  # no part of this frame's time
            place, height = (row + 0.22, 0.25) if beside else (row - 0.1, 0.35)
            axes.barh(place, width, height, left=left, color=colours[name])
            left += 0.0 if beside else width
        p95 = m["followed"]["total_ms"]["p95"]
        if p95 is not None:
            axes.plot([p95, p95], [row - 0.35, row + 0.15], color="black", linewidth=1)
    label_rows(axes, [m["label"] for m in methods])
    axes.set(xlabel="ms of a followed frame (medians; below: side by side; line: p95)")
    handles = [Patch(color=colours[name]) for name in names]
    figure.legend(handles, names, loc="outside lower center", ncols=6, fontsize=8)
    return save_png(figure, path)


@styled
def _cloud_sizes(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Followed frames on the left, starts from nothing on the right."""
    figure, panels = new_figure(10.5, 4.3, columns=2)
    labels = list(dict.fromkeys(row["label"] for row in rows))
    for axes, kind, title in (
        (panels[0], "followed", "the next frame of a track"),
        (panels[1], "from_nothing", "a start from nothing"),
    ):
        for number, label in enumerate(labels):
            mine = sorted((row for row in rows if row["label"] == label), key=lambda row: row["points"])
            known = [row for row in mine if row[kind]["total_ms"]["p50"] is not None]
            x = [row["points"] for row in known]
            y = [row[kind]["total_ms"]["p50"] for row in known]
            if known:
                axes.plot(x, y, "o-", color=f"C{number % 10}", label=label, markersize=4, linewidth=1)
        axes.set(xlabel="points in the cloud", ylabel="ms p50", title=title)
        if axes.has_data():  # an empty logarithmic axis cannot be drawn
            log_axes(axes)
    legend_below(figure, panels[0], columns=4)
    return save_png(figure, path)
