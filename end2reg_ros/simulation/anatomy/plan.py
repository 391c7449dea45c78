"""Landmarks and pedicle screws of a finished vertebra. Metres, model frame; design points come in mm."""

from __future__ import annotations

import numpy as np

from end2reg_ros import se3
from end2reg_ros.case.model import Landmarks, Mesh, Screw
from end2reg_ros.case.raycast import ray_scene, tensor
from end2reg_ros.simulation.anatomy.arch import ArchPoints
from end2reg_ros.simulation.anatomy.fields import Array

SCREW_DIAMETER_M = 0.0065
SCREW_LENGTH_M = 0.045


def _to_model(point_mm: Array, T_model_body_mm: Array) -> Array:
    return np.asarray(se3.apply(T_model_body_mm, point_mm) / 1000.0)


def mark_landmarks(mesh: Mesh, points: ArchPoints, T_model_body_mm: Array) -> Landmarks:
    """Spinous and transverse tips: the surface points nearest to where the shape was drawn to end. Not proposed by
    geometry but known by construction."""
    wanted = [points.spinous_tip, points.transverse_tips["left"], points.transverse_tips["right"]]
    query = tensor(np.stack([_to_model(p, T_model_body_mm) for p in wanted]))
    found = ray_scene([mesh]).compute_closest_points(query)["points"].numpy().astype(np.float64)
    return Landmarks(spinous=found[0], transverse_left=found[1], transverse_right=found[2], proposed=False)


def plan_screws(mesh: Mesh, points: ArchPoints, T_model_body_mm: Array) -> tuple[Screw, ...]:
    """Left and right pedicle screw, 6.5 x 45 mm: along the pedicle's axis, from where that axis leaves the bone at the
    back (the junction of transverse process and superior articular process).

    Raises:
        ValueError: the axis does not leave the bone behind the pedicle.
    """
    scene = ray_scene([mesh])
    screws = []
    for side in ("left", "right"):
        centre = _to_model(points.pedicle_centres[side], T_model_body_mm)
        outward = T_model_body_mm[:3, :3] @ points.pedicle_axes[side]
        ray = tensor(np.concatenate([centre, outward])[None])
        distance = float(scene.cast_rays(ray)["t_hit"].numpy()[0])
        if not np.isfinite(distance):
            raise ValueError(f"the {side} pedicle's axis does not leave the bone")
        entry = centre + distance * outward
        screws.append(
            Screw(
                side=side,
                entry=entry,
                tip=entry - SCREW_LENGTH_M * outward,
                diameter=SCREW_DIAMETER_M,
                length=SCREW_LENGTH_M,
            )
        )
    return tuple(screws)
