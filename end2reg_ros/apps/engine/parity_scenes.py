"""Scenes that engines are held against each other on: made up from a case's surface, the same for the same seed.

They are no pictures of an operation. They fill both paddings of a profile, look like what the network is shown (bone, film of
noise, wound edges, things that are neither), and end with those that a network is seldom shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.pyramid import (
    UNIT_M,
    Pyramid,
    build_pyramid,
    cells_of,
    fit,
    point_attributes,
    tables_of,
)
from end2reg_ros.cloud.voxel import voxel_downsample
from end2reg_ros.engine.types import Floats, ScenePyramids
from end2reg_ros.profile import Profile
from end2reg_ros.se3 import rotation_from_vector

Array = NDArray[np.float64]

THIN_M = 0.002
TURN_DEG, SHIFT_M = 30.0, 0.010
NOISE_M = (0.0002, 0.0010)
OUTLIER_SHARE = 0.002
WOUND_HALF_M = (0.020, 0.035)
TISSUE_HALF_M = 0.050
FACING = 0.15  # bone that is turned further away from the camera is not seen
BONE_COLOUR, TISSUE_COLOUR = (205, 190, 160), (150, 50, 45)


@dataclass(frozen=True)
class SurfacePoints:
    """Points (N, 3) of a case's visible surface about the model's centre, metres, model axes, and outward normals (N, 3)."""

    points: Array
    normals: Array


@dataclass(frozen=True)
class VerifyScene:
    """One scene ready for a pass, and what it is: a ``spine``, a ``part`` of one, or one of ``degenerate_scenes``."""

    name: str
    pyramids: ScenePyramids

    @property
    def padding(self) -> int:
        """Rows of its level 0."""
        return len(self.pyramids.registration.levels[0].points)

    @property
    def cells(self) -> int:
        """Rows of its level 0 in use."""
        return self.pyramids.registration.levels[0].count

    @property
    def truncated(self) -> int:
        """Cells that the padding cut off."""
        return self.pyramids.registration.truncation.dropped_points


def verify_scenes(surface: SurfacePoints, profile: Profile, count: int, seed: int) -> list[VerifyScene]:
    """``count`` random scenes, by turns of a whole spine and of a part, then the degenerate ones."""
    made = []
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        share = 1.0 if i % 2 == 0 else float(rng.uniform(0.2, 0.5))
        made.append(random_scene(surface, profile, share, rng))
    return made + degenerate_scenes(surface, profile, np.random.default_rng((seed, count)))


def random_scene(
    surface: SurfacePoints, profile: Profile, share: float, rng: np.random.Generator
) -> VerifyScene:
    """A spine in its wound, turned by up to 30 degrees, shifted, thinned, with noise and outliers.

    Args:
        share: of the spine's length that lies in the crop.
    """
    low, high = surface.points.min(axis=0), surface.points.max(axis=0)
    length = share * (high[2] - low[2])
    start = rng.uniform(low[2], high[2] - length) if share < 1.0 else low[2]
    wound = rng.uniform(*WOUND_HALF_M)
    bone = (surface.points[:, 2] >= start) & (surface.points[:, 2] <= start + length)
    bone &= (np.abs(surface.points[:, 0]) < wound) & (surface.normals[:, 1] < -FACING)
    bone &= rng.random(len(bone)) < rng.uniform(0.4, 1.0)
    tissue = _tissue(surface, (start, start + length), wound, rng)
    points = np.concatenate([surface.points[bone], tissue])
    upward = np.tile([0.0, -1.0, 0.0], (len(tissue), 1))
    normals = np.concatenate([surface.normals[bone], upward])
    colours = np.concatenate(
        [np.tile(BONE_COLOUR, (int(bone.sum()), 1)), np.tile(TISSUE_COLOUR, (len(tissue), 1))]
    )
    points = points + rng.normal(scale=rng.uniform(*NOISE_M), size=points.shape)
    normals = _unit(normals + rng.normal(scale=0.15, size=normals.shape))
    strays = rng.random(len(points)) < rng.uniform(0.0, OUTLIER_SHARE)
    points[strays] = rng.uniform(points.min(axis=0), points.max(axis=0), (int(strays.sum()), 3))
    normals[strays] = _unit(rng.normal(size=(int(strays.sum()), 3)))
    colours = np.clip(colours + rng.normal(scale=20.0, size=colours.shape), 0, 255).astype(np.uint8)
    axis = _unit(rng.normal(size=(1, 3)))[0]
    R = rotation_from_vector(np.radians(rng.uniform(0.0, TURN_DEG)) * axis)
    points = points @ R.T + rng.uniform(-SHIFT_M, SHIFT_M, 3)
    kept = voxel_downsample(points.astype(np.float32), THIN_M, colours)
    # The normal of the last point of each cell: one of its own is as good as their mean.
    cell_normals = np.zeros((len(kept.points), 3))
    cell_normals[kept.cell_of_point] = normals @ R.T
    name = "spine" if share == 1.0 else "part"
    return scene_of(
        name, kept.points / UNIT_M, point_attributes(len(kept.points), kept.colours, cell_normals), profile
    )


def degenerate_scenes(
    surface: SurfacePoints, profile: Profile, rng: np.random.Generator
) -> list[VerifyScene]:
    """No points, 60 points, all points in one cell, and more cells than the largest padding has rows."""
    few = surface.points[rng.choice(len(surface.points), 60)] / UNIT_M
    most = profile.scene.capacities[0]
    side = profile.scene.voxels[0] * (6 * most) ** (1 / 3)
    many = rng.uniform(-side / 2, side / 2, (8 * most, 3))
    clouds = {
        "empty": np.zeros((0, 3)),
        "60 points": few,
        "one cell": np.full((60, 3), 0.3 * profile.scene.voxels[0]),
        "too many": many,
    }
    return [
        scene_of(name, points, _random_attributes(len(points), rng), profile)
        for name, points in clouds.items()
    ]


def scene_of(name: str, points: NDArray[np.floating], attributes: Floats, profile: Profile) -> VerifyScene:
    """The tables of a cloud (N, 3), network units, in the smallest of the profile's paddings that holds it."""
    own = None if profile.segmentation is None else build_pyramid(points, attributes, profile.segmentation)
    return VerifyScene(name, ScenePyramids(smallest_pyramid(points, attributes, profile), own))


def smallest_pyramid(points: NDArray[np.floating], attributes: Floats, profile: Profile) -> Pyramid:
    """A scene's pyramid in the smallest padding that holds all its cells; in the largest where none does."""
    cells = cells_of(points, attributes, profile.scene)
    return tables_of(cells, next((s for s in profile.scene_specs if fit(cells, s)), profile.scene))


def _tissue(
    surface: SurfacePoints, ends: tuple[float, float], wound: float, rng: np.random.Generator
) -> Array:
    """(N, 3) a wavy plane around the wound, 1.5 mm between points."""
    low, high = surface.points.min(axis=0), surface.points.max(axis=0)
    x, z = np.meshgrid(
        np.arange(-TISSUE_HALF_M, TISSUE_HALF_M, 0.0015), np.arange(ends[0] - 0.010, ends[1] + 0.010, 0.0015)
    )
    x, z = x.ravel(), z.ravel()
    outside = (np.abs(x) > wound) | (z < ends[0]) | (z > ends[1])
    height = rng.uniform(low[1], 0.5 * (low[1] + high[1]))
    waves = (
        0.003
        * np.sin(x[outside] / 0.011 + rng.uniform(0, 6))
        * np.cos(z[outside] / 0.017 + rng.uniform(0, 6))
    )
    return np.stack([x[outside], height + waves, z[outside]], axis=1)


def _random_attributes(count: int, rng: np.random.Generator) -> Floats:
    colours = rng.integers(0, 256, (count, 3)).astype(np.uint8)
    return point_attributes(count, colours, _unit(rng.normal(size=(count, 3))))


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9))
