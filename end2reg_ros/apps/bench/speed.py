"""``end2reg bench``: the node's path from a message's bytes to a pose, without ROS, for several methods in one run."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from end2reg_ros.apps.bench import worker
from end2reg_ros.apps.bench.figures import starts_document, stream_document
from end2reg_ros.apps.bench.input import StoredStream, StreamPlan, render_stream, stored_hash
from end2reg_ros.apps.bench.methods import MethodSpec
from end2reg_ros.apps.bench.process import MethodProcess, SetUp, Work
from end2reg_ros.apps.bench.scaling import ScalingPlan, cloud_sizes, render_sizes, thread_counts
from end2reg_ros.apps.bench.turns import start_in_turns, stream_in_turns
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.case.model import Case
from end2reg_ros.case.store import load_case
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation import host
from end2reg_ros.evaluation.metrics import targets_from_case
from end2reg_ros.evaluation.tables import finite

PUBLISH = {
    "ms": 0.0,
    "why": "taken as 0: nothing is published without ROS; `end2reg bench demo` measures the node with it",
}


@dataclass(frozen=True)
class SpeedSettings:
    """What is run.

    Attributes:
        methods: each in a process of its own.
        plan: the moving sequence.
        scaling: cloud sizes; None for none.
        threads: numbers of threads and of cores that are compared; none for none.
        block: frames that a method does before the next one's turn.
        paced: the stream's frames come at its rate; else as fast as each method takes them.
        repeats: of the parts inside the network.
        work: what a method's process runs.
    """

    methods: tuple[MethodSpec, ...]
    plan: StreamPlan = field(default_factory=StreamPlan)
    scaling: ScalingPlan | None = field(default_factory=ScalingPlan)
    threads: tuple[int, ...] = (1, 2)
    block: int = 10
    paced: bool = True
    repeats: int = 15
    work: Work = worker.work


@dataclass
class Ready:
    """A method that runs, and how it came up; ``gpu_mb``: what its set-up took of the GPU's memory, None without one."""

    process: MethodProcess
    up: SetUp
    gpu_mb: float | None


def bench(path: Path | None, settings: SpeedSettings, out: Path | None, print_json: bool) -> int:
    """Measure, print the tables or the JSON; returns 0 for a good result (``is_good``), else 1.

    Args:
        path: case folder; None for the bundled case.
        out: folder for bench.json, bench.md and the pictures; None for none.

    Raises:
        End2RegError: as ``run_speed``; a case that cannot be read.
    """
    from rich.console import Console

    from end2reg_ros.apps.bench.plots import write_speed_plots
    from end2reg_ros.apps.bench.tables import markdown

    console, began = Console(stderr=True), time.monotonic()

    def tell(text: str) -> None:
        console.print(f"bench, {time.monotonic() - began:.0f} s: {text}", highlight=False)

    found = run_speed(load_case(path or bundled_case_path()), settings, tell)
    document = {"command": shlex.join(["end2reg", *sys.argv[1:]]), **found}
    text, tables = json.dumps(document, indent=1) + "\n", markdown(document)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "bench.json").write_text(text, encoding="utf-8")
        (out / "bench.md").write_text(tables, encoding="utf-8")
        write_speed_plots(out, document)
    print(text if print_json else tables, end="")
    return 0 if is_good(document) else 1


def is_good(document: dict[str, Any]) -> bool:
    """Whether every measured method published poses, none of them in TRACKING and wrong."""
    return all(m["poses"] > 0 and m["accuracy"]["wrong_in_tracking"] == 0 for m in document["methods"])


def run_speed(case: Case, settings: SpeedSettings, tell: Callable[[str], None]) -> dict[str, Any]:
    """Measure; the result as plain numbers, ready for JSON (unknown figures as null).

    Raises:
        End2RegError: none of the methods can be run here, or one of them failed on the way.
    """
    load = [os.getloadavg()[0]]
    with SpeedRun(case, settings, tell) as run:
        ready, absent = run.start(settings.methods)
        if not ready:
            whys = "; ".join(f"{row['label']}: {row['why']}" for row in absent)
            raise End2RegError(f"none of the methods can be run: {whys}")
        tell("rendering the sequence")
        (run.folder / "stream").mkdir()
        stream = render_stream(case, settings.plan, run.folder / "stream")
        methods = run.measure(ready, stream)
        streams, cloud, threads = [stream], [], []
        if settings.scaling is not None and settings.scaling.points:
            tell("cloud sizes")
            sized = render_sizes(case, stream, settings.scaling, run.folder)
            cloud = cloud_sizes([one.process for one in ready], sized)
            streams += sized
        for one, row in zip(ready, methods, strict=True):
            row["memory"] |= {"after_all_sizes": asdict(one.process.memory())}
        if settings.threads:
            tell("threads")
            for one in ready:
                one.process.close()
            threads = run.threads(ready, stream)
    load.append(os.getloadavg()[0])
    figures = {"methods": methods, "absent": absent, "scaling": {"cloud": cloud, "threads": threads}}
    return document(case, settings, streams, figures, load)


class SpeedRun:
    """The processes of a measurement, and a folder for their inputs; both are gone when the block is left."""

    def __init__(self, case: Case, settings: SpeedSettings, tell: Callable[[str], None]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="end2reg_bench_"))
        self._case, self._settings, self._tell = case, settings, tell
        self._stack = ExitStack()
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def __enter__(self) -> SpeedRun:
        return self

    def __exit__(self, *fault: object) -> None:
        self._stack.close()

    def start(self, specs: Sequence[MethodSpec]) -> tuple[list[Ready], list[dict[str, str]]]:
        """Set up one method after the other; those that cannot be run here, with the reason."""
        ready, absent = [], []
        for number, spec in enumerate(specs):
            self._tell(f"setting up {spec.label}")
            before = host.gpu_memory_mb()
            log = self.folder / f"{number}_{spec.method}_{spec.threads}_{spec.cores}.log"
            process = MethodProcess(spec, log, self._settings.work)
            self._stack.callback(process.close)
            try:
                up = process.set_up(self._case.path)
            except End2RegError as fault:
                process.close()
                absent.append({"label": spec.label, "why": str(fault)})
                continue
            after = host.gpu_memory_mb()
            gpu_mb = None if before is None or after is None else max(0.0, after - before)
            ready.append(Ready(process, up, gpu_mb))
        return ready, absent

    def measure(self, ready: Sequence[Ready], stream: StoredStream) -> list[dict[str, Any]]:
        """The stream and the starts from nothing, in turns; then each method's memory and the parts of its network."""
        processes, settings = [one.process for one in ready], self._settings
        targets = targets_from_case(self._case)
        self._tell(f"{len(stream.frames)} frames")
        rows = stream_in_turns(processes, stream, settings.block, settings.paced)
        memories = [process.memory() for process in processes]
        self._tell(f"{len(stream.views)} starts from nothing")
        starts = start_in_turns(processes, stream.views)
        return [
            {
                **spec_document(one.process.spec),
                "engine": one.up.engine,
                "set_up_s": {"load": one.up.load_s, "warm_up": one.up.warm_up_s},
                **stream_document(rows[one.process.spec], stream.frames, targets),
                "from_nothing": starts_document(starts[one.process.spec], stream.views, targets),
                "network_parts_ms": one.process.network_parts(stream.frames[0], settings.repeats),
                "memory": {
                    "packages_mb": one.up.packages_mb,
                    **asdict(following),
                    "after_starts": asdict(one.process.memory()),
                    "gpu_mb": one.gpu_mb,
                },
            }
            for one, following in zip(ready, memories, strict=True)
        ]

    def threads(self, ready: Sequence[Ready], stream: StoredStream) -> list[dict[str, Any]]:
        """Every method once with each number of threads on as many cores or more, all in turns on a part of the stream."""
        settings = self._settings
        counts = [(n, cores) for cores in settings.threads for n in settings.threads if n <= cores]
        specs = [replace(one.process.spec, threads=n, cores=cores) for one in ready for n, cores in counts]
        several, _ = self.start(specs)
        count = settings.scaling.frames if settings.scaling is not None else len(stream.frames)
        part = replace(stream, frames=stream.frames[: max(count, settings.block)])
        return thread_counts([one.process for one in several], part, settings.block, settings.paced)


def spec_document(spec: MethodSpec) -> dict[str, Any]:
    """How a method was run."""
    return {
        "label": spec.label,
        "name": spec.name,
        "method": spec.method,
        "threads": spec.threads,
        "cores": spec.cores,
        "passes": spec.settings().network_passes if spec.engine else None,
    }


def document(
    case: Case,
    settings: SpeedSettings,
    streams: Sequence[StoredStream],
    figures: dict[str, Any],
    load: Sequence[float],
) -> dict[str, Any]:
    """The whole document."""
    stream, sensor = streams[0], settings.plan.sensor
    plain = {
        "environment": {**host.environment(), "load_average": list(load), "gpu": host.gpu_name()},
        "case": {"name": case.name, "hash": case.hash, "levels": list(case.levels)},
        "input": {
            "image": f"{sensor.width}x{sensor.height}",
            "sensor": sensor.name,
            "scenario": settings.plan.scenario,
            "seed": settings.plan.seed,
            "rate_hz": settings.plan.rate_hz,
            "frames": len(stream.frames),
            "views": len(stream.views),
            "points": stream.points,
            "sha256": stored_hash(streams),
        },
        "turns": {"block": settings.block, "paced": settings.paced},
        "publish": PUBLISH,
        **figures,
    }
    cleaned: dict[str, Any] = finite(plain)
    return cleaned
