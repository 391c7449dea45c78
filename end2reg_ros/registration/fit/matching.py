"""Which scene points lie on the posed surface, and what each of them says about the pose."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.registration.fit.posture import Posture
from end2reg_ros.registration.fit.surface import LEVEL, NORMAL, ModelSurface, PointSurface
from end2reg_ros.registration.scene import ThinCloud
from end2reg_ros.se3_batch import dot, in_columns, inverses, level_by_level, moved, runs

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
class NormalsOnDemand:
    """Normals of some points of a cloud, ``rows`` (N,), fitted when they are asked for."""

    cloud: ThinCloud
    rows: NDArray[np.int64]

    def __getitem__(self, which: NDArray[np.integer] | slice) -> Array:
        """(K, 3) normals of some of those points (K,)."""
        return self.cloud.normals_at(self.rows[which])

    def every(self, stride: int) -> NormalsOnDemand:
        """Normals of every so many-th of those points."""
        return NormalsOnDemand(self.cloud, self.rows[::stride])


@dataclass(frozen=True)
class Grouped:
    """The points of a scene that are looked up, level by level.

    Attributes:
        rows: (M,) which of the scene's points.
        columns: (3, M) themselves.
        level: (M,) whose they are, ascending.
        bounds: (levels + 1) where each level's points begin and end.
    """

    rows: NDArray[np.intp]
    columns: Array
    level: NDArray[np.intp]
    bounds: list[int]


@dataclass(frozen=True)
class ScenePoints:
    """Scene points (N, 3), metres, and their unit normals (N, 3), camera frame.

    ``level`` (N,): the level that each point is looked up on, -1 for none; None where that was not worked out.
    """

    points: Array
    normals: Array | NormalsOnDemand
    level: NDArray[np.intp] | None = None

    @classmethod
    def of(cls, cloud: ThinCloud, rows: NDArray[np.int64]) -> ScenePoints:
        """Some points (N,) of a thinned cloud."""
        return cls(in_columns(cloud.points).take(rows, axis=1).T, NormalsOnDemand(cloud, rows))

    def __len__(self) -> int:
        return len(self.points)

    def every(self, stride: int) -> ScenePoints:
        """Every so many-th point."""
        if stride <= 1:
            return self
        normals = (
            self.normals[::stride] if isinstance(self.normals, np.ndarray) else self.normals.every(stride)
        )
        level = None if self.level is None else self.level[::stride]
        return ScenePoints(self.points[::stride], normals, level)

    @cached_property
    def columns(self) -> Array:
        """(3, N) ``points`` in columns."""
        return in_columns(self.points)

    @cached_property
    def grouped(self) -> Grouped:
        """The points with a level."""
        assert self.level is not None
        count = int(self.level.max(initial=-1)) + 1
        order, bounds = runs(self.level, count)
        first = bounds[0]
        rows = np.arange(first, len(self.level)) if order is None else order[first:]
        return Grouped(
            rows, self.columns.take(rows, axis=1), self.level.take(rows), [bound - first for bound in bounds]
        )


class RigidMatcher:
    """Looks scene points up on a surface that moves as one body."""

    def __init__(self, surface: PointSurface) -> None:
        self.surface = surface

    def match(self, scene: ScenePoints, T_model_camera: Array, gate: float, cos_limit: float) -> Matches:
        """Points within ``gate`` metres whose normals lie within the angle of ``cos_limit`` of the surface's."""
        local = moved(T_model_camera, scene.columns)
        looked = self.surface.look_up(local, gate)
        index = np.flatnonzero(looked.found)
        rows, local = looked.rows.take(index, axis=0), local.take(index, axis=1)
        normals, level = in_columns(rows[:, NORMAL]), rows[:, LEVEL].astype(np.intp)
        residual = dot(normals, looked.offset.take(index, axis=1))
        return aligned(index, local, normals, residual, level, scene, T_model_camera, cos_limit)


class PostureMatcher:
    """Looks scene points up on a surface whose levels stand where a posture puts them, each point on one level only."""

    def __init__(self, surface: ModelSurface, posture: Posture) -> None:
        self.surface = surface
        self.motions = posture.motions
        self._back = inverses(posture.motions)
        low, high = (np.stack(ends, axis=1) for ends in zip(*surface.level_bounds, strict=True))
        self._low, self._high = low - ASSIGNED_WITHIN_M, high + ASSIGNED_WITHIN_M  # (3, levels)

    def assigned(self, scene: ScenePoints, T_model_camera: Array) -> ScenePoints:
        """The scene with the level that each point is near to, and nearer to than to any other."""
        levels, count = len(self._back), len(scene.points)
        # Every point in every level's place, (3, levels, count), in one product.
        T = np.swapaxes((self._back @ T_model_camera)[:, :3], 0, 1)
        place = T[..., :3].reshape(-1, 3) @ scene.columns
        place = place.reshape(3, levels, count)
        place += T[..., 3:]
        inside = (place > self._low[..., None]) & (place < self._high[..., None])
        some = np.flatnonzero(inside[0] & inside[1] & inside[2])
        looked = self.surface.look_up(place.reshape(3, -1).take(some, axis=1), ASSIGNED_WITHIN_M)
        own = looked.found & (looked.rows[:, LEVEL] == some // max(count, 1))
        apart = np.full((levels, count), np.inf)
        apart.ravel()[some] = np.where(own, looked.squared, np.inf)
        # The nearest of each point's, the first of equal ones.
        nearest = apart.min(axis=0)
        nearest[np.isinf(nearest)] = -1.0
        of_level = np.full(count, -1, dtype=np.intp)
        for level in reversed(range(levels)):
            of_level[apart[level] == nearest] = level
        return replace(scene, level=of_level)

    def match(self, scene: ScenePoints, T_model_camera: Array, gate: float, cos_limit: float) -> Matches:
        """Points within ``gate`` metres of their own level, whose normals lie within the angle of ``cos_limit``.

        The points of one level come after those of the level above.
        """
        if scene.level is None:
            scene = self.assigned(scene, T_model_camera)
        grouped, bounds = scene.grouped, scene.grouped.bounds
        at_rest = level_by_level(self._back @ T_model_camera, grouped.columns, bounds)
        looked = self.surface.look_up(at_rest, gate)
        found = looked.found & (looked.rows[:, LEVEL] == grouped.level)
        some = np.flatnonzero(found)
        level, normals = grouped.level.take(some), in_columns(looked.rows.take(some, axis=0)[:, NORMAL])
        residual = dot(normals, looked.offset.take(some, axis=1))
        turned = level_by_level(self.motions, normals, np.searchsorted(some, bounds).tolist(), turn_only=True)
        local = moved(T_model_camera, grouped.columns.take(some, axis=1))
        rows = grouped.rows.take(some)
        return aligned(rows, local, turned, residual, level, scene, T_model_camera, cos_limit)


Matcher = RigidMatcher | PostureMatcher


def aligned(
    index: NDArray[np.intp],
    points: Array,
    normals: Array,
    residual: Array,
    level: NDArray[np.intp],
    scene: ScenePoints,
    T_model_camera: Array,
    cos_limit: float,
) -> Matches:
    """Those whose surface is turned as the model's is, and which share of all they are.

    Args:
        index: (M,) see ``Matches``; so ``residual``, ``level``.
        points: (3, M) in columns; so ``normals``.
        scene: that the points are of.
        T_model_camera: where it was looked up.
        cos_limit: cosine of the largest angle between the scene's normals and the surface's.
    """
    turned = T_model_camera[:3, :3] @ scene.normals[index].T
    keep = dot(normals, turned) > cos_limit
    agreement = float(keep.mean()) if len(keep) else 0.0
    some = np.flatnonzero(keep)
    return Matches(
        index.take(some), points.take(some, axis=1).T, normals.take(some, axis=1).T, residual.take(some),
        level.take(some), agreement,
    )  # fmt: skip
