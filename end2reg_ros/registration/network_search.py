"""From nothing, or from a prior, to the network's own pose: regions, hypotheses of the roll, passes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.types import Cloud
from end2reg_ros.cloud.view_grid import make_view_grid
from end2reg_ros.engine.types import Engine, Floats, MaskChoice, NetworkOutput
from end2reg_ros.registration.local import Stopwatch
from end2reg_ros.registration.local_scene import LocalScene, ModelSide, around_pose, around_region, pose_of
from end2reg_ros.registration.region_candidates import RegionCandidate, RegionMaps, region_candidates
from end2reg_ros.registration.types import Prior
from end2reg_ros.se3 import from_rotation_translation

Array = NDArray[np.float64]

HALF_TURN = np.diag(
    [-1.0, 1.0, -1.0]
)  # about the local y axis, away from the camera: head and feet change places


@dataclass(frozen=True)
class SearchSettings:
    """How hard the network is asked.

    Attributes:
        regions: candidates of the region finder that are tried (opposite directions count by themselves).
        sure_inliers: a hypothesis with as many correspondences on its pose ends the search.
        min_inliers: fewer is no pose.
        passes: of the winner: each turns the scene by the pose before and crops around it.
        threads: of the neighbour searches.
    """

    regions: int = 4
    sure_inliers: int = 300
    min_inliers: int = 100
    passes: int = 2


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

    def relevant(self) -> NDArray[np.int64]:
        """Indices of the cloud's points with label 1."""
        cell = self.scene.cell_of_index()
        return self.scene.index[(cell >= 0) & (self.output.mask[np.maximum(cell, 0)] > 0.5)]


class NetworkSearch:
    """Hypotheses and passes against one case. Holds no state between clouds."""

    def __init__(self, engine: Engine, side: ModelSide, settings: SearchSettings | None = None) -> None:
        self.engine, self.side = engine, side
        self.settings = settings or SearchSettings()
        engine.set_model(side.pyramid)

    def find(
        self, cloud: Cloud, prior: Prior | None, clock: Stopwatch, mask: MaskChoice | None = None
    ) -> list[NetworkPose]:
        """Poses of all hypotheses that were tried, the one with the most inliers first and passed on; may be empty.

        With a prior there is one hypothesis, the prior; without, the region finder's, and each of those turned by
        half a circle while nothing is sure.
        """
        if prior is not None:
            scene = around_pose(cloud, prior.T_camera_model, self.side, self.engine.profile)
            clock.lap("crop and tables")
            poses = [] if scene is None else [self.one_pass(scene, clock, mask)]
        else:
            poses = self.from_nothing(cloud, clock, mask)
        poses.sort(key=lambda pose: -pose.inliers)
        if poses and poses[0].inliers >= self.settings.min_inliers:
            poses[0] = self.again(cloud, poses[0], clock, mask, self.settings.passes - 1)
        return poses

    def candidates(self, cloud: Cloud, clock: Stopwatch) -> list[RegionCandidate]:
        """Where the spine may lie in the whole view, best first."""
        grid = make_view_grid(cloud.points, cloud.colours)
        clock.lap("view grid")
        output = self.engine.region_map(grid.channels)
        clock.lap("region network")
        found = region_candidates(grid, region_maps(output))
        clock.lap("regions")
        return found[: self.settings.regions]

    def from_nothing(
        self, cloud: Cloud, clock: Stopwatch, mask: MaskChoice | None = None
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

    def one_pass(self, scene: LocalScene, clock: Stopwatch, mask: MaskChoice | None = None) -> NetworkPose:
        """The network's pose of a scene."""
        output = self.engine.run(scene.pyramids, mask)
        clock.lap("network")
        T = pose_of(output.rotation, output.translation, scene, self.side)
        return NetworkPose(T, output, scene)

    def again(
        self, cloud: Cloud, pose: NetworkPose, clock: Stopwatch, mask: MaskChoice | None, passes: int
    ) -> NetworkPose:
        """Further passes from a pose; a pass that loses most of the inliers is not believed."""
        for _ in range(passes):
            scene = around_pose(cloud, pose.T_camera_model, self.side, self.engine.profile)
            clock.lap("crop and tables")
            if scene is None:
                break
            better = self.one_pass(scene, clock, mask)
            if better.inliers < 0.5 * pose.inliers:
                break
            pose = better
        return pose


def _opposite(one: RegionCandidate, other: RegionCandidate) -> bool:
    """Whether a candidate is another one with head and feet exchanged."""
    same_place = float(np.linalg.norm(one.centre - other.centre)) < 0.01
    return same_place and float(one.axis_superior @ other.axis_superior) < -0.5


def region_maps(output: Floats) -> RegionMaps:
    """The region network's (7, H, W) output as maps."""
    bone = 1.0 / (1.0 + np.exp(-np.clip(output[0], -30.0, 30.0)))
    return RegionMaps(bone.astype(np.float32), output[1:3], output[3:5], output[5:7])


def random_mask(seed: int) -> MaskChoice:
    """A random mask of the learned one's share, for studies."""
    return replace(MaskChoice(), mode="random", seed=seed)
