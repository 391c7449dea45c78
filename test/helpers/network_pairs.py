"""A tiny network profile and synthetic pairs of clouds for the network's tests. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.pyramid import Floats, PyramidSpec, point_attributes
from end2reg_ros.profile import Profile, realtime
from end2reg_ros.se3 import rotation_from_vector

Array = NDArray[np.float64]


def tiny(**changes: object) -> Profile:
    """``realtime`` shrunk until a training step takes a few hundredths of a second."""
    spec = PyramidSpec(
        voxels=(0.08, 0.16, 0.32),
        radius_voxels=2.5,
        capacities=(896, 288, 96),
        neighbours=(26, 26, 26),
        patch_points=24,
    )
    small = replace(
        realtime(),
        name="tiny",
        model=spec,
        scene=spec,
        width=16,
        fine_channels=32,
        segmentation_width=8,
        transformer_channels=32,
        transformer_layers=2,
        embedding_bins=0,
        pairs=24,
        sinkhorn_iterations=10,
        positive_radius=0.08,
        inlier_radius=0.08,
    )
    return replace(small, **changes)


@dataclass(frozen=True)
class Pair:
    """Two clouds in network units. ``bone`` (M,) tells which scene points belong to the model; a truth, no input."""

    model: Array
    model_attributes: Floats
    scene: Array
    scene_attributes: Floats
    bone: NDArray[np.bool_]
    rotation: Array
    translation: Array


def bumps(seed: int, x: Array, y: Array) -> tuple[Array, Array]:
    """Points (N, 3) and unit normals (N, 3) of a bumpy sheet over (N,) x and y; the bumps belong to the seed."""
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform(-1.0, 1.0, (24, 2)) * [0.7, 1.0], rng.uniform(0.1, 0.25, 24)
    height = rng.uniform(-0.3, 0.4, 24)
    dx, dy = x[:, None] - centre[:, 0], y[:, None] - centre[:, 1]
    bell = height * np.exp(-0.5 * (dx**2 + dy**2) / size**2)
    slope = np.stack(
        [(bell * dx / size**2).sum(axis=1), (bell * dy / size**2).sum(axis=1), np.ones(len(x))], axis=1
    )
    return np.stack([x, y, bell.sum(axis=1)], axis=1), slope / np.linalg.norm(slope, axis=1, keepdims=True)


def make_pair(
    seed: int, view: int = 0, turn_deg: float = 30.0, noise: float = 0.004, clutter: bool = True
) -> Pair:
    """A model sheet and a noisy partial view of it among distractors, turned by up to ``turn_deg``.

    ``seed`` is the shape, ``view`` everything else: pose, part seen, noise.
    """
    rng = np.random.default_rng([seed, view])
    model, model_normals = bumps(seed, rng.uniform(-0.6, 0.6, 6000), rng.uniform(-0.9, 0.9, 6000))
    seen, seen_normals = bumps(seed, rng.uniform(-0.5, 0.6, 4000), rng.uniform(-0.9, 0.6, 4000))
    colours = np.clip(rng.normal([215, 205, 180], 20, (len(seen), 3)), 0, 255)
    bone = np.ones(len(seen), bool)
    if clutter:
        # Flaps of soft tissue beside and above the sheet: rough, reddish, none of the model's shape.
        side = np.where(rng.random(3000) < 0.5, -1.0, 1.0)
        flap, flap_normals = bumps(
            seed + 1000 + view, side * rng.uniform(0.5, 0.75, 3000), rng.uniform(-0.9, 0.9, 3000)
        )
        flap[:, 2] += 0.25
        seen, seen_normals = np.concatenate([seen, flap]), np.concatenate([seen_normals, flap_normals])
        colours = np.concatenate([colours, np.clip(rng.normal([170, 70, 60], 20, (3000, 3)), 0, 255)])
        bone = np.arange(len(seen)) < 4000
    axis = rng.normal(size=3)
    rotation = rotation_from_vector(axis / np.linalg.norm(axis) * np.radians(turn_deg) * rng.random())
    translation = rng.uniform(-0.1, 0.1, 3)
    scene = seen @ rotation.T + translation + rng.normal(0.0, noise, seen.shape)
    return Pair(
        model=model,
        model_attributes=point_attributes(len(model), None, model_normals),
        scene=scene,
        scene_attributes=point_attributes(len(scene), colours.astype(np.uint8), seen_normals @ rotation.T),
        bone=bone,
        rotation=rotation,
        translation=translation,
    )


def pose_error_mm(rotation: Array, translation: Array, pair: Pair) -> float:
    """Mean distance of the model's points under two poses, millimetres (1 unit = 95 mm)."""
    moved = pair.model @ rotation.T + translation
    true = pair.model @ pair.rotation.T + pair.translation
    return float(np.linalg.norm(moved - true, axis=1).mean() * 95.0)
