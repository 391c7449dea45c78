"""Shaded pictures of triangle meshes with a z-buffer: parallel projection, numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.meshes import vertex_normals
from end2reg_ros.case.model import Mesh

Array = NDArray[np.float64]


@dataclass(frozen=True)
class View:
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


def draw(meshes: list[tuple[Mesh, tuple[int, int, int]]], view: View) -> tuple[NDArray[np.uint8], Array]:
    """Shaded picture (H, W, 4) with alpha 0 where nothing is, and depth (H, W) along ``towards``, -inf there."""
    vertices, triangles, normals, colours = _joined(meshes)
    rows, columns = view.shape
    plane = (view.project(vertices) - view.low) * view.pixels_per_m
    height = vertices @ view.towards
    nearest = _nearest_triangle(plane, height, triangles, (rows, columns))
    depth = np.full(rows * columns, -np.inf)
    picture = np.zeros((rows * columns, 4), dtype=np.uint8)
    pixel = np.flatnonzero(nearest >= 0)
    corners = triangles[nearest[pixel]]
    centre = np.stack([pixel % columns, rows - 1 - pixel // columns], axis=1) + 0.5
    weights = _barycentric(plane[corners], centre.astype(np.float64))
    depth[pixel] = np.einsum("pk,pk->p", weights, height[corners])
    normal = np.einsum("pk,pkd->pd", weights, normals[corners])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    picture[pixel, :3] = np.clip(colours[corners[:, 0]] * _shade(normal, view)[:, None], 0, 255)
    picture[pixel, 3] = 255
    return picture.reshape(rows, columns, 4), depth.reshape(rows, columns)


def _shade(normal: Array, view: View) -> Array:
    """Lambert light from the upper left of the viewer, a weaker one from the right, darker grazing surfaces."""
    light = view.towards * 0.75 + view.up * 0.5 - view.right * 0.4
    fill = view.towards * 0.5 + view.right * 0.8
    facing = np.clip(normal @ view.towards, 0.0, 1.0)
    key = np.clip(normal @ (light / np.linalg.norm(light)), 0.0, 1.0)
    side = np.clip(normal @ (fill / np.linalg.norm(fill)), 0.0, 1.0)
    return np.asarray((0.22 + 0.72 * key + 0.16 * side) * (0.55 + 0.45 * np.sqrt(facing)))


def _joined(
    meshes: list[tuple[Mesh, tuple[int, int, int]]],
) -> tuple[Array, NDArray[np.int32], Array, Array]:
    """All meshes as one: vertices, triangles, smooth unit normals and colours of the vertices."""
    vertices, triangles, normals, colours, count = [], [], [], [], 0
    for mesh, colour in meshes:
        normals.append(vertex_normals(mesh))
        vertices.append(mesh.vertices)
        triangles.append(mesh.triangles + count)
        colours.append(np.tile(np.array(colour, dtype=np.float64), (len(mesh.vertices), 1)))
        count += len(mesh.vertices)
    return (
        np.concatenate(vertices),
        np.concatenate(triangles).astype(np.int32),
        np.concatenate(normals),
        np.concatenate(colours),
    )


def _nearest_triangle(
    plane: Array, height: Array, triangles: NDArray[np.int32], shape: tuple[int, int]
) -> NDArray[np.int64]:
    """(H * W,) index of the nearest triangle in every pixel, -1 where none is.

    Triangles that face the viewer are covered with points less than a pixel apart. Depth and index are packed into
    one integer, depth above, so that keeping the larger one is the z-buffer.
    """
    rows, columns = shape
    a, b, c = (plane[triangles[:, k]] for k in range(3))
    turn = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    facing = np.flatnonzero(turn > 0)
    spans = np.max([np.linalg.norm(u - v, axis=1)[facing] for u, v in ((a, b), (b, c), (c, a))], axis=0)
    steps = np.ceil(spans * 1.2).astype(int) + 1
    low, size = float(height.min()), max(float(np.ptp(height)), 1e-9)
    buffer = np.full(rows * columns, -1, dtype=np.int64)
    for step in np.unique(steps):
        chosen = facing[steps == step]
        u, v = np.meshgrid(np.arange(step + 1), np.arange(step + 1))
        inside = u + v <= step
        weights = np.stack([u[inside], v[inside], step - u[inside] - v[inside]], axis=1) / step
        at = np.floor(weights @ plane[triangles[chosen]]).astype(np.int64)
        depth = weights @ ((height[triangles[chosen]] - low) / size * 2.0**36)[..., None]
        key = (depth[..., 0].astype(np.int64) << 26) + chosen[:, None]
        seen = (at >= 0).all(axis=2) & (at[..., 0] < columns) & (at[..., 1] < rows)
        pixel = (rows - 1 - at[..., 1]) * columns + at[..., 0]
        np.maximum.at(buffer, pixel[seen], key[seen])
    return np.where(buffer >= 0, buffer & ((1 << 26) - 1), -1)


def _barycentric(corners: Array, points: Array) -> Array:
    """Weights (P, 3) of the corners (P, 3, 2) at points (P, 2), kept inside the triangle."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    double = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    p = points - a
    second = (p[:, 0] * (c - a)[:, 1] - p[:, 1] * (c - a)[:, 0]) / double
    third = ((b - a)[:, 0] * p[:, 1] - (b - a)[:, 1] * p[:, 0]) / double
    weights = np.clip(np.stack([1.0 - second - third, second, third], axis=1), 0.0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
