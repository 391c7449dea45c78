"""Views of shards as pictures and targets for the region network, turned, shifted and recoloured at random.

Most pictures are whole views turned anyhow. Some are mosaics of crops with the spine upright or upside down, as the second
look of ``registration.find.region_search`` has it: which end is superior is learned there ten times faster than at any angle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from end2reg_ros.cloud.view_grid import CELL_M, CHANNELS, COLUMNS, ROWS, view_grid, view_origin
from end2reg_ros.network.region_net import STRIDE
from end2reg_ros.registration.find.region_search import CROP, turn_upright
from end2reg_ros.training.data.samples import LabelledView, load_view

Array = NDArray[np.float64]


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
        upright_deg, upright_shift_m: standard deviations of angle and place of upright crops.
        blank_share: share of a mosaic's places that stay empty.
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
    upright_deg: float = 6.0
    upright_shift_m: float = 0.012
    blank_share: float = 0.15


@dataclass(frozen=True)
class RegionSample:
    """One training example; H, W are the maps' rows and columns.

    Attributes:
        picture: (CHANNELS, ROWS, COLUMNS) float32.
        bone: (H, W) float32, largest share of bone of the cell's parts, 0 to 1.
        known: (H, W) float32, 1 where the view has points.
        directions: (4, H, W) float32 x, y of the superior direction in the image plane (unit) and of anterior; zeros
            without a spine.
    """

    picture: NDArray[np.float32]
    bone: NDArray[np.float32]
    known: NDArray[np.float32]
    directions: NDArray[np.float32]


def make_sample(
    view: LabelledView, settings: RegionAugmentation | None, rng: np.random.Generator
) -> RegionSample:
    """Picture and targets of a view; unchanged when ``settings`` is None."""
    if settings is None:
        return _sample(view, view.points, view.colours, view.bone, np.eye(3), None)
    points, colours, bone = _dropped(view, settings, rng)
    motion = _motion(settings, rng)
    points = _move(points, motion, settings, rng)
    origin = _shifted(view_origin(points), points[bone], settings, rng)
    return _sample(view, points, colours, bone, motion, origin)


def make_crop(view: LabelledView, settings: RegionAugmentation, rng: np.random.Generator) -> RegionSample:
    """``CROP`` cells around the bone with the spine's line nearly upright, either end up.

    Raises:
        ValueError: a view without a spine.
    """
    if view.T_camera_model is None or not view.bone.any():
        raise ValueError("a view without a spine has no upright crop")
    points, colours, bone = _dropped(_around_bone(view), settings, rng)
    motion = _motion(settings, rng)
    ends = float(rng.choice((-1.0, 1.0))) * (motion @ view.T_camera_model[:3, 2])[:2]
    motion = _about_z(np.radians(rng.normal(0.0, settings.upright_deg))) @ turn_upright(ends) @ motion
    points = _move(points, motion, settings, rng)
    centre = points[bone].mean(axis=0) if bone.any() else points.mean(axis=0)
    middle = centre[:2] + rng.normal(0.0, settings.upright_shift_m, 2)
    origin = middle - 0.5 * CELL_M * np.array([COLUMNS, ROWS])
    whole = _sample(view, points, colours, bone, motion, origin)
    top, left = (ROWS - CROP[0]) // 2, (COLUMNS - CROP[1]) // 2
    fine = np.s_[..., top : top + CROP[0], left : left + CROP[1]]
    coarse = np.s_[
        ..., top // STRIDE : (top + CROP[0]) // STRIDE, left // STRIDE : (left + CROP[1]) // STRIDE
    ]
    return RegionSample(
        whole.picture[fine], whole.bone[coarse], whole.known[coarse], whole.directions[coarse]
    )


def make_mosaic(crops: Sequence[RegionSample]) -> RegionSample:
    """Crops side by side as one picture, row by row; what is left over stays empty."""
    rows, columns = ROWS // STRIDE, COLUMNS // STRIDE
    mosaic = RegionSample(
        np.zeros((CHANNELS, ROWS, COLUMNS), np.float32),
        np.zeros((rows, columns), np.float32),
        np.zeros((rows, columns), np.float32),
        np.zeros((4, rows, columns), np.float32),
    )
    high, wide = CROP
    for k, crop in enumerate(crops[: (ROWS // high) * (COLUMNS // wide)]):
        row, column = divmod(k, COLUMNS // wide)
        for whole, part in zip(vars(mosaic).values(), vars(crop).values(), strict=True):
            h, w = part.shape[-2:]
            whole[..., row * h : (row + 1) * h, column * w : (column + 1) * w] = part
    return mosaic


def _around_bone(view: LabelledView) -> LabelledView:
    """The points of a view that a crop may show."""
    near = np.flatnonzero((np.abs(view.points - view.points[view.bone].mean(axis=0)) < 0.36).all(axis=1))
    return view.part(near)


def _dropped(
    view: LabelledView, s: RegionAugmentation, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None, NDArray[np.bool_]]:
    """A part of the points, recoloured."""
    keep = rng.random(len(view.points)) >= rng.uniform(0.0, s.dropout)
    colours = None if view.colours is None else _recolour(view.colours[keep], s, rng)
    return view.points[keep], colours, view.bone[keep]


def _sample(
    view: LabelledView,
    points: NDArray[np.float32],
    colours: NDArray[np.uint8] | None,
    bone: NDArray[np.bool_],
    motion: Array,
    origin: Array | None,
) -> RegionSample:
    """Picture and targets of moved points; ``motion`` (3, 3) maps the view's directions to the picture's."""
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
    spread = np.broadcast_to(directions[:, None, None], (4, rows, columns))
    return RegionSample(
        grid.channels, share.astype(np.float32), known.astype(np.float32), spread.astype(np.float32)
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
    """Stacked samples: (B, C, ROWS, COLUMNS), (B, H, W), (B, H, W), (B, 4, H, W)."""

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
    files: Sequence[Path], size: int, mosaics: int, settings: RegionAugmentation, seed: int, first: int = 0
) -> Iterator[RegionBatch]:
    """Endless batches from number ``first``; batch k follows from ``seed`` and k alone.

    Each has ``size`` whole views and ``mosaics`` of upright crops of the same views.
    """
    places = (ROWS // CROP[0]) * (COLUMNS // CROP[1])
    number = first
    while True:
        rng = np.random.default_rng((seed, number))
        views = [load_view(files[k]) for k in rng.integers(len(files), size=size)]
        samples = [make_sample(view, settings, rng) for view in views]
        spines = [view for view in views if view.T_camera_model is not None and view.bone.any()]
        for k in range(mosaics if spines else 0):
            crops = []
            for place in range(places):
                crop = make_crop(spines[(k * places + place) % len(spines)], settings, rng)
                blank = rng.random() < settings.blank_share
                crops.append(_blank(crop) if blank else crop)
            samples.append(make_mosaic(crops))
        yield stack(samples)
        number += 1


def _blank(crop: RegionSample) -> RegionSample:
    return RegionSample(*(np.zeros_like(part) for part in vars(crop).values()))
