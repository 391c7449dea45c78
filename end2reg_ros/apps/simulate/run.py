"""Simulated views with their truth, as scene folders or as a recording: what ``end2reg simulate`` writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from end2reg_ros.case.model import Case
from end2reg_ros.simulation.bag import BagSettings, write_bag
from end2reg_ros.simulation.random_scenes import SceneSettings, write_simulated_scene
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence


def write_scenes(out: Path, case: Case, first: SceneSettings, count: int) -> list[dict[str, Any]]:
    """Write ``count`` scene folders into ``out``, seeds counted up from those of ``first``.

    Returns:
        One a scene: its ``folder`` and its ``tags``.
    """
    written: list[dict[str, Any]] = []
    with _progress() as bar:
        for seed in bar.track(range(first.seed, first.seed + count), description="scenes"):
            posture = first.articulation
            settings = replace(
                first, seed=seed, articulation=None if posture is None else replace(posture, seed=seed)
            )
            folder = out / f"{first.suite}_{seed:05d}"
            tags = write_simulated_scene(folder, case, settings)
            written.append({"folder": str(folder), "tags": tags})
    return written


def write_recording(bag: Path, case: Case, settings: SequenceSettings, recorded: BagSettings) -> int:
    """Write a rosbag2 of a moving sequence; returns the number of clouds.

    Raises:
        End2RegError: settings out of their range; a folder that exists.
    """
    recorded.frame_count()
    with _progress() as bar:
        task = bar.add_task("frames", total=None)
        sequence = SimulatedSequence(case, settings)
        return write_bag(
            bag, sequence, recorded, lambda done, total: bar.update(task, completed=done, total=total)
        )


def _progress() -> Progress:
    """A progress bar on stderr: stdout is for the result."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True),
    )  # fmt: skip
