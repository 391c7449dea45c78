"""What the speed of methods is measured on: a moving simulated sequence as the bytes of its messages, with the truth."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.ros_messages import PointCloud2
from end2reg_ros.names import CAMERA_FRAME
from end2reg_ros.registration.types import Prior
from end2reg_ros.simulation.camera.realsense import EncodedCloud, cloud_message, encode_realsense
from end2reg_ros.simulation.camera.sensor import SENSORS, SensorSettings
from end2reg_ros.simulation.picks import PICK_RMS_M, picked_prior
from end2reg_ros.simulation.sequence import (
    SequenceSettings,
    SimulatedFrame,
    SimulatedSequence,
    draw_placement,
)

Array = NDArray[np.float64]
START_NS = 1_700_000_000_000_000_000  # a stamp of zero means "no time" to ROS
FIRST_VIEW_SEED = 1000  # of the places from which a start from nothing is tried


@dataclass(frozen=True)
class StreamPlan:
    """What is rendered; everything random in it follows from ``seed``.

    Attributes:
        frames: clouds of the moving sequence.
        views: clouds from other places of the camera, for starts from nothing.
        rate_hz: of the clouds' stamps.
        sensor: the camera.
    """

    seed: int = 0
    scenario: str = "demo"
    frames: int = 150
    views: int = 8
    rate_hz: float = 15.0
    sensor: SensorSettings = field(default_factory=lambda: SENSORS["d435"])


@dataclass(frozen=True)
class StoredFrame:
    """One PointCloud2 on disk, as the camera's driver would send it, and the truth about it.

    Attributes:
        path: file of the message's data.
        points: in the message, all of them valid.
        visible_fraction: see ``SimulatedFrame``.
    """

    path: Path
    points: int
    stamp_ns: int
    T_camera_model: Array
    T_camera_levels: dict[str, Array]
    visible_fraction: float

    def message(self) -> PointCloud2:
        """The message, read from disk."""
        data = np.fromfile(self.path, np.uint8)
        return cloud_message(EncodedCloud(data, self.points, 1, True), CAMERA_FRAME, self.stamp_ns)


@dataclass(frozen=True)
class StoredStream:
    """A rendered sequence.

    Attributes:
        frames: in the order of their stamps.
        views: of the same field, from other places.
        prior: from landmarks picked in the first frame.
        sha256: of all bytes, frames first.
    """

    plan: StreamPlan
    frames: tuple[StoredFrame, ...]
    views: tuple[StoredFrame, ...]
    prior: Prior
    sha256: str

    @property
    def points(self) -> int:
        """Median number of points of a frame."""
        return int(np.median([frame.points for frame in self.frames]))


def render_stream(case: Case, plan: StreamPlan, folder: Path) -> StoredStream:
    """Render a sequence and write its messages into ``folder``, which must exist.

    Raises:
        End2RegError: as ``SimulatedSequence``; RegistrationError: fewer than three landmarks in the case.
    """
    sequence = SimulatedSequence(
        case, SequenceSettings(seed=plan.seed, scenario=plan.scenario, sensor=plan.sensor)
    )
    digest = hashlib.sha256()
    frames = []
    for number in range(plan.frames):
        seen = sequence.frame(number / plan.rate_hz)
        if number == 0:
            prior = picked_prior(case, seen.T_camera_model, plan.seed, PICK_RMS_M)
        frames.append(_store(seen, folder / f"frame_{number:04d}.bin", digest))
    views = []
    for number in range(plan.views):
        placement = draw_placement(FIRST_VIEW_SEED + plan.seed + number)
        # Another time as well: at equal times two places would share their noise.
        seen = sequence.seen_from(placement).frame((number + 0.5) / (2.0 * plan.rate_hz))
        views.append(_store(seen, folder / f"view_{number:02d}.bin", digest))
    return StoredStream(plan, tuple(frames), tuple(views), prior, digest.hexdigest())


def sensor_of(points: int, seen: StoredStream) -> SensorSettings:
    """The lens that ``seen`` was made with, and as many pixels as would give ``points`` points of the same scene.

    The noise's correlation keeps its size on the surface, not in pixels.
    """
    base = seen.plan.sensor
    factor = math.sqrt(points / seen.points)
    # The renderer wants even sizes.
    width, height = (2 * max(1, round(0.5 * size * factor)) for size in (base.width, base.height))
    name = f"{base.name.split('_')[0]}_{width}x{height}"
    return replace(base, name=name, width=width, height=height, smooth_px=base.smooth_px * factor)


def stored_hash(streams: Sequence[StoredStream]) -> str:
    """One hash over several streams."""
    return hashlib.sha256("".join(stream.sha256 for stream in streams).encode()).hexdigest()


def _store(seen: SimulatedFrame, path: Path, digest: hashlib._Hash) -> StoredFrame:
    encoded = encode_realsense(seen.points, seen.colours)
    data = encoded.data.tobytes()
    digest.update(data)
    path.write_bytes(data)
    stamp_ns = START_NS + round(seen.t_s * 1e9)
    return StoredFrame(
        path, encoded.width, stamp_ns, seen.T_camera_model, seen.T_camera_levels, seen.visible_fraction
    )
