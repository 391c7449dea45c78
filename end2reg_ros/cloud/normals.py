"""Surface normals of a depth camera's points, turned towards the camera."""

from __future__ import annotations

import numpy as np
import small_gicp
from numpy.typing import NDArray


def estimate_normals(
    points: NDArray[np.floating],
    viewpoint: NDArray[np.floating] | None = None,
    neighbours: int = 12,
    threads: int = 1,
) -> NDArray[np.float32]:
    """(N, 3) unit normals from the nearest points (PCA), facing ``viewpoint``; zeros where there are too few points.

    Args:
        points: (N, 3) metres or network units, finite.
        viewpoint: (3,) where the camera is, same frame; the origin when None.
        neighbours: points a normal is fitted to.
        threads: threads of the search.
    """
    if len(points) < 5:
        return np.zeros((len(points), 3), np.float32)
    cloud = small_gicp.PointCloud(np.asarray(points, np.float64))
    small_gicp.estimate_normals(cloud, num_neighbors=min(neighbours, len(points)), num_threads=threads)
    normals = cloud.normals()[:, :3]
    towards = (np.zeros(3) if viewpoint is None else np.asarray(viewpoint)) - points
    away = np.einsum("ij,ij->i", normals, towards) < 0
    return np.nan_to_num(np.where(away[:, None], -normals, normals).astype(np.float32))
