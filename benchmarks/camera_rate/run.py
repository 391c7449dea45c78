"""One run at camera rate: stored clouds from a process of their own, the real tracker node, and a light ear."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from benchmarks.camera_rate.log import RateRun, read_heard, read_sent
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
from end2reg_ros.apps.demo.run import BUILD_SECONDS, START_SECONDS
from end2reg_ros.names import SIMULATED_POINTS

LAST_STATUS_S = 1.5  # the tracker repeats its status once a second: the last one knows of every cloud
WRITE_S = 60.0  # the ear decodes at the end


@dataclass(frozen=True)
class RateSettings:
    """What is run.

    Attributes:
        case, stream: folders of the case and of the sequence.
        logs: an existing folder for what the processes write.
        rate: Hz; ``duration``, ``settle``: seconds sent, and of these at the beginning that do not count.
        start: whether an initial_pose is sent.
        network_passes, engine, threads: of the tracker, see its parameters.
        reliability: of the tracker's subscription.
    """

    case: Path
    stream: Path
    logs: Path
    method: str = "end2reg"
    rate: float = 30.0
    duration: float = 60.0
    settle: float = 5.0
    start: bool = False
    network_passes: str = "auto"
    engine: str = "auto"
    threads: int = 1
    reliability: Literal["best_effort", "reliable"] = "best_effort"


@dataclass
class RateRecord:
    """What a run left behind.

    Attributes:
        usage: process -> its cost after the settling.
        faults: what went wrong with the processes, one sentence each.
        engine: of the tracker, as it says.
        machine_cpu_percent: of all processes of the machine together (100 is one core): what the others took is in it.
    """

    run: RateRun
    usage: dict[str, dict[str, float | None]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    engine: str = ""
    machine_cpu_percent: float | None = None


def node_specs(settings: RateSettings) -> dict[str, NodeSpec]:
    """Name -> ear, tracker, camera."""
    s = settings
    recorder = NodeSpec(
        "recorder",
        "benchmarks.camera_rate.pose_recorder",
        {"out": str((s.logs / "heard.jsonl").resolve())},
        s.logs,
        pipe=True,
    )
    tracker = NodeSpec(
        "tracker",
        "end2reg_ros.ros.tracker_main",
        {
            "case": str(s.case.resolve()),
            "method": s.method,
            "engine": s.engine,
            "engine_threads": s.threads,
            "network_passes": s.network_passes,
            "input_reliability": s.reliability,
        },
        s.logs,
        {"points": SIMULATED_POINTS},
    )
    camera = NodeSpec(
        "camera",
        "benchmarks.camera_rate.playback_camera",
        {
            "stream": str(s.stream.resolve()),
            "rate": float(s.rate),
            "duration": float(s.duration),
            "send_start": s.start,
            "log": str((s.logs / "sent.txt").resolve()),
        },
        s.logs,
        pipe=True,
    )
    return {spec.name: spec for spec in (recorder, tracker, camera)}


class Lines:
    """The JSON lines that a child prints, read in a thread."""

    def __init__(self, child: Child) -> None:
        self._stream = child.process.stdout
        self._queue: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def take(self, kind: str) -> dict[str, Any] | None:
        """The next line of that kind, if it came; lines of other kinds before it are passed over."""
        while not self._queue.empty():
            line = self._queue.get()
            if line["kind"] == kind:
                return line
        return None

    def _read(self) -> None:
        assert self._stream is not None
        for raw in self._stream:
            if raw.startswith(b"{"):
                self._queue.put(json.loads(raw))


def run_at_rate(settings: RateSettings, say: Callable[[str], None] = lambda text: None) -> RateRecord:
    """Start ear, tracker and camera, in this order, let the camera play, stop them.

    Raises:
        DemoError: a process failed to start or ended early, or the camera said nothing in time.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP; the processes are stopped by then.
    """
    environment, specs = nodes_environment(), node_specs(settings)
    children: list[Child] = []
    done: dict[str, Any] = {}
    machine: float | None = None

    def start(name: str) -> Child:
        with interrupts_held_back():
            children.append(Child(specs[name], environment))
        return children[-1]

    with terminate_as_interrupt():
        try:
            say("starting the tracker")
            ear = Lines(start("recorder"))
            _await(children, ear, "listening", START_SECONDS)
            start("tracker")
            learned = settings.method == "end2reg"
            _await(children, ear, "heard", BUILD_SECONDS if learned else START_SECONDS)
            camera = Lines(start("camera"))
            _await(children, camera, "playing", START_SECONDS)
            say(f"playing {settings.duration:g} s at {settings.rate:g} Hz")
            done, machine = _play(children, camera, settings)
            time.sleep(LAST_STATUS_S)
        finally:
            recorder = children[:1]
            codes = stop_all(children[1:][::-1]) if children[1:] else {}
            codes |= {child.spec.name: child.stop(WRITE_S) for child in recorder}
    heard = read_heard(settings.logs / "heard.jsonl")
    run = RateRun(read_sent(settings.logs / "sent.txt"), heard, int(done["skipped"]), settings.settle)
    last: dict[str, Any] = next((line for line in reversed(heard) if line["kind"] == "status"), {})
    return RateRecord(
        run,
        {child.spec.name: asdict(child.usage()) for child in children},
        [f"the {name} ended with {exit_text(code)}" for name, code in codes.items() if code != 0],
        str(last.get("engine", "")),
        machine,
    )


def _await(children: list[Child], lines: Lines, kind: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while lines.take(kind) is None:
        for child in children:
            child.check()
        if not wait_until(deadline):
            names = ", ".join(child.spec.name for child in children)
            raise DemoError(
                f"'{kind}' was not heard in {seconds:.0f} s from {names}; what they said is in {children[0].spec.logs}"
            )


def _play(
    children: list[Child], camera: Lines, settings: RateSettings
) -> tuple[dict[str, Any], float | None]:
    """Sample the costs once a second after the settling, until the camera is done; its last word, and the machine's load."""
    began = sampled = time.monotonic()
    settled = False
    deadline = began + settings.duration + START_SECONDS
    while (done := camera.take("done")) is None:
        now = time.monotonic()
        if not settled and now - began >= settings.settle:
            settled, sampled = True, now
            psutil.cpu_percent()  # counts from here
            for child in children:
                child.forget_samples()
        elif settled and now - sampled >= 1.0:
            sampled = now
            for child in children:
                child.sample()
        for child in children:
            child.check()
        if not wait_until(deadline):
            raise DemoError(f"the camera did not end in time; see {settings.logs}")
    return done, psutil.cpu_percent() * (psutil.cpu_count() or 1) if settled else None
