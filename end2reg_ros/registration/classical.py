"""The classical methods that the paper compares with: ``icp`` and ``ransac_icp``. Baseline, and fallback of the node."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.global_search import Oriented, RansacSettings, ransac_fpfh
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
        return self.near(
            prior, self.local.fit(cloud, self.starts(prior), self.method, margin=2 * prior.stddev_m)
        )

    def near(self, prior: Prior, found: Registration) -> Registration:
        """The same, refused when it lies further from the prior than the prior can be wrong."""
        if not found.success:
            return found
        limit = self.settings.prior_move_m + self.settings.prior_move_stddevs * prior.stddev_m
        moved = self.local.moved(prior.T_camera_model, found.T_camera_model)
        if moved <= limit:
            return found
        reason = f"a vertebra lies {1000 * moved:.0f} mm from the prior (limit {1000 * limit:.0f} mm)"
        return replace(found, success=False, reason_code="far_from_prior", reason=reason)

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
        scene, starts = cloud.points, []
        if prior is not None:
            starts = self.starts(prior)
            around = 0.015 + 2 * prior.stddev_m
            scene = scene[crop(scene, prior.T_camera_model, self.local.box, around).index]
        if len(scene) >= self.settings.accept.min_inliers:
            starts = [self.search(scene), *starts]
        search_ms = 1000 * (perf_counter() - began)
        if not starts:
            return self.local.fit(cloud, [np.eye(4)], self.method)
        crop_from = prior.T_camera_model if prior is not None else starts[0]
        margin = 0.01 if prior is None else 2 * prior.stddev_m
        found = self.local.fit(cloud, starts, self.method, margin=margin, around=crop_from)
        found.timings_ms["ransac"] = search_ms
        return found if prior is None else self.near(prior, found)

    def search(self, scene: NDArray[np.float32]) -> Array:
        """T_camera_model by FPFH and RANSAC of the visible surface in scene points (N, 3), metres."""
        surface = self.local.surface
        model = Oriented(surface.points[surface.coarse], surface.normals[surface.coarse])
        effort = RansacSettings(self.settings.ransac_voxel, self.settings.ransac_iterations)
        return ransac_fpfh(model, Oriented(scene.astype(np.float64)), effort)[0]


def unguided_start(centre: Array, middle: Array) -> Array:
    """T_camera_model with the model's centre at ``middle`` (metres, camera), its back to the camera, head up in the image."""
    # Image right = patient's right (x), image down = caudal (-z), away from the camera = anterior (y).
    R = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    return from_rotation_translation(R, middle - R @ centre)


METHODS = {"icp": IcpRegistrar, "ransac_icp": RansacIcpRegistrar}
