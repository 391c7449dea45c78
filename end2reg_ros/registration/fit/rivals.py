"""The neighbouring levels as rivals of a fit: where the spine would be if the fit had slipped by one level."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.registration.fit.refine import Refined
from end2reg_ros.registration.types import Quality
from end2reg_ros.se3 import from_rotation_translation, inverse

Array = NDArray[np.float64]

SAME_FIT_M = 0.015  # a rival that came back this close is the fit itself
USUAL_SPACING_M = 0.034  # between lumbar levels; for a case of one level
MARGIN_RMSE_M = 0.00008
MARGIN_NORMALS = 0.06
MIN_SHARE = 0.5  # of the fit's inliers: a rival with fewer explains less of the scene
MIN_INLIER_RATIO = 0.90
# About the axis that points away from the camera: x of a vertebra, y of the model.
LEVEL_HALF_TURN = np.diag([1.0, -1.0, -1.0, 1.0])
MODEL_HALF_TURN = np.diag([-1.0, 1.0, -1.0])


def neighbouring_poses(
    case: Case, T_camera_model: Array, support: NDArray[np.int64]
) -> list[tuple[str, Array]]:
    """Poses of the model with the best-seen level put where its neighbour is, upwards and downwards.

    Args:
        case: the case; levels from cranial to caudal.
        T_camera_model: the fit.
        support: (levels,) how much of each level is seen.
    """
    frames = [v.T_model_level for v in case.vertebrae]
    best = int(np.argmax(support))
    poses: list[tuple[str, Array]] = []
    for name, step in (("higher", -1), ("lower", 1)):
        other = best + step
        if 0 <= other < len(frames):
            T_model_moved = frames[other] @ inverse(frames[best])
        else:
            T_model_moved = from_rotation_translation(np.eye(3), beyond(frames, step))
        poses.append((name, T_camera_model @ T_model_moved))
    return poses


def every_other_pose(case: Case, T_camera_model: Array, support: NDArray[np.int64]) -> list[Array]:
    """All poses that put a level where the best-seen one is: every other level, and every level with head and feet exchanged.

    Args:
        case: the case; levels from cranial to caudal.
        T_camera_model: a pose.
        support: (levels,) how much of each level is seen there.
    """
    frames = [v.T_model_level for v in case.vertebrae]
    best = int(np.argmax(support))
    here = T_camera_model @ frames[best]
    upright = [here @ inverse(frame) for k, frame in enumerate(frames) if k != best]
    # Exchanged ends: the one seen level keeps its place and slope, or the whole spine keeps its own.
    by_level = [here @ LEVEL_HALF_TURN @ inverse(frame) for frame in frames]
    R = T_camera_model[:3, :3] @ MODEL_HALF_TURN
    by_spine = [from_rotation_translation(R, here[:3, 3] - R @ frame[:3, 3]) for frame in frames]
    return upright + by_level + by_spine


def beyond(frames: list[Array], step: int) -> Array:
    """(3,) shift in the model frame to where the next level would be past the end of the case."""
    if len(frames) < 2:
        return np.array([0.0, 0.0, -step * USUAL_SPACING_M])
    ends = (frames[1][:3, 3] - frames[0][:3, 3]) if step < 0 else (frames[-2][:3, 3] - frames[-1][:3, 3])
    return np.asarray(-ends)


def threatens(fit: Refined, rival: Refined, quality: Quality) -> bool:
    """Whether a rival fits so well that the fit cannot be told from it."""
    enough = int(rival.inliers.sum()) >= MIN_SHARE * int(fit.inliers.sum())
    agrees = quality.inlier_ratio >= MIN_INLIER_RATIO
    close = rival.rmse < fit.rmse + MARGIN_RMSE_M
    turned = rival.normal_agreement > fit.normal_agreement - MARGIN_NORMALS
    return enough and agrees and close and turned
