"""From a camera's whole view with its truth to a training scene: what is kept and how it is thinned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.cloud.normals import estimate_normals
from end2reg_ros.cloud.voxel import voxel_downsample
from end2reg_ros.training.data.samples import AnatomySample, LabelledView, SceneSample

Array = NDArray[np.float64]

FINE_M, VIEW_M = 0.002, 0.005
# What is kept around the model: lateral of its midline, beyond its ends, behind and in front of its hindmost point.
LATERAL_M, BEYOND_M, BEHIND_M, BEFORE_M = 0.090, 0.060, 0.070, 0.070


def make_scene(
    view: LabelledView, anatomy: AnatomySample | None, seed: int, tags: dict[str, Any]
) -> SceneSample:
    """Thin a view.

    Args:
        anatomy: of ``view.anatomy``; None where no spine is shown.
    """
    T = view.T_camera_model
    if T is None or anatomy is None:
        near, T = view.part(np.zeros(len(view.points), bool)), np.eye(4)
    else:
        near = view.part(near_model(view.points, T, anatomy))
    fine, whole = thinned(near, FINE_M), thinned(view, VIEW_M)
    normals = np.rint(127.0 * estimate_normals(fine.points)).astype(np.int8)
    return SceneSample(
        fine.points, fine.colours, normals, fine.bone.astype(np.uint8),
        whole.points, whole.colours, whole.bone.astype(np.uint8),
        np.asarray(T, np.float64), view.anatomy, view.suite, seed, tags,
    )  # fmt: skip


def thinned(view: LabelledView, voxel: float) -> LabelledView:
    """One point per voxel (metres), its mean, with the majority label."""
    grid = voxel_downsample(view.points, voxel, view.colours)
    share = np.bincount(grid.cell_of_point, weights=view.bone, minlength=len(grid.points))
    return replace(view, points=grid.points, colours=grid.colours, bone=share > 0.5 * grid.counts)


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
