"""From a start, or from nothing: every hypothesis of the network refined and judged; exactly one may pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.types import Cloud
from end2reg_ros.reasons import Reason
from end2reg_ros.registration.classical import start_stddev, unguided_start
from end2reg_ros.registration.find.network_search import NetworkSearch
from end2reg_ros.registration.find.screening import Screen
from end2reg_ros.registration.find.starts import FitRequest, StartFitter
from end2reg_ros.registration.fit.posture import Posture
from end2reg_ros.registration.fit.rivals import SAME_FIT_M, every_other_pose
from end2reg_ros.registration.local import LocalRegistration
from end2reg_ros.registration.network import NetworkPose, with_network
from end2reg_ros.registration.types import Prior, Registration, Stopwatch

Array = NDArray[np.float64]

NETWORK_ERROR_M = 0.004  # what the refinement allows the network to be off by
START_MOVE_M = (
    0.015  # of the spine's middle away from a start, on top of what the start's own uncertainty allows
)
# What a flexed spine fails by when it is taken as one body.
FAILURES_OF_A_FLEXED_SPINE = (
    Reason.LEVEL_DISAGREES, Reason.LOW_INLIER_RATIO, Reason.SEE_THROUGH, Reason.HIGH_RESIDUAL, Reason.NORMALS_DISAGREE,
)  # fmt: skip
SEE_THROUGH = 0.04  # share of the surface before what the camera sees from which a fit counts half
SEEDS = 2  # hypotheses whose neighbours are tried


class HypothesisSearch:
    """Finds one case in one cloud.

    From nothing, every hypothesis of the network is refined and judged, and so is the spine put one or more levels higher
    or lower, and with head and feet exchanged. One of them must pass the checks, and only one: two that pass and
    differ are no pose.
    """

    def __init__(self, local: LocalRegistration, network: NetworkSearch, method: str) -> None:
        self.local, self.network, self.method = local, network, method
        self.starts = StartFitter(local)

    def find(self, cloud: Cloud, prior: Prior | None) -> Registration:
        """The case's pose from a start, or from nothing."""
        clock = Stopwatch()
        poses = self.network.find(cloud, prior, clock)
        usable = [p for p in poses if p.inliers >= self.network.settings.min_inliers] or poses[:1]
        if not usable:
            return self.local.failed(*nothing_found(poses, prior, self.local.centre), self.method, clock)
        posture = None if prior is None else prior.posture
        fits = [(self.from_pose(cloud, p.T_camera_model, posture), p) for p in usable]
        clock.lap("refine and judge")
        if prior is None:
            for fit, pose in fits[:SEEDS]:
                fits += [(other, pose) for other in self.other_placements(cloud, pose, fit)]
            clock.lap("other levels and ends")
        if not any(fit.success for fit, _ in fits):
            fits += self.flexed(cloud, fits, everywhere=prior is None)
            clock.lap("flexed spine")
        found, pose = max(fits, key=lambda pair: (pair[0].success, plausibility(pair[0])))
        others = [
            fit
            for fit, _ in fits
            if fit.success and self.local.moved(fit.T_camera_model, found.T_camera_model) > SAME_FIT_M
        ]
        if found.success and others:
            text = "two poses pass every check: this may be another level, or head and feet exchanged"
            found = found.refused(Reason.AMBIGUOUS_LEVEL, text)
        if prior is not None:
            found = self.near(prior, found)
        return replace(with_network(found, pose, cloud.stamp_ns), timings_ms=clock.laps)

    def from_pose(self, cloud: Cloud, T_camera_model: Array, posture: Posture | None = None) -> Registration:
        """A fit from a pose of the network's accuracy, judged and held against the neighbouring levels."""
        return self.starts.fit(cloud, self.request(T_camera_model, posture))

    def request(self, T_camera_model: Array, posture: Posture | None = None) -> FitRequest:
        """What is asked of the fit from a pose of the network's accuracy."""
        return FitRequest([T_camera_model], self.method, margin=NETWORK_ERROR_M, posture=posture)

    def near(self, prior: Prior, found: Registration) -> Registration:
        """A registration, refused when its middle lies so far from the start's that it may be a neighbouring level.

        How far the start was turned does not matter: the network takes that.
        """
        both = (T @ np.append(self.local.centre, 1.0) for T in (prior.T_camera_model, found.T_camera_model))
        start, end = both
        moved = float(np.linalg.norm(end[:3] - start[:3]))
        limit = START_MOVE_M + self.local.settings.prior_move_stddevs * start_stddev(prior)
        if not found.success or moved <= limit:
            return found
        reason = f"the spine lies {1000 * moved:.0f} mm from the start (limit {1000 * limit:.0f} mm)"
        return found.refused(Reason.FAR_FROM_PRIOR, reason)

    def other_placements(self, cloud: Cloud, pose: NetworkPose, fit: Registration) -> list[Registration]:
        """Fits from every other level and the other end up: what the network may have mistaken the scene for.

        Those that a quick look tells off are left out: they would fail.
        """
        support = np.array([level.quality.inliers for level in fit.levels] or [1])
        screen = Screen(self.local, cloud, pose.T_camera_model)
        others = every_other_pose(self.local.case, pose.T_camera_model, support)
        return [self.starts.fit(cloud, self.request(T)) for T in others if screen.may_fit(T)]

    def flexed(
        self, cloud: Cloud, fits: Sequence[tuple[Registration, NetworkPose]], everywhere: bool
    ) -> list[tuple[Registration, NetworkPose]]:
        """Fits of a spine whose vertebrae stand otherwise than in the CT, from the likeliest of those that failed as one body.

        Levels that may move fit wrong places better, too: each fit is held against its neighbours, free to bend as well, and
        (``everywhere``) against every other level and the other end up.
        """
        fit, pose = max(fits, key=lambda pair: plausibility(pair[0]))
        if (
            pose.inliers < self.network.settings.sure_inliers
            or fit.reason_code not in FAILURES_OF_A_FLEXED_SPINE
        ):
            return []
        found = self.starts.fit(cloud, replace(self.request(fit.T_camera_model), flexed=True))
        others = []
        if found.success and everywhere:
            support = np.array([level.quality.inliers for level in found.levels])
            screen = Screen(self.local, cloud, found.T_camera_model)
            poses = every_other_pose(self.local.case, found.T_camera_model, support)
            requests = [replace(self.request(T), flexed=True) for T in poses if screen.may_fit(T)]
            others = [self.starts.fit(cloud, request) for request in requests]
        return [(found, pose), *((other, pose) for other in others)]


def plausibility(found: Registration) -> float:
    """What fits are compared by, passed or not: points on the model that are turned as it is."""
    q = found.quality
    return q.inliers * q.normal_agreement * (0.5 if q.free_space_violation > SEE_THROUGH else 1.0)


def nothing_found(poses: Sequence[NetworkPose], prior: Prior | None, centre: Array) -> tuple[Array, str, str]:
    """Pose, code and text of a search that came to nothing."""
    if poses:
        text = f"the network's best pose has only {poses[0].inliers} correspondences"
        return poses[0].T_camera_model, Reason.FEW_CORRESPONDENCES, text
    if prior is not None:
        return prior.T_camera_model, Reason.NO_POINTS, "next to no points around the given start"
    T = unguided_start(centre, np.array([0.0, 0.0, 0.6]))
    return T, Reason.NO_REGION, "nothing in the view looks like an exposed spine"
