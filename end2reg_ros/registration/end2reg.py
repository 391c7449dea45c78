"""``end2reg`` (the network's pose, refined and judged) and ``end2reg_alone`` (the network's pose as it is)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.engine.types import Engine
from end2reg_ros.errors import EngineError
from end2reg_ros.reasons import Reason
from end2reg_ros.registration.classical import own_view
from end2reg_ros.registration.find.hypotheses import HypothesisSearch, nothing_found
from end2reg_ros.registration.find.network_search import NetworkSearch, SearchSettings
from end2reg_ros.registration.fit.rivals import SAME_FIT_M
from end2reg_ros.registration.interface import NetworkView
from end2reg_ros.registration.local import LocalRegistration
from end2reg_ros.registration.model_side_cache import encoded_model_side
from end2reg_ros.registration.network import NetworkObservation, NetworkPass, model_side, with_network
from end2reg_ros.registration.scene import Scene
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.registration.types import Prior, Quality, Registration, Stopwatch
from end2reg_ros.se3 import inverse, unknown_covariance

Array = NDArray[np.float64]

# A pose of the network that is further from the followed one at any vertebra is worth a second fit: alone it is off by 1 to 3 mm.
NETWORK_DISAGREES_M = 0.006


class End2RegRegistrar:
    """The network's pose, then tight refinement on the posed surface, then every check that the other methods pass."""

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
        side = model_side(self.local.surface, engine.profile)
        self.network = NetworkSearch(
            engine, side, search, encoded_model_side(case.hash, side.pyramid, engine)
        )
        self.watched: NetworkPass | None = self.network
        self.search = HypothesisSearch(self.local, self.network, self.method)
        self.info = engine.info
        self.engine = engine.info.name
        self.engine_hash = engine.info.engine_hash
        self.engine_text = engine.info.text()

    def warm_up(self) -> None:
        """Every graph, then a following frame on the case's own surface, seen by the network too."""
        self.network.engine.warm_up()
        T, cloud = own_view(self.local)
        expected = Prior(T, "warm_up")
        scene = self.crop(cloud, expected)
        self.network.run(self.network.prepare(scene, Stopwatch()), Stopwatch())
        self.follow(scene, expected)

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        """From a start, or from nothing; never raises for bad clouds."""
        try:
            return replace(self.search.find(cloud, prior), engine=self.engine)
        except EngineError as fault:  # a GPU out of memory, weights without a region finder
            return self._fault(np.eye(4) if prior is None else prior.T_camera_model, fault)

    def crop(self, cloud: Cloud, expected: Prior) -> Scene:
        """What lies around the pose where a track is expected, thinned once for the network and for the refinement."""
        return self.local.crop(cloud, expected.T_camera_model, expected.posture)

    def follow(self, scene: Scene, expected: Prior, seen: NetworkView | None = None) -> Registration:
        """The next pose of a track: refined from where it is expected, and held against the network's own pose.

        The network sees the cloud itself and knows nothing of the frames before, so that what both agree on has not drifted.
        Where refinement fails, the network's pose of this very cloud is another start, as one frame late is better than a
        lost track; where both fit and differ, there is no pose.
        """
        clock = Stopwatch()
        found = self.local.follow(scene, expected, self.method)
        clock.lap("refine and judge")
        try:
            observed = None if seen is None else seen.newest() if found.success else seen.of_this_cloud()
        except EngineError as fault:
            return self._fault(expected.T_camera_model, fault)
        clock.lap("waiting for the network")
        if observed is not None:
            found = self.checked_by_network(scene.cloud, found, observed)
            clock.lap("second fit")
            clock.laps |= observed.timings_ms
        return replace(
            found, method=self.method, engine=self.engine, timings_ms={"crop": scene.crop_ms, **clock.laps}
        )

    def checked_by_network(
        self, cloud: Cloud, found: Registration, observed: NetworkObservation
    ) -> Registration:
        """A followed pose after the network has spoken.

        What it sees elsewhere in an earlier cloud is carried to this one by the motion between the two.
        """
        pose, anew = observed.pose, found
        T_followed = found.T_camera_model if observed.T_followed is None else observed.T_followed
        agrees = found.success and self.local.moved(T_followed, pose.T_camera_model) <= NETWORK_DISAGREES_M
        if not agrees and pose.inliers >= self.network.settings.sure_inliers:
            T_now = found.T_camera_model @ inverse(T_followed) @ pose.T_camera_model
            anew = self.choose(found, self.search.from_pose(cloud, T_now, found.posture))
        told = with_network(anew, pose, observed.stamp_ns)
        # The mask of an earlier cloud: its indices are none of this one's.
        return told if observed.T_followed is None else replace(told, used=anew.used)

    def choose(self, followed: Registration, anew: Registration) -> Registration:
        """Of a fit from the prediction and one from the network's pose: the one that passes; none where both do and differ."""
        if not anew.success:
            return followed
        if followed.success and self.local.moved(followed.T_camera_model, anew.T_camera_model) > SAME_FIT_M:
            text = "the network sees another pose than the track, and both pass every check"
            return followed.refused(Reason.NETWORK_DISAGREES, text)
        return anew

    def _fault(self, T: Array, fault: EngineError) -> Registration:
        failed = self.local.failed(T, Reason.ENGINE_FAULT, str(fault), self.method)
        return replace(failed, engine=self.engine)


class End2RegAloneRegistrar(End2RegRegistrar):
    """The network's pose without refinement; success means only that enough correspondences agree with it."""

    method = "end2reg_alone"

    def __init__(
        self,
        case: Case,
        engine: Engine,
        settings: RegistrationSettings | None = None,
        search: SearchSettings | None = None,
    ) -> None:
        super().__init__(case, engine, settings, search)
        self.watched = None  # there is no refinement to hold against it

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        """The best hypothesis of the network, from a start or from nothing."""
        clock = Stopwatch()
        poses = self.network.find(cloud, prior, clock)
        if not poses or poses[0].inliers < self.network.settings.min_inliers:
            failed = self.local.failed(*nothing_found(poses, prior, self.local.centre), self.method, clock)
            return replace(failed, engine=self.engine)
        pose = poses[0]
        found = Registration(
            pose.T_camera_model, True, Reason.OK, "registered by the network alone", Quality(inliers=pose.inliers),
            unknown_covariance(), self.method, self.engine, clock.laps,
        )  # fmt: skip
        return with_network(found, pose, cloud.stamp_ns)

    def follow(self, scene: Scene, expected: Prior, seen: NetworkView | None = None) -> Registration:
        """The network's pose of the followed cloud, from where the track is expected."""
        return self.register(scene.cloud, expected)
