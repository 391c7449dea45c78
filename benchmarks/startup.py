"""How long the tracker takes to start, and the memory it holds: `python benchmarks/startup.py` writes results/startup.json.

From the start of the process until the node says that it is active, and until a listener, there before, hears so over
ROS 2; with nothing kept from an earlier start, and with the case kept, by turns. Then a while in front of the simulated
camera, for the memory at work. Exit code 1 when a start with the case kept takes more than 3 s, or the node more than
700 MB; on a machine with other work on all its cores the former says little: see the load of each start.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import tyro

from benchmarks.documents import made_with, write_document
from end2reg_ros.apps.demo.processes import (
    Child,
    DemoError,
    JsonLines,
    NodeSpec,
    nodes_environment,
    stop_all,
    wait_until,
)
from end2reg_ros.apps.demo.run import Watcher, check_installation, run_nodes
from end2reg_ros.apps.demo.settings import DemoSettings, Method
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.case.store import load_case
from end2reg_ros.evaluation.tables import number, table_of
from end2reg_ros.reasons import Reason

RESULTS = Path(__file__).resolve().parent / "results" / "startup.json"
LIMIT_S, LIMIT_MB = 3.0, 700.0
PATIENCE_S = 120.0
EMPTY, KEPT = "nothing kept", "case kept"
MEMORY = {"rss": "VmRSS", "highest": "VmHWM", "own": "RssAnon", "files": "RssFile", "shared": "RssShmem"}


@dataclass(frozen=True)
class Startup:
    """Measure the start.

    Attributes:
        case: case folder; default: the one that comes with the package.
        methods: registration methods.
        runs: starts of each kind.
        stream: seconds of tracking for the memory at work; 0: none.
        out: JSON file.
    """

    case: Path | None = None
    methods: tuple[Method, ...] = ("icp",)
    runs: int = 5
    stream: float = 15.0
    out: Path = RESULTS


@dataclass(frozen=True)
class StartTimes:
    """One start.

    Attributes:
        active_s: from the start of the process until the node's log says that it is active.
        heard_s: until the listener hears its status.
        cpu_s: of the process by then.
        memory_mb: by then: resident, highest so far, and the resident part that is its own, of files, and shared
            (Fast DDS's segment of 128 MiB, see config/fastdds.xml).
        load: of the machine, a minute's average before: with other work on all cores the time is not the node's.
    """

    method: str
    kind: str
    active_s: float
    heard_s: float
    cpu_s: float
    memory_mb: dict[str, float]
    load: float


class Ear:
    """A listener's process: when it heard what."""

    def __init__(self, case: Path, logs: Path, environment: dict[str, str]) -> None:
        module = "end2reg_ros.ros.listener_main"
        self.child = Child(NodeSpec("listener", module, {"case": str(case)}, logs, pipe=True), environment)
        self._lines = JsonLines(self.child)

    def when(self, kind: str, reasons: tuple[str | None, ...], child: Child) -> float:
        """When a line of a kind came with one of the reason codes, seconds since the epoch."""
        deadline = time.monotonic() + PATIENCE_S
        while wait_until(deadline, 0.02):
            child.check()
            for at, line in self._lines.take():
                if line["kind"] == kind and line.get("reason_code") in reasons:
                    return at
        raise DemoError(f"no {kind} was heard in {PATIENCE_S:.0f} s: {child.last_words()}")

    def forget(self) -> None:
        """Drop what was heard so far."""
        self._lines.take()


def memory_mb(pid: int) -> dict[str, float]:
    """What the kernel says of a process's memory."""
    text = Path(f"/proc/{pid}/status").read_text()
    kib = dict(re.findall(r"(\w+):\s+(\d+) kB", text))
    return {name: round(int(kib[field]) * 1.024e-3, 1) for name, field in MEMORY.items()}


def measure(
    method: str, kind: str, case: Path, logs: Path, environment: dict[str, str], ear: Ear
) -> StartTimes:
    """One start of the tracker, and its end."""
    ear.forget()
    spec = NodeSpec("tracker", "end2reg_ros.ros.tracker_main", {"case": str(case), "method": method}, logs)
    load, began = os.getloadavg()[0], time.time()
    child = Child(spec, environment)
    try:
        # A listener that finds the node late hears the latest status only, and that is of the silence.
        heard_s = ear.when("status", (Reason.WAITING, Reason.NO_CLOUD), child) - began
        spent = psutil.Process(child.process.pid).cpu_times()
        cpu_s = spent.user + spent.system
        memory, active_s = memory_mb(child.process.pid), logged(child) - began
        return StartTimes(method, kind, active_s, heard_s, cpu_s, memory, load)
    finally:
        child.stop()


def logged(child: Child) -> float:
    """When the node became active by its log, seconds since the epoch."""
    deadline = time.monotonic() + PATIENCE_S
    # The status may be heard a moment before the line is written.
    while wait_until(deadline, 0.02):
        line = re.search(r"\[(\d+\.\d+)\] \[tracker\]: active, waiting", child.log.read_text())
        if line is not None:
            return float(line[1])
    raise DemoError(f"the tracker's log does not say when it became active: {child.last_words()}")


def kept(logs: Path, method: str, number: int) -> str:
    """Cache folder that a run's first start fills and its second one finds."""
    return str(logs.parent / f"kept_{method}_{number}")


def starts(options: Startup, case: Path, logs: Path) -> list[StartTimes]:
    """All starts, methods and kinds by turns: what one start leaves, the next one finds."""
    environment = nodes_environment()
    found: list[StartTimes] = []
    ear = Ear(case, logs, environment)
    try:
        ear.when("listening", (None,), ear.child)
        for number in range(options.runs):
            for method in options.methods:
                here = environment | {"END2REG_CACHE": kept(logs, method, number)}
                for kind in (EMPTY, KEPT):
                    print(f"\r{number + 1} of {options.runs}: {method}, {kind}   ", end="", file=sys.stderr)
                    found.append(measure(method, kind, case, logs, here, ear))
        print(file=sys.stderr)
    finally:
        stop_all([ear.child])
    return found


def at_work(method: Method, case: Path, logs: Path, seconds: float, folder: str) -> dict[str, Any]:
    """Memory and processor in front of the simulated camera, the case kept in ``folder``."""
    os.environ["END2REG_CACHE"] = folder
    try:
        record = run_nodes(DemoSettings(case, seconds, method=method), logs, Watcher())
    except DemoError as fault:  # the starts are still worth knowing
        return {"method": method, "seconds": seconds, "poses": None, "rss_mb": None, "faults": [str(fault)]}
    usage = record.usage["tracker"]
    poses = record.status.get("poses_published")
    return {"method": method, "seconds": seconds, "poses": poses, "faults": record.faults, **asdict(usage)}


def summary(found: list[StartTimes]) -> list[dict[str, Any]]:
    """Medians of each method and kind."""
    rows = []
    for method, kind in dict.fromkeys((s.method, s.kind) for s in found):
        mine = [s for s in found if (s.method, s.kind) == (method, kind)]
        medians = {n: median(getattr(s, n) for s in mine) for n in ("load", "active_s", "heard_s", "cpu_s")}
        active = [s.active_s for s in mine]
        memory = {f"{name}_mb": median(s.memory_mb[name] for s in mine) for name in MEMORY}
        most = {"active_least_s": min(active), "active_most_s": max(active)}
        rows.append({"method": method, "kind": kind, "runs": len(mine), **medians, **most, **memory})
    return rows


def table(rows: list[dict[str, Any]], work: list[dict[str, Any]]) -> str:
    """Markdown: one row a method and kind, one line a method at work."""
    lines = table_of(
        [
            {
                "method": r["method"], "start": r["kind"],
                "active after s, median (least, most)":
                    f"{r['active_s']:.2f} ({r['active_least_s']:.2f}, {r['active_most_s']:.2f})",
                "heard": number(r["heard_s"]), "CPU s": number(r["cpu_s"]), "MB": number(r["rss_mb"], 0),
                "own / files / shared": " / ".join(number(r[f"{part}_mb"], 0) for part in ("own", "files", "shared")),
                "highest": number(r["highest_mb"], 0), "load": number(r["load"], 1),
            }
            for r in rows
        ]
    )  # fmt: skip
    for w in work:
        seen = "; ".join(w["faults"]) or f"{w['rss_mb']:.0f} MB, {w['poses']} poses"
        lines.append(f"\n{w['method']}, {w['seconds']:g} s at work: {seen}")
    return "\n".join(lines)


def main(options: Startup) -> int:
    """Measure; see the module's text for the exit code."""
    check_installation()
    case = load_case(options.case or bundled_case_path())
    about = made_with(case, options)
    with tempfile.TemporaryDirectory(prefix="end2reg_startup_") as place:
        logs = Path(place) / "logs"
        logs.mkdir()
        found = starts(options, case.path, logs)
        methods = options.methods if options.stream > 0 else ()
        last = options.runs - 1
        work = [at_work(m, case.path, logs, options.stream, kept(logs, m, last)) for m in methods]
    rows = summary(found)
    document = {
        **about,
        "summary": rows,
        "at_work": work,
        "starts": [asdict(start) for start in found],
    }
    write_document(options.out, document)
    print(table(rows, work))
    slow = any(r["kind"] == KEPT and r["active_s"] > LIMIT_S for r in rows)
    return int(slow or any(r["rss_mb"] is None or r["rss_mb"] > LIMIT_MB for r in [*rows, *work]))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Startup, description=__doc__)))
