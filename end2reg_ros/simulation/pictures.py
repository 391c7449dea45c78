"""Pictures of simulated views: a contact sheet of colour, depth and truth, for the documentation and for a look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.simulation.sequence import SimulatedFrame

BONE = np.array([255, 214, 90], dtype=np.float64)
INVALID = np.array([0, 0, 0], dtype=np.uint8)


def write_contact_sheet(path: Path, frames: Sequence[tuple[str, SimulatedFrame]], quality: int = 82) -> None:
    """Write one picture: a column for each (title, frame), rows for colour, depth and bone truth.

    Args:
        path: .png or .jpg.
        quality: of a .jpg, 1-95.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = frames[0][1].bone.shape
    figure = Figure(figsize=(3.2 * len(frames), 3 * 3.2 * height / width + 0.3), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(frames), squeeze=False)
    for column, (title, frame) in enumerate(frames):
        images = (frame.colours, depth_picture(frame), truth_picture(frame))
        for row, image in enumerate(images):
            axes[row][column].imshow(image)
            axes[row][column].set_axis_off()
        axes[0][column].set_title(title, fontsize=9)
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.95, 0.02, 0.02)
    path.parent.mkdir(parents=True, exist_ok=True)
    jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    figure.savefig(path, pil_kwargs={"quality": quality} if jpeg else {"optimize": True})


def depth_picture(frame: SimulatedFrame) -> NDArray[np.uint8]:
    """(H, W, 3) depth as colour over 150 mm, black where the camera has none."""
    from matplotlib import colormaps

    z = frame.points[..., 2]
    valid = np.isfinite(z)
    near = float(np.percentile(z[valid], 10)) - 0.03 if valid.any() else 0.0
    tint = colormaps["turbo"]((z - near) / 0.15)[..., :3]
    image: NDArray[np.uint8] = (255 * np.nan_to_num(tint)).astype(np.uint8)
    image[~valid] = INVALID
    return image


def truth_picture(frame: SimulatedFrame) -> NDArray[np.uint8]:
    """(H, W, 3) the colour image, dimmed, with the visible bone painted over it."""
    image = 0.45 * frame.colours.astype(np.float64)
    image[frame.bone] = 0.35 * image[frame.bone] + 0.75 * BONE
    return np.clip(image, 0, 255).astype(np.uint8)


def example_views(case_path: Path) -> list[tuple[str, SimulatedFrame]]:
    """The views of the documentation: three suites and a hand in the way."""
    from end2reg_ros.case import load_case
    from end2reg_ros.simulation.benchmark import SceneSettings, simulate_scene
    from end2reg_ros.simulation.field_settings import Suite
    from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence

    case = load_case(case_path)
    chosen: tuple[tuple[Suite, int], ...] = (("easy", 3), ("standard", 1), ("hard", 7))
    views = [
        (f"suite {suite}", simulate_scene(case, SceneSettings(suite, seed)).frame) for suite, seed in chosen
    ]
    demo = SimulatedSequence(case, SequenceSettings(seed=2))
    return [("demo, t = 17.5 s", demo.frame(17.5)), *views]
