"""How well a posed case agrees with what the camera sees: support, cover, and bone in seen-through space.

For every sample of the surface that should face the camera one of four things is true: the scene supports it, something
lies in front of it (tissue, an instrument), the camera sees through it (then the pose is wrong there), or there is no data.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.registration.fit.posture import Posture
from end2reg_ros.registration.fit.refine import Refined
from end2reg_ros.registration.fit.surface import NORMAL, POINT, ModelSurface, view_directions
from end2reg_ros.registration.scene import MIN_DEPTH_M, Scene
from end2reg_ros.registration.types import Quality
from end2reg_ros.se3 import inverse
from end2reg_ros.se3_batch import dot, in_columns, moved

Array = NDArray[np.float64]

SUPPORT_M = 0.0025
VIOLATION_M = 0.004
PIXEL_M = 0.0025
MIN_FACING = 0.25
MAX_CELLS = 1000  # along one side of the depth image, whatever the pose


@dataclass(frozen=True)
class Agreement:
    """Class of each facing sample; ``samples`` (M,) index into the surface, the others are (M,) flags."""

    samples: NDArray[np.int64]
    supported: NDArray[np.bool_]
    covered: NDArray[np.bool_]
    violated: NDArray[np.bool_]


def agreement(
    surface: ModelSurface,
    T_camera_model: Array,
    scene: Scene,
    posture: Posture | None = None,
) -> Agreement:
    """Classify the samples that face the camera.

    Args:
        surface: visible surface of the case.
        T_camera_model: pose to judge.
        scene: the cloud around it.
        posture: where the levels stand; as in the CT when None.
    """
    eye = inverse(T_camera_model)[:3, 3]
    towards = eye - surface.middle
    nearest_view = int(np.argmax(views() @ towards))
    samples = surface.coarse[surface.coarse_seen_from[:, nearest_view]]
    rows = surface.table.take(samples, axis=0)
    model, normals = in_columns(rows[:, POINT]), in_columns(rows[:, NORMAL])
    if posture is not None:
        of_level = surface.level_index[samples]
        model, normals = posture.posed(model.T, of_level).T, posture.turned(normals.T, of_level).T
    view = eye[:, None] - model
    facing = np.flatnonzero(dot(view, normals) > MIN_FACING * np.sqrt(dot(view, view)))
    samples = samples[facing]
    posed = moved(T_camera_model, model.take(facing, axis=1)).T
    supported = scene.thin.near(posed, SUPPORT_M)
    nearest_depth = depth_in_front(scene.window, posed)
    known = np.isfinite(nearest_depth)
    gap = np.where(known, nearest_depth - posed[:, 2], 0.0)
    violated = ~supported & known & (gap > VIOLATION_M)
    covered = ~supported & known & ~violated
    return Agreement(samples, supported, covered, violated)


@lru_cache(maxsize=1)
def views() -> Array:
    """``view_directions``, made once."""
    return view_directions()


def depth_in_front(seen: NDArray[np.float32], posed: Array) -> Array:
    """Smallest scene depth (metres) within one cell around the line of sight of each posed sample; NaN without data.

    The cell is 2.5 mm at the samples' mean depth; the 3 x 3 neighbourhood makes edges count in favour of the pose.

    Args:
        seen: (K, 3) scene points, camera frame, depth above ``MIN_DEPTH_M``.
        posed: (M, 3) samples; those behind or at the camera have no depth in front of them.
    """
    found = np.full(len(posed), np.nan)
    ahead = np.flatnonzero(posed[:, 2] > MIN_DEPTH_M)
    if len(seen) == 0 or len(ahead) == 0:
        return found
    x, y, z = posed[ahead].T
    u, v = x / z, y / z
    span = float(max(np.ptp(u), np.ptp(v)))
    cell = max(PIXEL_M / float(z.mean()), span / MAX_CELLS)
    u0, v0 = float(u.min()) - 2 * cell, float(v.min()) - 2 * cell
    width, height = int((float(u.max()) - u0) / cell) + 3, int((float(v.max()) - v0) / cell) + 3
    depth_of = seen[:, 2]
    column = cells((seen[:, 0] / depth_of - u0) / cell, width)
    row = cells((seen[:, 1] / depth_of - v0) / cell, height)
    depth = np.full(width * height, np.float32(np.inf))
    # Of one number type: mixed ones take a path that is ten times as slow.
    np.minimum.at(depth, row * width + column, depth_of)
    grid = depth.reshape(height, width)
    across = np.minimum(np.minimum(grid[:, :-2], grid[:, 1:-1]), grid[:, 2:])
    lowest = np.minimum(np.minimum(across[:-2], across[1:-1]), across[2:])
    nearest = lowest[((v - v0) / cell).astype(int) - 1, ((u - u0) / cell).astype(int) - 1]
    found[ahead] = np.where(np.isfinite(nearest), nearest, np.nan)
    return found


def cells(place: NDArray[np.float32], count: int) -> NDArray[np.uint32]:
    """(K,) cells 0 to ``count`` - 1 that places (K,), in cells, lie in; what lies beyond gets the first or the last one.

    No sample looks into these two.
    """
    cell = place.astype(np.int32).view(np.uint32)
    return np.minimum(cell, np.uint32(count - 1), out=cell)


def quality_of(found: Agreement, refined: Refined, inliers: int, points_in_region: int) -> Quality:
    """Quality figures of a classification."""
    counts = len(found.samples), int(found.supported.sum()), int(found.violated.sum())
    return quality_of_counts(*counts, refined, inliers, points_in_region)


def quality_of_counts(
    samples: int, supported: int, violated: int, refined: Refined, inliers: int, points_in_region: int
) -> Quality:
    """The same from the numbers of samples that face the camera, are supported and are seen through."""
    total = max(samples, 1)
    return Quality(
        inlier_ratio=supported / max(supported + violated, 1),
        residual_rmse_m=refined.rmse,
        visible_fraction=(supported + violated) / total,
        mask_fraction=inliers / max(points_in_region, 1),
        free_space_violation=violated / total,
        inliers=inliers,
        normal_agreement=refined.normal_agreement,
    )
