"""A small shard folder of bumpy sheets, for the tests of the training. No torch here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from network_pairs import bumps, tiny
from numpy.typing import NDArray

from end2reg_ros import profile as profiles
from end2reg_ros.cloud.pyramid import UNIT_M
from end2reg_ros.se3 import apply, from_rotation_translation, rotation_from_vector
from end2reg_ros.training.config import TrainingConfig, read_config
from end2reg_ros.training.data.samples import (
    AnatomySample,
    SceneSample,
    anatomy_path,
    save_sample,
    scene_path,
)

Array = NDArray[np.float64]

# The sheet's x, y, height -> the model's right, anterior, superior: bumps stand out of the back (-y).
SHEET_TO_MODEL = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
# A camera above the back, the head upwards in its picture.
MODEL_TO_CAMERA = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def anatomy(seed: int) -> AnatomySample:
    """A sheet of 114 x 171 mm, off the model frame's origin."""
    rng = np.random.default_rng(seed)
    points, normals = bumps(seed, rng.uniform(-0.6, 0.6, 6000), rng.uniform(-0.9, 0.9, 6000))
    placed = points @ SHEET_TO_MODEL.T * UNIT_M + [0.01, -0.02, 0.3]
    return AnatomySample(
        points=placed.astype(np.float32),
        normals=(normals @ SHEET_TO_MODEL.T).astype(np.float32),
        level_index=np.zeros(len(points), np.uint8),
        landmarks=placed[:15].astype(np.float32),
        T_model_levels=np.stack([np.eye(4)] * 5),
        levels=("L1", "L2", "L3", "L4", "L5"),
        source=f"sheet_{seed}",
        group="procedural",
    )


def scene(shape: int, view: int) -> SceneSample:
    """A noisy partial view of the sheet of this shape between two reddish flaps, half a metre away."""
    rng = np.random.default_rng([shape, view])
    seen, normals = bumps(shape, rng.uniform(-0.55, 0.6, 4000), rng.uniform(-0.9, 0.75, 4000))
    side = np.where(rng.random(2000) < 0.5, -1.0, 1.0)
    flap, flap_normals = bumps(
        shape + 1000 + view, side * rng.uniform(0.5, 0.75, 2000), rng.uniform(-0.9, 0.9, 2000)
    )
    flap[:, 2] += 0.25
    bone = np.arange(6000) < 4000
    points = np.concatenate([seen, flap]) @ SHEET_TO_MODEL.T * UNIT_M + [0.01, -0.02, 0.3]
    turn = rotation_from_vector(rng.normal(0.0, 0.3, 3))
    R = MODEL_TO_CAMERA @ turn
    T = from_rotation_translation(R, np.array([0.02, -0.01, 0.5]) - R @ [0.01, -0.02, 0.3])
    colours = np.where(bone[:, None], [215, 205, 180], [170, 70, 60]) + rng.normal(0.0, 15.0, (6000, 3))
    camera = (apply(T, points) + rng.normal(0.0, 3e-4, points.shape)).astype(np.float32)
    turned = np.concatenate([normals, flap_normals]) @ SHEET_TO_MODEL.T @ R.T
    return SceneSample(
        points=camera,
        colours=np.clip(colours, 0, 255).astype(np.uint8),
        normals=np.rint(127 * turned).astype(np.int8),
        bone=bone.astype(np.uint8),
        view_points=camera[::6],
        view_colours=np.clip(colours, 0, 255).astype(np.uint8)[::6],
        view_bone=bone[::6].astype(np.uint8),
        T_camera_model=T,
        anatomy=f"sheet_{shape}",
        suite="easy",
        seed=view,
    )


def no_spine(view: int) -> SceneSample:
    """A view without a spine."""
    full = scene(90, view)
    return replace(
        full,
        points=full.points[:0],
        colours=full.view_colours[:0] if full.view_colours is not None else None,
        normals=full.normals[:0],
        bone=full.bone[:0],
        T_camera_model=np.eye(4),
        anatomy="",
    )


def make_shards(folder: Path, shapes: tuple[int, ...] = (3,), views: int = 4, spineless: int = 1) -> Path:
    """A shard folder: ``views`` scenes of each shape, then some without a spine."""
    scenes = [scene(shape, view) for shape in shapes for view in range(views)]
    scenes += [no_spine(view) for view in range(spineless)]
    for shape in shapes:
        save_sample(anatomy_path(folder, f"sheet_{shape}"), anatomy(shape))
    for number, sample in enumerate(scenes):
        save_sample(scene_path(folder, number), sample)
    return folder


def know_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes ``tiny`` a profile that can be asked for by its name."""
    monkeypatch.setitem(profiles._PROFILES, "tiny", tiny)


def config_file(folder: Path, **settings: Any) -> Path:
    """A config file of the profile ``tiny``."""
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({"profile": "tiny", **settings}))
    return path


def config_of(shards: Path, folder: Path, **settings: Any) -> TrainingConfig:
    """A config of the profile ``tiny`` with quick settings."""
    quick = {"shards": [str(shards)], "iterations": 6, "warm_up": 2, "learning_rate": 3e-3, "fine_pairs": 16}
    return read_config(config_file(folder, **{**quick, **settings}))
