"""Which points of a scene a method is given: the whole view, the region that a finder names, or the true bone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.scene_folder import StoredScene
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CloudError
from end2reg_ros.reasons import Reason

Region = Literal["view", "found", "bone"]
RegionFinder = Callable[[Cloud], NDArray[np.int64] | None]
"""Indices of the cloud's points in the region of the spine; None when there is no spine."""


def region_finder_of(case: Case, weights: Path | None = None) -> RegionFinder:
    """The learned region finder, set up for a case: the points in the box of its best candidate.

    Args:
        case: whose weights are taken when none are given.
        weights: safetensors file.

    Raises:
        RegistrationError: no weights.
        EngineError, WeightsError: a network that cannot be run.
    """
    from end2reg_ros.engine.load import load_engine
    from end2reg_ros.engine.options import EngineOptions
    from end2reg_ros.registration.find.network_search import REGION_HALF_M
    from end2reg_ros.registration.find.region_search import search_regions
    from end2reg_ros.registration.weights_path import choose_weights
    from end2reg_ros.se3 import apply, inverse

    engine = load_engine(EngineOptions(weights=choose_weights(case, weights).path))

    def find(cloud: Cloud) -> NDArray[np.int64] | None:
        found = search_regions(engine.region_map, cloud.points, cloud.colours)
        if not found:
            return None
        local = apply(inverse(found[0].T_camera_local), cloud.points.astype(np.float64))
        return np.flatnonzero(np.all(np.abs(local) < REGION_HALF_M, axis=1))

    return find


def cloud_of_region(scene: StoredScene, region: Region) -> Cloud:
    """The scene's cloud, or only its true bone. What a finder finds is ``found_cloud``'s.

    Raises:
        CloudError: ``no_bone_label``.
    """
    if region != "bone":
        return scene.cloud
    if scene.bone is None:
        raise CloudError(
            Reason.NO_BONE_LABEL, f"scene {scene.name}: has no bone label, which --regions bone needs"
        )
    if not scene.bone.any():
        raise CloudError(
            Reason.NO_BONE_LABEL, f"scene {scene.name}: no point is bone, which --regions bone needs"
        )
    return points_of_cloud(scene.cloud, np.flatnonzero(scene.bone))


def found_cloud(cloud: Cloud, finder: RegionFinder) -> tuple[Cloud | None, float]:
    """The points that the finder names, or None when it finds nothing; and the milliseconds it took."""
    began = perf_counter()
    index = finder(cloud)
    elapsed_ms = 1000.0 * (perf_counter() - began)
    if index is None or len(index) == 0:
        return None, elapsed_ms
    return points_of_cloud(cloud, index), elapsed_ms


def points_of_cloud(cloud: Cloud, index: NDArray[np.int64]) -> Cloud:
    """A cloud of only the points at ``index`` (M,)."""
    colours = None if cloud.colours is None else cloud.colours[index]
    return replace(cloud, points=cloud.points[index], colours=colours)
