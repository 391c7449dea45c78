"""Things that come between camera and wound: instruments, hands, a towel. Each is one rigid coloured surface.

Occluder frame: the tip (or the middle of the palm) at the origin, the body reaching along +x (lateral, away from the
wound), y anterior, z superior, as the patient frame at rest; metres.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from end2reg_ros.simulation.field.colours import Palette
from end2reg_ros.simulation.field.surfaces import (
    METAL,
    Array,
    Surface,
    capsule,
    ellipsoid,
    grid_triangles,
    merge,
    tube,
    uniform,
)
from end2reg_ros.simulation.smooth_noise import at_points

Kind = Literal["hand", "suction", "forceps", "driver", "towel", "hand_suction", "sheet"]
STEEL, HANDLE = (168, 172, 178), (70, 74, 82)


def build_occluder(kind: Kind, palette: Palette, seed: int) -> Surface:
    """The surface of one occluder; gloves and towels in the seed's colours.

    Raises:
        ValueError: an unknown kind (a programming error: kinds are typed).
    """
    rng = np.random.default_rng((seed, 31))
    glove = _rgb(palette.glove.mean(axis=0) * palette.gain)
    towel = _rgb(palette.drape.mean(axis=0) * palette.gain)
    if kind == "hand":
        return _hand(glove, towel, rng)
    if kind == "suction":
        return _suction(rng)
    if kind == "forceps":
        return _forceps(rng)
    if kind == "driver":
        return _driver(rng)
    if kind == "towel":
        return merge([_towel(towel, rng), _moved(_hand(glove, towel, rng), np.array([0.10, -0.05, 0.0]))])
    if kind == "hand_suction":
        hand = _moved(_hand(glove, towel, rng), np.array([0.12, -0.10, 0.0]))
        return merge([_suction(rng), hand])
    if kind == "sheet":
        return _sheet(towel)
    raise ValueError(f"unknown occluder '{kind}'; one of {', '.join(get_args(Kind))}")


def _rgb(colour: Array) -> tuple[int, int, int]:
    r, g, b = (int(c) for c in np.clip(colour, 0, 255))
    return r, g, b


def _moved(surface: Surface, offset: Array) -> Surface:
    return Surface(surface.vertices + offset, surface.triangles, surface.colours, surface.shine)


def _hand(glove: tuple[int, int, int], sleeve: tuple[int, int, int], rng: np.random.Generator) -> Surface:
    """A gloved hand with four fingers and a thumb, and a gowned forearm; palm 90 x 100 mm."""
    parts = [uniform(*ellipsoid(np.zeros(3), np.diag([0.052, 0.017, 0.044])), glove)]
    for k, length in enumerate((0.066, 0.078, 0.074, 0.058)):
        root = np.array([-0.040, 0.0, 0.033 - 0.022 * k])
        bend = rng.uniform(0.25, 0.7)
        middle = root + length * 0.5 * np.array([-np.cos(bend * 0.5), np.sin(bend * 0.5), 0.12 * (1.5 - k)])
        tip = middle + length * 0.5 * np.array([-np.cos(bend * 1.6), np.sin(bend * 1.6), 0.05 * (1.5 - k)])
        parts += [
            uniform(*capsule(root, middle, 0.0095), glove),
            uniform(*capsule(middle, tip, 0.0085), glove),
        ]
    side = rng.choice((-1.0, 1.0))
    base, knuckle = np.array([0.02, 0.005, 0.03 * side]), np.array([-0.015, 0.018, 0.062 * side])
    parts += [uniform(*capsule(base, knuckle, 0.012), glove)]
    parts += [uniform(*capsule(knuckle, knuckle + np.array([-0.032, 0.008, -0.004 * side]), 0.0095), glove)]
    wrist, elbow = np.array([0.05, -0.005, 0.0]), np.array([0.42, -0.13, rng.uniform(-0.08, 0.08)])
    parts.append(
        uniform(
            *tube(np.stack([wrist, 0.8 * wrist + 0.2 * elbow, elbow]), np.array([0.03, 0.043, 0.055])), sleeve
        )
    )
    return merge(parts)  # fmt: skip


def _suction(rng: np.random.Generator) -> Surface:
    """A Frazier suction tube: thin, bent, with a handle and a hose."""
    thin = rng.uniform(0.0018, 0.003)
    path = np.array([[0, 0, 0], [0.02, -0.022, 0], [0.06, -0.07, 0], [0.12, -0.11, 0], [0.2, -0.13, 0.0]])
    hose = np.array([[0.2, -0.13, 0], [0.28, -0.13, 0.03], [0.4, -0.08, 0.06], [0.5, -0.0, 0.04]])
    return merge(
        [
            uniform(*tube(path, thin * np.array([1, 1, 1, 1.6, 2.6])), STEEL, METAL),
            uniform(*tube(hose, np.full(4, 0.005)), (206, 208, 196)),
        ]
    )


def _forceps(rng: np.random.Generator) -> Surface:
    """Two springy arms that meet at the end."""
    gap = rng.uniform(0.003, 0.008)
    parts = []
    for side in (-1.0, 1.0):
        path = np.array([[0, 0, side * gap], [0.05, -0.05, side * 0.008], [0.12, -0.12, side * 0.002]])
        parts.append(uniform(*tube(path, np.array([0.0012, 0.003, 0.003])), STEEL, METAL))
    return merge(parts)


def _driver(rng: np.random.Generator) -> Surface:
    """A screw driver or awl: a shaft that stands steeply in the wound, a thick handle on top."""
    lean = rng.uniform(-0.35, 0.35)
    axis = np.array([0.35, -1.0, lean])
    axis /= np.linalg.norm(axis)
    return merge(
        [
            uniform(*capsule(0.004 * axis, 0.15 * axis, rng.uniform(0.003, 0.005)), STEEL, METAL),
            uniform(*capsule(0.16 * axis, 0.25 * axis, rng.uniform(0.012, 0.017)), HANDLE),
        ]
    )


def _towel(colour: tuple[int, int, int], rng: np.random.Generator) -> Surface:
    """A wavy cloth of 200 x 300 mm, held over the wound."""
    x, z = np.meshgrid(np.linspace(-0.10, 0.10, 41), np.linspace(-0.15, 0.15, 61))
    grid = np.stack([x, z], -1).reshape(-1, 2)
    y = 0.008 * at_points(grid, 0.12, rng) + 0.012 * (grid[:, 0] / 0.1) ** 2
    vertices = np.stack([grid[:, 0], y, grid[:, 1]], axis=1)
    return uniform(vertices, grid_triangles(61, 41), colour)


def _sheet(colour: tuple[int, int, int]) -> Surface:
    """A flat cloth of 400 x 600 mm with a straight edge through the origin: what hides a chosen share."""
    x, z = np.meshgrid(np.linspace(0.0, 0.4, 9), np.linspace(-0.3, 0.3, 13))
    vertices = np.stack([x, np.zeros_like(x), z], axis=-1).reshape(-1, 3)
    return uniform(vertices, grid_triangles(13, 9), colour)
