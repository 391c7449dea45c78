"""One run of camera, tracker and listener as separate processes over DDS; the demo and the benchmark both use it."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from end2reg_ros.apps.demo.processes import DemoError, JsonLines, NodeGroup, NodeSpec, node_group, wait_until
from end2reg_ros.apps.demo.record import Usage
from end2reg_ros.apps.demo.settings import DemoSettings
from end2reg_ros.evaluation.rows import CloudRow, from_dict, latest, to_line
from end2reg_ros.names import SIMULATED_POINTS

START_SECONDS = 120.0  # a cold disk and a busy machine: loading Open3D alone can take 20 s
BUILD_SECONDS = 900.0  # the first start of all makes the engine; TensorRT needs minutes for its plans
SILENCE_SECONDS = 10.0


@dataclass
class RunRecord:
    """What was heard. ``faults``: what went wrong with the processes, one sentence each; empty after a clean run."""

    rows: list[CloudRow] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Usage] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class Watcher:
    """Told what happens while it happens; this one shows nothing."""

    def phase(self, text: str) -> None:
        """A new step of the start or the end."""

    def live(self, record: RunRecord, elapsed: float) -> None:
        """Called about five times a second while tracking; ``elapsed`` in seconds."""


def check_installation() -> None:
    """Raise ``DemoError`` with one line when ROS 2 or our messages are missing."""
    missing = [name for name in ("rclpy", "tf2_msgs.msg", "end2reg_ros.msg") if not _importable(name)]
    if missing:
        raise DemoError(
            f"ROS 2 is not complete here: no {', '.join(missing)}; run `make setup` (or source your ROS 2 workspace)"
        )


def run_nodes(settings: DemoSettings, logs: Path, watcher: Watcher) -> RunRecord:
    """Start the three nodes, listen for ``duration`` seconds of tracking, stop them.

    Args:
        logs: an existing folder for what the processes write; what was heard goes into poses.jsonl beside it.

    Raises:
        DemoError: a node failed to start or nothing was heard in time.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP; the nodes are stopped by then.
    """
    camera, tracker, listener = node_specs(settings, logs)
    learned = settings.method == "end2reg"
    network = " and the network (the first start makes its engine)" if learned else ""
    with (
        _Ear(logs.parent / "poses.jsonl") as ear,
        node_group(lambda: watcher.phase("stopping the nodes")) as group,
    ):
        watcher.phase(f"starting the tracker: loading the case{network}, warming up")
        ear.lines = JsonLines(group.start(listener))
        group.start(tracker)
        seconds = BUILD_SECONDS if learned else START_SECONDS
        group.wait(lambda: bool(ear.drain().status), "the tracker's status", seconds)
        watcher.phase("starting the simulated camera: opening the wound, rendering the first cloud")
        group.start(camera)
        group.wait(lambda: bool(ear.drain().rows), "a cloud", START_SECONDS)
        _listen(group, ear, settings.duration, watcher)
    record = ear.record
    record.usage = {child.spec.name: child.usage() for child in group.children[1:]}
    record.faults += group.faults()
    return record


def node_specs(settings: DemoSettings, logs: Path) -> tuple[NodeSpec, NodeSpec, NodeSpec]:
    """Camera, tracker, listener."""
    case = str(settings.case_folder().resolve())
    camera = NodeSpec(
        "camera",
        "end2reg_ros.ros.simulated_camera_main",
        {
            "case": case,
            "seed": settings.seed,
            "scenario": settings.scenario,
            "rate": float(settings.rate),
            "duration": 0.0,  # endless: the demo ends it
            "truth_wait": 10.0,  # else the first poses may be heard before their truth can be
            "simulate_picks": settings.start_given() == "landmarks",
        },
        logs,
    )
    tracker = NodeSpec(
        "tracker",
        "end2reg_ros.ros.tracker_main",
        {
            "case": case,
            "method": settings.method,
            "engine": settings.engine,
            "engine_threads": settings.threads,
        },
        logs,
        {"points": SIMULATED_POINTS},
    )
    listener = NodeSpec("listener", "end2reg_ros.ros.listener_main", {"case": case}, logs, pipe=True)
    return camera, tracker, listener


class _Ear:
    """Keeps what the listener hears in a record, and its frames in a file of JSON lines.

    Attributes:
        lines: of the listener, once it runs.
    """

    def __init__(self, log: Path) -> None:
        self.record = RunRecord()
        self.lines: JsonLines | None = None
        self._log = log.open("w")

    def __enter__(self) -> _Ear:
        return self

    def __exit__(self, *fault: object) -> None:
        """Take what the listener said until its end."""
        if self.lines is not None:
            self.lines.join()
            self.drain()
        self._log.close()

    def drain(self) -> RunRecord:
        """The record, with what was heard since."""
        new = []
        for _, data in self.lines.take() if self.lines is not None else ():
            if data["kind"] == "frame":
                new.append(from_dict(data))
                self._log.write(to_line(new[-1]) + "\n")
            elif data["kind"] == "status":
                self.record.status = data
        if new:
            self.record.rows = latest([*self.record.rows, *new])
            self._log.flush()
        return self.record


def _listen(group: NodeGroup, ear: _Ear, duration: float, watcher: Watcher) -> None:
    start = heard = time.monotonic()
    clouds = len(ear.record.rows)
    group.forget_samples()
    while (now := time.monotonic()) - start < duration:
        record = ear.drain()
        if len(record.rows) != clouds:
            clouds, heard = len(record.rows), now
        watcher.live(record, now - start)
        group.watch()
        if now - heard > SILENCE_SECONDS:
            logs = group.children[0].spec.logs
            raise DemoError(f"no cloud was heard of for {SILENCE_SECONDS:.0f} s; see {logs}")
        wait_until(start + duration, 0.2)
    watcher.live(ear.drain(), duration)


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
