"""``kiss_matcher_icp``: KISS-Matcher's global search (Lim et al., ICRA 2025), then the refinement of every method here."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import small_gicp
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import RegistrationError
from end2reg_ros.registration.classical import RansacIcpRegistrar
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.registration.types import Prior, Registration
from end2reg_ros.se3 import from_rotation_translation, is_rigid

Array = NDArray[np.float64]

VOXEL_M = 0.002
# The package is made for streets: its noise bounds are clamped at 1 and very small voxels are refused. In units in which
# our voxel is its default one, everything in it keeps its published proportions.
PACKAGE_VOXEL = 0.3
NORMAL_RADIUS = 3 * PACKAGE_VOXEL  # the package's default
# It ends the process (segmentation fault) when no point of a cloud has the neighbours that a normal needs.
MIN_POINTS, MIN_NEIGHBOURS = 30, 8
MISSING = "method kiss_matcher_icp needs the package kiss-matcher: pip install -r requirements/baselines.txt"


class KissMatcherIcpRegistrar(RansacIcpRegistrar):
    """As ``ransac_icp`` with another search. The model side is the surface that can be seen from behind."""

    method = "kiss_matcher_icp"

    def __init__(self, case: Case, settings: RegistrationSettings) -> None:
        """Set up for a case.

        Raises:
            RegistrationError: the package is missing.
        """
        self.package = load_kiss_matcher()
        super().__init__(case, settings)
        self.model = in_package_units(self.local.surface.points)

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        """From the matcher's search over the whole view, or around the prior; never raises for bad clouds."""
        result = super().register(cloud, prior)
        if "ransac" in result.timings_ms:
            result.timings_ms["kiss_matcher"] = result.timings_ms.pop("ransac")
        return result

    def search(self, scene: NDArray[np.float32]) -> Array | None:
        """T_camera_model that the matcher finds for scene points (N, 3), metres; None when it finds none."""
        target = in_package_units(scene)
        if not is_surface(target):
            return None
        with quiet_stdout():
            config = self.package.KISSMatcherConfig(voxel_size=PACKAGE_VOXEL, use_voxel_sampling=False)
            found = self.package.KISSMatcher(config).estimate(self.model, target)
        T = from_rotation_translation(
            np.asarray(found.rotation, dtype=np.float64),
            np.asarray(found.translation, dtype=np.float64).ravel() * (VOXEL_M / PACKAGE_VOXEL),
        )
        return T if found.valid and is_rigid(T) else None


def load_kiss_matcher() -> Any:
    """The package.

    Raises:
        RegistrationError: it is not installed.
    """
    try:
        import kiss_matcher
    except ImportError as error:
        raise RegistrationError(MISSING) from error
    return kiss_matcher


def in_package_units(points: NDArray[np.floating]) -> NDArray[np.float32]:
    """(M, 3) points for the matcher from (N, 3) in metres, thinned to its voxel."""
    if len(points) == 0:
        return np.zeros((0, 3), dtype=np.float32)
    thinned = small_gicp.voxelgrid_sampling(np.ascontiguousarray(points, dtype=np.float64), VOXEL_M)
    return np.asarray(thinned.points()[:, :3] * (PACKAGE_VOXEL / VOXEL_M), dtype=np.float32)


def is_surface(points: NDArray[np.float32]) -> bool:
    """Whether enough of the points (N, 3), in the package's units, have enough neighbours for a normal."""
    if len(points) < MIN_POINTS:
        return False
    distance, _ = cKDTree(points).query(points, k=[MIN_NEIGHBOURS + 1], distance_upper_bound=NORMAL_RADIUS)
    return int(np.isfinite(distance).sum()) >= MIN_POINTS


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """What C++ code writes to stdout goes to stderr: a command's stdout may be JSON."""
    sys.stdout.flush()
    try:
        kept, stderr = os.dup(1), sys.__stderr__.fileno() if sys.__stderr__ is not None else 2
    except (OSError, io.UnsupportedOperation):  # no such files: nothing to protect
        yield
        return
    try:
        os.dup2(stderr, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
