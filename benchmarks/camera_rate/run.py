"""One run at camera rate: stored clouds from a process of their own, the real tracker node, and a light ear."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from benchmarks.camera_rate.log import RateRun, read_heard, read_sent
from end2reg_ros.apps.demo.processes import (
    DemoError,
    JsonLines,
    NodeGroup,
    NodeSpec,
    node_group,
    stop_all,
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


def run_at_rate(settings: RateSettings, say: Callable[[str], None] = lambda text: None) -> RateRecord:
    """Start ear, tracker and camera, in this order, let the camera play, stop them.

    Raises:
        DemoError: a process failed to start or ended early, or the camera said nothing in time.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP; the processes are stopped by then.
    """
    specs = node_specs(settings)
    seconds = BUILD_SECONDS if settings.method == "end2reg" else START_SECONDS
    with node_group() as group:
        say("starting the tracker")
        recorder = group.start(specs["recorder"])
        ear = JsonLines(recorder)
        group.wait(lambda: _said(ear, "listening") is not None, "the recorder", START_SECONDS)
        group.start(specs["tracker"])
        group.wait(lambda: _said(ear, "heard") is not None, "the tracker's status", seconds)
        camera = JsonLines(group.start(specs["camera"]))
        group.wait(lambda: _said(camera, "playing") is not None, "the camera", START_SECONDS)
        say(f"playing {settings.duration:g} s at {settings.rate:g} Hz")
        done, machine = _play(group, camera, settings)
        time.sleep(LAST_STATUS_S)
        # The recorder ends last, and decodes then: it gets the time for it.
        stop_all(group.children[:0:-1])
        recorder.stop(WRITE_S)
    heard = read_heard(settings.logs / "heard.jsonl")
    run = RateRun(read_sent(settings.logs / "sent.txt"), heard, int(done["skipped"]), settings.settle)
    last: dict[str, Any] = next((line for line in reversed(heard) if line["kind"] == "status"), {})
    return RateRecord(
        run,
        {child.spec.name: asdict(child.usage()) for child in group.children},
        group.faults(),
        str(last.get("engine", "")),
        machine,
    )


def _said(lines: JsonLines, kind: str) -> dict[str, Any] | None:
    """The line of that kind, if it came; others are passed over."""
    return next((line for _, line in lines.take() if line["kind"] == kind), None)


def _play(group: NodeGroup, camera: JsonLines, settings: RateSettings) -> tuple[dict[str, Any], float | None]:
    """Sample the costs once a second after the settling, until the camera is done; its last word, and the machine's load."""
    began = time.monotonic()
    settled = False
    deadline = began + settings.duration + START_SECONDS
    while (done := _said(camera, "done")) is None:
        if settled:
            group.watch()
        elif time.monotonic() - began >= settings.settle:
            settled = True
            psutil.cpu_percent()  # counts from here
            group.forget_samples()
        group.check()
        if not wait_until(deadline):
            raise DemoError(f"the camera did not end in time; see {settings.logs}")
    return done, psutil.cpu_percent() * (psutil.cpu_count() or 1) if settled else None
