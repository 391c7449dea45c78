"""One pass of the network: a scene in its local frame, as pyramids, through the engine to a pose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.normals import estimate_normals
from end2reg_ros.cloud.pyramid import (
    UNIT_M,
    Pyramid,
    build_pyramid,
    cells_of,
    fit,
    point_attributes,
    tables_of,
)
from end2reg_ros.engine.types import Engine, MaskChoice, NetworkOutput, ScenePyramids
from end2reg_ros.profile import Profile
from end2reg_ros.registration.fit.surface import ModelSurface
from end2reg_ros.registration.scene import Box, Scene
from end2reg_ros.registration.types import LazyIndices, NetworkEstimate, Registration, Stopwatch
from end2reg_ros.se3 import apply, inverse

Array = NDArray[np.float64]
Pause = Callable[[], None]

MIN_POINTS = 60


def no_pause() -> None:
    """Goes on at once."""


@dataclass(frozen=True)
class ModelSide:
    """The pre-operative side: pyramid in network units about ``centre`` (3,), and bounds about it, metres."""

    pyramid: Pyramid
    centre: Array
    box: Box

    def local_frame(self, T_camera_model: Array) -> Array:
        """(4, 4) T_camera_local: the axes of a posed model, about the middle of its visible surface."""
        T_camera_local = T_camera_model.copy()
        T_camera_local[:3, 3] = apply(T_camera_model, self.centre[None])[0]
        return T_camera_local


@dataclass(frozen=True)
class NetworkScene:
    """What the network is shown of a scene.

    Attributes:
        pyramids: in network units.
        T_camera_local: (4, 4) metres; its axes are nearly those of the model.
        scene: the cropped and thinned cloud.
    """

    pyramids: ScenePyramids
    T_camera_local: Array
    scene: Scene

    def cell_of_index(self) -> NDArray[np.int32]:
        """(M,) row of the scene's level 0 of each point inside the box; -1 where it was dropped."""
        return self.pyramids.registration.cell_of_point[self.scene.thin.cell_of_point]

    def cell_share(self, label: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(cells of the scene's level 0,) share of each cell's points with a label; ``label`` (N,) of the whole cloud."""
        cell = self.cell_of_index()
        held = cell >= 0
        count = self.pyramids.registration.levels[0].count
        total = np.bincount(cell[held], minlength=count)
        labelled = label[self.scene.index][held].astype(float)
        return np.asarray(np.bincount(cell[held], weights=labelled, minlength=count) / np.maximum(total, 1))


@dataclass(frozen=True)
class NetworkPose:
    """The network's own pose: (4, 4) T_camera_model, what it says of it, and the scene it was shown."""

    T_camera_model: Array
    output: NetworkOutput
    shown: NetworkScene

    @property
    def inliers(self) -> int:
        """Correspondences that agree with the pose."""
        return self.output.inliers

    @property
    def cells_truncated(self) -> int:
        """Cells of the scene's finest level that did not fit the padding."""
        return self.shown.pyramids.registration.truncation.points[0]

    def relevant(self) -> NDArray[np.int64]:
        """Indices of the cloud's points with label 1."""
        cell = self.shown.cell_of_index()
        return self.shown.scene.index[(cell >= 0) & (self.output.mask[np.maximum(cell, 0)] > 0.5)]


@dataclass(frozen=True)
class NetworkObservation:
    """What the network says of a followed track.

    Attributes:
        pose: its own.
        T_followed: (4, 4) where the track was in the cloud that it saw; None: it saw the cloud that is being followed.
        stamp_ns: of the cloud that it saw.
        timings_ms: stage -> milliseconds that it took, beside the stream.
    """

    pose: NetworkPose
    T_followed: Array | None
    stamp_ns: int
    timings_ms: dict[str, float]


class NetworkPass:
    """Passes against one case. Holds no state between clouds."""

    def __init__(
        self, engine: Engine, side: ModelSide, encoded: dict[str, NDArray[np.generic]] | None = None
    ) -> None:
        """Give the engine the model's side: ``encoded`` where that is at hand (see ``Engine.encode_model``)."""
        self.engine, self.side = engine, side
        self._one_at_a_time = Lock()
        engine.set_model(side.pyramid if encoded is None else encoded)

    def prepare(
        self, scene: Scene, clock: Stopwatch, threads: int = 1, pause: Pause = no_pause
    ) -> NetworkScene | None:
        """What the network is shown of a scene that was cropped around a track; None where next to nothing is there.

        Args:
            scene: in whose model frame it looks.
            clock: books the stage.
            threads: of the normals.
            pause: called between two steps: lets others go first.
        """
        T_camera_local = self.side.local_frame(scene.T_camera_box)
        shown = network_scene(scene, T_camera_local, self.engine.profile, threads, pause)
        clock.lap("tables")
        return shown

    def run(
        self, shown: NetworkScene | None, clock: Stopwatch, mask: MaskChoice | None = None
    ) -> NetworkPose | None:
        """The network's pose of what it is shown; None where that is nothing."""
        return None if shown is None else self.pose(shown, clock, mask)

    def pose(self, shown: NetworkScene, clock: Stopwatch, mask: MaskChoice | None = None) -> NetworkPose:
        """The network's pose of what it is shown."""
        with self._one_at_a_time:  # a pass in the background may still be under way when a search begins
            output = self.engine.run(shown.pyramids, mask)
        clock.lap("network")
        T_local_model = np.eye(4)
        T_local_model[:3, :3] = output.rotation
        T_local_model[:3, 3] = output.translation * UNIT_M - output.rotation @ self.side.centre
        return NetworkPose(shown.T_camera_local @ T_local_model, output, shown)


def model_side(surface: ModelSurface, profile: Profile) -> ModelSide:
    """The model side of a case's visible surface. Blind to the sampling: cells are means."""
    points = surface.points
    centre = points.mean(axis=0)
    attributes = point_attributes(len(points), None, surface.normals)
    pyramid = build_pyramid((points - centre) / UNIT_M, attributes, profile.model)
    return ModelSide(pyramid, centre, Box(points.min(axis=0) - centre, points.max(axis=0) - centre))


def network_scene(
    scene: Scene, T_camera_local: Array, profile: Profile, threads: int = 1, pause: Pause = no_pause
) -> NetworkScene | None:
    """A scene as the network is shown it, in a local frame (4, 4) and in network units; None of fewer than 60 points.

    ``threads`` of the normals, which take most of the time; ``pause`` is called between two steps.
    """
    if len(scene.index) < MIN_POINTS:
        return None
    pause()
    thin, colours = scene.thin, scene.cloud.colours
    # take: several times faster than indexing with a list of rows.
    mean_colours = None if colours is None else np.rint(thin.means(colours.take(scene.index, axis=0)))
    # All of them: the library does not hold the interpreter, which the refinement beside needs.
    normals = estimate_normals(thin.points, threads=threads)
    pause()
    T = inverse(T_camera_local)
    points = (T[:3, :3] @ thin.points.T).T
    points += T[:3, 3]
    points /= UNIT_M
    attributes = point_attributes(len(points), mean_colours, (T[:3, :3].astype(np.float32) @ normals.T).T)
    cells = cells_of(points, attributes, profile.scene)
    pause()
    fitting = next(spec for spec in profile.scene_specs if fit(cells, spec))
    pyramids = ScenePyramids(
        tables_of(cells, fitting),
        None if profile.segmentation is None else build_pyramid(points, attributes, profile.segmentation),
    )
    return NetworkScene(pyramids, T_camera_local, scene)


def with_network(found: Registration, pose: NetworkPose, stamp_ns: int) -> Registration:
    """A registration with what the network saw: its own pose, its mask as the points used."""
    fraction = float(pose.output.mask.mean()) if len(pose.output.mask) else 0.0
    return replace(
        found,
        quality=replace(found.quality, mask_fraction=fraction),
        used=LazyIndices(pose.relevant),
        network=NetworkEstimate(pose.T_camera_model, pose.inliers, pose.cells_truncated, stamp_ns),
    )
