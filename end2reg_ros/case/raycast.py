"""Rays against triangle meshes, and distances to them, by Open3D (Embree, single precision)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Mesh

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FirstHits:
    """What each of an image's rays (H, W) meets first.

    Attributes:
        mesh: index among the meshes; -1 where a ray meets none.
        distance: along the ray, in lengths of its direction; inf where it meets none.
        triangle: index in that mesh; meaningless where there is none, as are the next two.
        normal: (H, W, 3) unit normal of the triangle.
        weights: (H, W, 3) of the triangle's corners at the hit.
    """

    mesh: NDArray[np.int64]
    distance: NDArray[np.float32]
    triangle: NDArray[np.uint32]
    normal: Array
    weights: Array


def ray_scene(meshes: Sequence[Mesh]) -> Any:
    """An ``open3d.t.geometry.RaycastingScene`` of the meshes; its geometry ids are their indices."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    for mesh in meshes:
        scene.add_triangles(tensor(mesh.vertices), tensor(mesh.triangles, np.uint32))
    return scene


def tensor(values: NDArray, dtype: type = np.float32) -> Any:
    """Numbers as Open3D takes them; not copied where they are stored like that already."""
    import open3d as o3d

    return o3d.core.Tensor.from_numpy(np.ascontiguousarray(values, dtype))


def first_hits(meshes: Sequence[Mesh], origins: Array, directions: Array) -> FirstHits:
    """Cast an image of rays.

    Args:
        origins: (H, W, 3), or what broadcasts to it, metres.
        directions: (H, W, 3), of any length.
    """
    rays = np.concatenate([np.broadcast_to(origins, directions.shape), directions], axis=-1)
    hit = {name: values.numpy() for name, values in ray_scene(meshes).cast_rays(tensor(rays)).items()}
    mesh = hit["geometry_ids"].astype(np.int64)
    second_third = hit["primitive_uvs"].astype(np.float64)
    return FirstHits(
        np.where(mesh < len(meshes), mesh, -1),
        hit["t_hit"],
        hit["primitive_ids"],
        hit["primitive_normals"].astype(np.float64),
        np.concatenate([1.0 - second_third.sum(axis=-1, keepdims=True), second_third], axis=-1),
    )


def signed_distance(mesh: Mesh, points: Array) -> Array:
    """(N,) distances in metres of points (N, 3) to a closed mesh, negative inside."""
    # About the mesh's middle: coordinates far from the origin would cost precision.
    centre = mesh.vertices.mean(axis=0)
    # In millimetres: Embree has absolute tolerances.
    scene = ray_scene([Mesh((mesh.vertices - centre) * 1000.0, mesh.triangles)])
    query = tensor((points - centre) * 1000.0)
    # Three rays a point: one that grazes an edge is outvoted.
    distance = scene.compute_signed_distance(query, nsamples=3)
    return np.asarray(distance.numpy(), dtype=np.float64) / 1000.0
