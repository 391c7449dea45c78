"""From a cloud and a rough pose to what the network sees: crop, thin, normals, local frame, pyramids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.normals import estimate_normals
from end2reg_ros.cloud.pyramid import (
    UNIT_M,
    Pyramid,
    build_pyramid,
    cells_of,
    point_attributes,
    tables_of,
)
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.cloud.voxel import voxel_downsample
from end2reg_ros.engine.types import ScenePyramids
from end2reg_ros.profile import Profile
from end2reg_ros.registration.fit.region import MIN_DEPTH_M, Box
from end2reg_ros.registration.fit.surface import ModelSurface
from end2reg_ros.se3 import apply, inverse

Array = NDArray[np.float64]

THIN_M = 0.002
# Half sides of the box cut out around a found region: x right, y anterior, z superior of the local frame, metres.
REGION_HALF_M = np.array([0.060, 0.060, 0.120])
# Around a posed model, on every side.
POSED_MARGIN_M = 0.015
# The same for a track: where it is expected is known to a few millimetres, and less to look at costs less.
TRACKED_MARGIN_M = 0.010
MIN_POINTS = 60
# Threads of the normals, which take most of the time.
THREADS = 2
# Points turned into the local frame at a time.
_STRETCH = 16384


Pause = Callable[[], None]


def no_pause() -> None:
    """Goes on at once."""


@dataclass(frozen=True)
class ModelSide:
    """The pre-operative side: pyramid in network units about ``centre`` (3,), and bounds about it, metres."""

    pyramid: Pyramid
    centre: Array
    box: Box


@dataclass(frozen=True)
class LocalScene:
    """A part of a cloud in its local frame.

    Attributes:
        pyramids: in network units.
        T_camera_local: (4, 4) metres; its axes are nearly those of the model.
        index: (M,) indices of the cloud's points inside the box.
        point_of: (M,) row of ``thinned`` of each of them.
        thinned: (N, 3) thinned points, camera frame, metres.
    """

    pyramids: ScenePyramids
    T_camera_local: Array
    index: NDArray[np.int64]
    point_of: NDArray[np.int64]
    thinned: NDArray[np.float32]

    def cell_of_index(self) -> NDArray[np.int32]:
        """(M,) row of the scene's level 0 of each point inside the box; -1 where it was dropped."""
        return self.pyramids.registration.cell_of_point[self.point_of]

    def cell_share(self, label: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(cells of the scene's level 0,) share of each cell's points with a label; ``label`` (N,) of the whole cloud."""
        cell = self.cell_of_index()
        held = cell >= 0
        count = self.pyramids.registration.levels[0].count
        total = np.bincount(cell[held], minlength=count)
        labelled = np.bincount(cell[held], weights=label[self.index][held].astype(float), minlength=count)
        return np.asarray(labelled / np.maximum(total, 1))


def model_side(surface: ModelSurface, profile: Profile) -> ModelSide:
    """The model side of a case's visible surface. Blind to the sampling: cells are means."""
    points = surface.points
    centre = points.mean(axis=0)
    attributes = point_attributes(len(points), None, surface.normals)
    pyramid = build_pyramid((points - centre) / UNIT_M, attributes, profile.model)
    return ModelSide(pyramid, centre, Box(points.min(axis=0) - centre, points.max(axis=0) - centre))


def around_region(
    cloud: Cloud, T_camera_local: Array, profile: Profile, threads: int = THREADS
) -> LocalScene | None:
    """The scene around a found region; None when next to nothing is there. ``threads`` change the time only."""
    return _scene(cloud, T_camera_local, Box(-REGION_HALF_M, REGION_HALF_M), profile, threads)


def around_pose(
    cloud: Cloud,
    T_camera_model: Array,
    side: ModelSide,
    profile: Profile,
    margin: float = POSED_MARGIN_M,
    threads: int = THREADS,
    pause: Pause = no_pause,
) -> LocalScene | None:
    """The scene within ``margin`` (metres) of a posed model's bounds, local frame = model axes about the model's centre;
    ``threads`` as above; ``pause`` is called between two steps.
    """
    T_camera_local = T_camera_model.copy()
    T_camera_local[:3, 3] = apply(T_camera_model, side.centre[None])[0]
    box = Box(side.box.low - margin, side.box.high + margin)
    return _scene(cloud, T_camera_local, box, profile, threads, pause)


def pose_of(rotation: Array, translation: Array, scene: LocalScene, side: ModelSide) -> Array:
    """(4, 4) T_camera_model from the network's T_scene_model in network units."""
    T_local_model = np.eye(4)
    T_local_model[:3, :3] = rotation
    T_local_model[:3, 3] = translation * UNIT_M - rotation @ side.centre
    return np.asarray(scene.T_camera_local @ T_local_model)


def points_inside(points: NDArray[np.float32], T_camera_local: Array, box: Box) -> NDArray[np.int64]:
    """Indices of the camera points (N, 3) inside a box of the local frame and before the camera.

    A stretch of the cloud at a time: it stays in the cache, and the product is too small for the linear algebra library
    to start its threads, which wait for each other for tens of milliseconds when another process has the core.
    """
    T = inverse(T_camera_local)
    R, t = T[:3, :3].astype(np.float32), T[:3, 3]
    low, high = ((side - t).astype(np.float32)[:, None] for side in (box.low, box.high))
    inside = np.empty(len(points), bool)
    for start in range(0, len(points), _STRETCH):
        local = R @ points[start : start + _STRETCH].T
        within = local > low
        within &= local < high
        np.logical_and(within[0], within[1], out=within[0])
        np.logical_and(within[0], within[2], out=inside[start : start + _STRETCH])
    index = np.flatnonzero(inside)
    return index[points[index, 2] > MIN_DEPTH_M]


def _scene(
    cloud: Cloud, T_camera_local: Array, box: Box, profile: Profile, threads: int, pause: Pause = no_pause
) -> LocalScene | None:
    pause()
    index = points_inside(cloud.points, T_camera_local, box)
    if len(index) < MIN_POINTS:
        return None
    pause()
    # take: several times faster than indexing with a list of rows.
    colours = None if cloud.colours is None else cloud.colours.take(index, axis=0)
    grid = voxel_downsample(cloud.points.take(index, axis=0), THIN_M, colours)
    pause()
    normals = estimate_normals(grid.points, threads=threads)
    pause()
    T = inverse(T_camera_local)
    points = (T[:3, :3] @ grid.points.T.astype(np.float64)).T
    points += T[:3, 3]
    points /= UNIT_M
    attributes = point_attributes(len(points), grid.colours, (T[:3, :3].astype(np.float32) @ normals.T).T)
    cells = cells_of(points, attributes, profile.scene)
    pause()
    fitting = next(spec for spec in profile.scene_specs() if cells.fit(spec))
    pyramids = ScenePyramids(
        tables_of(cells, fitting),
        None if profile.segmentation is None else build_pyramid(points, attributes, profile.segmentation),
    )
    return LocalScene(pyramids, T_camera_local, index, grid.cell_of_point, grid.points)
