"""Distances to a mesh in plain numpy, double precision, every triangle for every point: slow and obvious."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Mesh

Array = NDArray[np.float64]


def signed_distance_reference(mesh: Mesh, points: Array) -> Array:
    """(N,) distances in metres of points (N, 3) to a closed mesh, negative inside."""
    return np.array(
        [_distance_of_point(mesh, p) * (-1.0 if _winding(mesh, p) > 0.5 else 1.0) for p in points]
    )


def _winding(mesh: Mesh, point: Array) -> float:
    """How often a surface winds around a point: 1 inside, 0 outside (solid angles, van Oosterom & Strackee 1983)."""
    a, b, c = ((mesh.vertices - point)[mesh.triangles[:, k]] for k in range(3))
    la, lb, lc = (np.linalg.norm(v, axis=1) for v in (a, b, c))
    numerator = np.einsum("ij,ij->i", a, np.cross(b, c))
    dots = [np.einsum("ij,ij->i", u, v) for u, v in ((a, b), (b, c), (c, a))]
    denominator = la * lb * lc + dots[0] * lc + dots[1] * la + dots[2] * lb
    return float(np.arctan2(numerator, denominator).sum() / (2.0 * np.pi))


def _distance_of_point(mesh: Mesh, point: Array) -> float:
    """Least distance of a point to the triangles: to a face where it projects inside, else to an edge."""
    corners = (mesh.vertices - point)[mesh.triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    square = np.einsum("ij,ij->i", normal, normal)
    best = np.inf
    over_face = square > 0
    for k in range(3):
        start, end = corners[:, k], corners[:, (k + 1) % 3]
        edge = end - start
        length = np.maximum(np.einsum("ij,ij->i", edge, edge), 1e-300)
        along = np.clip(-np.einsum("ij,ij->i", start, edge) / length, 0.0, 1.0)
        nearest = start + along[:, None] * edge
        best = min(best, float(np.sqrt(np.einsum("ij,ij->i", nearest, nearest).min())))
        over_face &= np.einsum("ij,ij->i", np.cross(edge, -start), normal) >= 0
    if over_face.any():
        height = np.abs(np.einsum("ij,ij->i", normal[over_face], corners[over_face, 0])) / np.sqrt(
            square[over_face]
        )
        best = min(best, float(height.min()))
    return best
