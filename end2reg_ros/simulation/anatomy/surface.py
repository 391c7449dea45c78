"""Field -> closed triangle surface with few triangles. Millimetres in and out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.simulation.anatomy.fields import FAR_MM, Array, Field, Grid

Triangles = NDArray[np.int32]

# A triangle over the sharpest edge turns less: what turns more is a flap that decimation left.
FOLD_DEG = 50.0
IRON_ROUNDS = 20  # at most


def closed_surface(field: Field, grid: Grid, triangles: int) -> tuple[Array, Triangles]:
    """Vertices (V, 3) in the grid's frame and triangles (F, 3), wound outwards, F <= ``triangles``.

    Marching cubes gives a closed surface as long as the border of the grid is outside; small islands that a cut may
    leave are dropped; quadric decimation (Garland and Heckbert 1997) brings the count down.

    Raises:
        ValueError: the decimated surface is not closed.
    """
    import open3d as o3d
    from skimage.measure import marching_cubes

    padded = np.pad(field, 1, constant_values=FAR_MM)
    # skimage winds triangles outwards for objects brighter than their surroundings: ours grows outwards instead.
    vertices, faces, _, _ = marching_cubes(padded, 0.0, gradient_direction="descent")
    vertices = (vertices - 1.0) * grid.voxel + grid.origin
    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(faces.astype(np.int32))
    )
    label, count, _ = mesh.cluster_connected_triangles()
    mesh.remove_triangles_by_mask(np.asarray(label) != int(np.argmax(np.asarray(count))))
    mesh.remove_unreferenced_vertices()
    mesh = mesh.simplify_quadric_decimation(triangles)
    if not (mesh.is_edge_manifold(allow_boundary_edges=False) and mesh.is_vertex_manifold()):
        raise ValueError("the surface is not closed after decimation")
    kept = np.asarray(mesh.triangles).astype(np.int32)
    return iron_folds(np.asarray(mesh.vertices).copy(), kept, field, grid), kept


def iron_folds(vertices: Array, triangles: Triangles, field: Field, grid: Grid) -> Array:
    """Vertices (V, 3) moved so that every triangle faces the way the field grows, within ``FOLD_DEG`` degrees.

    Decimation now and then turns a triangle of a flat region over: harmless to distances, but a scar to normals. The
    few vertices concerned go to the mean of their neighbours and back to the zero level.
    """
    corners = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    for _ in range(IRON_ROUNDS):
        a, b, c = (vertices[triangles[:, k]] for k in range(3))
        normals = np.cross(b - a, c - a)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        _, growth = value_and_growth(field, grid, (a + b + c) / 3.0)
        folded = (normals * growth).sum(axis=1) < np.cos(np.radians(FOLD_DEG))
        if not folded.any():
            break
        moving = np.unique(triangles[folded])
        total, count = np.zeros_like(vertices), np.zeros(len(vertices))
        for i, j in ((0, 1), (1, 0)):
            np.add.at(total, corners[:, i], vertices[corners[:, j]])
            np.add.at(count, corners[:, i], 1.0)
        moved = total[moving] / count[moving, None]
        value, growth = value_and_growth(field, grid, moved)
        vertices = vertices.copy()
        vertices[moving] = moved - value[:, None] * growth
    return vertices


def value_and_growth(field: Field, grid: Grid, points: Array) -> tuple[Array, Array]:
    """Field (N,) at points (N, 3) by linear interpolation, and unit vectors (N, 3) along its gradient."""
    from scipy.ndimage import map_coordinates

    nodes = ((points - grid.origin) / grid.voxel).T
    value = map_coordinates(field, nodes, order=1, mode="nearest")
    steps = np.eye(3)[:, :, None]
    sides = [
        [map_coordinates(field, nodes + sign * step, order=1, mode="nearest") for sign in (1.0, -1.0)]
        for step in steps
    ]
    growth = np.stack([ahead - behind for ahead, behind in sides], axis=1).astype(np.float64)
    return value, growth / np.maximum(np.linalg.norm(growth, axis=1, keepdims=True), 1e-9)
