"""What goes into a registration and what comes out; the interface that every method keeps to. Metres, radians."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.registration.fit.posture import Posture

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Prior:
    """A guess of where the model is: picked landmarks, a planner, rviz, or the last frame.

    Attributes:
        T_camera_model: (4, 4).
        source: shown to the user ("landmarks", "initial_pose", "last_frame", "init_file").
        stddev_m: expected error of the guess at the spine, metres; sets how far refinement may move.
        posture: how the vertebrae stood to one another when last seen; None: as in the CT.
    """

    T_camera_model: Array
    source: str
    stddev_m: float = 0.003
    posture: Posture | None = None


@dataclass(frozen=True)
class Quality:
    """Figures that judge a fit; none of them is an accuracy (Fitzpatrick 2009).

    Attributes:
        inlier_ratio: share of the model surface that should be seen and is supported by scene points.
        residual_rmse_m: root mean square point-to-surface distance of the inliers.
        visible_fraction: share of the camera-facing model surface that is seen or supported (not covered).
        mask_fraction: share of scene points in the region that the method calls relevant.
        free_space_violation: share of the camera-facing model surface that lies in front of what the camera sees:
            a fit with bone where the camera looked through is wrong, however small its residual.
        inliers: scene points used by the last refinement step.
        normal_agreement: share of the scene points on the model whose surface is turned as the model's is.
    """

    inlier_ratio: float = 0.0
    residual_rmse_m: float = float("nan")
    visible_fraction: float = 0.0
    mask_fraction: float = 0.0
    free_space_violation: float = 0.0
    inliers: int = 0
    normal_agreement: float = 0.0


@dataclass(frozen=True)
class NetworkEstimate:
    """What the network alone says of a cloud.

    Attributes:
        T_camera_model: (4, 4) before refinement.
        inliers: correspondences that agree with it.
        cells_truncated: cells of its finest grid that were left out because the view holds more than its padding.
        stamp_ns: of the cloud that it saw; an earlier one where it runs in the background.
    """

    T_camera_model: Array
    inliers: int
    cells_truncated: int = 0
    stamp_ns: int = 0


@dataclass(frozen=True)
class LevelResult:
    """One vertebra's share of a registration.

    Attributes:
        T_camera_level: (4, 4) pose of the vertebra frame.
        covariance: (6, 6), camera axes, about the vertebra frame's origin; metres and radians.
        held: too little of it is seen: its pose is held to its neighbours.
    """

    level: str
    T_camera_level: Array
    covariance: Array
    quality: Quality
    held: bool


class LazyIndices:
    """Indices that are worked out when somebody asks: for most clouds nobody does."""

    def __init__(self, make: Callable[[], NDArray[np.int64]]) -> None:
        self._make = make
        self._made: NDArray[np.int64] | None = None

    def __call__(self) -> NDArray[np.int64]:
        """The indices."""
        if self._made is None:
            self._made = self._make()
        return self._made


@dataclass(frozen=True)
class Registration:
    """One cloud and one case -> one pose.

    Attributes:
        T_camera_model: (4, 4); the last estimate also when ``success`` is false (for inspection, never for use).
        success: the pose passed every check of the method.
        reason_code: ``ok`` or a stable machine-readable reason; ``reason`` says it in a sentence.
        covariance: (6, 6), camera axes, about the posed model origin, order x y z rx ry rz; metres and radians.
        timings_ms: stage name -> milliseconds.
        used: gives the indices of the cloud's points that the method used, see ``relevant``.
        posture: how the vertebrae stand to one another; None where they were taken to stand as in the CT.
        network: the network's own pose before refinement; None from the classical methods, or where it saw too little.
        position_stddev_m, rotation_stddev_rad: largest standard deviations of ``covariance`` at the spine's middle, over all
            directions: the CT's origin may be far from it.
    """

    T_camera_model: Array
    success: bool
    reason_code: str
    reason: str
    quality: Quality
    covariance: Array
    method: str
    engine: str
    timings_ms: dict[str, float] = field(default_factory=dict)
    levels: tuple[LevelResult, ...] = ()
    used: LazyIndices | None = None
    network: NetworkEstimate | None = None
    posture: Posture | None = None
    position_stddev_m: float = float("nan")
    rotation_stddev_rad: float = float("nan")

    def refused(self, reason_code: str, reason: str) -> Registration:
        """The same fit, marked as failed."""
        return replace(self, success=False, reason_code=reason_code, reason=reason)

    def after(self, earlier_ms: Mapping[str, float]) -> Registration:
        """The same registration with the time of what was done for it before, stage -> milliseconds."""
        names = {**earlier_ms, **self.timings_ms}
        total = {name: earlier_ms.get(name, 0.0) + self.timings_ms.get(name, 0.0) for name in names}
        return replace(self, timings_ms=total)

    @property
    def relevant(self) -> NDArray[np.int64] | None:
        """Indices of the cloud's points that the method used (for the segmentation topic and pictures)."""
        return None if self.used is None else self.used()


class Stopwatch:
    """Milliseconds of named stages, in order."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, name: str) -> None:
        """Book the time since the last lap under ``name``."""
        now = perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + 1000 * (now - self._last)
        self._last = now
