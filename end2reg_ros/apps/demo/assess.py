"""From what was heard to the verdict and the report's ``DemoRun``."""

from __future__ import annotations

import shlex
import sys
from datetime import datetime, timezone

from end2reg_ros.apps.demo.figures import STARTS
from end2reg_ros.apps.demo.record import DemoRun, TrackerFacts
from end2reg_ros.apps.demo.run import RunRecord
from end2reg_ros.apps.demo.settings import DemoSettings
from end2reg_ros.apps.demo.summary import RunSummary, clouds, summarise
from end2reg_ros.case.model import Case
from end2reg_ros.evaluation import host
from end2reg_ros.evaluation.figures import CLEAR_VIEW
from end2reg_ros.evaluation.metrics import WRONG_MM
from end2reg_ros.simulation.motion import SCENARIOS

MAX_UNSERVED_S = 3.0
MIN_AVAILABILITY = 0.5
ENOUGH_JUDGED = 20  # fewer clouds say nothing about the availability


def assess(summary: RunSummary, faults: list[str], scenario: str) -> list[str]:
    """Why a run was not good, one sentence each; empty for a good run.

    Availability is judged over the clouds that the tracker judged: a slow machine alone makes no bad run. Where the
    scene has no spine, a good run is one without poses.
    """
    if not SCENARIOS[scenario].spine:
        poses = summary.published + summary.unknown_poses + summary.repeated_poses
        return [*faults, *([f"{poses} poses were published although there is no spine"] if poses else [])]
    problems = list(faults)
    if summary.published == 0:
        problems.append("no pose was published")
    for count, state in ((summary.false_tracking, "TRACKING"), (summary.false_degraded, "DEGRADED")):
        if count:
            problems.append(f"{count} poses published as {state} are off by more than {WRONG_MM:.0f} mm")
    if summary.blind_poses:
        problems.append(f"{summary.blind_poses} poses were published while nothing of the spine was in view")
    if summary.repeated_poses:
        problems.append(f"{summary.repeated_poses} poses were sent again under a stamp already published")
    if summary.unknown_poses:
        problems.append(
            f"{summary.unknown_poses} poses were published under a stamp at which the camera sent no cloud"
        )
    if summary.uncompared_poses:
        problems.append(f"{summary.uncompared_poses} poses could not be compared with the truth")
    if summary.published and summary.unserved_s > MAX_UNSERVED_S:
        problems.append(
            f"the track was lost for good: no pose came back although at least {CLEAR_VIEW:.0%} of the spine stayed in "
            f"view for {summary.unserved_s:.1f} s"
        )
    share = summary.availability_judged
    if share < MIN_AVAILABILITY and summary.judged >= ENOUGH_JUDGED:
        problems.append(
            f"poses for only {100 * share:.0f} % of the judged clouds that show the spine, "
            f"{100 * MIN_AVAILABILITY:.0f} % needed"
        )
    return problems


def make_run(case: Case, settings: DemoSettings, record: RunRecord) -> DemoRun:
    """Everything the report tells about a run."""
    summary = summarise(record.rows)
    return DemoRun(
        title="Spine tracking: demo report",
        subtitle=f"case {case.name}, {', '.join(case.levels)}; {settings.duration:g} s of the scenario "
        f"'{settings.scenario}', seed {settings.seed}; simulated camera, real ROS 2",
        rows=clouds(record.rows),
        summary=summary,
        problems=assess(summary, record.faults, settings.scenario),
        usage=record.usage,
        drops=record.status.get("drops", {}),
        configuration=configuration(case, settings, record),
        levels=[(v.level, v.colour) for v in case.vertebrae],
        tracker=TrackerFacts(
            method=settings.method,
            engine=record.status.get("engine", ""),
            engine_hash=record.status.get("engine_hash", ""),
            start=settings.start_given(),
            points_truncated=record.status.get("points_truncated", 0),
            cells_truncated=record.status.get("cells_truncated", 0),
        ),
    )


def configuration(case: Case, settings: DemoSettings, record: RunRecord) -> dict[str, str]:
    """What is needed to run this again."""
    learned = settings.method == "end2reg"
    values = {
        "command": " ".join(["end2reg", *map(shlex.quote, sys.argv[1:])]),
        "case": f"{case.name} ({case.path})",
        "case hash (sha256)": case.hash,
        "anatomy": case.source,
        "method": settings.method,
        "start": STARTS[settings.start_given()],
        "engine": record.status.get("engine") or "none: classical method",
        "engine hash": record.status.get("engine_hash", ""),
        "engine asked for": f"{settings.engine}, {settings.threads} threads" if learned else "",
        "parameters hash (sha256)": record.status.get("config_hash", ""),
        "seed, scenario": f"{settings.seed}, {settings.scenario}",
        "camera": f"{settings.rate:g} Hz",
        "versions": ", ".join(f"{name} {version}" for name, version in host.versions().items()),
        "machine": host.machine(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return {name: text for name, text in values.items() if text}
