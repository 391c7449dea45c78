"""A tiny stored sequence without a renderer: a handful of points a frame, the spine at rest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from benchmarks.camera_rate.stream import Playback, PlaybackFrame, Recipe, write_playback
from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.simulation.camera.realsense import POINT_DTYPE

T_TRUE = se3.from_rotation_translation(
    se3.rotation_from_vector(np.array([0.3, -0.2, 2.0])), np.array([0.01, 0.02, 0.5])
)


def made_up(case: Case, folder: Path, frames: int = 4, visible: tuple[float, ...] = ()) -> Playback:
    """``frames`` clouds of 300, 301, ... points in ``folder``; ``visible``: of the first of them, else 1."""
    random = np.random.default_rng(0)
    levels = {v.level: T_TRUE @ v.T_model_level for v in case.vertebrae}
    stored, digest = [], hashlib.sha256()
    for number in range(frames):
        points = np.zeros(300 + number, POINT_DTYPE)
        points["xyz"] = [0.0, 0.0, 0.5] + 0.1 * random.random((len(points), 3))
        path = folder / f"frame_{number:04d}.bin"
        path.write_bytes(points.tobytes())
        digest.update(points.tobytes())
        share = visible[number] if number < len(visible) else 1.0
        stored.append(PlaybackFrame(path, len(points), T_TRUE, levels, share))
    recipe = Recipe(case.hash, 0, "still", frames, 30.0)
    playback = Playback(recipe, tuple(stored), T_TRUE, digest.hexdigest())
    write_playback(folder, playback)
    return playback
