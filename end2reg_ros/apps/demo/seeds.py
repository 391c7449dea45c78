"""``end2reg bench demo``: the demo's nodes without the show, once a seed; speed, cost and error of the runs as one document."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from end2reg_ros.apps.demo.assess import make_run
from end2reg_ros.apps.demo.processes import DemoError
from end2reg_ros.apps.demo.record import Run
from end2reg_ros.apps.demo.run import RunRecord, Watcher, check_installation, run_nodes
from end2reg_ros.apps.demo.settings import DemoSettings
from end2reg_ros.case.store import load_case
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation import host
from end2reg_ros.evaluation.tables import markdown_table, number, percent

MEDIANS = ("tre_median_mm", "availability", "availability_judged", "rate_hz", "registrations_per_s", "age_p50_ms", "age_p95_ms",
           "age_p99_ms", "first_pose_heard_s", "network_tre_median_mm", "network_tre_p95_mm", "refined_tre_median_mm",
           "refined_tre_p95_mm")  # fmt: skip
SUMS = ("published", "false_tracking", "false_degraded", "blind_poses", "level_slips", "repeated_poses", "late_wrong",
        "unknown_poses", "uncompared_poses", "never_reacquired")  # fmt: skip


def bench_demo(settings: DemoSettings, seeds: Sequence[int], out: Path | None, print_json: bool) -> int:
    """Run the demo's nodes once a seed, print the table or the JSON; returns 0 when every run was good, else 1.

    Args:
        out: JSON file to write; None for none.

    Raises:
        End2RegError: an option that cannot be; ROS 2 or the case is missing.
    """
    settings.check()
    document = run_seeds(settings, seeds)
    text = json.dumps(document, indent=2) + "\n"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)
    print(text if print_json else markdown(document["runs"], document["overall"]) + "\n", end="")
    return 0 if all(run["good"] for run in document["runs"]) else 1


def run_seeds(settings: DemoSettings, seeds: Sequence[int]) -> dict[str, Any]:
    """Run the demo's nodes once a seed; what was measured, on what, and the figures of each run and of all.

    Raises:
        End2RegError: ROS 2 or the case is missing.
    """
    from rich.console import Console
    from rich.progress import track

    check_installation()
    case = load_case(settings.case_folder())
    results = []
    for seed in track(seeds, description="runs", console=Console(stderr=True)):
        folder = Path(tempfile.mkdtemp(prefix=f"end2reg_bench_{seed}_"))
        (folder / "logs").mkdir()
        mine = replace(settings, seed=seed)
        try:
            record = run_nodes(mine, folder / "logs", Watcher())
        except DemoError as fault:  # the other seeds are still worth knowing
            record = RunRecord(faults=[str(fault)])
        run = make_run(case, mine, record)
        if not run.problems:  # else the logs are needed
            shutil.rmtree(folder)
        results.append(seed_result(seed, run))
    return {
        "command": host.command(),
        "case": {"name": case.name, "hash": case.hash, "levels": list(case.levels)},
        "settings": {
            "scenario": settings.scenario,
            "rate_hz": settings.rate,
            "duration_s": settings.duration,
            "method": settings.method,
            "start": settings.start,
            "engine": settings.engine,
            "threads": settings.threads,
        },
        "machine": host.machine(),
        "load_average": os.getloadavg()[0],  # what else the machine was doing decides about ages and rates
        "versions": host.versions(),
        "overall": overall(results),
        "runs": results,
    }


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


def seed_result(seed: int, run: Run) -> dict[str, Any]:
    """The figures of one run, for the JSON and the table."""
    s = run.summary
    return {
        "seed": seed,
        "good": not run.problems,
        "problems": list(run.problems),
        **asdict(s),
        "registrations_per_s": s.judged / s.duration_s if s.duration_s > 0 else None,
        "lost_s": sum(span.end - span.start for span in s.lost),
        "drops": dict(run.drops),
        "usage": {name: asdict(cost) for name, cost in run.usage.items()},
        "tracker": asdict(run.tracker),
    }


def overall(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over all seeds: median of the seeds' figures, sums of the counts, worst of the tails."""

    def values(name: str) -> list[float]:
        return [r[name] for r in results if r[name] is not None]

    return {
        "seeds": len(results),
        "good": sum(r["good"] for r in results),
        **{name: float(np.median(values(name))) if values(name) else None for name in MEDIANS},
        "tre_median_worst_mm": max(values("tre_median_mm"), default=None),
        "tre_max_mm": max(values("tre_max_mm"), default=None),
        **{name: sum(r[name] for r in results) for name in SUMS},
    }


def markdown(results: Sequence[dict[str, Any]], total: dict[str, Any]) -> str:
    """The table, one row a seed and one overall, and what it has no column for."""
    heads = ["seed", "TRE median [Q1, Q3] mm", "p95", "max", "availability", "poses", "> 10 mm TRACKING / DEGRADED", "blind",
             "Hz", "age p50 / p95 / p99 ms", "CPU %", "MB"]  # fmt: skip
    rows = []
    for r in results:
        quartiles = (
            f"{number(r['tre_median_mm'], 2)} [{number(r['tre_q1_mm'], 2)}, {number(r['tre_q3_mm'], 2)}]"
        )
        tracker = r["usage"].get("tracker", {})
        cost = [number(tracker.get("cpu_percent"), 0), number(tracker.get("rss_mb"), 0)]
        rows.append([str(r["seed"]), quartiles, number(r["tre_p95_mm"], 2), *_common_cells(r), *cost])
    worst = f"{number(total['tre_median_mm'], 2)} (worst {number(total['tre_median_worst_mm'], 2)})"
    rows.append([f"all ({total['good']} of {total['seeds']} good)", worst, "", *_common_cells(total), "", ""])
    bad = [f"\nseed {r['seed']} is not good: {'; '.join(r['problems'])}" for r in results if r["problems"]]
    return "\n".join([*markdown_table(heads, rows), *network_lines(total), *bad])


def _common_cells(r: dict[str, Any]) -> list[str]:
    """The columns that a run and the whole have in common, from the highest error to the ages."""
    return [
        number(r["tre_max_mm"], 2),
        percent(r["availability"]),
        str(r["published"]),
        f"{r['false_tracking']} / {r['false_degraded']}",
        str(r["blind_poses"]),
        number(r["rate_hz"], 1),
        " / ".join(number(r[f"age_p{p}_ms"], 0) for p in (50, 95, 99)),
    ]


def network_lines(total: dict[str, Any]) -> list[str]:
    """What the table has no column for: the first pose, and the network alone; nothing for methods without one."""
    if total["network_tre_median_mm"] is None:
        return []
    alone, refined = (
        f"{number(total[f'{side}_tre_median_mm'], 2)} (p95 {number(total[f'{side}_tre_p95_mm'], 2)}) mm"
        for side in ("network", "refined")
    )
    return [
        f"\nTRE of the same poses, median of the seeds: network alone {alone}, refined {refined}.",
        f"First pose heard {number(total['first_pose_heard_s'], 2)} s after the first cloud that shows the spine.",
    ]
