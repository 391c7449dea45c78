"""Pyramids as tensors: the network's whole input, nested tuples of fixed shapes (an export flattens them)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from end2reg_ros.cloud.pyramid import Floats, Pyramid, build_pyramid, nearest_rows
from end2reg_ros.profile import Profile


class LevelTables(NamedTuple):
    """One level of a pyramid (see ``cloud.pyramid.Level``): C rows, H neighbours, D rows in the next level.

    ``points`` (C, 3) and ``mask`` (C, 1) are float32, ``neighbours`` (C, H), ``pool`` (D, H) and ``upsample`` (C,)
    int32; a missing entry holds the capacity of the level it points into.
    """

    points: Tensor
    mask: Tensor
    neighbours: Tensor
    pool: Tensor | None
    upsample: Tensor | None


class CloudTables(NamedTuple):
    """One cloud: levels fine to coarse, ``attributes`` (C0, 6) float32, ``patches`` (N, P) int32."""

    levels: tuple[LevelTables, ...]
    attributes: Tensor
    patches: Tensor


class SceneTables(NamedTuple):
    """The scene: ``registration`` always; ``segmentation`` and ``transfer`` (C0,), the segmentation row nearest to
    each registration row, only where the two have pyramids of their own.
    """

    registration: CloudTables
    segmentation: CloudTables | None = None
    transfer: Tensor | None = None


def cloud_tables(pyramid: Pyramid, device: str | torch.device = "cpu") -> CloudTables:
    """A pyramid's arrays as tensors on a device."""

    def put(array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    levels = tuple(
        LevelTables(
            points=put(level.points),
            mask=put(level.mask.astype(np.float32)[:, None]),
            neighbours=put(level.neighbours),
            pool=None if level.pool is None else put(level.pool),
            upsample=None if level.upsample is None else put(level.upsample),
        )
        for level in pyramid.levels
    )
    return CloudTables(levels, put(pyramid.attributes), put(pyramid.patches))


def model_tables(points: NDArray[np.floating], attributes: Floats | None, profile: Profile) -> CloudTables:
    """Tables of the model side: (M, 3) points in network units and their (M, 6) attributes."""
    return cloud_tables(build_pyramid(points, attributes, profile.model))


def scene_tables(points: NDArray[np.floating], attributes: Floats | None, profile: Profile) -> SceneTables:
    """Tables of the scene: (M, 3) points in network units and their (M, 6) attributes."""
    own = profile.segmentation
    segmentation = None if own is None else build_pyramid(points, attributes, own)
    return scene_tables_of(build_pyramid(points, attributes, profile.scene), segmentation)


def scene_tables_of(
    registration: Pyramid, segmentation: Pyramid | None = None, device: str | torch.device = "cpu"
) -> SceneTables:
    """Tables of a scene whose pyramids are built; ``segmentation`` where that has a pyramid of its own."""
    if segmentation is None:
        return SceneTables(cloud_tables(registration, device))
    transfer = torch.from_numpy(nearest_rows(registration.levels[0], segmentation.levels[0])).to(device)
    return SceneTables(cloud_tables(registration, device), cloud_tables(segmentation, device), transfer)
