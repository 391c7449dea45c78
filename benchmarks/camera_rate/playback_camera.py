"""A camera that renders nothing: sends stored clouds under fresh stamps, at a rate that it keeps to.

``python -m benchmarks.camera_rate.playback_camera --ros-args -p stream:=FOLDER -p rate:=30.0 -p duration:=60.0 -p log:=FILE``;
the folder is one of ``benchmarks.camera_rate.stream``. It plays forwards and backwards, so that nothing jumps, and begins when
somebody listens. Lines on standard output: ``{"kind": "playing"}`` with the first cloud, ``{"kind": "done", "sent": ...,
"skipped": ...}`` after the last; then it stays until it is stopped, because what it sent last lives as long as it does.
``log`` gets one line ``number stamp_ns send_ms`` for every cloud sent: with the stored truth these judge the poses.
"""

from __future__ import annotations

import array
import json
import queue
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2, PointField

from benchmarks.camera_rate.log import SentCloud, write_sent
from benchmarks.camera_rate.stream import Playback, read_playback
from end2reg_ros.names import CAMERA_FRAME, SIMULATED_POINTS
from end2reg_ros.ros import qos
from end2reg_ros.ros.conversions import header, pose_with_covariance_stamped
from end2reg_ros.ros.parameters import START, declare, parameter
from end2reg_ros.ros.process import NodeApplication, leave, run
from end2reg_ros.simulation.camera.realsense import FIELDS, FLOAT32, POINT_STEP

READ_AHEAD = 4  # clouds
DISCOVERY_S = 0.5  # both sides must know of each other: the writer learns first
STOP_S = 1.5


@dataclass(frozen=True)
class PlaybackParameters:
    """Everything that can be set on the ``playback_camera`` node; all of it is fixed at start."""

    stream: str = parameter("", "Folder of the stored sequence.", when=START)
    rate: float = parameter(30.0, "Clouds a second.", minimum=0.1, maximum=120.0, when=START)
    duration: float = parameter(
        10.0, "Sends for this long, seconds.", minimum=0.0, maximum=86_400.0, when=START
    )
    send_start: bool = parameter(
        False, "Send an initial_pose from picked landmarks before the first cloud.", when=START
    )
    listener_wait: float = parameter(
        60.0, "Waits this long for somebody to listen, seconds.", minimum=0.0, maximum=3600.0, when=START
    )
    log: str = parameter("", "File that tells which frame went out under which stamp.", when=START)


@dataclass(frozen=True)
class ReadFrame:
    """A cloud that waits to be sent: when, which one, its points and their bytes."""

    tick: int
    number: int
    points: int
    data: array.array[int]


def read_ahead(
    playback: Playback, rate_hz: float, ticks: int, stop: threading.Event, depth: int = READ_AHEAD
) -> Iterator[ReadFrame]:
    """The clouds to send, read from disk in a thread that is ``depth`` clouds ahead.

    Raises:
        PlaybackError, OSError: a cloud that cannot be read; told to the caller, in order.
    """
    waiting: queue.Queue[ReadFrame | Exception | None] = queue.Queue(depth)

    def put(item: ReadFrame | Exception | None) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            for tick in range(ticks):
                number = playback.number_at(tick / rate_hz)
                frame = playback.frames[number]
                if not put(ReadFrame(tick, number, frame.points, frame.data(tick))):
                    return
            put(None)
        except Exception as fault:
            put(fault)

    threading.Thread(target=read, name="reader", daemon=True).start()
    while not stop.is_set():
        try:
            item = waiting.get(timeout=0.1)
        except queue.Empty:
            continue
        if item is None:
            return
        if isinstance(item, Exception):
            raise item
        yield item


class PlaybackCamera(Node):
    """Sends in a thread of its own."""

    def __init__(self) -> None:
        super().__init__("playback_camera")
        self.exit_code: int | None = None
        self.parameters = p = declare(self, PlaybackParameters)
        self._playback = read_playback(Path(p.stream))
        self._cloud = self.create_publisher(PointCloud2, SIMULATED_POINTS, qos.result())
        self._pose = self.create_publisher(PoseWithCovarianceStamped, "initial_pose", qos.prior())
        self._fields = [
            PointField(name=name, offset=offset, datatype=FLOAT32, count=1) for name, offset in FIELDS.items()
        ]
        self._sent: list[SentCloud] = []
        self._skipped = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def _run(self) -> None:
        try:
            if self._wait_for_listener():
                self._play()
        except Exception as fault:  # ends the process with a line instead of leaving a silent camera
            self.get_logger().error(f"cannot play: {type(fault).__name__}: {fault}")
            self.exit_code = 1

    def _wait_for_listener(self) -> bool:
        p = self.parameters
        wanted = [self._cloud, *([self._pose] if p.send_start else [])]
        until = monotonic() + p.listener_wait
        while not all(publisher.get_subscription_count() for publisher in wanted):
            if monotonic() > until:
                self.get_logger().error(f"nobody listens to the clouds after {p.listener_wait:g} s")
                self.exit_code = 1
                return False
            if self._stop.wait(0.05):
                return False
        return not self._stop.wait(DISCOVERY_S)

    def _play(self) -> None:
        p = self.parameters
        if p.send_start:
            start = pose_with_covariance_stamped(
                CAMERA_FRAME, self._now_ns(), self._playback.T_start, np.zeros((6, 6))
            )
            self._pose.publish(start)
        frames = read_ahead(self._playback, p.rate, round(p.duration * p.rate), self._stop)
        began: float | None = None
        for frame in frames:
            if began is None:
                began = monotonic()
                print(json.dumps({"kind": "playing"}), flush=True)
            due = began + frame.tick / p.rate
            if monotonic() - due > 1.0 / p.rate:
                self._skipped += 1  # as a camera: a frame that could not go out in time does not go out
                continue
            self._stop.wait(max(0.0, due - monotonic()))
            self._send(frame)
        self._tell_end()

    def _send(self, frame: ReadFrame) -> None:
        stamp_ns = self._now_ns()
        size = frame.points * POINT_STEP
        message = PointCloud2(
            header=header(CAMERA_FRAME, stamp_ns),
            height=1,
            width=frame.points,
            fields=self._fields,
            is_bigendian=False,
            point_step=POINT_STEP,
            row_step=size,
            data=frame.data,
            is_dense=True,
        )
        self._cloud.publish(message)
        self._sent.append(SentCloud(frame.number, stamp_ns, 1e-6 * (self._now_ns() - stamp_ns)))

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _tell_end(self) -> None:
        if self.parameters.log:
            write_sent(Path(self.parameters.log), self._sent)
        print(json.dumps({"kind": "done", "sent": len(self._sent), "skipped": self._skipped}), flush=True)


def main() -> int:
    """Play until SIGINT or SIGTERM; 0 after a clean end."""
    return leave(run(lambda: NodeApplication(PlaybackCamera())))


if __name__ == "__main__":
    sys.exit(main())
