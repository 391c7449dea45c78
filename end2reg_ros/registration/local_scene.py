"""From a cloud and a rough pose to what the network sees: crop, thin, normals, local frame, pyramids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.normals import estimate_normals
from end2reg_ros.cloud.pyramid import UNIT_M, Pyramid, build_pyramid, point_attributes
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.cloud.voxel import voxel_downsample
from end2reg_ros.engine.types import ScenePyramids
from end2reg_ros.network.profile import Profile
from end2reg_ros.registration.region import Box, direction_window
from end2reg_ros.registration.surface import ModelSurface
from end2reg_ros.se3 import apply, inverse

Array = NDArray[np.float64]

THIN_M = 0.002
# Half sides of the box cut out around a found region: x right, y anterior, z superior of the local frame, metres.
REGION_HALF_M = np.array([0.060, 0.060, 0.120])
# Around a posed model, on every side.
POSED_MARGIN_M = 0.015
MIN_POINTS = 60


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


def around_region(cloud: Cloud, T_camera_local: Array, profile: Profile) -> LocalScene | None:
    """The scene around a found region; None when next to nothing is there."""
    return _scene(cloud, T_camera_local, Box(-REGION_HALF_M, REGION_HALF_M), profile)


def around_pose(cloud: Cloud, T_camera_model: Array, side: ModelSide, profile: Profile) -> LocalScene | None:
    """The scene around a posed model, local frame = model axes about the model's centre."""
    T_camera_local = T_camera_model.copy()
    T_camera_local[:3, 3] = apply(T_camera_model, side.centre[None])[0]
    box = Box(side.box.low - POSED_MARGIN_M, side.box.high + POSED_MARGIN_M)
    return _scene(cloud, T_camera_local, box, profile)


def pose_of(rotation: Array, translation: Array, scene: LocalScene, side: ModelSide) -> Array:
    """(4, 4) T_camera_model from the network's T_scene_model in network units."""
    T_local_model = np.eye(4)
    T_local_model[:3, :3] = rotation
    T_local_model[:3, 3] = translation * UNIT_M - rotation @ side.centre
    return np.asarray(scene.T_camera_local @ T_local_model)


def _scene(cloud: Cloud, T_camera_local: Array, box: Box, profile: Profile) -> LocalScene | None:
    window = direction_window(cloud.points, T_camera_local, box, 0.0)
    T = inverse(T_camera_local)
    R, t = T[:3, :3].astype(np.float32), T[:3, 3].astype(np.float32)
    local = cloud.points[window] @ R.T + t
    low, high = box.low.astype(np.float32), box.high.astype(np.float32)
    index = window[np.all((local > low) & (local < high), axis=1)]
    if len(index) < MIN_POINTS:
        return None
    colours = None if cloud.colours is None else cloud.colours[index]
    grid = voxel_downsample(cloud.points[index], THIN_M, colours)
    normals = estimate_normals(grid.points)
    points = (grid.points.astype(np.float64) @ T[:3, :3].T + T[:3, 3]) / UNIT_M
    attributes = point_attributes(len(points), grid.colours, normals @ R.T)
    pyramids = ScenePyramids(
        build_pyramid(points, attributes, profile.scene),
        None if profile.segmentation is None else build_pyramid(points, attributes, profile.segmentation),
    )
    return LocalScene(pyramids, T_camera_local, index, grid.cell_of_point, grid.points)
