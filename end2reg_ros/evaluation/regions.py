"""Which points of a scene a method is given: the whole view, the region that a finder names, or the true bone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.scene_folder import Scene
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CloudError, RegistrationError

Region = Literal["view", "found", "bone"]
RegionFinder = Callable[[Cloud], NDArray[np.int64] | None]
"""Indices of the cloud's points in the region of the spine; None when there is no spine."""


def region_finder_of(case: Case) -> RegionFinder:
    """The learned region finder, set up for a case.

    Raises:
        RegistrationError: there is none.
    """
    raise RegistrationError(f"case {case.name}: no region finder is there, which --regions found needs")


def cloud_of_region(scene: Scene, region: Region) -> Cloud:
    """The scene's cloud, or only its true bone. What a finder finds is ``found_cloud``'s.

    Raises:
        CloudError: ``no_bone_label``.
    """
    if region != "bone":
        return scene.cloud
    if scene.bone is None:
        raise CloudError(
            "no_bone_label", f"scene {scene.name}: has no bone label, which --regions bone needs"
        )
    if not scene.bone.any():
        raise CloudError("no_bone_label", f"scene {scene.name}: no point is bone, which --regions bone needs")
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
