"""Which scene points lie on the posed surface, and what each of them says about the pose."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.registration.posture import Posture
from end2reg_ros.registration.surface import ModelSurface, PointSurface
from end2reg_ros.se3 import apply, inverse

Array = NDArray[np.float64]

ASSIGNED_WITHIN_M = 0.006  # as far as the grid of nearest samples reaches


@dataclass(frozen=True)
class Matches:
    """Scene points on the surface, all in the model frame.

    Attributes:
        index: (M,) which of the scene's points.
        points: (M, 3) themselves, metres.
        normals: (M, 3) of the surface there.
        residual: (M,) signed distance along that normal, metres; positive outside of the surface.
        level: (M,) which level's surface; zeros for a surface without levels.
        agreement: share of the points within the gate whose normals agree with the surface's.
    """

    index: NDArray[np.int64]
    points: Array
    normals: Array
    residual: Array
    level: NDArray[np.intp]
    agreement: float


@dataclass(frozen=True)
class Scene:
    """Scene points (N, 3), metres, and their unit normals (N, 3), camera frame.

    ``level`` (N,): the level that each point is looked up on, -1 for none; None where that was not worked out.
    """

    points: Array
    normals: Array
    level: NDArray[np.intp] | None = None

    def every(self, stride: int) -> Scene:
        """Every so many-th point."""
        if stride <= 1:
            return self
        level = None if self.level is None else self.level[::stride]
        return Scene(self.points[::stride], self.normals[::stride], level)


class RigidMatcher:
    """Looks scene points up on a surface that moves as one body."""

    def __init__(self, surface: PointSurface) -> None:
        self.surface = surface

    def match(self, scene: Scene, T_model_camera: Array, gate: float, cos_limit: float) -> Matches:
        """Points within ``gate`` metres whose normals lie within the angle of ``cos_limit`` of the surface's."""
        local = apply(T_model_camera, scene.points)
        distance, sample = self.surface.nearest(local, gate)
        index = np.flatnonzero(np.isfinite(distance))
        sample, local = sample[index], local[index]
        normals = self.surface.normals[sample]
        residual = np.einsum("ij,ij->i", normals, local - self.surface.points[sample])
        level = np.zeros(len(index), dtype=np.intp)
        if isinstance(self.surface, ModelSurface):
            level = self.surface.level_index[sample].astype(np.intp)
        return aligned(Matches(index, local, normals, residual, level, 0.0), scene, T_model_camera, cos_limit)


class PostureMatcher:
    """The same for a surface whose levels stand where a posture puts them. Each point is looked up on one level only."""

    def __init__(self, surface: ModelSurface, posture: Posture) -> None:
        self.surface = surface
        self.motions = posture.motions
        self._back = [inverse(T) for T in posture.motions]

    def assigned(self, scene: Scene, T_model_camera: Array) -> Scene:
        """The scene with the level that each point is near to, and nearer to than to any other."""
        local = apply(T_model_camera, scene.points)
        nearest = np.full(len(local), np.inf)
        of_level = np.full(len(local), -1, dtype=np.intp)
        for level, (low, high) in enumerate(self.surface.level_bounds):
            at_rest = apply(self._back[level], local)
            inside = np.ones(len(local), dtype=bool)
            for axis in range(3):
                inside &= at_rest[:, axis] > low[axis] - ASSIGNED_WITHIN_M
                inside &= at_rest[:, axis] < high[axis] + ASSIGNED_WITHIN_M
            some = np.flatnonzero(inside)
            distance, sample = self.surface.nearest(at_rest[some], ASSIGNED_WITHIN_M)
            better = (distance < nearest[some]) & (self.surface.level_index[sample] == level)
            nearest[some[better]] = distance[better]
            of_level[some[better]] = level
        return replace(scene, level=of_level)

    def match(self, scene: Scene, T_model_camera: Array, gate: float, cos_limit: float) -> Matches:
        """See ``RigidMatcher.match``."""
        if scene.level is None:
            scene = self.assigned(scene, T_model_camera)
        assert scene.level is not None
        local = apply(T_model_camera, scene.points)
        at_rest = np.full_like(local, np.inf)
        for level, T in enumerate(self._back):
            rows = np.flatnonzero(scene.level == level)
            at_rest[rows] = apply(T, local[rows])
        assigned = np.flatnonzero(scene.level >= 0)
        distance, sample = self.surface.nearest(at_rest[assigned], gate)
        own = self.surface.level_index[sample] == scene.level[assigned]
        found = np.flatnonzero(np.isfinite(distance) & own)
        index, sample = assigned[found], sample[found]
        level_index, at_rest = scene.level[index], at_rest[index]
        normals = self.surface.normals[sample]
        residual = np.einsum("ij,ij->i", normals, at_rest - self.surface.points[sample])
        turned = np.einsum("nij,nj->ni", self.motions[level_index, :3, :3], normals)
        matches = Matches(index, local[index], turned, residual, level_index, 0.0)
        return aligned(matches, scene, T_model_camera, cos_limit)


Matcher = RigidMatcher | PostureMatcher


def aligned(matches: Matches, scene: Scene, T_model_camera: Array, cos_limit: float) -> Matches:
    """Those whose surface is turned as the model's is, and which share of all they are."""
    turned = scene.normals[matches.index] @ T_model_camera[:3, :3].T
    keep = np.einsum("ij,ij->i", matches.normals, turned) > cos_limit
    agreement = float(keep.mean()) if len(keep) else 0.0
    return Matches(
        matches.index[keep], matches.points[keep], matches.normals[keep], matches.residual[keep],
        matches.level[keep], agreement,
    )  # fmt: skip
