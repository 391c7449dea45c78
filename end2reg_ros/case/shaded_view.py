"""Shaded pictures of triangle meshes in parallel projection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.meshes import vertex_normals
from end2reg_ros.case.model import Mesh
from end2reg_ros.case.raycast import first_hits

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ParallelView:
    """A parallel view of the model frame.

    Attributes:
        right, up: (3,) unit directions of the picture's axes in the model frame.
        low, high: (2,) corners of the picture along right and up, metres.
        pixels_per_m: resolution.
    """

    right: Array
    up: Array
    low: Array
    high: Array
    pixels_per_m: float

    @property
    def towards(self) -> Array:
        """(3,) direction from the scene towards the viewer."""
        return np.cross(self.right, self.up)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the picture."""
        columns, rows = np.ceil((self.high - self.low) * self.pixels_per_m).astype(int)
        return max(int(rows), 1), max(int(columns), 1)

    def project(self, points: Array) -> Array:
        """Points (..., 3) along right and up (..., 2), metres."""
        return np.stack([points @ self.right, points @ self.up], axis=-1)


def draw(
    meshes: list[tuple[Mesh, tuple[int, int, int]]], view: ParallelView
) -> tuple[NDArray[np.uint8], Array]:
    """Shaded picture (H, W, 4) with alpha 0 where nothing is, and depth (H, W) along ``towards``, -inf there."""
    rows, columns = view.shape
    x = view.low[0] + (np.arange(columns) + 0.5) / view.pixels_per_m
    y = view.low[1] + (rows - np.arange(rows) - 0.5) / view.pixels_per_m
    start = max(float((mesh.vertices @ view.towards).max()) for mesh, _ in meshes) + 0.01
    origins = x[None, :, None] * view.right + y[:, None, None] * view.up + start * view.towards
    hits = first_hits([mesh for mesh, _ in meshes], origins, np.broadcast_to(-view.towards, origins.shape))
    picture = np.zeros((rows, columns, 4), dtype=np.uint8)
    for index, (mesh, colour) in enumerate(meshes):
        pixels = hits.mesh == index
        normals = vertex_normals(mesh)[mesh.triangles[hits.triangle[pixels]]]
        normal = np.einsum("pk,pkd->pd", hits.weights[pixels], normals)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        picture[pixels, :3] = np.clip(np.array(colour) * _shade(normal, view)[:, None], 0, 255)
        picture[pixels, 3] = 255
    return picture, start - hits.distance.astype(np.float64)


def _shade(normal: Array, view: ParallelView) -> Array:
    """Lambert light from the upper left of the viewer, a weaker one from the right, darker grazing surfaces."""
    light = view.towards * 0.75 + view.up * 0.5 - view.right * 0.4
    fill = view.towards * 0.5 + view.right * 0.8
    facing = np.clip(normal @ view.towards, 0.0, 1.0)
    key = np.clip(normal @ (light / np.linalg.norm(light)), 0.0, 1.0)
    side = np.clip(normal @ (fill / np.linalg.norm(fill)), 0.0, 1.0)
    return np.asarray((0.22 + 0.72 * key + 0.16 * side) * (0.55 + 0.45 * np.sqrt(facing)))
