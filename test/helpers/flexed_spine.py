"""The bundled spine with its vertebrae moved against each other, seen as bare bone over a table: exact truth, no tissue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from views import bundled_case, registrar

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.classical import unguided_start
from end2reg_ros.registration.find.starts import FitRequest, StartFitter
from end2reg_ros.registration.fit.matching import ScenePoints
from end2reg_ros.registration.fit.posture import Posture, segment_centres
from end2reg_ros.registration.local import LocalRegistration
from end2reg_ros.registration.types import Prior, Registration
from end2reg_ros.se3 import apply, from_rotation_translation, inverse, rotation_angle, rotation_from_vector

Array = NDArray[np.float64]

WIDTH, HEIGHT, FOCAL = 360, 520, 900.0  # pixels: 0.6 mm a pixel on bone 0.55 m away
TABLE_M = 0.7
BONELESS = -1  # level of the table's points


def local() -> LocalRegistration:
    """The shared local registration."""
    return registrar().local


def T_true() -> Array:
    """(4, 4) T_camera_model of the middle vertebra's coordinates in every view here, tilted a little."""
    tilt = from_rotation_translation(rotation_from_vector(np.array([0.12, -0.1, 0.2])), np.zeros(3))
    centre = np.eye(4)
    centre[:3, 3] = local().centre
    return unguided_start(local().centre, np.array([0.02, -0.01, 0.55])) @ centre @ tilt @ inverse(centre)


def flexed(deg: float, mm: float, seed: int = 0, case: Case | None = None) -> Posture:
    """Each level turned and shifted by so much against the next one, in random directions; the middle one stays."""
    case, rng = case or bundled_case(), np.random.default_rng(seed)
    centres, count = segment_centres(case), len(case.vertebrae)
    motions = [np.eye(4) for _ in range(count)]

    def step(centre: Array) -> Array:
        turn, shift = rng.normal(size=(2, 3))
        R = rotation_from_vector(np.radians(deg) * turn / np.linalg.norm(turn))
        return from_rotation_translation(R, centre - R @ centre + mm / 1000 * shift / np.linalg.norm(shift))

    for k in range(count // 2 - 1, -1, -1):
        motions[k] = motions[k + 1] @ step(centres[k])
    for k in range(count // 2 + 1, count):
        motions[k] = motions[k - 1] @ step(centres[k - 1])
    return Posture(np.stack(motions))


@dataclass(frozen=True)
class View:
    """What the camera sees: ``points`` (N, 3), their outward ``normals`` (N, 3), whose they are (N,); the truth."""

    points: Array
    normals: Array
    level: NDArray[np.int64]
    posture: Posture
    T_camera_model: Array

    def without(self, covered: Sequence[int], share: float = 1.0) -> View:
        """The same with (the upper ``share`` of) some levels under a cloth 20 mm above their highest point."""
        points = self.points.copy()
        for k in covered:
            mine = np.flatnonzero(self.level == k)
            if len(mine) == 0:
                continue
            under = mine[self.points[mine, 1] <= np.quantile(self.points[mine, 1], share)]
            lifted = points[mine, 2].min() - 0.02
            points[under] *= lifted / points[under, 2:]
        level = np.where((points == self.points).all(axis=1), self.level, BONELESS)
        return View(points, self.normals, level, self.posture, self.T_camera_model)

    def cloud(self, stamp_ns: int = 1) -> Cloud:
        """As the registration gets it."""
        return Cloud(self.points.astype(np.float32), None, "camera", stamp_ns)

    def scene(self, most: int = 4000, only: Sequence[int] | None = None) -> ScenePoints:
        """At most so many of the points on bone, with their true normals; ``only`` of some levels."""
        bone = np.flatnonzero(self.level >= 0 if only is None else np.isin(self.level, only))
        bone = bone[:: max(1, len(bone) // most)]
        return ScenePoints(self.points[bone], self.normals[bone])

    def T_camera_level(self, k: int) -> Array:
        """(4, 4) true pose of a vertebra's frame."""
        return self.posture.level_pose(self.T_camera_model, k) @ bundled_case().vertebrae[k].T_model_level


@lru_cache(maxsize=8)
def look(deg: float = 0.0, mm: float = 0.0, seed: int = 0, noise_m: float = 0.0003) -> View:
    """A depth camera's view of the spine in ``flexed(deg, mm, seed)``, with noise along the line of sight."""
    import open3d as o3d

    posture, T = flexed(deg, mm, seed), T_true()
    world, first = o3d.t.geometry.RaycastingScene(), []
    for k, vertebra in enumerate(bundled_case().vertebrae):
        posed = apply(posture.level_pose(T, k), vertebra.mesh.vertices)
        triangles = o3d.core.Tensor(vertebra.mesh.triangles.astype(np.uint32))
        first.append(world.add_triangles(o3d.core.Tensor(posed.astype(np.float32)), triangles))
    u, v = np.meshgrid(np.arange(WIDTH) - WIDTH / 2, np.arange(HEIGHT) - HEIGHT / 2)
    slopes = np.stack([u.ravel() / FOCAL, v.ravel() / FOCAL, np.ones(u.size)], axis=1)
    rays = np.concatenate([np.zeros_like(slopes), slopes], axis=1).astype(np.float32)
    hit = world.cast_rays(o3d.core.Tensor(rays))
    depth = hit["t_hit"].numpy().astype(np.float64)
    ids, normals = (
        hit["geometry_ids"].numpy().astype(np.int64),
        hit["primitive_normals"].numpy().astype(float),
    )
    level = np.full(len(depth), BONELESS)
    for k, number in enumerate(first):
        level[ids == number] = k
    on_bone = np.isfinite(depth)
    normals[~on_bone] = [0.0, 0.0, -1.0]
    depth[~on_bone] = TABLE_M
    depth += np.random.default_rng((seed, 5)).normal(scale=noise_m, size=len(depth))
    return View(slopes * depth[:, None], normals, level, posture, T)


def fitted(
    view: View,
    start: Array | None = None,
    continues: bool = True,
    posture: Posture | None = None,
    flexed: bool = False,
) -> Registration:
    """The local registration of a view: followed from the truth of the middle level, or from there as a start."""
    T = view.T_camera_model if start is None else start
    return registered(local(), view.cloud(), T, continues, posture, flexed)


def registered(
    local: LocalRegistration,
    cloud: Cloud,
    T: Array,
    continues: bool,
    posture: Posture | None = None,
    flexed: bool = False,
) -> Registration:
    """A cloud followed from a pose, which may be any distance off, or fitted from there as a start."""
    if continues:
        expected = Prior(T, "test", 1.0, posture)
        return local.follow(local.crop(cloud, T, posture), expected, "icp")
    return StartFitter(local).fit(cloud, FitRequest([T], "icp", posture=posture, flexed=flexed))


def level_errors(found: Registration, view: View) -> Array:
    """(levels, 2) landmark error in mm and turn in degrees of every vertebra's own pose."""
    return np.array([own_error(found.levels[k].T_camera_level, view, k) for k in range(len(found.levels))])


def rigid_errors(found: Registration, view: View) -> Array:
    """(levels, 2) the same when the spine's pose is taken for all of them."""
    vertebrae = bundled_case().vertebrae
    return np.array([
        own_error(found.T_camera_model @ v.T_model_level, view, k) for k, v in enumerate(vertebrae)
    ])  # fmt: skip


def own_error(T_camera_level: Array, view: View, k: int) -> tuple[float, float]:
    """Mean landmark error in mm and turn in degrees of one vertebra's pose."""
    vertebra, T = bundled_case().vertebrae[k], view.T_camera_level(k)
    assert vertebra.landmarks is not None
    own = apply(inverse(vertebra.T_model_level), vertebra.landmarks.as_array())
    error = np.linalg.norm(apply(T_camera_level, own) - apply(T, own), axis=1).mean()
    return 1000 * float(error), float(np.degrees(rotation_angle(T_camera_level[:3, :3].T @ T[:3, :3])))
