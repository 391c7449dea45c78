"""From what was heard to the verdict and the report's ``Run``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import sys
from datetime import datetime, timezone
from pathlib import Path

from end2reg_ros import __version__
from end2reg_ros.case.model import Case
from end2reg_ros.cli.demo_run import RunRecord, RunSettings
from end2reg_ros.evaluation.report_run import Run, summary_json
from end2reg_ros.evaluation.report_summary import FALSE_POSE_MM, RunSummary, summarise

SHOWN_VERSIONS = (
    "numpy",
    "scipy",
    "open3d",
    "small-gicp",
    "rclpy",
    "ros-jazzy-rclpy",
    "ros-jazzy-rmw-fastrtps-cpp",
)


def assess(summary: RunSummary, faults: list[str]) -> list[str]:
    """Why a run was not good, one sentence each; empty for a good run."""
    problems = list(faults)
    if summary.published == 0:
        problems.append("no pose was published")
    for count, state in ((summary.false_tracking, "TRACKING"), (summary.false_degraded, "DEGRADED")):
        if count:
            problems.append(f"{count} poses published as {state} are off by more than {FALSE_POSE_MM:.0f} mm")
    if summary.blind_poses:
        problems.append(f"{summary.blind_poses} poses were published while nothing of the spine was in view")
    if summary.repeated_poses:
        problems.append(f"{summary.repeated_poses} poses were sent again under a stamp already published")
    if summary.published and summary.tre_median_mm is None:
        problems.append("no pose could be compared with the truth")
    return problems


def make_run(case: Case, settings: RunSettings, record: RunRecord) -> Run:
    """Everything the report tells about a run."""
    summary = summarise(record.rows)
    return Run(
        title="Spine tracking: demo report",
        subtitle=f"case {case.name}, {', '.join(case.levels)}; {settings.duration:g} s of the scenario "
        f"'{settings.scenario}', seed {settings.seed}; simulated camera, real ROS 2",
        rows=record.rows,
        summary=summary,
        problems=assess(summary, record.faults),
        usage=record.usage,
        drops=record.status.get("drops", {}),
        configuration=configuration(case, settings, record),
        levels=[(v.level, v.colour) for v in case.vertebrae],
    )


def configuration(case: Case, settings: RunSettings, record: RunRecord) -> dict[str, str]:
    """What is needed to run this again."""
    values = {
        "command": " ".join(["end2reg", *map(shlex.quote, sys.argv[1:])]),
        "case": f"{case.name} ({case.path})",
        "case hash (sha256)": case.hash,
        "anatomy": case.source,
        "method": settings.method,
        "engine": record.status.get("engine") or "none: classical method",
        "parameters hash (sha256)": record.status.get("config_hash", ""),
        "seed, scenario": f"{settings.seed}, {settings.scenario}",
        "camera": f"{settings.rate:g} Hz",
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "machine": machine(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return {name: text for name, text in values.items() if text}


def versions() -> dict[str, str]:
    """Package -> version, of what decides about the figures."""
    found = {"end2reg_ros": __version__, "Python": platform.python_version()}
    for name in SHOWN_VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if "ROS_DISTRO" in os.environ:
        found["ROS 2"] = os.environ["ROS_DISTRO"]
    return found


def machine() -> str:
    """Processor, cores and system of this machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            line.split(":", 1)[1].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.release()}"


def run_json(run: Run) -> dict[str, object]:
    """The figures of a run, as ``--json`` and ``summary.json`` have them."""
    return summary_json(run)
