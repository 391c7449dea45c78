"""The picture of a case: its vertebrae from behind and from the left, with landmarks, screws and frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case, Landmarks, Screw
from end2reg_ros.case.shaded_view import ParallelView, draw
from end2reg_ros.errors import CaseError

Array = NDArray[np.float64]

PIXELS_PER_M = 4000.0
_BACKGROUND = "#14181d"
_TEXT = "#e6e9ec"
_AXES = (("x", "#ff5a4f"), ("y", "#57d364"), ("z", "#5aa2ff"))
_LANDMARK_STYLE = {
    "spinous": ("o", "#ffffff"),
    "transverse_left": ("<", "#ff8fd0"),
    "transverse_right": (">", "#8ff0ff"),
}


def save_picture(case: Case, path: str | Path) -> Path:
    """Write a PNG of a case: posterior view (as the camera over the field sees it) and left lateral view.

    Raises:
        CaseError: the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    views = {"posterior": _view(case, [1, 0, 0], [0, 0, 1])}
    # From the patient's left: anterior is to the left of the picture.
    views["left lateral"] = _view(case, [0, -1, 0], [0, 0, 1])
    sizes = [view.high - view.low for view in views.values()]
    widths, height = [float(s[0]) for s in sizes], max(float(s[1]) for s in sizes)
    scale = 9.0 / height
    figure = Figure(figsize=(sum(widths) * scale + 0.6, 10.2), facecolor=_BACKGROUND)
    grid = figure.add_gridspec(
        1, 2, width_ratios=widths, left=0.02, right=0.98, top=0.90, bottom=0.07, wspace=0.03
    )
    for index, (title, view) in enumerate(views.items()):
        axes = figure.add_subplot(grid[0, index])
        _draw_view(axes, case, view, title)
    figure.text(0.03, 0.955, case.name, color=_TEXT, fontsize=17, weight="bold", va="center")
    _legend(figure, case)
    try:
        figure.savefig(path, dpi=110, facecolor=_BACKGROUND)
    except (OSError, ValueError) as error:
        raise CaseError(f"{path}: the picture cannot be written ({error})") from None
    return Path(path)


def _view(case: Case, right: list[float], up: list[float]) -> ParallelView:
    r, u = np.array(right, dtype=np.float64), np.array(up, dtype=np.float64)
    points = [v.mesh.vertices for v in case.vertebrae]
    points += [np.stack([s.entry, s.tip]) for v in case.vertebrae for s in v.screws]
    flat = np.concatenate([np.stack([p @ r, p @ u], axis=1) for p in points])
    margin = 0.012
    return ParallelView(r, u, flat.min(axis=0) - margin, flat.max(axis=0) + margin, PIXELS_PER_M)


def _draw_view(axes: Any, case: Case, view: ParallelView, title: str) -> None:
    image, depth = draw([(v.mesh, v.colour) for v in case.vertebrae], view)
    low, high = view.low * 1000.0, view.high * 1000.0
    axes.imshow(image, extent=(low[0], high[0], low[1], high[1]), interpolation="antialiased")
    for vertebra in case.vertebrae:
        for screw in vertebra.screws:
            _draw_screw(axes, screw, view)
        _draw_frame(axes, vertebra.T_model_level, view)
        if vertebra.landmarks is not None:
            _draw_landmarks(axes, vertebra.landmarks, view, depth)
        y = view.project(vertebra.T_model_level[:3, 3])[1] * 1000.0
        axes.text(
            low[0] + 3.0,
            y,
            vertebra.level,
            color=np.array(vertebra.colour) / 255.0,
            fontsize=14,
            weight="bold",
            va="center",
        )
    axes.set_title(title, color=_TEXT, fontsize=12)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_aspect("equal")
    axes.axis("off")
    axes.plot([high[0] - 24, high[0] - 4], [low[1] + 3, low[1] + 3], color=_TEXT, linewidth=2.5)
    axes.text(high[0] - 14, low[1] + 4.5, "20 mm", color=_TEXT, fontsize=9, ha="center")


def _draw_frame(axes: Any, T_model_level: Array, view: ParallelView) -> None:
    origin = view.project(T_model_level[:3, 3]) * 1000.0
    for column, (_, colour) in enumerate(_AXES):
        step = view.project(T_model_level[:3, column]) * 12.0
        axes.plot(
            [origin[0], origin[0] + step[0]],
            [origin[1], origin[1] + step[1]],
            color=colour,
            linewidth=2.2,
            zorder=4,
        )


def _draw_screw(axes: Any, screw: Screw, view: ParallelView) -> None:
    """The shaft in its own width, drawn over the bone so that it can be seen inside."""
    start, end = view.project(screw.entry) * 1000.0, view.project(screw.tip) * 1000.0
    across = np.array([start[1] - end[1], end[0] - start[0]])
    length = float(np.linalg.norm(across))
    if length > 1e-6:
        across *= screw.diameter * 500.0 / length
        corners = np.array([start + across, end + across, end - across, start - across])
        axes.fill(
            corners[:, 0], corners[:, 1], facecolor="#c8ced6", edgecolor="#30363d", alpha=0.55, zorder=3
        )
    axes.plot(*start, "o", color="#f4f6f8", markerfacecolor="#30363d", markersize=6, zorder=5)


def _draw_landmarks(axes: Any, landmarks: Landmarks, view: ParallelView, depth: Array) -> None:
    rows, columns = depth.shape
    for name, (marker, colour) in _LANDMARK_STYLE.items():
        point = getattr(landmarks, name)
        x, y = view.project(point) * 1000.0
        column, row = ((view.project(point) - view.low) * view.pixels_per_m).astype(int)
        nearest = depth[rows - 1 - row, column] if 0 <= row < rows and 0 <= column < columns else -np.inf
        # Hollow where bone lies in front of the point.
        hidden = nearest > float(point @ view.towards) + 0.003
        axes.plot(
            x,
            y,
            marker,
            color=colour,
            markersize=9,
            zorder=6,
            markerfacecolor="none" if hidden else colour,
            markeredgecolor=colour if hidden else "#20242a",
        )


def _legend(figure: Any, case: Case) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=c, linewidth=2.2) for _, c in _AXES]
    labels = ["x anterior", "y left", "z superior"]
    proposed = any(v.landmarks is not None and v.landmarks.proposed for v in case.vertebrae)
    if any(v.landmarks is not None for v in case.vertebrae):
        handles += [Line2D([], [], color=c, marker=m, linestyle="") for m, c in _LANDMARK_STYLE.values()]
        labels += [n.replace("_", " ") + (" (proposed)" if proposed else "") for n in _LANDMARK_STYLE]
    if any(v.screws for v in case.vertebrae):
        handles.append(Line2D([], [], color="#c8ced6", linewidth=6, alpha=0.7))
        labels.append("planned screw")
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, labelcolor=_TEXT, fontsize=10)
