"""``end2reg`` (the network's pose, refined and judged) and ``end2reg_alone`` (the network's pose as it is)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.engine.types import Engine
from end2reg_ros.registration.classical import unguided_start
from end2reg_ros.registration.local import FitRequest, LocalRegistration, Stopwatch
from end2reg_ros.registration.local_scene import model_side
from end2reg_ros.registration.network_search import NetworkPose, NetworkSearch, SearchSettings
from end2reg_ros.registration.rivals import neighbouring_poses
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.registration.types import Prior, Quality, Registration
from end2reg_ros.registration.uncertainty import unknown_covariance

Array = NDArray[np.float64]

NETWORK_ERROR_M = 0.004  # what the refinement allows the network to be off by


class End2RegRegistrar:
    """The network's pose, then tight refinement on the posed surface, then every check that the other methods pass.

    A pose that fails the checks is tried again from one level up and down, then from the other hypotheses: the checks
    decide, never the order.
    """

    method = "end2reg"
    needs_prior = False

    def __init__(
        self,
        case: Case,
        engine: Engine,
        settings: RegistrationSettings | None = None,
        search: SearchSettings | None = None,
    ) -> None:
        self.case = case
        self.settings = settings or RegistrationSettings()
        self.local = LocalRegistration(case, self.settings)
        self.search = NetworkSearch(engine, model_side(self.local.surface, engine.profile), search)
        self.engine = engine.info.name
        self.engine_hash = engine.info.weights_hash

    def warm_up(self) -> None:
        """One frame of the case's own surface."""
        T = unguided_start(self.local.centre, np.array([0.0, 0.0, 0.6]))
        points = (self.local.surface.points @ T[:3, :3].T + T[:3, 3]).astype(np.float32)
        self.register(Cloud(points, None, "warm_up", 1), Prior(T, "warm_up"))

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        """See ``Registrar.register``."""
        clock = Stopwatch()
        poses = self.search.find(cloud, prior, clock)
        usable = [p for p in poses if p.inliers >= self.search.settings.min_inliers]
        if not usable:
            return self._named(
                self.local.failed(*_nothing(poses, prior, self.local.centre), self.method, clock)
            )
        best: Registration | None = None
        for pose in usable:
            found = self.refined(cloud, pose)
            if best is None or (found.success and not best.success):
                best = self._with_mask(found, pose)
            if best.success:
                break
        assert best is not None
        clock.lap("refine and judge")
        return self._named(replace(best, timings_ms=clock.laps))

    def refined(self, cloud: Cloud, pose: NetworkPose) -> Registration:
        """Refined from the pose itself; should the checks refuse that, from one level up and down."""
        request = FitRequest([pose.T_camera_model], self.method, margin=NETWORK_ERROR_M)
        found = self.local.fit(cloud, request)
        if found.success:
            return found
        for start in self.neighbours(pose.T_camera_model):
            other = self.local.fit(cloud, replace(request, starts=[start]))
            if other.success:
                return other
        return found

    def neighbours(self, T_camera_model: Array) -> Sequence[Array]:
        """The spine one level higher and one lower."""
        middle = np.zeros(len(self.case.vertebrae), np.int64)
        middle[len(middle) // 2] = 1
        return [T for _, T in neighbouring_poses(self.case, T_camera_model, middle)]

    def _with_mask(self, found: Registration, pose: NetworkPose) -> Registration:
        fraction = float(pose.output.mask.mean()) if len(pose.output.mask) else 0.0
        return replace(
            found, quality=replace(found.quality, mask_fraction=fraction), relevant=pose.relevant()
        )

    def _named(self, found: Registration) -> Registration:
        return replace(found, engine=self.engine)


class End2RegAloneRegistrar(End2RegRegistrar):
    """The network's pose without refinement; success means only that enough correspondences agree with it."""

    method = "end2reg_alone"

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        """See ``Registrar.register``."""
        clock = Stopwatch()
        poses = self.search.find(cloud, prior, clock)
        if not poses or poses[0].inliers < self.search.settings.min_inliers:
            return self._named(
                self.local.failed(*_nothing(poses, prior, self.local.centre), self.method, clock)
            )
        pose = poses[0]
        quality = Quality(inliers=pose.inliers)
        found = Registration(
            pose.T_camera_model, True, "ok", "registered by the network alone", quality, unknown_covariance(),
            self.method, self.engine, clock.laps,
        )  # fmt: skip
        return self._with_mask(found, pose)


def _nothing(poses: Sequence[NetworkPose], prior: Prior | None, centre: Array) -> tuple[Array, str, str]:
    """Pose, code and text of a search that came to nothing."""
    if poses:
        text = f"the network's best pose has only {poses[0].inliers} correspondences"
        return poses[0].T_camera_model, "few_correspondences", text
    if prior is not None:
        return prior.T_camera_model, "no_points", "next to no points around the given start"
    T = unguided_start(centre, np.array([0.0, 0.0, 0.6]))
    return T, "no_region", "nothing in the view looks like an exposed spine"
