"""Errors of one pose against the truth, named exactly. Inputs in metres, results in mm and degrees.

TRE is told at the case's landmarks, which no method uses as data. The residual of a fit is not an accuracy and does
not appear here: it does not correlate with TRE (Fitzpatrick, "Fiducial registration error and target registration
error are uncorrelated", SPIE 2009).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.errors import CaseError

Array = NDArray[np.float64]
WRONG_MM = 10.0
SUCCESS_MM = (2.0, 3.0, 5.0)


@dataclass(frozen=True)
class Targets:
    """Where errors are told; model frame, metres.

    Attributes:
        T_model_levels: level -> (4, 4) vertebra frame, cranial to caudal.
        landmarks: level -> (3, 3) points; only levels that have landmarks.
        model_points: level -> (M, 3) vertices of its mesh, thinned by a fixed stride.
        centroid: (3,) point at which RTE is told.
    """

    T_model_levels: dict[str, Array]
    landmarks: dict[str, Array]
    model_points: dict[str, Array]
    centroid: Array


@dataclass(frozen=True)
class Pose:
    """A pose of the spine: as a whole, and of single vertebrae where they moved against each other.

    Attributes:
        T_camera_model: (4, 4) metres.
        T_camera_levels: level -> (4, 4) pose of the vertebra frame; a level that is missing follows the whole.
    """

    T_camera_model: Array
    T_camera_levels: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class PoseErrors:
    """Errors of one pose.

    Attributes:
        tre_mm: level -> (3,) distance |T_est p - T_true p| at its landmarks (target registration error).
        rmse_mm: root mean square of that distance over the model points.
        mean_distance_mm: mean of it over the model points (what GeoTransformer calls RMSE).
        rre_deg: angle of the rotation between the two poses (relative rotation error).
        rte_mm: distance between the two images of the model's centroid (relative translation error).
        level_slip: vertebrae by which the estimate is off along the spine; 0 for none. See ``level_slip``.
    """

    tre_mm: dict[str, Array]
    rmse_mm: float
    mean_distance_mm: float
    rre_deg: float
    rte_mm: float
    level_slip: int

    @property
    def mean_tre_mm(self) -> float:
        """Mean over all landmarks: the one number of a scene."""
        return float(np.concatenate(list(self.tre_mm.values())).mean())

    @property
    def worst_level_mm(self) -> float:
        """Largest mean over one level's landmarks: what a planner that looks up that level gets."""
        return max(float(errors.mean()) for errors in self.tre_mm.values())


def targets_from_case(case: Case, points_per_level: int = 2000) -> Targets:
    """Targets of a case.

    Raises:
        CaseError: a case without landmarks: its accuracy cannot be told.
    """
    landmarks = {v.level: v.landmarks.as_array() for v in case.vertebrae if v.landmarks is not None}
    if not landmarks:
        raise CaseError(f"case {case.name}: has no landmarks, so no target registration error can be told")
    model_points = {}
    for vertebra in case.vertebrae:
        vertices = vertebra.mesh.vertices
        model_points[vertebra.level] = vertices[:: max(1, -(-len(vertices) // points_per_level))]
    frames = {v.level: v.T_model_level for v in case.vertebrae}
    return Targets(frames, landmarks, model_points, case.centroid())


def level_transform(pose: Pose, level: str, targets: Targets) -> Array:
    """(4, 4) that maps this vertebra's points from the model frame into the camera frame."""
    if level in pose.T_camera_levels:
        return np.asarray(pose.T_camera_levels[level] @ se3.inverse(targets.T_model_levels[level]))
    return pose.T_camera_model


def pose_errors(estimated: Pose, true: Pose, targets: Targets) -> PoseErrors:
    """Errors of ``estimated``; where the truth has vertebra poses, landmarks and points are where these put them."""
    tre_mm = {}
    distances = []
    for level in targets.T_model_levels:
        T_estimated = level_transform(estimated, level, targets)
        T_true = level_transform(true, level, targets)
        if level in targets.landmarks:
            tre_mm[level] = point_errors_mm(T_estimated, T_true, targets.landmarks[level])
        distances.append(point_errors_mm(T_estimated, T_true, targets.model_points[level]))
    over_points = np.concatenate(distances)
    T_estimated, T_true = estimated.T_camera_model, true.T_camera_model
    return PoseErrors(
        tre_mm=tre_mm,
        rmse_mm=float(np.sqrt(np.mean(over_points**2))),
        mean_distance_mm=float(over_points.mean()),
        rre_deg=float(np.degrees(se3.rotation_angle(T_estimated[:3, :3] @ T_true[:3, :3].T))),
        rte_mm=float(point_errors_mm(T_estimated, T_true, targets.centroid[None])[0]),
        level_slip=level_slip(estimated, true, targets),
    )


def landmark_errors(estimated: Pose, true: Pose, targets: Targets) -> dict[str, list[float]]:
    """Level -> errors of its landmarks in mm, the vertebrae's own poses taken where there are any."""
    return {
        level: point_errors_mm(
            level_transform(estimated, level, targets), level_transform(true, level, targets), points
        ).tolist()
        for level, points in targets.landmarks.items()
    }


def point_errors_mm(T_estimated: Array, T_true: Array, points: Array) -> Array:
    """(N,) distances in mm between the two images of (N, 3) points in metres."""
    difference = se3.apply(T_estimated, points) - se3.apply(T_true, points)
    return np.asarray(1000.0 * np.linalg.norm(difference, axis=1))


def level_slip(estimated: Pose, true: Pose, targets: Targets) -> int:
    """By how many vertebrae a fit slid along the spine; positive towards caudal, 0 for none.

    Every vertebra is compared with the true places of its neighbours. It is a slip when the best match is that of a
    shift by s levels, and lies nearer than half the spacing (otherwise the fit is plainly wrong, not one level off).
    """
    origins = {level: T[:3, 3] for level, T in targets.T_model_levels.items()}
    ours, theirs = (
        np.stack([se3.apply(level_transform(pose, level, targets), o) for level, o in origins.items()])
        for pose in (estimated, true)
    )
    return slip_of_places(ours, theirs)


def slip_of_places(estimated: Array, true: Array) -> int:
    """``level_slip`` from the origins of the vertebra frames, (N, 3) each, cranial to caudal, in one frame."""
    count = len(true)
    if count < 2:
        return 0
    half_spacing = 0.5 * float(np.linalg.norm(np.diff(true, axis=0), axis=1).mean())
    best, best_distance = 0, float("inf")
    for shift in sorted(range(-(count - 1), count), key=abs):
        ours = estimated[max(0, -shift) : count - max(0, shift)]
        theirs = true[max(0, shift) : count - max(0, -shift)]
        distance = float(np.linalg.norm(ours - theirs, axis=1).mean())
        if distance < best_distance:
            best, best_distance = shift, distance
    return best if best_distance < half_spacing else 0
