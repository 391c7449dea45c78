"""``end2reg`` (the network's pose, refined and judged) and ``end2reg_alone`` (the network's pose as it is)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.engine.types import Engine
from end2reg_ros.errors import EngineError
from end2reg_ros.registration.classical import IcpRegistrar, start_stddev
from end2reg_ros.registration.find.background import BackgroundPass, Turn, uses_background, yield_to_others
from end2reg_ros.registration.find.local_scene import TRACKED_MARGIN_M, model_side
from end2reg_ros.registration.find.network_passes import NetworkPose, NetworkSearch, SearchSettings
from end2reg_ros.registration.find.outcomes import nothing_found, plausibility
from end2reg_ros.registration.find.screening import Screen
from end2reg_ros.registration.fit.local import FitRequest
from end2reg_ros.registration.fit.posture import Posture
from end2reg_ros.registration.fit.rivals import SAME_FIT_M, every_other_pose
from end2reg_ros.registration.model_side_cache import encoded_model_side
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.registration.stopwatch import Stopwatch
from end2reg_ros.registration.types import Later, NetworkEstimate, Prior, Quality, Registration
from end2reg_ros.se3 import inverse
from end2reg_ros.uncertainty import unknown_covariance

Array = NDArray[np.float64]

NETWORK_ERROR_M = 0.004  # what the refinement allows the network to be off by
START_MOVE_M = (
    0.015  # of the spine's middle away from a start, on top of what the start's own uncertainty allows
)
# A pose of the network that is further from the followed one at any vertebra is worth a second fit: alone it is off by 1 to 3 mm.
NETWORK_DISAGREES_M = 0.006
# What a bent spine fails by when it is taken as one body.
BENT_REASONS = ("level_disagrees", "low_inlier_ratio", "see_through", "high_residual", "normals_disagree")
SEEDS = 2  # hypotheses whose neighbours are tried


class End2RegRegistrar:
    """The network's pose, then tight refinement on the posed surface, then every check that the other methods pass.

    From nothing, every hypothesis of the network is refined and judged, and so is the spine put one or more levels higher
    or lower, and with head and feet exchanged. One of them must pass the checks, and only one: two that pass and
    differ are no pose.
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
        self.follower = IcpRegistrar(case, self.settings)
        self.local = self.follower.local
        side = model_side(self.local.surface, engine.profile)
        self.search = NetworkSearch(engine, side, search, encoded_model_side(case.hash, side.pyramid, engine))
        self.background = uses_background(self.settings.network_passes, engine.info.device)
        self._beside = ThreadPoolExecutor(
            1, "network", initializer=yield_to_others if self.background else None
        )
        self._pass: BackgroundPass | None = None
        self._last_pass_ns: int | None = None
        self._turn = Turn()
        self.info = engine.info
        self.engine = engine.info.name
        self.engine_hash = engine.info.engine_hash
        self.engine_text = engine.info.text()

    def warm_up(self) -> None:
        """Every graph, then a following frame on the case's own surface."""
        self.search.engine.warm_up()
        T, cloud = self.follower.own_view()
        self.register(cloud, Prior(T, "warm_up", continues=True))

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        """See ``Registrar.register``."""
        try:
            return (
                self.follow(cloud, prior)
                if prior is not None and prior.continues
                else self.start(cloud, prior)
            )
        except EngineError as fault:  # a GPU out of memory, weights without a region finder
            T = np.eye(4) if prior is None else prior.T_camera_model
            return self._named(self.local.failed(T, "engine_fault", str(fault), self.method))

    def start(self, cloud: Cloud, prior: Prior | None) -> Registration:
        """From a start, or from nothing."""
        self._pass = None
        clock = Stopwatch()
        poses = self.search.find(cloud, prior, clock)
        usable = [p for p in poses if p.inliers >= self.search.settings.min_inliers] or poses[:1]
        if not usable:
            return self._named(
                self.local.failed(*nothing_found(poses, prior, self.local.centre), self.method, clock)
            )
        posture = None if prior is None else prior.posture
        fits = [(self.local.fit(cloud, self.request(p.T_camera_model, posture)), p) for p in usable]
        clock.lap("refine and judge")
        if prior is None:
            for fit, pose in fits[:SEEDS]:
                fits += [(other, pose) for other in self.elsewhere(cloud, pose, fit)]
            clock.lap("other levels and ends")
        if not any(fit.success for fit, _ in fits):
            fits += self.bent(cloud, fits, everywhere=prior is None)
            clock.lap("bent spine")
        found, pose = max(fits, key=lambda pair: (pair[0].success, plausibility(pair[0])))
        others = [
            fit
            for fit, _ in fits
            if fit.success and self.apart(fit.T_camera_model, found.T_camera_model) > SAME_FIT_M
        ]
        if found.success and others:
            text = "two poses pass every check: this may be another level, or head and feet exchanged"
            found = replace(found, success=False, reason_code="ambiguous_level", reason=text)
        if prior is not None:
            found = self.near(prior, found)
        return self._named(replace(self._with_network(found, pose, cloud.stamp_ns), timings_ms=clock.laps))

    def follow(self, cloud: Cloud, prior: Prior) -> Registration:
        """The next frame of a track: refined from where it is expected, and held against the network's own pose.

        The network sees the cloud itself and knows nothing of the frames before, so that what both agree on has not drifted.
        Where refinement fails, the network's pose is another start; where both fit and differ, there is no pose.
        """
        found = (
            self.follow_in_background(cloud, prior) if self.background else self.follow_in_step(cloud, prior)
        )
        return self._named(replace(found, method=self.method))

    def follow_in_step(self, cloud: Cloud, prior: Prior) -> Registration:
        """Network and refinement of the same cloud, side by side."""
        clock = Stopwatch()
        scene = self.search.scene_around(cloud, prior.T_camera_model, clock, TRACKED_MARGIN_M)
        # The engine runs outside of Python, and refinement does not need what it finds.
        beside = Stopwatch()
        running = None if scene is None else self._beside.submit(self.search.one_pass, scene, beside)
        found = self.refined(cloud, prior)
        clock.lap("refine and judge")
        pose = None if running is None else running.result()
        clock.lap("waiting for the network")
        clock.laps |= beside.laps
        if pose is not None:
            found = self.held_against(cloud, found, pose, found.T_camera_model)
        clock.lap("second fit")
        found = replace(found, timings_ms=clock.laps)
        return found if pose is None else self._with_network(found, pose, cloud.stamp_ns)

    def follow_in_background(self, cloud: Cloud, prior: Prior) -> Registration:
        """Refinement alone; the network's word on an earlier cloud is taken when it comes.

        What the network sees elsewhere is carried to this cloud by the motion between the two. A refinement that fails waits
        for the network, as one frame late is better than a lost track.
        """
        clock = Stopwatch()
        with self._turn:
            found = self.refined(cloud, prior)
        clock.lap("refine and judge")
        if not found.success:
            self._pass = None
            return self.follow_in_step(cloud, prior)
        done = self._pass if self._pass is not None and self._pass.running.done() else None
        pose = None if done is None else done.running.result()
        if done is not None and pose is not None:
            found = self.held_against(cloud, found, pose, done.T_followed)
            clock.lap("second fit")
        if done is not None:
            self._pass = None
        if self._pass is None and self._is_due(cloud.stamp_ns):
            self._last_pass_ns = cloud.stamp_ns
            T, beside = found.T_camera_model, Stopwatch()
            running = self._beside.submit(self.search.tracked_pass, cloud, T, beside, self._turn.wait)
            self._pass = BackgroundPass(running, T, cloud.stamp_ns, beside)
        if done is None or pose is None:
            return replace(found, timings_ms=clock.laps)
        laps = clock.laps | {f"{name} (background)": value for name, value in done.clock.laps.items()}
        found = replace(found, timings_ms=laps)
        # The mask is that of an earlier cloud: its indices are none of this one's.
        return replace(self._with_network(found, pose, done.stamp_ns), used=found.used)

    def _is_due(self, stamp_ns: int) -> bool:
        """Whether the last cloud that the network saw is old enough, or of another stream."""
        if self._last_pass_ns is None:
            return True
        since_s = 1e-9 * (stamp_ns - self._last_pass_ns)
        return not 0 <= since_s < self.settings.network_period_s

    def refined(self, cloud: Cloud, prior: Prior) -> Registration:
        """The cloud refined from where a track expects it."""
        return self.follower.near(prior, self.local.fit(cloud, self.follower.request(prior)))

    def held_against(
        self, cloud: Cloud, found: Registration, pose: NetworkPose, T_followed: Array
    ) -> Registration:
        """A followed pose after the network has spoken of the cloud in which the track was at ``T_followed``."""
        if pose.inliers < self.search.settings.sure_inliers:
            return found
        if found.success and self.apart(T_followed, pose.T_camera_model) <= NETWORK_DISAGREES_M:
            return found
        T_now = found.T_camera_model @ inverse(T_followed) @ pose.T_camera_model
        return self.choose(found, self.local.fit(cloud, self.request(T_now, found.posture)))

    def choose(self, followed: Registration, anew: Registration) -> Registration:
        """Of a fit from the prediction and one from the network's pose: the one that passes; none where both do and differ."""
        if not anew.success:
            return followed
        if followed.success and self.apart(followed.T_camera_model, anew.T_camera_model) > SAME_FIT_M:
            text = "the network sees another pose than the track, and both pass every check"
            return replace(followed, success=False, reason_code="network_disagrees", reason=text)
        return anew

    def near(self, prior: Prior, found: Registration) -> Registration:
        """The same, refused when its middle lies so far from the start's that it may be a neighbouring level.

        How far the start was turned does not matter: the network takes that.
        """
        both = (T @ np.append(self.local.centre, 1.0) for T in (prior.T_camera_model, found.T_camera_model))
        start, end = both
        moved = float(np.linalg.norm(end[:3] - start[:3]))
        limit = START_MOVE_M + self.settings.prior_move_stddevs * start_stddev(prior)
        if not found.success or moved <= limit:
            return found
        reason = f"the spine lies {1000 * moved:.0f} mm from the start (limit {1000 * limit:.0f} mm)"
        return replace(found, success=False, reason_code="far_from_prior", reason=reason)

    def request(self, T_camera_model: Array, posture: Posture | None = None) -> FitRequest:
        """A fit from a pose of the network's accuracy."""
        return FitRequest([T_camera_model], self.method, margin=NETWORK_ERROR_M, posture=posture)

    def elsewhere(self, cloud: Cloud, pose: NetworkPose, fit: Registration) -> list[Registration]:
        """Fits from every other level and the other end up: what the network may have mistaken the scene for.

        Those that a quick look tells off are left out: they would fail.
        """
        support = np.array([level.quality.inliers for level in fit.levels] or [1])
        screen = Screen(self.local, cloud, pose.T_camera_model)
        others = every_other_pose(self.case, pose.T_camera_model, support)
        return [self.local.fit(cloud, self.request(T)) for T in others if screen.may_fit(T)]

    def bent(
        self, cloud: Cloud, fits: Sequence[tuple[Registration, NetworkPose]], everywhere: bool
    ) -> list[tuple[Registration, NetworkPose]]:
        """Fits of a spine whose vertebrae stand otherwise than in the CT, from the likeliest of those that failed as one body.

        Levels that may move fit wrong places better, too: each fit is held against its neighbours, free to bend as well, and
        (``everywhere``) against every other level and the other end up.
        """
        fit, pose = max(fits, key=lambda pair: plausibility(pair[0]))
        if pose.inliers < self.search.settings.sure_inliers or fit.reason_code not in BENT_REASONS:
            return []
        found = self.local.fit(cloud, replace(self.request(fit.T_camera_model), bent=True))
        others = []
        if found.success and everywhere:
            support = np.array([level.quality.inliers for level in found.levels])
            screen = Screen(self.local, cloud, found.T_camera_model)
            poses = every_other_pose(self.case, found.T_camera_model, support)
            requests = [replace(self.request(T), bent=True) for T in poses if screen.may_fit(T)]
            others = [self.local.fit(cloud, request) for request in requests]
        return [(found, pose), *((other, pose) for other in others)]

    def apart(self, T_one: Array, T_other: Array) -> float:
        """Largest distance, in metres, between a vertebra's origin under one pose and under another."""
        return self.local.moved(T_one, T_other)

    def _with_network(self, found: Registration, pose: NetworkPose, stamp_ns: int) -> Registration:
        """The same with what the network saw: its own pose, its mask as the points used."""
        fraction = float(pose.output.mask.mean()) if len(pose.output.mask) else 0.0
        return replace(
            found,
            quality=replace(found.quality, mask_fraction=fraction),
            used=Later(pose.relevant),
            network=NetworkEstimate(pose.T_camera_model, pose.inliers, pose.cells_truncated, stamp_ns),
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
                self.local.failed(*nothing_found(poses, prior, self.local.centre), self.method, clock)
            )
        pose = poses[0]
        quality = Quality(inliers=pose.inliers)
        found = Registration(
            pose.T_camera_model, True, "ok", "registered by the network alone", quality, unknown_covariance(),
            self.method, self.engine, clock.laps,
        )  # fmt: skip
        return self._with_network(found, pose, cloud.stamp_ns)
