"""What a reader must follow to understand one followed frame: ``python benchmarks/frame_path.py`` writes results/frame_path.json.

The node runs in this process, on ROS 2, in front of a simulated camera; one followed cloud is traced from DDS to TF and
status. Counted are calls of functions of the package: distinct files and functions, the lines of those files, changes from
folder to folder in the working thread (the modules at the package's root belong to no folder), and the deepest nesting.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import tyro

import end2reg_ros
from end2reg_ros.runtime import watchdog

PACKAGE = Path(end2reg_ros.__file__).parent
RESULTS = Path(__file__).resolve().parent / "results" / "frame_path.json"
WORKER = "tracker_worker"
FOLLOWED, TRACED = 5, 9
PATIENCE_S = 60.0
LONGEST_GAP_S = 10.0


@dataclass(frozen=True)
class FramePath:
    """Trace one followed frame of the node.

    Attributes:
        method: registration method.
        network_passes: every_frame, background or auto.
        most_frames: clouds that are shown at the most; after FOLLOWED followed ones TRACED are traced, and the one with
            the fewest calls counts.
        out: JSON file.
        show: print the files, and the calls of the working thread.
    """

    method: str = "end2reg"
    network_passes: str = "every_frame"
    most_frames: int = 60
    out: Path = RESULTS
    show: bool = False


@dataclass(frozen=True)
class Call:
    """One call of a function of the package: thread, file below the package, function, calls of the package around it."""

    thread: str
    file: str
    function: str
    depth: int


class Tracer:
    """A profile function for every thread that is started after it was set; writes down calls while it is on."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.is_on = False
        self._root = f"{PACKAGE}/"
        self._depths = threading.local()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if not self.is_on or event != "call" or not frame.f_code.co_filename.startswith(self._root):
            return
        name = frame.f_code.co_name
        if name.startswith("<"):  # a comprehension or a lambda reads as part of its function
            return
        depth, above = 0, frame.f_back
        while above is not None:
            code = above.f_code
            depth += code.co_filename.startswith(self._root) and not code.co_name.startswith("<")
            above = above.f_back
        file = frame.f_code.co_filename.removeprefix(self._root)
        self.calls.append(Call(threading.current_thread().name, file, name, depth + 1))


def figures(calls: list[Call]) -> dict[str, Any]:
    """The counts of one traced frame."""
    files = sorted({call.file for call in calls})
    working = [call for call in calls if call.thread == WORKER]
    folders = [call.file.split("/")[0] for call in working if "/" in call.file]
    return {
        "files": len(files),
        "lines": sum(len((PACKAGE / file).read_text().splitlines()) for file in files),
        "functions": len({(call.file, call.function) for call in calls}),
        "calls": len(calls),
        "files_of_the_working_thread": len({call.file for call in working}),
        "folder_switches": sum(one != other for one, other in pairwise(folders)),
        "depth": max(call.depth for call in working),
        "file_names": files,
    }


@contextmanager
def tracker_node(overrides: dict[str, Any]) -> Iterator[Any]:
    """The node, active, turning in a thread of its own."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter

    from end2reg_ros.ros.tracker_node import TrackerNode

    rclpy.init()
    node = TrackerNode(
        parameter_overrides=[Parameter(name, value=value) for name, value in overrides.items()]
    )
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    stop = threading.Event()

    def turn() -> None:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.05)

    spinning = threading.Thread(target=turn, name="executor")
    try:
        node.trigger_configure()
        time.sleep(1.2)  # others of the same name must have had time to be heard
        node.trigger_activate()
        spinning.start()
        yield node
    finally:
        stop.set()
        spinning.join(5.0)
        node.close()
        rclpy.shutdown()


def trace(settings: FramePath) -> list[Call]:
    """All calls of one followed frame."""
    from sensor_msgs.msg import PointCloud2, PointField

    tracer = Tracer()
    threading.setprofile(tracer)
    clouds = camera(settings.most_frames)
    heard: list[Any] = []
    overrides = {"method": settings.method, "network_passes": settings.network_passes, "autostart": False}
    # Tracing makes the node slow: the watchdog must not speak between two clouds, or the track is lost and searched for.
    overrides["watchdog_gap_s"] = watchdog.SHORTEST_GAP_S = LONGEST_GAP_S
    with tracker_node(overrides) as node:
        from end2reg_ros.msg import TrackingStatus

        camera_topic = node.create_publisher(PointCloud2, "points", 5)
        node.create_subscription(TrackingStatus, "status", heard.append, 20)

        def show(data: Any) -> bool:
            """Publish one cloud and wait until it has been judged; whether the spine is tracked in it."""
            cloud = PointCloud2(height=data.height, width=data.width, point_step=data.point_step)
            cloud.header.frame_id, stamp = data.header.frame_id, data.header.stamp
            cloud.header.stamp.sec, cloud.header.stamp.nanosec = stamp.sec, stamp.nanosec
            cloud.fields = [
                PointField(name=f.name, offset=f.offset, datatype=f.datatype, count=f.count)
                for f in data.fields
            ]
            cloud.row_step, cloud.is_dense, cloud.data = data.row_step, data.is_dense, data.data
            camera_topic.publish(cloud)
            wait_for(lambda: any(told.header.stamp == cloud.header.stamp for told in heard))
            return bool(heard[-1].state == TrackingStatus.TRACKING)

        followed, traced = 0, list[list[Call]]()
        while len(traced) < TRACED:
            if not clouds:
                raise TimeoutError("the spine is not found, or not followed")
            tracer.is_on = followed >= FOLLOWED
            followed = followed + 1 if show(clouds.pop(0)) else 0
            if tracer.is_on and followed:
                traced.append(tracer.calls)
            tracer.is_on, tracer.calls = False, []
    return min(traced, key=len)  # others were searched for anew, or had the node's timers in them


def camera(count: int) -> list[Any]:
    """Clouds as a driver's messages, stamped so far apart that tracing does not make the watchdog speak."""
    from end2reg_ros.case import load_case
    from end2reg_ros.case.bundled import bundled_case_path
    from end2reg_ros.simulation.camera.realsense import cloud_message, encode_realsense
    from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence

    sequence = SimulatedSequence(load_case(bundled_case_path()), SequenceSettings(seed=3, scenario="still"))
    began_ns = time.time_ns()

    seen = [sequence.frame(number / 30) for number in range(count)]
    return [
        cloud_message(
            encode_realsense(frame.points, frame.colours), "camera", began_ns + int(1e9 * frame.t_s)
        )
        for k, frame in enumerate(seen)
    ]


def wait_for(is_so: Callable[[], bool]) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it is not within a minute.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError("the node does not answer")
        time.sleep(0.005)


def main(settings: FramePath) -> int:
    """Trace, print and write."""
    calls = trace(settings)
    found = figures(calls)
    told = {
        "command": " ".join(sys.argv),
        "method": settings.method,
        "network_passes": settings.network_passes,
    }
    if settings.show:
        for call in calls:
            if call.thread == WORKER:
                print(f"{'  ' * call.depth}{call.file}:{call.function}")
        print("\n".join(found["file_names"]))
    print(", ".join(f"{name} {value}" for name, value in found.items() if name != "file_names"))
    settings.out.write_text(json.dumps({**told, **found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(FramePath, description=FramePath.__doc__)))
