"""The bundled spine seen from behind without a camera: its surface as the model, the same turned and noisy as the scene."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from views import bundled_case

from end2reg_ros.cloud.pyramid import UNIT_M, Pyramid, build_pyramid, point_attributes
from end2reg_ros.engine.types import ScenePyramids
from end2reg_ros.profile import realtime
from end2reg_ros.se3 import rotation_from_vector

Array = NDArray[np.float64]
PROFILE = realtime()
ROTATION = rotation_from_vector(np.array([0.1, 0.05, -0.08]))
SHIFT = np.array([0.03, 0.02, -0.04])  # network units


@lru_cache(maxsize=1)
def surface() -> tuple[Array, Array]:
    """(N, 3) points about their centre, network units, and (N, 3) normals: the triangles that look backwards."""
    points, normals = [], []
    for vertebra in bundled_case().vertebrae:
        corners = vertebra.mesh.vertices[vertebra.mesh.triangles]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals.append(across / np.linalg.norm(across, axis=1, keepdims=True))
        points.append(corners.mean(axis=1))
    centres, turned = np.concatenate(points), np.concatenate(normals)
    behind = turned[:, 1] < 0.2
    seen = centres[behind]
    return (seen - seen.mean(axis=0)) / UNIT_M, turned[behind]


@lru_cache(maxsize=1)
def model() -> Pyramid:
    """The model's side."""
    points, normals = surface()
    return build_pyramid(points, point_attributes(len(points), None, normals), PROFILE.model)


def scene(small: bool = False, seed: int = 0) -> ScenePyramids:
    """The scene at x -> ROTATION x + SHIFT with 0.5 mm of noise, in the profile's padding or the small one."""
    points, normals = surface()
    moved = points @ ROTATION.T + SHIFT + np.random.default_rng(seed).normal(0, 0.005, points.shape)
    attributes = point_attributes(len(points), None, normals @ ROTATION.T)
    return ScenePyramids(build_pyramid(moved, attributes, PROFILE.scene_specs[0 if small else -1]))
