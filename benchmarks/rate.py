"""The tracker node at camera rate: `python benchmarks/rate.py` writes benchmarks/results/rate.json, prints a table.

A moving sequence is rendered once into the work folder (0.7-3 GB each) and played by a process of its own, so that no
rendering takes the tracker's time: 30 clouds a second as a camera's driver sends them. One run each of method x size x
rate: rate sustained, losses by place and reason, pose age, stages, CPU and memory of each process, error of the same run.
The first `--settle` seconds do not count. Exit code 0: no fault, no wrong pose; `targets` says which targets were met.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from benchmarks.camera_rate.figures import problems, rate_figures, targets_met
from benchmarks.camera_rate.render import WORK, playback_of, recipe_of, show_progress
from benchmarks.camera_rate.run import RateRecord, RateSettings, run_at_rate
from benchmarks.camera_rate.stream import Playback
from benchmarks.documents import made_with, write_document
from end2reg_ros.apps.demo.run import check_installation
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.case.model import Case
from end2reg_ros.case.store import load_case
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation.rows import LevelTargets
from end2reg_ros.evaluation.tables import markdown_table, number, percent

SENSORS = {"640x480": "d435", "1280x720": "d435_720p"}


@dataclass(frozen=True)
class Rate:
    """Measure the node at camera rate.

    Attributes:
        case: folder; default: the bundled one.
        events: calm (slow motion, one passing hand), or a scenario of the simulated camera such as demo.
        seconds: of the rendered sequence (calm: at most 5.5); it is played forwards and backwards.
        methods: of registration.
        sizes: of the clouds.
        rates: clouds a second.
        duration: seconds of each run.
        settle: of these at the beginning that do not count.
        start: landmarks sends an initial_pose; auto: to all methods but end2reg.
        network_passes: background, every_frame or auto.
        engine: what runs the network.
        threads: of the network.
        reliability: of the tracker's subscription.
        work: folder of the sequences and the processes' logs.
        out: JSON file.
    """

    case: Path | None = None
    seed: int = 0
    events: str = "calm"
    seconds: float = 20.0
    methods: tuple[Literal["end2reg", "icp", "ransac_icp"], ...] = ("end2reg", "icp")
    sizes: tuple[Literal["640x480", "1280x720"], ...] = ("640x480", "1280x720")
    rates: tuple[float, ...] = (30.0, 15.0)
    duration: float = 60.0
    settle: float = 5.0
    start: Literal["auto", "none", "landmarks"] = "auto"
    network_passes: str = "auto"
    engine: str = "auto"
    threads: int = 1
    reliability: Literal["best_effort", "reliable"] = "best_effort"
    work: Path = WORK
    out: Path = Path(__file__).resolve().parent / "results" / "rate.json"


def settings_of(
    options: Rate, case: Case, stream: Path, logs: Path, method: str, rate: float
) -> RateSettings:
    """The settings of one run."""
    start = options.start == "landmarks" or (options.start == "auto" and method != "end2reg")
    return RateSettings(
        case.path, stream, logs, method, rate, options.duration, options.settle, start,
        options.network_passes, options.engine, options.threads, options.reliability,
    )  # fmt: skip


def measure(settings: RateSettings, size: str, case: Case, playback: Playback) -> dict[str, Any]:
    """One run and its figures."""
    load = os.getloadavg()[0]
    label = f"{settings.method} {size} {settings.rate:g} Hz"
    record: RateRecord = run_at_rate(
        settings, lambda text: print(f"{label}: {text}", file=sys.stderr, flush=True)
    )
    figures = rate_figures(record.run, playback, LevelTargets.of(case))
    found = [*record.faults, *problems(figures)]
    return {
        "method": settings.method,
        "engine": record.engine,
        "size": size,
        "rate_hz": settings.rate,
        "good": not found,
        "problems": found,
        "targets": targets_met(figures),
        "load_average_before": load,
        "sequence_sha256": playback.sha256,
        **figures,
        "usage": record.usage,
        "machine_cpu_percent": record.machine_cpu_percent,
    }


def failed(method: str, size: str, rate: float, fault: End2RegError) -> dict[str, Any]:
    """A run that came to nothing; the others are still worth knowing."""
    return {"method": method, "size": size, "rate_hz": rate, "good": False, "problems": [str(fault)]}


def main(options: Rate) -> int:
    """Measure all; 1 when a run was not good."""
    check_installation()
    case = load_case(options.case or bundled_case_path())
    runs: list[dict[str, Any]] = []
    about = made_with(case, options)
    for size in options.sizes:
        recipe = recipe_of(case, options.events, options.seconds, options.seed, SENSORS[size])
        stream, playback = playback_of(case, recipe, options.work, show_progress)
        for method in options.methods:
            for rate in options.rates:
                logs = options.work / "logs" / f"{method}_{size}_{rate:g}"
                logs.mkdir(parents=True, exist_ok=True)
                settings = settings_of(options, case, stream, logs, method, rate)
                try:
                    result = measure(settings, size, case, playback)
                except End2RegError as fault:
                    result = failed(method, size, rate, fault)
                runs.append(result)
                write_document(options.out, {**about, "runs": runs})
    print(table(runs))
    return 0 if all(run["good"] for run in runs) else 1


HEADS = (
    "method", "size", "Hz sent", "judged", "poses a second", "network passes a second", "lost before the node", "dropped",
    "pose age p50 / p95 / p99 / max ms", "CPU tracker / camera / ear %", "MB", "TRE median / p95 / max mm", "targets",
)  # fmt: skip


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown, one row a run, and what was not good."""
    faults = [
        f"\n{run['method']} {run['size']} {run['rate_hz']:g} Hz is not good: {'; '.join(run['problems'])}"
        for run in runs
        if run["problems"]
    ]
    return "\n".join([*markdown_table(HEADS, [cells(run) for run in runs]), *faults])


def cells(run: dict[str, Any]) -> list[str]:
    """One row; of a run that came to nothing, why."""
    head = [run["method"], run["size"], f"{run['rate_hz']:g}"]
    if "clouds" not in run:
        return [*head, "; ".join(run["problems"]), *[""] * 9]
    age, tre, usage, clouds = run["pose_age_ms"], run["tre_mm"], run["usage"], run["clouds"]
    missed = [name for name, met in run["targets"].items() if not met]
    return [
        *head, *(number(run[name], 1) for name in ("judged_hz", "pose_hz", "network_hz")),
        f"{clouds['lost_before_node']} of {clouds['sent']}", percent(run["drop_share"], 2),
        " / ".join(number(age[name], 0) for name in ("p50", "p95", "p99", "max")),
        " / ".join(number(usage[name]["cpu_percent"], 0) for name in ("tracker", "camera", "recorder")),
        number(usage["tracker"]["rss_mb"], 0), " / ".join(number(tre[name]) for name in ("median", "p95", "max")),
        f"missed: {', '.join(missed)}" if missed else "met",
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Rate, description=__doc__)))
