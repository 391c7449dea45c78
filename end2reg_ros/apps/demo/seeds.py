"""``end2reg bench demo``: the demo's nodes without the show, once a seed; speed, cost and error of the runs as one document."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from end2reg_ros.apps.demo.assess import make_run
from end2reg_ros.apps.demo.processes import DemoError
from end2reg_ros.apps.demo.record import DemoRun, Usage, summary_json
from end2reg_ros.apps.demo.run import RunRecord, Watcher, check_installation, run_nodes
from end2reg_ros.apps.demo.settings import DemoSettings
from end2reg_ros.apps.demo.summary import RunSummary
from end2reg_ros.case.model import Case
from end2reg_ros.case.store import load_case
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation import host
from end2reg_ros.evaluation.tables import finite, markdown_table, number, percent

MEDIANS: dict[str, Callable[[RunSummary], float]] = {
    "tre_median_mm": lambda s: s.tre_mm.median,
    "availability": lambda s: s.availability,
    "availability_judged": lambda s: s.availability_judged,
    "rate_hz": lambda s: s.rate_hz,
    "registrations_per_s": lambda s: s.judged / s.duration_s if s.duration_s > 0 else float("nan"),
    "pose_age_p50_ms": lambda s: s.pose_age_ms[0],
    "pose_age_p95_ms": lambda s: s.pose_age_ms[1],
    "pose_age_p99_ms": lambda s: s.pose_age_ms[2],
    "first_pose_heard_s": lambda s: s.first_pose_heard_s,
    "network_tre_median_mm": lambda s: s.network_tre_mm.median,
    "network_tre_p95_mm": lambda s: s.network_tre_mm.p95,
    "refined_tre_median_mm": lambda s: s.refined_tre_mm.median,
    "refined_tre_p95_mm": lambda s: s.refined_tre_mm.p95,
}
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
    check_installation()
    case = load_case(settings.case_folder())
    runs = run_seeds(case, settings, seeds)
    total = overall(runs)
    document = {
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
        "overall": finite(total),
        "runs": [{"seed": seed, **summary_json(run)} for seed, run in runs.items()],
    }
    text = json.dumps(document, indent=2) + "\n"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)
    print(text if print_json else markdown(runs, total) + "\n", end="")
    return 0 if total["good"] == len(runs) else 1


def run_seeds(case: Case, settings: DemoSettings, seeds: Sequence[int]) -> dict[int, DemoRun]:
    """Seed -> what the demo's nodes did with it."""
    from rich.console import Console
    from rich.progress import track

    runs = {}
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
        runs[seed] = run
    return runs


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


def overall(runs: Mapping[int, DemoRun]) -> dict[str, Any]:
    """Over the runs of all seeds: median of the seeds' figures, sums of the counts, worst of the tails; NaN where unknown."""
    summaries = [run.summary for run in runs.values()]

    def known(figure: Callable[[RunSummary], float]) -> list[float]:
        return [value for s in summaries if np.isfinite(value := figure(s))]

    def median(figure: Callable[[RunSummary], float]) -> float:
        return float(np.median(known(figure))) if known(figure) else float("nan")

    return {
        "seeds": len(runs),
        "good": sum(not run.problems for run in runs.values()),
        **{name: median(figure) for name, figure in MEDIANS.items()},
        "tre_median_worst_mm": max(known(MEDIANS["tre_median_mm"]), default=float("nan")),
        "tre_max_mm": max(known(lambda s: s.tre_mm.maximum), default=float("nan")),
        **{name: sum(getattr(s, name) for s in summaries) for name in SUMS},
    }


def markdown(runs: Mapping[int, DemoRun], total: Mapping[str, Any]) -> str:
    """The table, one row a seed and one overall, and what it has no column for."""
    heads = ["seed", "TRE median [Q1, Q3] mm", "p95", "max", "availability", "poses", "> 10 mm TRACKING / DEGRADED", "blind",
             "Hz", "age p50 / p95 / p99 ms", "CPU %", "MB"]  # fmt: skip
    rows = []
    for seed, run in runs.items():
        s, tracker = run.summary, run.usage.get("tracker", Usage())
        cells = _common_cells(vars(s), s.tre_mm.maximum, s.pose_age_ms)
        cost = [number(tracker.cpu_percent, 0), number(tracker.rss_mb, 0)]
        rows.append([str(seed), s.tre_mm.text(), number(s.tre_mm.p95), *cells, *cost])
    worst = f"{number(total['tre_median_mm'])} (worst {number(total['tre_median_worst_mm'])})"
    ages = [total[f"pose_age_p{p}_ms"] for p in (50, 95, 99)]
    cells = _common_cells(total, total["tre_max_mm"], ages)
    rows.append([f"all ({total['good']} of {total['seeds']} good)", worst, "", *cells, "", ""])
    bad = [f"\nseed {n} is not good: {'; '.join(run.problems)}" for n, run in runs.items() if run.problems]
    return "\n".join([*markdown_table(heads, rows), *network_lines(total), *bad])


def _common_cells(r: Mapping[str, Any], highest_mm: float, ages_ms: Sequence[float]) -> list[str]:
    """The columns that a run and the whole have in common, from the highest error to the ages."""
    return [
        number(highest_mm),
        percent(r["availability"]),
        str(r["published"]),
        f"{r['false_tracking']} / {r['false_degraded']}",
        str(r["blind_poses"]),
        number(r["rate_hz"], 1),
        " / ".join(number(age, 0) for age in ages_ms),
    ]


def network_lines(total: Mapping[str, Any]) -> list[str]:
    """What the table has no column for: the first pose, and the network alone; nothing for methods without one."""
    if not np.isfinite(total["network_tre_median_mm"]):
        return []
    alone, refined = (
        f"{number(total[f'{side}_tre_median_mm'])} (p95 {number(total[f'{side}_tre_p95_mm'])}) mm"
        for side in ("network", "refined")
    )
    return [
        f"\nTRE of the same poses, median of the seeds: network alone {alone}, refined {refined}.",
        f"First pose heard {number(total['first_pose_heard_s'])} s after the first cloud that shows the spine.",
    ]
