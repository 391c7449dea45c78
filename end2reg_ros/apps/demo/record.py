"""What a report is made from: one run, its figures, its costs, its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from end2reg_ros.apps.demo.summary import RunSummary
from end2reg_ros.evaluation.rows import CloudRow
from end2reg_ros.evaluation.tables import finite


@dataclass(frozen=True)
class Usage:
    """Cost of one process: mean and highest CPU share (100 % is one core), highest resident memory."""

    cpu_percent: float | None = None
    cpu_percent_max: float | None = None
    rss_mb: float | None = None


@dataclass(frozen=True)
class Picture:
    """A JPEG of the report with its caption; ``alt`` says it to who cannot see it."""

    name: str
    jpeg: bytes
    caption: str
    alt: str


@dataclass(frozen=True)
class TrackerFacts:
    """What the tracker says of itself, and what it was given.

    Attributes:
        method: of the registration.
        engine, engine_hash: what runs its network, and which network; empty for the classical methods.
        start: none (found from nothing), landmarks (an initial_pose from picked ones); empty where nobody knows.
        points_truncated, cells_truncated: left out because a cloud, or a view of the network, held more than the limit.
    """

    method: str = ""
    engine: str = ""
    engine_hash: str = ""
    start: str = ""
    points_truncated: int = 0
    cells_truncated: int = 0


@dataclass(frozen=True)
class DemoRun:
    """Everything a report tells.

    Attributes:
        title, subtitle: head of the page.
        rows: the listener's, by stamp; ``summary``: their figures.
        problems: why the run was not good, one sentence each; empty for a good one.
        usage: process name -> its cost.
        drops: reason -> clouds, as counted by the tracker.
        configuration: name -> text, in the order shown.
        levels: name and colour of each vertebra.
        tracker: what it says of itself.
    """

    title: str
    subtitle: str
    rows: Sequence[CloudRow]
    summary: RunSummary
    problems: Sequence[str] = ()
    usage: dict[str, Usage] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)
    configuration: dict[str, str] = field(default_factory=dict)
    levels: Sequence[tuple[str, tuple[int, int, int]]] = ()
    tracker: TrackerFacts = field(default_factory=TrackerFacts)


def summary_json(run: DemoRun) -> dict[str, Any]:
    """The figures of a run as they stand in ``summary.json``; the page shows the same ones."""
    return {
        "good": not run.problems,
        "problems": list(run.problems),
        "summary": finite(asdict(run.summary)),
        "tracker": asdict(run.tracker),
        "usage": {name: asdict(usage) for name, usage in run.usage.items()},
        "drops": dict(run.drops),
        "configuration": dict(run.configuration),
    }
