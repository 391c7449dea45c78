"""Recordings written and read without ROS: topic choice, damage, the texts of the faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from end2reg_ros.cloud.recording import POINT_CLOUD, Recorded, Recording
from end2reg_ros.errors import CloudError

POINTS = np.random.default_rng(3).uniform(0.2, 0.8, (20, 3)).astype(np.float32)


def fault_of(function: Any, *arguments: Any) -> tuple[str, str]:
    with pytest.raises(CloudError) as caught:
        function(*arguments)
    return caught.value.code, str(caught.value)


def write_bag(folder: Path, topics: list[str]) -> None:
    from rosbags.rosbag2 import Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](1, 2), "cam")
    fields = [types["sensor_msgs/msg/PointField"](axis, 4 * i, 7, 1) for i, axis in enumerate("xyz")]
    data = POINTS.view(np.uint8).ravel()
    message = types[POINT_CLOUD](header, 1, 20, fields, False, 12, 240, data, True)
    with Writer(folder, version=9) as writer:
        for topic in topics:
            connection = writer.add_connection(topic, POINT_CLOUD, typestore=store)
            for k in range(3):
                writer.write(connection, 1000 + k, store.serialize_cdr(message, POINT_CLOUD))


def read_messages(path: Path, topic: str | None = None) -> list[Recorded]:
    with Recording(path) as recording:
        return list(recording.messages(recording.choose_topic(POINT_CLOUD, topic)))


def test_recording_picks_the_only_topic(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", ["/points"])
    messages = read_messages(tmp_path / "bag")
    assert [(m.topic, m.stamp_ns) for m in messages] == [
        ("/points", 1000),
        ("/points", 1001),
        ("/points", 1002),
    ]
    with Recording(tmp_path / "bag") as recording:
        assert recording.count("/points") == 3
        with pytest.raises(CloudError) as caught:
            recording.choose_topic(POINT_CLOUD, "/other")
    text = f"{tmp_path}/bag: no topic '/other' of type sensor_msgs/msg/PointCloud2 (there are: /points)"
    assert str(caught.value) == text


def test_recording_faults(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    assert fault_of(Recording, bag) == ("unreadable", f"{bag}: no such recording")
    assert fault_of(Recording, tmp_path) == ("unreadable", f"{tmp_path}: is not a rosbag2 (no metadata.yaml)")
    write_bag(bag, ["/a", "/b"])
    text = f"{bag}: 2 topics of type sensor_msgs/msg/PointCloud2, name one of them: /a, /b"
    assert fault_of(read_messages, bag) == ("many_topics", text)
    text = (
        f"{bag}: no topic of type sensor_msgs/msg/Image (there are: /a [{POINT_CLOUD}], /b [{POINT_CLOUD}])"
    )
    with Recording(bag) as recording:
        assert fault_of(recording.choose_topic, "sensor_msgs/msg/Image") == ("no_topic", text)
    storage = next(p for p in bag.iterdir() if p.name != "metadata.yaml")
    storage.write_bytes(storage.read_bytes()[:700])
    code, text = fault_of(read_messages, bag, "/a")
    assert code == "unreadable" and text.startswith(f"{bag}: ") and "\n" not in text
    (bag / "metadata.yaml").write_text("{")
    assert fault_of(Recording, bag)[0] == "unreadable"
