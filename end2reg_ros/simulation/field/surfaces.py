"""Triangle surfaces of the simulated scene and the simple bodies they are made of. Metres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MATTE, WET, METAL = 0, 1, 2  # how a surface shines; kept per triangle, beside its colour


@dataclass(frozen=True)
class Surface:
    """A coloured triangle surface.

    Attributes:
        vertices: (V, 3) metres.
        triangles: (F, 3) vertex indices.
        colours: (F, 3) uint8 red, green, blue of every triangle, light included.
        shine: (F,) uint8, one of MATTE, WET, METAL.
    """

    vertices: Array
    triangles: NDArray[np.int32]
    colours: NDArray[np.uint8]
    shine: NDArray[np.uint8]


def merge(surfaces: Sequence[Surface]) -> Surface:
    """One surface of several; order kept."""
    offsets = np.cumsum([0] + [len(s.vertices) for s in surfaces[:-1]])
    triangles = [s.triangles + int(o) for s, o in zip(surfaces, offsets, strict=True)]
    return Surface(
        np.concatenate([s.vertices for s in surfaces]),
        np.concatenate(triangles).astype(np.int32),
        np.concatenate([s.colours for s in surfaces]),
        np.concatenate([s.shine for s in surfaces]),
    )


def uniform(
    vertices: Array, triangles: NDArray[np.int32], colour: tuple[int, int, int], shine: int = MATTE
) -> Surface:
    """A surface of one colour, shaded as if lit from all sides a little more from posterior (-y)."""
    normals = triangle_normals(vertices, triangles)
    light = 0.72 - 0.28 * normals[:, 1]
    colours = np.clip(np.asarray(colour) * light[:, None], COLOUR_MIN, COLOUR_MAX).astype(np.uint8)
    return Surface(vertices, triangles, colours, np.full(len(triangles), shine, np.uint8))


# Colours stay this far from 0 and 255, so that the camera's 8-bit noise can be added without a clip.
COLOUR_MIN, COLOUR_MAX = 16, 238


def triangle_normals(vertices: Array, triangles: NDArray[np.int32]) -> Array:
    """(F, 3) unit normals by the winding; zero for triangles without area."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    result: Array = normals / np.maximum(length, 1e-15)
    return result


def grid_triangles(rows: int, columns: int) -> NDArray[np.int32]:
    """(2 (rows-1) (columns-1), 3) triangles of a row-major vertex grid."""
    i = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    a, b, c, d = i[:-1, :-1], i[:-1, 1:], i[1:, 1:], i[1:, :-1]
    return np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], axis=2).reshape(-1, 3)


def tube(path: Array, radii: Array, sides: int = 14) -> tuple[Array, NDArray[np.int32]]:
    """A round tube along a polyline with closed ends.

    Args:
        path: (P, 3) centre line, metres, no two neighbours equal.
        radii: (P,) metres.
    Returns:
        vertices (P * sides + 2, 3) and triangles.
    """
    tangents = np.gradient(path, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    helper = np.eye(3)[np.argmin(np.abs(tangents).max(axis=0))]
    rings = []
    for point, tangent, radius in zip(path, tangents, radii, strict=True):
        u = np.cross(tangent, helper)
        u /= np.linalg.norm(u)
        v = np.cross(tangent, u)
        angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)[:, None]
        rings.append(point + radius * (np.cos(angle) * u + np.sin(angle) * v))
    vertices = np.concatenate([*rings, path[:1], path[-1:]])
    i = np.arange(len(path) * sides, dtype=np.int32).reshape(len(path), sides)
    j = np.roll(i, -1, axis=1)
    wall = [np.stack([i[:-1], i[1:], j[1:]], -1), np.stack([i[:-1], j[1:], j[:-1]], -1)]
    first, last = np.int32(len(vertices) - 2), np.int32(len(vertices) - 1)
    caps = [
        np.stack([np.full(sides, first), i[0], j[0]], -1),
        np.stack([np.full(sides, last), j[-1], i[-1]], -1),
    ]
    return vertices, np.concatenate([w.reshape(-1, 3) for w in wall] + caps).astype(np.int32)


def capsule(start: Array, end: Array, radius: float) -> tuple[Array, NDArray[np.int32]]:
    """A rod with round ends from ``start`` to ``end`` (3,), metres."""
    axis = (end - start) / np.linalg.norm(end - start)
    caps = np.array([0.99, 0.8, 0.5, 0.2])
    along = np.concatenate([-radius * caps, [0.0], [float(np.linalg.norm(end - start))]])
    along = np.concatenate([along, along[-1] + radius * caps[::-1]])
    ring = radius * np.sqrt(1 - caps**2)
    radii = np.concatenate([ring, [radius, radius], ring[::-1]])
    return tube(start + along[:, None] * axis, radii)


def ellipsoid(centre: Array, axes: Array) -> tuple[Array, NDArray[np.int32]]:
    """An ellipsoid; ``axes`` (3, 3) rows are its half axes in metres."""
    along = np.cos(np.linspace(np.pi - 0.05, 0.05, 14))
    unit, triangles = tube(np.stack([along, 0 * along, 0 * along], 1), np.sqrt(1 - along**2), sides=28)
    return centre + unit @ axes, triangles


def box(centre: Array, axes: Array) -> tuple[Array, NDArray[np.int32]]:
    """A box; ``axes`` (3, 3) rows are its half axes in metres (right-handed)."""
    corner = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    triangles = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    return centre + corner @ axes, np.array(triangles, np.int32)
