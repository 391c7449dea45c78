"""rosbag2 recordings (mcap, sqlite3) read without ROS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from end2reg_ros.errors import CloudError
from end2reg_ros.reasons import Reason

POINT_CLOUD = "sensor_msgs/msg/PointCloud2"
IMAGE = "sensor_msgs/msg/Image"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"


@dataclass(frozen=True)
class Topic:
    """A topic of a recording; ``type`` as in ``sensor_msgs/msg/PointCloud2``."""

    name: str
    type: str
    count: int


class Recorded(NamedTuple):
    """One message; ``stamp_ns`` is when the recorder got it (the sensor's own stamp is in the header)."""

    topic: str
    stamp_ns: int
    message: Any


class Recording:
    """An open rosbag2; use it in a ``with``.

    Raises:
        CloudError: ``unreadable`` (no recording there, or a damaged one).
    """

    def __init__(self, path: Path) -> None:
        from rosbags.highlevel import AnyReader, AnyReaderError
        from rosbags.typesys import Stores, get_typestore

        self.path = path
        folder = path if path.is_dir() else path.parent
        if not path.exists():
            raise CloudError(Reason.UNREADABLE, f"{path}: no such recording")
        if path.is_dir() and not (folder / "metadata.yaml").is_file():
            raise CloudError(Reason.UNREADABLE, f"{path}: is not a rosbag2 (no metadata.yaml)")
        try:
            # sqlite3 recordings do not carry their message types: Jazzy's are the fallback.
            self._reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY))
            self._reader.open()
        except (AnyReaderError, OSError, ValueError, KeyError, AssertionError) as error:
            raise CloudError(Reason.UNREADABLE, f"{path}: cannot be read ({_first_line(error)})") from error
        self.topics = tuple(
            Topic(name, info.msgtype or "", info.msgcount)
            for name, info in sorted(self._reader.topics.items())
        )

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    def choose_topic(self, message_type: str, wanted: str | None = None) -> str:
        """``wanted``, or the only topic of that type.

        Raises:
            CloudError: ``no_topic`` (none, or not the wanted one), ``many_topics``; both name the candidates.
        """
        candidates = [topic.name for topic in self.topics if topic.type == message_type]
        listed = ", ".join(candidates) or "none"
        if wanted is not None:
            if wanted not in candidates:
                text = f"{self.path}: no topic '{wanted}' of type {message_type} (there are: {listed})"
                raise CloudError(Reason.NO_TOPIC, text)
            return wanted
        if not candidates:
            others = ", ".join(f"{topic.name} [{topic.type}]" for topic in self.topics) or "no topics at all"
            raise CloudError(
                Reason.NO_TOPIC, f"{self.path}: no topic of type {message_type} (there are: {others})"
            )
        if len(candidates) > 1:
            text = f"{self.path}: {len(candidates)} topics of type {message_type}, name one of them: {listed}"
            raise CloudError(Reason.MANY_TOPICS, text)
        return candidates[0]

    def count(self, *topics: str) -> int:
        """Messages on these topics."""
        return sum(topic.count for topic in self.topics if topic.name in topics)

    def messages(self, *topics: str) -> Iterator[Recorded]:
        """Messages of these topics (of all, when none is named) in the order of the recording.

        Raises:
            CloudError: ``unreadable`` when the recording is damaged further on.
        """
        chosen = [c for c in self._reader.connections if not topics or c.topic in topics]
        iterator = self._reader.messages(connections=chosen) if chosen else iter(())
        while True:
            try:
                connection, stamp_ns, raw = next(iterator)
                message = self._reader.deserialize(raw, connection.msgtype)
            except StopIteration:
                return
            except Exception as error:  # whatever a damaged file makes rosbags raise
                raise CloudError(
                    Reason.UNREADABLE, f"{self.path}: is damaged ({_first_line(error)})"
                ) from error
            yield Recorded(connection.topic, stamp_ns, message)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
