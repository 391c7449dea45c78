"""The classical methods that the paper compares with: ``icp`` and ``ransac_icp``. Baseline, and fallback of the node."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.reasons import Reason
from end2reg_ros.registration.find.global_search import Oriented, RansacSettings, ransac_fpfh
from end2reg_ros.registration.find.starts import FitRequest, StartFitter
from end2reg_ros.registration.interface import NetworkView
from end2reg_ros.registration.local import LocalRegistration
from end2reg_ros.registration.network import NetworkPass
from end2reg_ros.registration.scene import Scene, crop
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.registration.types import Prior, Registration, Stopwatch
from end2reg_ros.se3 import from_rotation_translation

Array = NDArray[np.float64]


MIN_START_STDDEV_M = 0.002
MAX_START_STDDEV_M = 0.008


class IcpRegistrar:
    """Refinement from a prior; without one, from the middle of the view (which seldom ends well: see the docs)."""

    method = "icp"
    watched: NetworkPass | None = None
    engine = ""
    engine_hash = ""
    engine_text = ""
    needs_prior = True

    def __init__(self, case: Case, settings: RegistrationSettings) -> None:
        self.case = case
        self.settings = settings
        self.local = LocalRegistration(case, settings)
        self.starts = StartFitter(self.local)

    def warm_up(self) -> None:
        """Touch every stage once, on the case's own surface in front of the camera: a start, then a following frame."""
        T, cloud = own_view(self.local)
        # One start instead of the lattice around it: the others would do the same again.
        self.starts.fit(cloud, FitRequest([T], self.method, 2 * MIN_START_STDDEV_M))
        expected = Prior(T, "warm_up")
        self.follow(self.crop(cloud, expected), expected)

    def crop(self, cloud: Cloud, expected: Prior) -> Scene:
        """What lies around the pose where a track is expected, thinned."""
        return self.local.crop(cloud, expected.T_camera_model, expected.posture)

    def follow(self, scene: Scene, expected: Prior, seen: NetworkView | None = None) -> Registration:
        """The next pose of a track, refined from where it is expected, and judged; there is no network to hold it against."""
        clock = Stopwatch()
        found = self.local.follow(scene, expected, self.method)
        clock.lap("refine and judge")
        return replace(found, timings_ms={"crop": scene.crop_ms, **clock.laps})

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        """From a start, or from the middle of the view; never raises for bad clouds."""
        if prior is None:
            middle = np.median(cloud.points, axis=0) if len(cloud.points) else np.array([0.0, 0.0, 0.6])
            start = unguided_start(self.local.centre, middle.astype(np.float64))
            return self.starts.fit(cloud, FitRequest([start], self.method, margin=0.05))
        return self.near(prior, self.starts.fit(cloud, self.request(prior)))

    def request(self, prior: Prior) -> FitRequest:
        """A lattice of starts around the prior, as wide as it is uncertain."""
        stddev = start_stddev(prior)
        starts = self.starts.lattice(prior.T_camera_model, 1.3 * stddev)
        return FitRequest(starts, self.method, margin=2 * stddev, posture=prior.posture)

    def near(self, prior: Prior, found: Registration) -> Registration:
        """A registration, refused when it lies further from the prior than the prior can be wrong."""
        return self.local.within(self.local.reach_of(start_stddev(prior)), prior, found)


def own_view(local: LocalRegistration) -> tuple[Array, Cloud]:
    """A pose (4, 4) in front of the camera, and the case's own surface there as a cloud."""
    T = unguided_start(local.centre, np.array([0.0, 0.0, 0.6]))
    points = (local.surface.points @ T[:3, :3].T + T[:3, 3]).astype(np.float32)
    return T, Cloud(points, None, "warm_up", 1)


def start_stddev(prior: Prior) -> float:
    """Uncertainty of a start, metres: not below what nobody can promise, not so far that the next level is in reach."""
    return float(np.clip(prior.stddev_m, MIN_START_STDDEV_M, MAX_START_STDDEV_M))


class RansacIcpRegistrar(IcpRegistrar):
    """FPFH and RANSAC, then refinement. A prior limits the search to the region around it."""

    method = "ransac_icp"
    needs_prior = False

    def warm_up(self) -> None:
        """The search as well."""
        super().warm_up()
        T, cloud = own_view(self.local)
        self.register(cloud, Prior(T, "warm_up", MIN_START_STDDEV_M))

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        """From a search over the whole view, or around the prior; never raises for bad clouds."""
        began = perf_counter()
        request = self.request(prior) if prior is not None else FitRequest([], self.method, margin=0.01)
        scene = cloud.points
        if prior is not None:
            margin = 0.015 + request.margin
            scene = crop(cloud, prior.T_camera_model, self.local.box, margin).dense
        found = self.search(scene) if len(scene) >= self.settings.accept.min_inliers else None
        if found is not None:
            request = replace(request, starts=[found, *request.starts])
        search_ms = 1000 * (perf_counter() - began)
        if not request.starts:
            T = unguided_start(self.local.centre, np.array([0.0, 0.0, 0.6]))
            return self.local.failed(
                T, Reason.NO_POINTS, "the search found nothing like the model", self.method
            )
        if prior is not None:
            request = replace(request, around=prior.T_camera_model)
        result = self.starts.fit(cloud, request)
        result.timings_ms["ransac"] = search_ms
        return result if prior is None else self.near(prior, result)

    def search(self, scene: NDArray[np.float32]) -> Array | None:
        """T_camera_model by FPFH and RANSAC of the visible surface in scene points (N, 3), metres; None: nothing found."""
        surface = self.local.surface
        model = Oriented(surface.points[surface.coarse], surface.normals[surface.coarse])
        effort = RansacSettings(self.settings.ransac_voxel, self.settings.ransac_iterations)
        T, fitness = ransac_fpfh(model, Oriented(scene.astype(np.float64)), effort)
        return T if fitness > 0.0 else None


def unguided_start(centre: Array, middle: Array) -> Array:
    """T_camera_model with the model's centre at ``middle`` (metres, camera), its back to the camera, head up in the image."""
    # Image right = patient's right (x), image down = caudal (-z), away from the camera = anterior (y).
    R = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    return from_rotation_translation(R, middle - R @ centre)


METHODS = {"icp": IcpRegistrar, "ransac_icp": RansacIcpRegistrar}
