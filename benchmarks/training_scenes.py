"""A picture of random training scenes: ``python benchmarks/training_scenes.py --shards DIR --out FILE.png``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.training.command import main
from end2reg_ros.training.data.samples import (
    AnatomySample,
    SceneSample,
    anatomy_path,
    load_anatomy,
    load_scene,
    scene_files,
)

BONE, PAPER, GREY = (235, 60, 40), (250, 250, 250), (170, 174, 178)
MODEL = (30, 60, 150)
COLUMNS = 6
HALF_M, HALF_EMPTY_M = 0.13, 0.30  # half of what a tile shows, at the depth of the spine; without one


def write_samples_picture(
    shards: Path, out: Path, count: int = 24, seed: int = 0, tile_px: int = 190
) -> None:
    """Tiles of random scenes: what the camera sees near the spine, and beside it bone (red) under the posed model (blue).

    Args:
        shards: a shard folder.
        out: the .png; its folder is made.
        count: scenes shown, at most those there are.
        seed: of the choice.
        tile_px: width of a tile.

    Raises:
        TrainingError: no scenes, or one that cannot be read.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    files = scene_files(shards)
    chosen = np.random.default_rng(seed).permutation(len(files))[:count]
    rows = -(-len(chosen) // COLUMNS)
    width, height = 2 * tile_px * COLUMNS, (tile_px + 16) * rows
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(rows, COLUMNS, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, k in zip(axes.flat, sorted(chosen), strict=False):
        scene = load_scene(files[k])
        anatomy = load_anatomy(anatomy_path(shards, scene.anatomy)) if scene.anatomy else None
        axis.imshow(np.concatenate(_tiles(scene, anatomy, tile_px), axis=1), interpolation="nearest")
        made_of = anatomy.source.replace("procedural_", "p") if anatomy else "no spine"
        axis.set_title(f"{scene.suite}, {scene.tags.get('sensor', '')}, {made_of}", fontsize=7, pad=2)
    figure.subplots_adjust(0.003, 0.003, 0.997, 0.985, 0.02, 0.09)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(
        160, dither=Image.Dither.NONE
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    picture.save(out, optimize=True)


def _tiles(scene: SceneSample, anatomy: AnatomySample | None, size: int) -> list[NDArray[np.uint8]]:
    """Two pictures (size, size, 3) from the camera: its colours; bone and the posed model."""
    points, colours, bone = scene.points, scene.colours, scene.bone
    if anatomy is None:
        points, colours, bone = scene.view_points, scene.view_colours, scene.view_bone
        middle = np.median(points, axis=0).astype(np.float64)
    else:
        middle = points[bone > 0].mean(axis=0, dtype=np.float64) if bone.any() else points.mean(axis=0)
    if colours is None:
        colours = np.tile(np.array(GREY, np.uint8), (len(points), 1))
    truth = np.where(bone[:, None] > 0, np.array(BONE), (colours.mean(axis=1, keepdims=True) + 255) / 2)
    image = np.full((size, size, 3), PAPER, np.uint8)
    seen, labelled = image.copy(), image.copy()
    voxel, half = (0.002, HALF_M) if anatomy is not None else (0.006, HALF_EMPTY_M)
    _splat(seen, points, colours, middle, voxel, half)
    _splat(labelled, points, truth.astype(np.uint8), middle, voxel, half)
    if anatomy is not None:
        posed = se3.apply(scene.T_camera_model, anatomy.points[::9].astype(np.float64)).astype(np.float32)
        _splat(labelled, posed, np.tile(np.array(MODEL, np.uint8), (len(posed), 1)), middle, 0.0, half)
    return [seen, labelled]


def _splat(
    image: NDArray[np.uint8],
    points: NDArray[np.float32],
    colours: NDArray[np.uint8],
    middle: NDArray[np.float64],
    voxel: float,
    half: float,
) -> None:
    """Paint points, the farthest first, as squares of about ``voxel`` metres (0: one pixel)."""
    size = len(image)
    focal = 0.5 * size / half * middle[2]
    order = np.argsort(-points[:, 2], kind="stable")
    p, c = points[order].astype(np.float64), colours[order]
    uv = focal * (p[:, :2] / p[:, 2:] - middle[:2] / middle[2]) + 0.5 * size
    reach = int(np.ceil(0.5 * voxel * focal / middle[2]))
    for dv in range(-reach, reach + 1):
        for du in range(-reach, reach + 1):
            u, v = np.floor(uv[:, 0]).astype(int) + du, np.floor(uv[:, 1]).astype(int) + dv
            inside = (u >= 0) & (u < size) & (v >= 0) & (v < size)
            image[v[inside], u[inside]] = c[inside]


@dataclass(frozen=True)
class DrawScenes:
    """Draw random training scenes.

    Attributes:
        shards: a shard folder.
        out: the .png to write.
        count: how many.
        seed: of the choice.
    """

    shards: Path
    out: Path
    count: int = 24
    seed: int = 0

    def execute(self) -> str:
        """Draw."""
        write_samples_picture(self.shards, self.out, self.count, self.seed)
        return ""


if __name__ == "__main__":
    main(DrawScenes)
