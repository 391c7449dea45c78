"""Any two clouds -> the transform between them, through the same search and refinement as the spine's.

For checks against public registration pairs, and for data that is no case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from end2reg_ros.registration.find.global_search import Oriented, RansacSettings, ransac_fpfh
from end2reg_ros.registration.fit.refine import refine
from end2reg_ros.registration.fit.surface import PointSurface
from end2reg_ros.registration.scene import ThinCloud
from end2reg_ros.registration.settings import RefineSettings
from end2reg_ros.se3 import inverse

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CloudPair:
    """Result of ``register_clouds``: T_target_source, share of source points on the target, their RMS distance (m)."""

    T_target_source: Array
    inlier_ratio: float
    rmse: float


def register_clouds(
    source: Array, target: Array, voxel: float, T_target_source: Array | None = None
) -> CloudPair:
    """Register two clouds, each seen from its own origin.

    Args:
        source: (N, 3) metres.
        target: (M, 3) metres.
        voxel: point distance of the features, metres; the refinement's gates are 2, 1.5 and 1 of it, its points half.
        T_target_source: start; searched for when None.
    """
    if T_target_source is None:
        T_target_source, _ = ransac_fpfh(Oriented(source), Oriented(target), RansacSettings(voxel=voxel))
    thinned = []
    for cloud in (source.astype(np.float32), target.astype(np.float32)):
        thin = ThinCloud(cloud, voxel / 2)
        thinned.append((thin.points, thin.normals_at(np.arange(len(thin)))))
    surface = PointSurface(*thinned[1], cKDTree(thinned[1][0]))
    settings = RefineSettings(
        gates=(2 * voxel, 2 * voxel, 1.5 * voxel, 1.5 * voxel, voxel),
        max_iterations=40,
        scale=voxel / 4,
        outside_iterations=0,  # nothing covers one side of any two clouds
    )
    refined = refine(*thinned[0], surface, inverse(T_target_source), settings)
    return CloudPair(inverse(refined.T_camera_model), float(np.mean(refined.inliers)), refined.rmse)
