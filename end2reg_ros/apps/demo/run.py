"""One run of camera, tracker and listener as separate processes over DDS; the demo and the benchmark both use it."""

from __future__ import annotations

import importlib.util
import json
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from end2reg_ros.apps.demo.processes import (
    Child,
    DemoError,
    NodeSpec,
    exit_text,
    interrupts_held_back,
    nodes_environment,
    stop_all,
    terminate_as_interrupt,
    wait_until,
)
from end2reg_ros.apps.demo.record import Usage
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.evaluation.frame_log import FrameRow, from_dict, latest
from end2reg_ros.names import SIMULATED_POINTS

START_SECONDS = 120.0  # a cold disk and a busy machine: loading Open3D alone can take 20 s
BUILD_SECONDS = 900.0  # the first start of all makes the engine; TensorRT needs minutes for its plans
SILENCE_SECONDS = 10.0

Method = Literal["end2reg", "icp", "ransac_icp"]
Start = Literal["auto", "none", "landmarks"]


@dataclass(frozen=True)
class RunSettings:
    """What is run.

    Attributes:
        case: folder.
        logs: an existing folder for what the processes write.
        duration: seconds.
        rate: Hz.
        start: none sends no initial_pose; landmarks one from simulated picks; auto none to the learned method, which finds
            the spine by itself, and landmarks to the others.
        engine, threads: of the network.
    """

    case: Path
    logs: Path
    duration: float = 20.0
    seed: int = 0
    scenario: str = "demo"
    rate: float = 15.0
    method: str = "icp"
    start: Start = "auto"
    engine: str = "auto"
    threads: int = 1

    def start_given(self) -> Literal["none", "landmarks"]:
        """The start that is used."""
        if self.start == "auto":
            return "none" if self.method == "end2reg" else "landmarks"
        return self.start


@dataclass
class RunRecord:
    """What was heard. ``faults``: what went wrong with the processes, one sentence each; empty after a clean run."""

    rows: list[FrameRow] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Usage] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class Watcher(Protocol):
    """Told what happens while it happens."""

    def phase(self, text: str) -> None:
        """A new step of the start or the end."""

    def live(self, record: RunRecord, elapsed: float) -> None:
        """Called about five times a second while tracking; ``elapsed`` in seconds."""


class Silent:
    """A watcher that shows nothing."""

    def phase(self, text: str) -> None:
        """Nothing."""

    def live(self, record: RunRecord, elapsed: float) -> None:
        """Nothing."""


def check_installation() -> None:
    """Raise ``DemoError`` with one line when ROS 2 or our messages are missing."""
    missing = [name for name in ("rclpy", "tf2_msgs.msg", "end2reg_ros.msg") if not _importable(name)]
    if missing:
        raise DemoError(
            f"ROS 2 is not complete here: no {', '.join(missing)}; run `make setup` (or source your ROS 2 workspace)"
        )


def default_case() -> Path:
    """The case that comes with the package."""
    return bundled_case_path()


def run_nodes(settings: RunSettings, watcher: Watcher) -> RunRecord:
    """Start the three nodes, listen for ``duration`` seconds of tracking, stop them.

    Raises:
        DemoError: a node failed to start or nothing was heard in time.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP; the nodes are stopped by then.
    """
    environment = nodes_environment()
    camera, tracker, listener = node_specs(settings)
    children: list[Child] = []
    record = RunRecord()
    failed = True
    with terminate_as_interrupt():
        try:
            learned = settings.method == "end2reg"
            network = " and the network (the first start makes its engine)" if learned else ""
            watcher.phase(f"starting the tracker: loading the case{network}, warming up")
            _start(children, listener, environment)
            ear = _Ear(children[0])
            _start(children, tracker, environment)
            seconds = BUILD_SECONDS if learned else START_SECONDS
            _wait(children, ear, record, lambda: bool(record.status), "the tracker's status", seconds)
            watcher.phase("starting the simulated camera: opening the wound, rendering the first cloud")
            _start(children, camera, environment)
            _wait(children, ear, record, lambda: bool(record.rows), "a cloud")
            _listen(children, ear, record, settings, watcher)
            failed = False
        finally:
            # The listener last: it hears everything the others still send.
            codes = stop_all(children[1:][::-1] + children[:1], lambda: watcher.phase("stopping the nodes"))
            if children:
                ear.join()
                ear.drain(record)
    if not failed:
        record.usage = {child.spec.name: child.usage() for child in children[1:]}
        record.faults += [
            f"the {name} ended with {exit_text(code)}" for name, code in codes.items() if code != 0
        ]
    return record


def node_specs(settings: RunSettings) -> tuple[NodeSpec, NodeSpec, NodeSpec]:
    """Camera, tracker, listener."""
    case = str(settings.case.resolve())
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
        settings.logs,
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
        settings.logs,
        {"points": SIMULATED_POINTS},
    )
    listener = NodeSpec("listener", "end2reg_ros.ros.listener_main", {"case": case}, settings.logs, pipe=True)
    return camera, tracker, listener


class _Ear:
    """Reads the listener's lines in a thread, and keeps them in ``poses.jsonl``."""

    def __init__(self, listener: Child) -> None:
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stream = listener.process.stdout
        self._log = listener.spec.logs.parent / "poses.jsonl"
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def drain(self, record: RunRecord) -> int:
        """Put what was heard since into the record; returns the number of new rows."""
        heard = []
        while not self._lines.empty():
            data = json.loads(self._lines.get())
            if data["kind"] == "frame":
                heard.append(from_dict(data))
            elif data["kind"] == "status":
                record.status = data
        if heard:
            record.rows = latest([*record.rows, *heard])
        return len(heard)

    def join(self) -> None:
        """Wait for the end of the listener's output."""
        self._thread.join(timeout=2.0)

    def _read(self) -> None:
        assert self._stream is not None
        with self._log.open("w") as log:
            for raw in self._stream:
                line = raw.decode()
                if not line.startswith("{"):
                    continue
                if '"kind":"frame"' in line:
                    log.write(line)
                    log.flush()
                self._lines.put(line)


def _start(children: list[Child], spec: NodeSpec, environment: dict[str, str]) -> None:
    with interrupts_held_back():
        children.append(Child(spec, environment))


def _wait(
    children: list[Child],
    ear: _Ear,
    record: RunRecord,
    ready: Callable[[], bool],
    what: str,
    seconds: float = START_SECONDS,
) -> None:
    deadline = time.monotonic() + seconds
    while True:
        ear.drain(record)
        if ready():
            return
        for child in children:
            child.check()
        if not wait_until(deadline):
            logs = children[0].spec.logs
            raise DemoError(
                f"nothing was heard of {what} in {seconds:.0f} s; what the nodes said is in {logs}"
            )


def _listen(
    children: list[Child], ear: _Ear, record: RunRecord, settings: RunSettings, watcher: Watcher
) -> None:
    start = heard = sampled = time.monotonic()
    for child in children:
        child.forget_samples()
    while True:
        now = time.monotonic()
        if ear.drain(record):
            heard = now
        watcher.live(record, now - start)
        if now - start >= settings.duration:
            return
        for child in children:
            child.check()
        if now - heard > SILENCE_SECONDS:
            raise DemoError(f"no cloud was heard of for {SILENCE_SECONDS:.0f} s; see {settings.logs}")
        if now - sampled >= 1.0:
            sampled = now
            for child in children:
                child.sample()
        wait_until(start + settings.duration, 0.2)


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
