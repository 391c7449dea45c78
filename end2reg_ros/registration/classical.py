"""The classical methods that the paper compares with: ``icp`` and ``ransac_icp``. Baseline, and fallback of the node."""

from __future__ import annotations

from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.global_search import RansacSettings, ransac_fpfh
from end2reg_ros.registration.local import LocalRegistration
from end2reg_ros.registration.region import crop
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.registration.types import Prior, Registration
from end2reg_ros.se3 import from_rotation_translation

Array = NDArray[np.float64]


class IcpRegistrar:
    """Refinement from a prior; without one, from the middle of the view (which seldom ends well: see the docs)."""

    method = "icp"
    engine = "cpu"
    engine_hash = ""
    needs_prior = True

    def __init__(self, case: Case, settings: RegistrationSettings) -> None:
        self.case = case
        self.settings = settings
        self.local = LocalRegistration(case, settings)

    def warm_up(self) -> None:
        """Touch every stage once, on the case's own surface in front of the camera."""
        T = unguided_start(self.local.centre, np.array([0.0, 0.0, 0.6]))
        points = (self.local.surface.points @ T[:3, :3].T + T[:3, 3]).astype(np.float32)
        self.register(Cloud(points, None, "warm_up", 1), Prior(T, "warm_up", 0.001))

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        """See ``Registrar.register``."""
        if prior is None:
            middle = np.median(cloud.points, axis=0) if len(cloud.points) else np.array([0.0, 0.0, 0.6])
            start = unguided_start(self.local.centre, middle.astype(np.float64))
            return self.local.fit(cloud, [start], self.method, margin=0.05)
        return self.local.fit(cloud, self.starts(prior), self.method, margin=2 * prior.stddev_m)

    def starts(self, prior: Prior) -> list[Array]:
        """The prior itself, or a lattice around a prior that is less certain than the refinement's reach."""
        if prior.stddev_m <= self.settings.spread_stddev_m:
            return [prior.T_camera_model]
        return self.local.lattice(prior.T_camera_model, 1.3 * prior.stddev_m)


class RansacIcpRegistrar(IcpRegistrar):
    """FPFH and RANSAC, then refinement. A prior limits the search to the region around it."""

    method = "ransac_icp"
    needs_prior = False

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        """See ``Registrar.register``. A prior as good as the last frame's is refined without a search."""
        if prior is not None and prior.stddev_m <= self.settings.spread_stddev_m:
            return super().register(cloud, prior)
        began = perf_counter()
        scene = cloud.points
        if prior is not None:
            scene = scene[crop(scene, prior.T_camera_model, self.local.box, 0.015 + 2 * prior.stddev_m).index]
        start = prior.T_camera_model if prior is not None else np.eye(4)
        if len(scene) >= self.settings.accept.min_inliers:
            model = self.local.surface.points[self.local.surface.coarse]
            effort = RansacSettings(self.settings.ransac_voxel, self.settings.ransac_iterations)
            start, _ = ransac_fpfh(model, scene.astype(np.float64), effort)
        search_ms = 1000 * (perf_counter() - began)
        result = self.local.fit(cloud, [start], self.method, margin=0.01)
        result.timings_ms["ransac"] = search_ms
        return result


def unguided_start(centre: Array, middle: Array) -> Array:
    """T_camera_model with the model's centre at ``middle`` (metres, camera), its back to the camera, head up in the image."""
    # Image right = patient's right (x), image down = caudal (-z), away from the camera = anterior (y).
    R = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    return from_rotation_translation(R, middle - R @ centre)


METHODS = {"icp": IcpRegistrar, "ransac_icp": RansacIcpRegistrar}
