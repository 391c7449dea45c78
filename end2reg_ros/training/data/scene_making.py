"""From a camera's whole view with its truth to a training scene: what is kept and how it is thinned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.normals import estimate_normals
from end2reg_ros.cloud.voxel import voxel_downsample
from end2reg_ros.training.data.anatomies import VisibleSurface
from end2reg_ros.training.data.scene_sample import AnatomySample, SceneSample, ThinCloud

Array = NDArray[np.float64]

FINE_M, VIEW_M = 0.002, 0.005
# What is kept around the model: lateral of its midline, beyond its ends, behind and in front of its hindmost point.
LATERAL_M, BEYOND_M, BEHIND_M, BEFORE_M = 0.090, 0.060, 0.070, 0.070


@dataclass(frozen=True)
class LabelledView:
    """Everything a camera measured: points (N, 3) float32 metres, colours (N, 3) uint8 or None, bone (N,) truth."""

    points: NDArray[np.float32]
    colours: NDArray[np.uint8] | None
    bone: NDArray[np.bool_]


def make_anatomy(case: Case, surface: VisibleSurface, source: str, group: str) -> AnatomySample:
    """The sample of a case."""
    return AnatomySample(
        surface.points.astype(np.float32),
        surface.normals.astype(np.float32),
        surface.level_index.astype(np.uint8),
        case.landmark_array().astype(np.float32),
        np.stack([v.T_model_level for v in case.vertebrae]),
        case.levels,
        source,
        group,
    )


def thin_cloud(view: LabelledView, voxel: float, with_normals: bool = True) -> ThinCloud:
    """One point per voxel (metres) with its majority label and, if asked for, its normal."""
    grid = voxel_downsample(view.points, voxel, view.colours)
    share = np.bincount(grid.cell_of_point, weights=view.bone, minlength=len(grid.points))
    normals = np.zeros((0, 3), np.int8)
    if with_normals:
        normals = np.rint(127.0 * estimate_normals(grid.points)).astype(np.int8)
    bone = (share > 0.5 * grid.counts).astype(np.uint8)
    return ThinCloud(grid.points, grid.colours, normals, bone)


def near_model(
    points: NDArray[np.float32], T_camera_model: Array, anatomy: AnatomySample
) -> NDArray[np.bool_]:
    """(N,) which points of a view, camera frame, belong into the fine part of a scene."""
    T = se3.inverse(T_camera_model)
    local = points @ T[:3, :3].T.astype(np.float32) + T[:3, 3].astype(np.float32)
    low, high = anatomy.points.min(axis=0), anatomy.points.max(axis=0)
    middle = float(anatomy.T_model_levels[:, 0, 3].mean())
    low = np.array([middle - LATERAL_M, low[1] - BEHIND_M, low[2] - BEYOND_M], np.float32)
    high = np.array([middle + LATERAL_M, low[1] + BEHIND_M + BEFORE_M, high[2] + BEYOND_M], np.float32)
    return np.asarray(((local >= low) & (local <= high)).all(axis=1))


def make_scene(
    view: LabelledView,
    T_camera_model: Array,
    anatomy: AnatomySample | None,
    name: str,
    suite: str,
    seed: int,
    tags: dict[str, Any],
) -> SceneSample:
    """Thin a view; ``anatomy`` is None and ``name`` empty where it shows no spine."""
    if anatomy is None:
        near = LabelledView(
            view.points[:0], None if view.colours is None else view.colours[:0], view.bone[:0]
        )
        T_camera_model, name = np.eye(4), ""
    else:
        inside = near_model(view.points, T_camera_model, anatomy)
        colours = None if view.colours is None else view.colours[inside]
        near = LabelledView(view.points[inside], colours, view.bone[inside])
    fine, whole = thin_cloud(near, FINE_M), thin_cloud(view, VIEW_M, with_normals=False)
    return SceneSample(
        fine.points, fine.colours, fine.normals, fine.bone,
        whole.points, whole.colours, whole.bone,
        np.asarray(T_camera_model, np.float64), name, suite, seed, tags,
    )  # fmt: skip
