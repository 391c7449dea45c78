"""Landmarks of a lumbar vertebra proposed by geometry: the tips of the spinous and the transverse processes.

A proposal stands in until a person picks the points; it is marked as proposed wherever it goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.case.frames import R_RAS_BODY
from end2reg_ros.case.meshes import end_widths, face_geometry, volume_centroid
from end2reg_ros.case.model import Landmarks, Mesh
from end2reg_ros.errors import CaseError

Array = NDArray[np.float64]

_SAMPLES = 2500
#: First guesses of the plane of symmetry: no tilt, axial rotation (about z) and lateral tilt (about x), degrees.
_STARTS = ((2, 0.0), (2, -25.0), (2, 25.0), (0, -25.0), (0, 25.0))
#: The vertebra's own tilt against the CT axes that the search can follow.
_MAX_TILT_DEG = 45.0


@dataclass(frozen=True)
class _Faces:
    """Triangles in the vertebra's own axes: metres from the volume centroid; x anterior, y left, z superior."""

    centres: Array
    normals: Array
    areas: Array


def propose_landmarks(mesh: Mesh) -> Landmarks:
    """Tips of the spinous and the transverse processes of a vertebra, metres, model frame (CT RAS).

    1. The vertebra's own axes: its plane of symmetry gives left, the endplates of its body give superior.
    2. Spinous tip: the middle of the most posterior 2 mm near that plane.
    3. Transverse tips: the middle of the most lateral 2 mm of each side that lie behind the body.
    Every point is a vertex of the mesh.

    Raises:
        CaseError: a shape in which these cannot be found (no vertebra, or one turned far from the CT axes).
    """
    R, origin = vertebra_axes(mesh)
    faces = _in_axes(mesh, R, origin)
    x, y = faces.centres[:, 0], faces.centres[:, 1]
    midline = np.abs(y) < 0.012
    spinous = _tip(faces, -x, midline)
    # The body's front half cannot hold a transverse process; its root may lie in front of the body's back wall (L5).
    behind = x < _back_wall(faces) + 0.010
    left = _tip(faces, y, behind & (y > 0.015))
    right = _tip(faces, -y, behind & (y < -0.015))
    if spinous is None or left is None or right is None or not _plausible(faces, spinous, left, right):
        raise CaseError("no spinous and transverse processes found; give landmarks (--landmarks)")
    local = (mesh.vertices - origin) @ R
    tips = [mesh.vertices[np.argmin(((local - p) ** 2).sum(axis=1))] for p in (spinous, left, right)]
    return Landmarks(tips[0], tips[1], tips[2], proposed=True)


def vertebra_axes(mesh: Mesh) -> tuple[Array, Array]:
    """Own axes of a vertebra: rotation (3, 3) with columns anterior, left, superior in the model frame, and centroid.

    Left is the normal of the plane that mirrors the surface onto itself best (iterated closest points, as Combes et
    al. 2008 find the mid-sagittal plane); superior is the mean normal of the body's two endplates.

    Raises:
        CaseError: axes more than 45 degrees off the CT's.
    """
    origin = volume_centroid(mesh)
    centres, normals, areas = face_geometry(mesh)
    left = _symmetry_normal(centres - origin, areas)
    up = _endplate_normal(centres - origin, normals, areas, left)
    R = np.column_stack([np.cross(left, up), left, up])
    tilt_deg = np.degrees(np.arccos(np.clip((np.diag(R_RAS_BODY.T @ R)).min(), -1.0, 1.0)))
    if not np.isfinite(R).all() or tilt_deg > _MAX_TILT_DEG:
        raise CaseError("the vertebra's own axes cannot be found; give landmarks (--landmarks)")
    return R, origin


def _in_axes(mesh: Mesh, R: Array, origin: Array) -> _Faces:
    centres, normals, areas = face_geometry(mesh)
    return _Faces((centres - origin) @ R, normals @ R, areas)


def _symmetry_normal(points: Array, areas: Array) -> Array:
    """(3,) unit normal, towards the left, of the plane of symmetry of a surface given by its triangles."""
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(0)
    samples = points[rng.choice(len(points), size=_SAMPLES, p=areas / areas.sum())]
    few = samples[: _SAMPLES // 5]
    tree = cKDTree(few)
    # The search can stop in a wrong plane; started from several, it ends in the right one from most.
    found = [_mirror(few, tree, R_RAS_BODY @ _tilted(axis, deg)[:, 1]) for axis, deg in _STARTS]
    best = min(found, key=lambda result: result[1])[0]
    return _mirror(samples, cKDTree(samples), best)[0]


def _mirror(samples: Array, tree: Any, normal: Array) -> tuple[Array, float]:
    """The plane of symmetry near a first guess, and the distance that is left between the surface and its mirror."""
    centre, left_over = np.zeros(3), np.inf
    for _ in range(40):
        mirrored = samples - 2.0 * np.outer((samples - centre) @ normal, normal)
        distance, nearest = tree.query(mirrored)
        # Asymmetric parts (a bent process, a facet worn on one side) must not pull: the closest 70 % decide.
        keep = distance <= np.quantile(distance, 0.7)
        left_over = float(distance[keep].mean())
        p, q = samples[keep], samples[nearest[keep]]
        centre = (p + q).mean(axis=0) / 2.0
        # sum |q - S(p)|^2 over reflections S through the centre is least for the eigenvector of the lowest eigenvalue.
        moment = (q - centre).T @ (p - centre)
        new = np.linalg.eigh(moment + moment.T)[1][:, 0]
        new = new if new @ R_RAS_BODY[:, 1] > 0 else -new
        done = float(new @ normal) > 1.0 - 1e-7
        normal = new
        if done:
            break
    return np.asarray(normal), left_over


def _endplate_normal(points: Array, normals: Array, areas: Array, left: Array) -> Array:
    """(3,) unit vector, superior, square to ``left``: mean normal of the endplates."""
    best, most = R_RAS_BODY[:, 2], -1.0
    for pitch_deg in (0.0, -25.0, 25.0):
        up = R_RAS_BODY @ _tilted(1, pitch_deg)[:, 2]
        up = up - (up @ left) * left
        up, area = _endplates(points, normals, areas, left, up / np.linalg.norm(up))
        if area > most:
            best, most = up, area
    return best


def _endplates(points: Array, normals: Array, areas: Array, left: Array, up: Array) -> tuple[Array, float]:
    """Mean normal of the endplates near a first guess, and their area (the smaller one's, square metres)."""
    smaller = 0.0
    for _ in range(15):
        forward = np.cross(left, up)
        x, slope = points @ forward, normals @ up
        # The centroid lies near the body's back wall, so what is in front of it is body.
        body = x > np.quantile(x, 0.98) * 0.15
        mean, plates = np.zeros(3), []
        # Each endplate counts alike: the smaller one of a wedge-shaped body as much as the larger.
        for sign in (1.0, -1.0):
            plate = body & (sign * slope > 0.85)
            plates.append(float(areas[plate].sum()))
            if plates[-1] > 0:
                mean += sign * (areas[plate, None] * normals[plate]).sum(axis=0) / plates[-1]
        smaller = min(plates)
        mean -= (mean @ left) * left
        if smaller == 0 or np.linalg.norm(mean) < 0.1:
            break
        new = mean / np.linalg.norm(mean)
        done = float(new @ up) > 1.0 - 1e-9
        up = new
        if done:
            break
    return np.asarray(up), smaller


def _tilted(axis: int, angle_deg: float) -> Array:
    """Rotation (3, 3) about one of the body axes."""
    vector = np.zeros(3)
    vector[axis] = np.radians(angle_deg)
    return se3.rotation_from_vector(vector)


def _back_wall(faces: _Faces) -> float:
    """Anterior coordinate of the body's back wall at the canal, metres from the centroid."""
    x, y = faces.centres[:, 0], faces.centres[:, 1]
    front = x[np.abs(y) < 0.01].max(initial=-np.inf)
    wall = (np.abs(y) < 0.008) & (faces.normals[:, 0] < -0.7) & (x > front - 0.045) & (x < front - 0.018)
    if not np.isfinite(front) or not wall.any():
        return float(front - 0.033) if np.isfinite(front) else 0.0
    return float(np.median(x[wall]))


def _plausible(faces: _Faces, spinous: Array, left: Array, right: Array) -> bool:
    """Whether the tips lie as those of a vertebra do.

    Alike on both sides, the spinous one well behind them, and the spinous process narrower than the body (measured
    on 20 vertebrae: by a factor of 3 to 6).
    """
    reach = sorted((left[1], -right[1]))
    body, process = end_widths(faces.centres[:, 0], faces.centres[:, 1], faces.areas)
    return bool(
        reach[0] > 0.012
        and reach[1] < 1.7 * reach[0]
        and abs(left[2] - right[2]) < 0.025
        and spinous[0] < min(left[0], right[0]) - 0.008
        and body > 1.5 * process
    )


def _tip(faces: _Faces, reach: Array, where: NDArray[np.bool_]) -> Array | None:
    """Area-weighted middle of the farthest 2 mm along ``reach`` among the triangles ``where``; None when none."""
    if not where.any():
        return None
    tip = where & (reach > reach[where].max() - 0.002)
    return np.asarray(np.average(faces.centres[tip], axis=0, weights=faces.areas[tip]))
