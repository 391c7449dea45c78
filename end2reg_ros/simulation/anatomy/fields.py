"""Signed distance fields on a grid: thick triangles, smooth unions and cuts. Millimetres, float32, negative inside.

A neural arch is a sphere mesh: named points with radii, joined by edges and triangles, the field being the distance to
the skeleton less the radius there (Thiery et al. 2013, "Sphere-Meshes", ACM TOG 32(6)). Blends are the polynomial smooth
minimum (Quilez), which equals the plain minimum where the two fields differ by more than k; so every element is
evaluated only in its own box, and the zero level is the one of the full grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Array = NDArray[np.float64]

FAR_MM = 12.0


@dataclass(frozen=True)
class Ball:
    """A point of a skeleton: (3,) position and radius, mm."""

    at: Array
    radius: float


def ball(x: float, y: float, z: float, radius: float) -> Ball:
    """Shorthand for a Ball."""
    return Ball(np.array([x, y, z], dtype=np.float64), radius)


Element = tuple[Ball, ...]  # one ball, two (a rounded cone) or three (a thick triangle)


@dataclass(frozen=True)
class Part:
    """Elements joined hard (they share balls), blended into the rest over ``blend`` mm."""

    elements: tuple[Element, ...]
    blend: float


@dataclass(frozen=True)
class Grid:
    """A regular grid: (3,) position of the first node, spacing in mm, node counts."""

    origin: Array
    voxel: float
    shape: tuple[int, int, int]

    @staticmethod
    def around(low: Array, high: Array, voxel: float) -> Grid:
        """The grid that covers the box ``low``..``high`` (3,)."""
        counts = np.ceil((high - low) / voxel).astype(int) + 1
        return Grid(low, voxel, (int(counts[0]), int(counts[1]), int(counts[2])))

    def box(self, low: Array, high: Array) -> tuple[slice, slice, slice]:
        """Slices of the nodes inside a box; empty when the box lies outside."""
        first = np.clip(np.floor((low - self.origin) / self.voxel).astype(int), 0, self.shape)
        last = np.clip(np.ceil((high - self.origin) / self.voxel).astype(int) + 1, 0, self.shape)
        return slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2])

    def axes(self, box: tuple[slice, slice, slice] | None = None) -> tuple[Field, Field, Field]:
        """Open coordinate arrays (nx, 1, 1), (1, ny, 1), (1, 1, nz) in mm."""
        lines = [self.origin[k] + self.voxel * np.arange(self.shape[k]) for k in range(3)]
        if box is not None:
            lines = [line[part] for line, part in zip(lines, box, strict=True)]
        x, y, z = (line.astype(np.float32) for line in lines)
        return x[:, None, None], y[None, :, None], z[None, None, :]


def smooth_min(a: Field, b: Field, k: float) -> Field:
    """Polynomial smooth minimum over ``k`` mm; at most k/4 below the plain one."""
    h = np.maximum(np.float32(k) - np.abs(a - b), 0)
    h *= h
    h *= np.float32(0.25 / k)
    return np.asarray(np.minimum(a, b) - h, dtype=np.float32)


def smooth_max(a: Field, b: Field, k: float) -> Field:
    """Polynomial smooth maximum over ``k`` mm."""
    return np.asarray(-smooth_min(-a, -b, k), dtype=np.float32)


def element_field(x: Field, y: Field, z: Field, element: Element) -> Field:
    """Distance to the skeleton element less the radius there, at the given coordinates."""
    if len(element) == 1:
        b = element[0]
        d2 = (x - np.float32(b.at[0])) ** 2 + (y - np.float32(b.at[1])) ** 2 + (z - np.float32(b.at[2])) ** 2
        return np.asarray(np.sqrt(d2) - np.float32(b.radius), dtype=np.float32)
    if len(element) == 2:
        return _cone(x, y, z, element[0], element[1])
    a, b, c = element
    field = np.minimum(_cone(x, y, z, a, b), _cone(x, y, z, b, c))
    np.minimum(field, _cone(x, y, z, c, a), out=field)
    return _fill_triangle(field, x, y, z, a, b, c)


def _cone(x: Field, y: Field, z: Field, a: Ball, b: Ball) -> Field:
    """Segment with a radius that runs linearly from one end to the other."""
    axis = b.at - a.at
    length2 = float(axis @ axis)
    px, py, pz = (c - np.float32(o) for c, o in zip((x, y, z), a.at, strict=True))
    ux, uy, uz = (np.float32(v) for v in axis)
    t = px * (ux / np.float32(length2)) + py * (uy / np.float32(length2)) + pz * (uz / np.float32(length2))
    np.clip(t, 0, 1, out=t)
    d2 = (px - t * ux) ** 2
    d2 += (py - t * uy) ** 2
    d2 += (pz - t * uz) ** 2
    np.sqrt(d2, out=d2)
    d2 -= np.float32(a.radius) + t * np.float32(b.radius - a.radius)
    return np.asarray(d2, dtype=np.float32)


def _fill_triangle(field: Field, x: Field, y: Field, z: Field, a: Ball, b: Ball, c: Ball) -> Field:
    """Lower ``field`` (the edges') where the foot of the perpendicular lies within the triangle."""
    e1, e2 = b.at - a.at, c.at - a.at
    normal = np.cross(e1, e2)
    area2 = float(normal @ normal)
    g1, g2 = np.cross(e2, normal) / area2, np.cross(normal, e1) / area2
    n = normal / np.sqrt(area2)
    px, py, pz = (q - np.float32(o) for q, o in zip((x, y, z), a.at, strict=True))

    def dot(v: Array) -> Field:
        w = v.astype(np.float32)
        return np.asarray(px * w[0] + py * w[1] + pz * w[2], dtype=np.float32)

    v, w = dot(g1), dot(g2)
    inside = (v >= 0) & (w >= 0) & (v + w <= 1)
    radius = np.float32(a.radius) + v * np.float32(b.radius - a.radius) + w * np.float32(c.radius - a.radius)
    plane = np.abs(dot(n)) - radius
    return np.asarray(np.where(inside, np.minimum(field, plane), field), dtype=np.float32)


def add_part(field: Field, grid: Grid, part: Part) -> None:
    """Blend one part into ``field`` in place, evaluating each element only in its own box."""
    pad = part.blend + 2 * grid.voxel
    balls = [b for element in part.elements for b in element]
    whole = grid.box(*_bounds(balls, pad))
    own = np.full(field[whole].shape, FAR_MM, dtype=np.float32)
    for element in part.elements:
        box = grid.box(*_bounds(list(element), pad))
        inner = tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(box, whole, strict=True))
        x, y, z = grid.axes(box)
        own[inner] = np.minimum(own[inner], element_field(x, y, z, element))
    field[whole] = smooth_min(field[whole], own, part.blend)


def _bounds(balls: list[Ball], pad: float) -> tuple[Array, Array]:
    centres = np.stack([b.at for b in balls])
    radii = np.array([b.radius for b in balls])[:, None]
    return (centres - radii).min(axis=0) - pad, (centres + radii).max(axis=0) + pad


def parts_bounds(parts: list[Part], pad: float) -> tuple[Array, Array]:
    """Low and high corner (3,) of all parts, ``pad`` mm wider."""
    return _bounds([b for part in parts for element in part.elements for b in element], pad)


def smooth_noise(grid: Grid, rng: np.random.Generator, wavelength: float, waves: int = 48) -> Field:
    """Isotropic noise of unit variance: a sum of plane waves of about ``wavelength`` mm.

    exp(i k.x) is a product over the axes, so the sum over waves is one matrix product instead of a pass per wave.
    """
    directions = rng.standard_normal((waves, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    k = directions * (2 * np.pi / wavelength) * rng.uniform(0.6, 1.4, (waves, 1))
    phase = rng.uniform(0, 2 * np.pi, waves)
    x, y, z = (axis.astype(np.float64).ravel() for axis in grid.axes())
    ex = np.exp(1j * (np.outer(x, k[:, 0]) + phase))
    ey, ez = np.exp(1j * np.outer(y, k[:, 1])), np.exp(1j * np.outer(z, k[:, 2]))
    left = (ex[:, None, :] * ey[None, :, :]).reshape(-1, waves)
    cosines = left.real.astype(np.float32) @ ez.real.T.astype(np.float32)
    cosines -= left.imag.astype(np.float32) @ ez.imag.T.astype(np.float32)
    return np.asarray(cosines.reshape(grid.shape) * np.sqrt(2.0 / waves), dtype=np.float32)
