"""Global registration without a prior: FPFH features and RANSAC (Rusu 2009; Open3D's implementation)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RansacSettings:
    """Settings of the search.

    Attributes:
        voxel: both clouds are thinned to this, metres; features look 5 times as far, inliers 1.5 times.
        iterations: hypotheses drawn at most.
        confidence: the search ends when a better hypothesis is this unlikely.
        seed: of the random draws.
    """

    voxel: float = 0.004
    iterations: int = 200_000
    confidence: float = 0.999
    seed: int = 0


@dataclass(frozen=True)
class Oriented:
    """Points (N, 3) in metres with outward normals (N, 3); without, normals are estimated and face the origin."""

    points: Array
    normals: Array | None = None


def ransac_fpfh(source: Oriented, target: Oriented, settings: RansacSettings) -> tuple[Array, float]:
    """T_target_source from feature matches, and the share of source points within 1.5 voxels of the target.

    Args:
        source: what is looked for.
        target: where it is looked for.
        settings: thinning and effort.
    """
    import open3d as o3d

    o3d.utility.random.seed(settings.seed)
    source_cloud, source_features = thinned_with_features(source, settings.voxel)
    target_cloud, target_features = thinned_with_features(target, settings.voxel)
    registration = o3d.pipelines.registration
    # Open3D writes its warnings to stdout, into the JSON of a command.
    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        result = registration.registration_ransac_based_on_feature_matching(
            source_cloud,
            target_cloud,
            source_features,
            target_features,
            mutual_filter=True,
            max_correspondence_distance=1.5 * settings.voxel,
            estimation_method=registration.TransformationEstimationPointToPoint(False),
            ransac_n=3,
            checkers=[
                registration.CorrespondenceCheckerBasedOnEdgeLength(0.9),
                registration.CorrespondenceCheckerBasedOnDistance(1.5 * settings.voxel),
            ],
            criteria=registration.RANSACConvergenceCriteria(settings.iterations, settings.confidence),
        )
    return np.array(result.transformation), float(result.fitness)


def thinned_with_features(cloud_in: Oriented, voxel: float) -> tuple[Any, Any]:
    """Open3D cloud thinned to ``voxel`` metres with normals, and its FPFH features."""
    import open3d as o3d

    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(np.asarray(cloud_in.points, dtype=np.float64)))
    if cloud_in.normals is not None:
        cloud.normals = o3d.utility.Vector3dVector(cloud_in.normals)
    cloud = cloud.voxel_down_sample(voxel)
    if cloud_in.normals is None:
        cloud.estimate_normals(o3d.geometry.KDTreeSearchParamHybrid(radius=2 * voxel, max_nn=30))
        cloud.orient_normals_towards_camera_location(np.zeros(3))
    else:
        cloud.normalize_normals()
    features = o3d.pipelines.registration.compute_fpfh_feature(
        cloud, o3d.geometry.KDTreeSearchParamHybrid(radius=5 * voxel, max_nn=100)
    )
    return cloud, features
