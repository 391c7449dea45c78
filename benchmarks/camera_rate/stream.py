"""A rendered sequence on disk that can be played for as long as anyone likes: clouds as message bytes, with the truth.

Light to import: the process that plays it must not carry the renderer.
"""

from __future__ import annotations

import array
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.ros_messages import PointCloud2
from end2reg_ros.errors import End2RegError
from end2reg_ros.names import CAMERA_FRAME
from end2reg_ros.simulation.camera.realsense import POINT_STEP, EncodedCloud, cloud_message

Array = NDArray[np.float64]
DOCUMENT = "stream.json"
FORMAT = 1
UNUSED = slice(12, 16)  # of a point, between z and rgb


class PlaybackError(End2RegError):
    """A folder that holds no sequence, or another one than was asked for."""


@dataclass(frozen=True)
class Recipe:
    """What is rendered; everything random in it follows from ``seed``.

    Attributes:
        case_hash: of the case that is seen.
        events: a scenario's name, or ``calm``: slow motion with one passing hand.
        frames: clouds.
        rate_hz: at which they were taken; played at another rate, the motion keeps its speed.
        sensor: name of the camera.
        pixel_step: 1 for the whole image, 2 for every second pixel of every second row.
    """

    case_hash: str
    seed: int = 0
    events: str = "calm"
    frames: int = 165
    rate_hz: float = 30.0
    sensor: str = "d435"
    pixel_step: int = 1


@dataclass(frozen=True)
class PlaybackFrame:
    """One cloud on disk and the truth about it.

    Attributes:
        path: file of the message's data.
        points: in it, all of them valid.
        T_camera_model: (4, 4); ``T_camera_levels``: level -> (4, 4) of the vertebra frame. Metres.
        visible_fraction: see ``SimulatedFrame``.
    """

    path: Path
    points: int
    T_camera_model: Array
    T_camera_levels: dict[str, Array]
    visible_fraction: float

    def data(self, mark: int = 0) -> array.array[int]:
        """The bytes, read from disk in one go.

        Args:
            mark: goes into the first point's unused bytes, so that no two clouds of a stream are equal byte by byte: a
                frame that is seen again is no frozen camera, whose noise would stand still.

        Raises:
            PlaybackError: the file holds less than it should.
        """
        data = array.array("B", [0]) * (self.points * POINT_STEP)
        with self.path.open("rb", buffering=0) as file:
            got = file.readinto(data)
        if got != len(data):
            raise PlaybackError(f"{self.path}: {got} bytes, expected {len(data)}")
        if data:
            data[UNUSED] = array.array("B", (mark % (1 << 32)).to_bytes(4, "little"))
        return data

    def message(self, stamp_ns: int, frame_id: str = CAMERA_FRAME, mark: int = 0) -> PointCloud2:
        """The cloud as a message without ROS, under a stamp of its own; ``mark`` as in ``data``."""
        data = np.frombuffer(self.data(mark), np.uint8)
        return cloud_message(EncodedCloud(data, self.points, 1, True), frame_id, stamp_ns)


@dataclass(frozen=True)
class Playback:
    """A sequence on disk.

    Attributes:
        frames: in the order of time.
        T_start: (4, 4) the spine in the first frame as picked landmarks give it.
        sha256: of all clouds' bytes.
    """

    recipe: Recipe
    frames: tuple[PlaybackFrame, ...]
    T_start: Array
    sha256: str

    def number_at(self, t_s: float) -> int:
        """The frame that is seen ``t_s`` seconds after the first one."""
        return bounce(round(t_s * self.recipe.rate_hz), len(self.frames))


def bounce(tick: int, count: int) -> int:
    """0, 1, ... count - 1, count - 2, ... 1, 0, 1, ...: a sequence forwards and backwards, without a jump or a repeat.

    Raises:
        ValueError: fewer than two frames cannot move.
    """
    if count < 2:
        raise ValueError(f"a sequence of {count} frames cannot be played to and fro")
    turn = tick % (2 * (count - 1))
    return min(turn, 2 * (count - 1) - turn)


def write_playback(folder: Path, playback: Playback) -> None:
    """Write the document that makes a folder of clouds a sequence; last, so that an unfinished one is none."""
    document = {
        "format": FORMAT,
        "recipe": asdict(playback.recipe),
        "sha256": playback.sha256,
        "T_start": playback.T_start.ravel().tolist(),
        "frames": [_frame_document(frame) for frame in playback.frames],
    }
    (folder / DOCUMENT).write_text(json.dumps(document))


def read_playback(folder: Path, recipe: Recipe | None = None) -> Playback:
    """A sequence from disk.

    Raises:
        PlaybackError: no sequence there, or not the one of ``recipe``.
    """
    path = folder / DOCUMENT
    if not path.is_file():
        raise PlaybackError(f"{folder}: holds no rendered sequence ({DOCUMENT} is missing)")
    document = json.loads(path.read_text())
    if document.get("format") != FORMAT:
        raise PlaybackError(f"{path}: format {document.get('format')}, expected {FORMAT}")
    found = Recipe(**document["recipe"])
    if recipe is not None and found != recipe:
        raise PlaybackError(f"{folder}: holds another sequence: {found}, expected {recipe}")
    frames = tuple(_frame(folder, entry) for entry in document["frames"])
    return Playback(found, frames, _matrix(document["T_start"]), document["sha256"])


def _frame_document(frame: PlaybackFrame) -> dict[str, Any]:
    return {
        "file": frame.path.name,
        "points": frame.points,
        "visible_fraction": frame.visible_fraction,
        "T_camera_model": frame.T_camera_model.ravel().tolist(),
        "T_camera_levels": {level: T.ravel().tolist() for level, T in frame.T_camera_levels.items()},
    }


def _frame(folder: Path, entry: dict[str, Any]) -> PlaybackFrame:
    levels = {level: _matrix(numbers) for level, numbers in entry["T_camera_levels"].items()}
    return PlaybackFrame(
        folder / entry["file"],
        int(entry["points"]),
        _matrix(entry["T_camera_model"]),
        levels,
        float(entry["visible_fraction"]),
    )


def _matrix(numbers: list[float]) -> Array:
    return np.array(numbers, dtype=np.float64).reshape(4, 4)
