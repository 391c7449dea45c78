"""The refinement step by step: every step looks all points up anew. Slow and obvious; tests hold ``refine`` against it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.registration.fit.refine import cos_limit, damping, gate, left_increment, reach, weights
from end2reg_ros.registration.fit.surface import PointSurface
from end2reg_ros.registration.settings import RefineSettings
from end2reg_ros.se3 import apply, inverse

Array = NDArray[np.float64]

MAX_STEPS = 60


def refine_reference(
    points: Array, normals: Array, surface: PointSurface, T_camera_model: Array, settings: RefineSettings
) -> Array:
    """(4, 4) the refined T_camera_model; arguments as of ``refine``."""
    T_model_camera = inverse(T_camera_model)
    for outside_weight in (1.0, settings.outside_weight):
        for iteration in range(MAX_STEPS):
            limit = gate(settings, iteration) if outside_weight == 1.0 else settings.gates[-1]
            local = apply(T_model_camera, points)
            distance, nearest = surface.nearest(local, limit)
            n = surface.normals[nearest]
            turned = normals @ T_model_camera[:3, :3].T
            used = np.isfinite(distance) & (np.sum(n * turned, axis=1) > cos_limit(settings))
            p, n, nearest = local[used], n[used], nearest[used]
            r = np.sum(n * (p - surface.points[nearest]), axis=1)
            w = weights(r, outside_weight, settings.scale)
            centre = p.mean(axis=0)
            J = np.concatenate([n, np.cross(p - centre, n)], axis=1)
            H = (J * w[:, None]).T @ J
            step = -np.linalg.solve(H + damping(H), (J * w[:, None]).T @ r)
            T_model_camera = left_increment(step, centre) @ T_model_camera
            if reach(step) < settings.converged and iteration >= len(settings.gates):
                break
    return inverse(T_model_camera)
