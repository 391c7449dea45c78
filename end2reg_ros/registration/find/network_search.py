"""From nothing, or from a prior, to the network's own pose: regions, hypotheses of the roll, passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.types import Cloud
from end2reg_ros.engine.types import Arrays, Engine, MaskChoice, MaskMode
from end2reg_ros.profile import Profile
from end2reg_ros.registration.find.region_candidates import RegionCandidate
from end2reg_ros.registration.find.region_search import search_regions
from end2reg_ros.registration.network import (
    ModelSide,
    NetworkPass,
    NetworkPose,
    NetworkScene,
    network_scene,
)
from end2reg_ros.registration.scene import Box, crop
from end2reg_ros.registration.types import Prior, Stopwatch
from end2reg_ros.se3 import from_rotation_translation

Array = NDArray[np.float64]

# Half sides of the box cut out around a found region: x right, y anterior, z superior of the local frame, metres.
REGION_HALF_M = np.array([0.060, 0.060, 0.120])
# Around a posed model, on every side.
POSED_MARGIN_M = 0.015
# Threads of the normals, which take most of the time.
THREADS = 2
MaskSource = Callable[[NetworkScene], MaskChoice]

# About the local y axis, away from the camera: head and feet change places.
HALF_TURN = np.diag([-1.0, 1.0, -1.0])


@dataclass(frozen=True)
class SearchSettings:
    """How hard the network is asked.

    Attributes:
        regions: candidates of the region finder that are tried (opposite directions count by themselves).
        sure_inliers: a hypothesis with as many correspondences on its pose ends the search.
        min_inliers: fewer is no pose.
        passes: of the best hypotheses: each turns the scene by the pose before and crops around it.
        rival_share: hypotheses with this share of the best one's correspondences get all passes.
    """

    regions: int = 4
    sure_inliers: int = 300
    min_inliers: int = 100
    passes: int = 2
    rival_share: float = 0.4


class NetworkSearch(NetworkPass):
    """Hypotheses and passes against one case. Holds no state between clouds."""

    def __init__(
        self,
        engine: Engine,
        side: ModelSide,
        settings: SearchSettings | None = None,
        encoded: Arrays | None = None,
    ) -> None:
        super().__init__(engine, side, encoded)
        self.settings = settings or SearchSettings()

    def find(
        self, cloud: Cloud, prior: Prior | None, clock: Stopwatch, mask: MaskSource | None = None
    ) -> list[NetworkPose]:
        """Poses of all hypotheses that were tried, the one with the most inliers first and passed on; may be empty.

        With a prior there is one hypothesis, the prior; without, the region finder's and the best of those turned by half
        a circle, until one is sure.
        """
        if prior is not None:
            seen = self.seen_from(cloud, prior.T_camera_model, clock, mask)
            poses = [] if seen is None else [seen]
        else:
            poses = self.from_nothing(cloud, clock, mask)
        poses.sort(key=lambda pose: -pose.inliers)
        # Which hypothesis is right shows in the second pass, where each is seen from its own pose.
        near = [pose for pose in poses if pose.inliers >= self.settings.rival_share * poses[0].inliers]
        poses[: len(near)] = [self.again(cloud, p, clock, mask, self.settings.passes - 1) for p in near]
        return sorted(poses, key=lambda pose: -pose.inliers)

    def candidates(self, cloud: Cloud, clock: Stopwatch) -> list[RegionCandidate]:
        """Where the spine may lie in the whole view, best first."""
        found = search_regions(self.engine.region_map, cloud.points, cloud.colours)
        clock.lap("regions")
        return found[: self.settings.regions]

    def from_nothing(
        self, cloud: Cloud, clock: Stopwatch, mask: MaskSource | None = None
    ) -> list[NetworkPose]:
        """One pass a hypothesis, until one is sure: regions as found, then the best one turned by half a circle."""
        found = self.candidates(cloud, clock)
        starts = [c.T_camera_local for c in found]
        if found and not any(_opposite(found[0], other) for other in found[1:]):
            first = found[0].T_camera_local
            starts.append(from_rotation_translation(first[:3, :3] @ HALF_TURN, first[:3, 3].copy()))
        poses = []
        for start in starts:
            scene = around_region(cloud, start, self.engine.profile)
            clock.lap("crop and tables")
            if scene is None:
                continue
            poses.append(self.one_pass(scene, clock, mask))
            if poses[-1].inliers >= self.settings.sure_inliers:
                break
        return poses

    def seen_from(
        self, cloud: Cloud, T_camera_model: Array, clock: Stopwatch, mask: MaskSource | None = None
    ) -> NetworkPose | None:
        """One pass over what lies around a pose, seen from it; None where next to nothing does."""
        scene = around_pose(cloud, T_camera_model, self.side, self.engine.profile)
        clock.lap("crop and tables")
        return None if scene is None else self.one_pass(scene, clock, mask)

    def one_pass(self, scene: NetworkScene, clock: Stopwatch, mask: MaskSource | None = None) -> NetworkPose:
        """The network's pose of a scene, with the mask that a study asks for."""
        return self.pose(scene, clock, None if mask is None else mask(scene))

    def again(
        self, cloud: Cloud, pose: NetworkPose, clock: Stopwatch, mask: MaskSource | None, passes: int
    ) -> NetworkPose:
        """Further passes from a pose; one that loses half of the inliers, or too many to be a pose, is not believed."""
        for _ in range(passes):
            better = self.seen_from(cloud, pose.T_camera_model, clock, mask)
            if better is None or better.inliers < max(
                0.5 * pose.inliers, min(pose.inliers, self.settings.min_inliers)
            ):
                break
            pose = better
        return pose


def around_region(
    cloud: Cloud, T_camera_local: Array, profile: Profile, threads: int = THREADS
) -> NetworkScene | None:
    """The scene around a found region; None when next to nothing is there. ``threads`` change the time only."""
    scene = crop(cloud, T_camera_local, Box(-REGION_HALF_M, REGION_HALF_M), 0.0, threads=threads)
    return network_scene(scene, T_camera_local, profile, threads)


def around_pose(
    cloud: Cloud,
    T_camera_model: Array,
    side: ModelSide,
    profile: Profile,
    margin: float = POSED_MARGIN_M,
    threads: int = THREADS,
) -> NetworkScene | None:
    """The scene within ``margin`` (metres) of a posed model's bounds; None when next to nothing is there.

    The local frame has the model's axes, about the model's centre. ``threads`` change the time only.
    """
    T_camera_local = side.local_frame(T_camera_model)
    scene = crop(cloud, T_camera_local, side.box, margin, threads=threads)
    return network_scene(scene, T_camera_local, profile, threads)


def _opposite(one: RegionCandidate, other: RegionCandidate) -> bool:
    """Whether a candidate is another one with head and feet exchanged."""
    same_place = float(np.linalg.norm(one.centre - other.centre)) < 0.01
    return same_place and float(one.axis_superior @ other.axis_superior) < -0.5


def mask_source(mode: MaskMode, seed: int = 0, bone: NDArray[np.bool_] | None = None) -> MaskSource:
    """What every pass of a search uses as its mask, for studies of what the mask is worth.

    Args:
        mode: see ``MaskMode``.
        seed: of ``random``.
        bone: (N,) true label of the cloud's points, for ``given``.

    Raises:
        ValueError: ``given`` without labels.
    """
    if mode != "given":
        return lambda scene: MaskChoice(mode, seed=seed)
    if bone is None:
        raise ValueError("a given mask needs the label of every point")
    labels = bone
    return lambda scene: MaskChoice(mode, (scene.cell_share(labels) > 0.5).astype(np.float32))
