"""From nothing, or from a prior, to the network's own pose: regions, hypotheses of the roll, passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.types import Cloud
from end2reg_ros.engine.types import Arrays, Engine, MaskChoice, MaskMode, NetworkOutput
from end2reg_ros.registration.find.local_scene import (
    POSED_MARGIN_M,
    TRACKED_MARGIN_M,
    LocalScene,
    ModelSide,
    Pause,
    around_pose,
    around_region,
    pose_of,
)
from end2reg_ros.registration.find.region_candidates import RegionCandidate
from end2reg_ros.registration.find.region_search import search_regions
from end2reg_ros.registration.stopwatch import Stopwatch
from end2reg_ros.registration.types import Prior
from end2reg_ros.se3 import from_rotation_translation

Array = NDArray[np.float64]

MaskSource = Callable[[LocalScene], MaskChoice]

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


@dataclass(frozen=True)
class NetworkPose:
    """The network's own pose: (4, 4) T_camera_model, what it says of it, and the scene it was shown."""

    T_camera_model: Array
    output: NetworkOutput
    scene: LocalScene

    @property
    def inliers(self) -> int:
        """Correspondences that agree with the pose."""
        return self.output.inliers

    @property
    def cells_truncated(self) -> int:
        """Cells of the scene's finest level that did not fit the padding."""
        return self.scene.pyramids.registration.truncation.points[0]

    def relevant(self) -> NDArray[np.int64]:
        """Indices of the cloud's points with label 1."""
        cell = self.scene.cell_of_index()
        return self.scene.index[(cell >= 0) & (self.output.mask[np.maximum(cell, 0)] > 0.5)]


class NetworkSearch:
    """Hypotheses and passes against one case. Holds no state between clouds."""

    def __init__(
        self,
        engine: Engine,
        side: ModelSide,
        settings: SearchSettings | None = None,
        encoded: Arrays | None = None,
    ) -> None:
        """Give the engine the model's side: ``encoded`` where that is at hand (see ``Engine.encode_model``)."""
        self.engine, self.side = engine, side
        self._one_at_a_time = Lock()
        self.settings = settings or SearchSettings()
        engine.set_model(side.pyramid if encoded is None else encoded)

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

    def scene_around(
        self, cloud: Cloud, T_camera_model: Array, clock: Stopwatch, margin: float = POSED_MARGIN_M
    ) -> LocalScene | None:
        """What lies within ``margin`` metres of a posed model, in its frame; None where next to nothing does."""
        scene = around_pose(cloud, T_camera_model, self.side, self.engine.profile, margin)
        clock.lap("crop and tables")
        return scene

    def seen_from(
        self, cloud: Cloud, T_camera_model: Array, clock: Stopwatch, mask: MaskSource | None = None
    ) -> NetworkPose | None:
        """One pass over what lies around a pose, seen from it; None where next to nothing does."""
        scene = self.scene_around(cloud, T_camera_model, clock)
        return None if scene is None else self.one_pass(scene, clock, mask)

    def tracked_pass(
        self, cloud: Cloud, T_camera_model: Array, clock: Stopwatch, pause: Pause
    ) -> NetworkPose | None:
        """The same with the narrow margin of a track, on one thread, with ``pause`` called between two steps."""
        profile = self.engine.profile
        scene = around_pose(cloud, T_camera_model, self.side, profile, TRACKED_MARGIN_M, 1, pause)
        clock.lap("crop and tables")
        return None if scene is None else self.one_pass(scene, clock)

    def one_pass(self, scene: LocalScene, clock: Stopwatch, mask: MaskSource | None = None) -> NetworkPose:
        """The network's pose of a scene."""
        with self._one_at_a_time:  # a pass in the background may still be under way when a search begins
            output = self.engine.run(scene.pyramids, None if mask is None else mask(scene))
        clock.lap("network")
        T = pose_of(output.rotation, output.translation, scene, self.side)
        return NetworkPose(T, output, scene)

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
