"""``end2reg bench demo``: the demo's nodes without the show; speed, cost and error of the same runs as JSON, over seeds."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from end2reg_ros.cli.demo import Demo, Scenario
from end2reg_ros.engine.options import EngineChoice
from end2reg_ros.errors import End2RegError

KEPT = (
    "duration_s", "clouds", "judged", "published", "tre_median_mm", "tre_q1_mm", "tre_q3_mm", "tre_p95_mm",
    "tre_max_mm", "outliers", "jitter_mm", "availability", "availability_judged", "false_tracking", "false_degraded",
    "blind_poses", "level_slips", "repeated_poses", "late_poses", "late_wrong", "unknown_poses", "uncompared_poses",
    "first_pose_s", "first_pose_heard_s", "reacquisition_s", "never_reacquired", "unserved_s", "rate_hz", "camera_hz",
    "network_poses", "network_tre_median_mm", "network_tre_p95_mm", "network_tre_max_mm",
    "refined_tre_median_mm", "refined_tre_p95_mm", "refined_tre_max_mm",
    "age_p50_ms", "age_p95_ms", "age_p99_ms",
    "latency_p50_ms", "latency_p95_ms", "stages_ms", "stages_p95_ms",
)  # fmt: skip


@dataclass
class Bench:
    """Speed, latency, memory and error of the tracker node, heard over ROS 2, as JSON and a Markdown table.

    Runs the demo's nodes once per seed. Exit code 0: every run was good (as in `end2reg demo`). `end2reg bench` measures
    methods stage by stage without ROS.
    """

    case: Path | None = None
    """Case folder to track. Default: the simulated anatomy that comes with the package."""
    seeds: str = "0"
    """Seeds, as in 0-9 or 0,3,5."""
    duration: float = 20.0
    """Seconds of tracking for each seed."""
    scenario: Scenario = "demo"
    """What happens in front of the camera."""
    rate: float = Demo.rate
    """Clouds per second, Hz."""
    method: Literal["end2reg", "icp", "ransac_icp"] = Demo.method
    """Registration method."""
    start: Literal["auto", "none", "landmarks"] = Demo.start
    """What the tracker is given: no start (none), or simulated landmark picks; auto: none with end2reg, else landmarks."""
    engine: EngineChoice = Demo.engine
    """What runs the network; auto takes the fastest that is there."""
    threads: int = Demo.threads
    """CPU threads of the network."""
    out: Path | None = None
    """JSON file to write."""
    json: bool = False
    """Print the JSON on standard output instead of the Markdown table."""

    def run(self) -> int:
        """Run it; returns the exit code."""
        from rich.console import Console
        from rich.progress import track

        from end2reg_ros.apps.demo.assess import make_run
        from end2reg_ros.apps.demo.processes import DemoError
        from end2reg_ros.apps.demo.run import (
            RunRecord,
            RunSettings,
            Silent,
            check_installation,
            default_case,
            run_nodes,
        )
        from end2reg_ros.case.store import load_case

        seeds = parse_seeds(self.seeds)
        check_installation()
        case = load_case(self.case or default_case())
        results = []
        for seed in track(seeds, description="runs", console=Console(stderr=True)):
            folder = Path(tempfile.mkdtemp(prefix=f"end2reg_bench_{seed}_"))
            (folder / "logs").mkdir()
            settings = RunSettings(
                case.path, folder / "logs", self.duration, seed, self.scenario, self.rate, self.method,
                self.start, self.engine, self.threads,
            )  # fmt: skip
            try:
                record = run_nodes(settings, Silent())
            except DemoError as fault:  # the other seeds are still worth knowing
                record = RunRecord(faults=[str(fault)])
            run = make_run(case, settings, record)
            if not run.problems:  # else the logs are needed
                shutil.rmtree(folder)
            results.append(seed_result(seed, run))
        document = {
            "command": command(),
            **environment(case, self),
            "overall": overall(results),
            "runs": results,
        }
        text = json.dumps(document, indent=2) + "\n"
        if self.out is not None:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self.out.write_text(text)
        print(text if self.json else markdown(results, document["overall"]), end="" if self.json else "\n")
        return 0 if all(result["good"] for result in results) else 1


def parse_seeds(text: str) -> list[int]:
    """``0-9`` or ``0,3,5`` as numbers.

    Raises:
        End2RegError: anything else.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise End2RegError(f"--seeds is '{text}', must be like 0-9 or 0,3,5")
        seeds += range(int(first), int(last if dash else first) + 1)
    if not seeds:
        raise End2RegError(f"--seeds is '{text}': no seed in it")
    return seeds


def seed_result(seed: int, run: Any) -> dict[str, Any]:
    """The figures of one run, for the JSON and the table."""
    s = run.summary
    figures: dict[str, Any] = {name: getattr(s, name) for name in KEPT}
    figures["registrations_per_s"] = s.judged / s.duration_s if s.duration_s > 0 else None
    figures["lost_s"] = sum(span.end - span.start for span in s.lost)
    usage = {name: asdict(cost) for name, cost in run.usage.items()}
    return {
        "seed": seed,
        "good": not run.problems,
        "problems": list(run.problems),
        **figures,
        "drops": dict(run.drops),
        "usage": usage,
        "tracker": asdict(run.tracker),
    }


def overall(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Over all seeds: median of the seeds' figures, sums of the counts, worst of the tails."""

    def values(name: str) -> list[float]:
        return [r[name] for r in results if r[name] is not None]

    def median(name: str) -> float | None:
        return float(np.median(values(name))) if values(name) else None

    return {
        "seeds": len(results),
        "good": sum(r["good"] for r in results),
        **{name: median(name) for name in ("tre_median_mm", "availability", "availability_judged", "rate_hz",
                                           "registrations_per_s", "age_p50_ms", "age_p95_ms", "age_p99_ms",
                                           "first_pose_heard_s", "network_tre_median_mm", "network_tre_p95_mm",
                                           "refined_tre_median_mm", "refined_tre_p95_mm")},
        "tre_median_worst_mm": max(values("tre_median_mm"), default=None),
        "tre_max_mm": max(values("tre_max_mm"), default=None),
        **{name: sum(r[name] for r in results) for name in ("published", "false_tracking", "false_degraded",
                                                            "blind_poses", "level_slips", "repeated_poses",
                                                            "late_wrong", "unknown_poses", "uncompared_poses",
                                                            "never_reacquired")},
    }  # fmt: skip


def markdown(results: list[dict[str, Any]], total: dict[str, Any]) -> str:
    """The table, one row a seed and one overall."""
    head = (
        "| seed | TRE median [Q1, Q3] mm | p95 | max | availability | poses | > 10 mm TRACKING / DEGRADED | blind | Hz "
        "| age p50 / p95 / p99 ms | CPU % | MB |"
    )
    lines = [head, "|" + " --- |" * 12]
    for r in results:
        tracker = r["usage"].get("tracker", {})
        quartiles = f"{_n(r['tre_median_mm'], 2)} [{_n(r['tre_q1_mm'], 2)}, {_n(r['tre_q3_mm'], 2)}]"
        ages = " / ".join(_n(r[f"age_p{p}_ms"], 0) for p in (50, 95, 99))
        lines.append(
            f"| {r['seed']} | {quartiles} | {_n(r['tre_p95_mm'], 2)} | {_n(r['tre_max_mm'], 2)} | {_share(r['availability'])} "
            f"| {r['published']} | {r['false_tracking']} / {r['false_degraded']} | {r['blind_poses']} | {_n(r['rate_hz'], 1)} "
            f"| {ages} | {_n(tracker.get('cpu_percent'), 0)} | {_n(tracker.get('rss_mb'), 0)} |"
        )
    ages = " / ".join(_n(total[f"age_p{p}_ms"], 0) for p in (50, 95, 99))
    worst = f"{_n(total['tre_median_mm'], 2)} (worst {_n(total['tre_median_worst_mm'], 2)})"
    lines.append(
        f"| all ({total['good']} of {total['seeds']} good) | {worst} | | {_n(total['tre_max_mm'], 2)} "
        f"| {_share(total['availability'])} | {total['published']} "
        f"| {total['false_tracking']} / {total['false_degraded']} | {total['blind_poses']} "
        f"| {_n(total['rate_hz'], 1)} | {ages} | | |"
    )
    return "\n".join(
        lines
        + network_lines(total)
        + [f"\nseed {r['seed']} is not good: {'; '.join(r['problems'])}" for r in results if r["problems"]]
    )


def network_lines(total: dict[str, Any]) -> list[str]:
    """What the table has no column for: the first pose, and the network alone; nothing for methods without one."""
    if total["network_tre_median_mm"] is None:
        return []
    alone, refined = (
        f"{_n(total[f'{side}_tre_median_mm'], 2)} (p95 {_n(total[f'{side}_tre_p95_mm'], 2)}) mm"
        for side in ("network", "refined")
    )
    return [
        f"\nTRE of the same poses, median of the seeds: network alone {alone}, refined {refined}.",
        f"First pose heard {_n(total['first_pose_heard_s'], 2)} s after the first cloud that shows the spine.",
    ]


def environment(case: Any, bench: Bench) -> dict[str, Any]:
    """What was measured, and on what."""
    from end2reg_ros.apps.demo.assess import machine, versions

    return {
        "case": {"name": case.name, "hash": case.hash, "levels": list(case.levels)},
        "settings": {
            "scenario": bench.scenario,
            "rate_hz": bench.rate,
            "duration_s": bench.duration,
            "method": bench.method,
            "start": bench.start,
            "engine": bench.engine,
            "threads": bench.threads,
        },
        "machine": machine(),
        "load_average": os.getloadavg()[0],  # what else the machine was doing decides about ages and rates
        "versions": versions(),
    }


def command() -> str:
    """The command line of this process."""
    program = Path(sys.argv[0])
    words = ["python", os.path.relpath(program)] if program.suffix == ".py" else [program.name]
    return shlex.join([*words, *sys.argv[1:]])


def _n(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
