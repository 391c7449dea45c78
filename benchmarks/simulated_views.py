"""The documentation's picture of simulated views: colour, depth and truth of each; ``python benchmarks/simulated_views.py``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.simulation.field.settings import Suite
from end2reg_ros.simulation.random_scenes import SceneSettings, simulate_scene
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedFrame, SimulatedSequence

BONE = np.array([255, 214, 90], dtype=np.float64)
INVALID = np.array([0, 0, 0], dtype=np.uint8)


def write_contact_sheet(
    path: Path, frames: Sequence[tuple[str, SimulatedFrame]], width_px: int = 320, shades: int = 0
) -> None:
    """Write one PNG: a column for each (title, frame), rows for colour, depth and bone truth.

    Args:
        path: the .png; its folder is made.
        width_px: of a column.
        shades: colours of the file's palette, for a small file; 0 keeps them all.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    height, width = frames[0][1].bone.shape
    column_in = width_px / 100.0
    figure = Figure(figsize=(column_in * len(frames), 3 * column_in * height / width + 0.3), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(frames), squeeze=False)
    for column, (title, frame) in enumerate(frames):
        images = (frame.colours, depth_picture(frame), truth_picture(frame))
        for row, image in enumerate(images):
            axes[row][column].imshow(image)
            axes[row][column].set_axis_off()
        axes[0][column].set_title(title, fontsize=9)
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.95, 0.02, 0.02)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    if shades:
        picture = picture.quantize(shades, dither=Image.Dither.NONE)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, optimize=True)


def depth_picture(frame: SimulatedFrame) -> NDArray[np.uint8]:
    """(H, W, 3) depth as colour over 220 mm, black where the camera has none."""
    from matplotlib import colormaps

    z = frame.points[..., 2]
    valid = np.isfinite(z)
    near = float(np.percentile(z[valid], 10)) - 0.03 if valid.any() else 0.0
    tint = colormaps["turbo"]((z - near) / 0.22)[..., :3]
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
    case = load_case(case_path)
    chosen: tuple[tuple[Suite, int], ...] = (("easy", 3), ("standard", 1), ("hard", 7))
    views = [
        (f"suite {suite}", simulate_scene(case, SceneSettings(suite, seed)).frame) for suite, seed in chosen
    ]
    demo = SimulatedSequence(case, SequenceSettings(seed=2))
    return [("demo, t = 17.5 s", demo.frame(17.5)), *views]


if __name__ == "__main__":
    write_contact_sheet(Path("docs/images/simulated_views.png"), example_views(bundled_case_path()), 300, 256)
