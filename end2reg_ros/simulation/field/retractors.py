"""Self-retaining retractors: metal blades at the wound's walls and the frame that holds them apart."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from end2reg_ros.simulation.field.settings import FieldSettings
from end2reg_ros.simulation.field.surfaces import METAL, Array, Surface, box, capsule, merge, uniform
from end2reg_ros.simulation.field.wound import Relief

STEEL = (172, 176, 180)


def build_retractors(relief: Relief, settings: FieldSettings) -> Surface:
    """One or two pairs of blades with their frames, patient frame."""
    rng = np.random.default_rng((settings.seed, 5))
    pairs = 1 if relief.half_length < 0.06 else 2
    spread = relief.half_length * (0.0 if pairs == 1 else 0.42)
    parts: list[Surface] = []
    for place in np.linspace(-spread, spread, pairs):
        z = float(relief.target[2] + place + rng.uniform(-0.008, 0.008))
        tops = [_blade(relief, z, side, rng, parts) for side in (-1.0, 1.0)]
        # The frame arches over the skin beside the wound, out of the camera's way.
        beyond = np.array([0.0, -0.012, np.copysign(0.02 + relief.half_length - abs(place), place or 1.0)])
        corners = [tops[0], tops[0] + beyond, tops[1] + beyond, tops[1]]
        for a, b in pairwise(corners):
            parts.append(uniform(*capsule(a, b, 0.003), STEEL, METAL))
    return merge(parts)


def _blade(relief: Relief, z: float, side: float, rng: np.random.Generator, parts: list[Surface]) -> Array:
    """Add one blade; returns (3,) the place where the frame holds it."""
    row = int(np.abs(relief.z - z).argmin())
    inside = np.flatnonzero((relief.outside[row] < 0) & (np.sign(relief.x - relief.target[0]) == side))
    edge = inside[-1] if side > 0 else inside[0]
    # Halfway down the wall, where the skin's edge and the wound's foot are both in reach.
    depth = relief.skin[row, inside] - relief.height[row, inside]
    inwards = slice(None, None, -int(side))
    foot = inside[inwards][np.argmax(depth[inwards] > 0.7 * depth.max())]
    top, low = relief.point(row, edge), relief.point(row, foot)
    top = top + np.array([side * 0.002, -0.006, 0.0])
    low = low + np.array([-side * 0.002, 0.0, 0.0])
    along = 0.5 * (top - low)
    across = np.array([0.0, 0.0, rng.uniform(0.009, 0.016)])
    normal = np.cross(along, across)
    normal *= 0.0008 / np.linalg.norm(normal)
    parts.append(uniform(*box(0.5 * (top + low), np.stack([along, across, normal])), STEEL, METAL))
    lip = np.stack([[0.008, 0.0, 0.0], [0.0, 0.0008, 0.0], across])
    parts.append(uniform(*box(top + np.array([side * 0.008, 0.0, 0.0]), lip), STEEL, METAL))
    return np.asarray(top + np.array([side * 0.014, -0.002, 0.0]))
