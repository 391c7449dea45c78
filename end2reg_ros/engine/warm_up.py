"""Inputs of the right sizes with nothing in them: what an engine runs before its first real frame."""

from __future__ import annotations

import numpy as np

from end2reg_ros.cloud.pyramid import build_pyramid
from end2reg_ros.cloud.view_grid import CHANNELS, COLUMNS, ROWS
from end2reg_ros.engine.types import Floats, ScenePyramids
from end2reg_ros.profile import Profile


def empty_scenes(profile: Profile) -> list[ScenePyramids]:
    """A scene without points for each of a profile's paddings."""
    nothing = np.zeros((0, 3))
    own = None if profile.segmentation is None else build_pyramid(nothing, None, profile.segmentation)
    return [ScenePyramids(build_pyramid(nothing, None, spec), own) for spec in profile.scene_specs()]


def empty_grid() -> Floats:
    """A view grid without points."""
    return np.zeros((CHANNELS, ROWS, COLUMNS), np.float32)
