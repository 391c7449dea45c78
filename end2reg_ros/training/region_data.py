"""Views of shards as pictures and targets for the region network, turned, shifted and recoloured at random."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from end2reg_ros.cloud.view_grid import CELL_M, COLUMNS, ROWS, view_grid, view_origin
from end2reg_ros.errors import TrainingError
from end2reg_ros.network.region_net import STRIDE

Array = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """A whole view, thinned, with its truth.

    Attributes:
        points: (N, 3) float32 metres, camera frame.
        colours: (N, 3) uint8, or None.
        bone: (N,) bool.
        T_camera_model: (4, 4); None without a spine.
        anatomy, suite: names.
    """

    points: NDArray[np.float32]
    colours: NDArray[np.uint8] | None
    bone: NDArray[np.bool_]
    T_camera_model: Array | None
    anatomy: str
    suite: str


@dataclass(frozen=True)
class RegionAugmentation:
    """What every view goes through; all draws are uniform.

    Attributes:
        turn: turn about the optical axis by any angle.
        mirror: share of views that are mirrored.
        shift_m: the grid moves by up to this along x and y.
        away_share: share of views in which the grid moves off the wound: one more view without a spine.
        colour: strength of gain, white balance and offset changes.
        colourless_share, grey_share: shares of views without colour and in grey.
        scale: relative change of all lengths, at most.
        dropout: largest share of points that are dropped.
        noise_m: largest standard deviation of noise along the line of sight.
        tilt_deg: the view is tilted by up to this about an axis in the image plane.
    """

    turn: bool = True
    mirror: float = 0.5
    shift_m: float = 0.12
    away_share: float = 0.04
    colour: float = 0.3
    colourless_share: float = 0.2
    grey_share: float = 0.1
    scale: float = 0.1
    dropout: float = 0.4
    noise_m: float = 0.001
    tilt_deg: float = 10.0


@dataclass(frozen=True)
class RegionSample:
    """One training example; H, W are the maps' rows and columns.

    Attributes:
        picture: (CHANNELS, ROWS, COLUMNS) float32.
        bone: (H, W) float32, largest share of bone of the cell's parts, 0 to 1.
        known: (H, W) float32, 1 where the view has points.
        directions: (4,) float32 x, y of the superior direction in the image plane (unit) and of anterior; zeros without one.
    """

    picture: NDArray[np.float32]
    bone: NDArray[np.float32]
    known: NDArray[np.float32]
    directions: NDArray[np.float32]


def scene_files(shards: Sequence[Path]) -> list[Path]:
    """All scenes of these shard folders, in order.

    Raises:
        TrainingError: a folder without scenes.
    """
    files: list[Path] = []
    for folder in shards:
        found = sorted((folder / "scene").glob("*.npz"))
        if not found:
            raise TrainingError(
                f"{folder}: no scenes (scene/*.npz); make some with end2reg_ros.training.shards"
            )
        files += found
    return files


def load_view(path: Path) -> View:
    """The whole view of a scene of a shard.

    Raises:
        TrainingError: a file that is cut short, or none of a shard.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            anatomy = str(data["anatomy"])
            suite = (
                str(data["suite"]) if "suite" in data else str(json.loads(str(data["tags"])).get("suite", ""))
            )
            return View(
                data["view_points"],
                data["view_colours"] if len(data["view_colours"]) else None,
                data["view_bone"].astype(bool),
                np.asarray(data["T_camera_model"], np.float64) if anatomy else None,
                anatomy,
                suite,
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path}: not a scene of a shard, or cut short ({error})") from error


def held_out(source: str, every: int = 8) -> bool:
    """Whether an individual is kept for validation: by its name alone, so that all its variants and scenes are."""
    digits = "".join(c for c in source if c.isdigit())
    return (int(digits) if digits else crc32(source.encode())) % every == 0


def split_by_anatomy(files: Sequence[Path], every: int = 8) -> tuple[list[Path], list[Path]]:
    """Scenes to train on and to validate on; mixed anatomies with donors on both sides are in neither.

    Scenes without a spine go to either by their number.
    """
    train: list[Path] = []
    validation: list[Path] = []
    sides: dict[tuple[Path, str], set[bool]] = {}
    for path in files:
        with np.load(path, allow_pickle=False) as data:
            anatomy = str(data["anatomy"])
        if not anatomy:
            (validation if int(path.stem) % every == 0 else train).append(path)
            continue
        key = (path.parent.parent, anatomy)
        if key not in sides:
            sides[key] = {held_out(donor, every) for donor in _donors(*key)}
        if sides[key] == {True}:
            validation.append(path)
        elif sides[key] == {False}:
            train.append(path)
    return train, validation


def _donors(shards: Path, anatomy: str) -> list[str]:
    """Individuals that an anatomy is made of; its own name where the shard does not say."""
    file = shards / "anatomy" / f"{anatomy}.npz"
    if not file.is_file():
        return [anatomy]
    with np.load(file, allow_pickle=False) as data:
        return str(data["source"]).split("+") if "source" in data else [anatomy]


def make_sample(view: View, settings: RegionAugmentation | None, rng: np.random.Generator) -> RegionSample:
    """Picture and targets of a view; unchanged when ``settings`` is None."""
    points, colours, bone = view.points, view.colours, view.bone
    motion = np.eye(3)
    origin = None
    if settings is not None:
        keep = rng.random(len(points)) >= rng.uniform(0.0, settings.dropout)
        points, bone = points[keep], bone[keep]
        colours = None if colours is None else _recolour(colours[keep], settings, rng)
        motion = _motion(settings, rng)
        points = _move(points, motion, settings, rng)
        origin = _shifted(view_origin(points), points[bone], settings, rng)
    grid = view_grid(points, colours, bone[:, None].astype(np.float32), origin)
    rows, columns = ROWS // STRIDE, COLUMNS // STRIDE
    blocks = (rows, STRIDE, columns, STRIDE)
    share = grid.values[0].reshape(blocks).max(axis=(1, 3))
    known = grid.occupied.reshape(blocks).max(axis=(1, 3))
    directions = np.zeros(4)
    if view.T_camera_model is not None:
        superior, anterior = motion @ view.T_camera_model[:3, 2], motion @ view.T_camera_model[:3, 1]
        directions[:2] = superior[:2] / max(float(np.linalg.norm(superior[:2])), 1e-6)
        directions[2:] = anterior[:2]
    return RegionSample(
        grid.channels, share.astype(np.float32), known.astype(np.float32), directions.astype(np.float32)
    )


def _motion(s: RegionAugmentation, rng: np.random.Generator) -> Array:
    """(3, 3) turn about z after a mirroring of x and a tilt: what maps old directions to new ones."""
    turn = rng.uniform(0.0, 2.0 * np.pi) if s.turn else 0.0
    lean, towards = np.radians(rng.uniform(0.0, s.tilt_deg)), rng.uniform(0.0, 2.0 * np.pi)
    mirror = np.diag([-1.0 if rng.random() < s.mirror else 1.0, 1.0, 1.0])
    return _about_z(turn + towards) @ _about_x(lean) @ _about_z(-towards) @ mirror


def _about_z(a: float) -> Array:
    return np.array([[np.cos(a), -np.sin(a), 0.0], [np.sin(a), np.cos(a), 0.0], [0.0, 0.0, 1.0]])


def _about_x(a: float) -> Array:
    return np.array([[1.0, 0.0, 0.0], [0.0, np.cos(a), -np.sin(a)], [0.0, np.sin(a), np.cos(a)]])


def _move(
    points: NDArray[np.float32], motion: Array, s: RegionAugmentation, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Points turned about a point on the optical axis at their median depth, scaled, with noise."""
    pivot = np.array([0.0, 0.0, float(np.median(points[:, 2])) if len(points) else 0.0])
    moved = (points - pivot) @ motion.T + pivot
    moved[:, 2] += rng.normal(0.0, rng.uniform(0.0, s.noise_m), len(moved))
    return (moved * rng.uniform(1.0 - s.scale, 1.0 + s.scale)).astype(np.float32)


def _shifted(
    origin: Array, bone: NDArray[np.float32], s: RegionAugmentation, rng: np.random.Generator
) -> Array:
    moved = origin + rng.uniform(-s.shift_m, s.shift_m, 2)
    if rng.random() < s.away_share and len(bone):
        # The grid's edge just passes the wound: skin, drapes and hands stay in view.
        axis = int(rng.integers(2))
        size = CELL_M * (COLUMNS, ROWS)[axis]
        beyond = float(bone[:, axis].max()) + 0.01
        before = float(bone[:, axis].min()) - 0.01 - size
        moved[axis] = beyond if rng.random() < 0.5 else before
    return moved


def _recolour(
    colours: NDArray[np.uint8], s: RegionAugmentation, rng: np.random.Generator
) -> NDArray[np.uint8] | None:
    kind = rng.random()
    if kind < s.colourless_share:
        return None
    gain = np.exp(rng.uniform(-s.colour, s.colour)) * np.exp(rng.uniform(-s.colour, s.colour, 3) / 2)
    changed = colours * gain + rng.uniform(-60.0, 60.0) * s.colour
    if kind < s.colourless_share + s.grey_share:
        changed = np.repeat(changed @ np.array([[0.3], [0.59], [0.11]]), 3, axis=1)
    return np.clip(changed, 0.0, 255.0).astype(np.uint8)


@dataclass(frozen=True)
class RegionBatch:
    """Stacked samples: (B, C, ROWS, COLUMNS), (B, H, W), (B, H, W), (B, 4)."""

    picture: Tensor
    bone: Tensor
    known: Tensor
    directions: Tensor


def stack(samples: Sequence[RegionSample]) -> RegionBatch:
    """A batch of samples."""
    return RegionBatch(
        torch.from_numpy(np.stack([s.picture for s in samples])),
        torch.from_numpy(np.stack([s.bone for s in samples])),
        torch.from_numpy(np.stack([s.known for s in samples])),
        torch.from_numpy(np.stack([s.directions for s in samples])),
    )


def batches(
    files: Sequence[Path], size: int, settings: RegionAugmentation, seed: int, first: int = 0
) -> Iterator[RegionBatch]:
    """Endless batches from number ``first``; batch k follows from ``seed`` and k alone."""
    number = first
    while True:
        rng = np.random.default_rng((seed, number))
        chosen = rng.integers(len(files), size=size)
        yield stack([make_sample(load_view(files[k]), settings, rng) for k in chosen])
        number += 1
