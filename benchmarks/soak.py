"""One hour at 30 Hz: `python benchmarks/soak.py` writes benchmarks/results/soak.json.

108 000 stored clouds through the node's runtime in one process, each as soon as the last one is done. The sequence is
walked to and fro under fresh stamps; every thousand clouds hold a frozen one, an empty one, one of another frame, one of
NaN, one with an older stamp, a second of silence and three at once. A sample of memory, threads and open files every
thousand clouds. `--pixel-step 2` takes every second pixel (320x240 of 640x480), which makes the hour cheap. Ctrl-C ends it
early; the JSON is written all the same. Exit code 0: nothing grew, every count is right, no pose is off by 10 mm.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

# Before numpy is loaded: as the node's process does.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import tyro

from benchmarks.camera_rate.render import WORK, playback_of, recipe_of, show_progress
from benchmarks.documents import made_with, write_document
from benchmarks.soak_study.feed import Course
from benchmarks.soak_study.record import Sample, figures
from benchmarks.soak_study.run import Soak
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.case.store import load_case
from end2reg_ros.names import CAMERA_FRAME
from end2reg_ros.ros.settings import TrackerParameters
from end2reg_ros.runtime.memory import keep_freed_memory


@dataclass(frozen=True)
class SoakOptions:
    """Run the tracker for an hour of camera.

    Attributes:
        clouds: sent in all; 108000 are an hour at 30 Hz.
        case: folder; default: the bundled one.
        events: scenario of the sequence; demo covers the spine with a towel once a round.
        seconds: of the sequence, at 30 Hz.
        pixel_step: 1 for whole clouds, 2 for every second pixel of every second row.
        method: of registration; icp gets a start from simulated picks whenever it waits for one.
        network_passes: background, every_frame or auto.
        threads: of the network.
        event_every: clouds in which each fault of the camera happens once.
        full_every: of so many rounds one goes through the whole sequence, the others end before the towel.
        warm: clouds after which memory is held against the end.
        sample_every: clouds between two samples.
        work: folder of the sequences.
        out: JSON file.
    """

    clouds: int = 108_000
    case: Path | None = None
    seed: int = 0
    events: str = "demo"
    seconds: float = 20.0
    pixel_step: int = 1
    method: Literal["end2reg", "icp", "ransac_icp"] = "icp"
    network_passes: Literal["auto", "background", "every_frame"] = "auto"
    engine: Literal["auto", "onnxruntime", "tensorrt", "torch"] = "auto"
    threads: int = 1
    event_every: int = 1000
    full_every: int = 5
    warm: int = 2000
    sample_every: int = 1000
    work: Path = WORK
    out: Path = Path(__file__).resolve().parent / "results" / "soak.json"


def main(options: SoakOptions) -> int:
    """Run it; 1 when something was not as it must be."""
    keep_freed_memory()
    case = load_case(options.case or bundled_case_path())
    recipe = recipe_of(case, options.events, options.seconds, options.seed, "d435", options.pixel_step)
    _, playback = playback_of(case, recipe, options.work, show_progress)
    parameters = TrackerParameters(
        method=options.method,
        engine=options.engine,
        engine_threads=options.threads,
        network_passes=options.network_passes,
        expected_frame=CAMERA_FRAME,
    )
    course = Course(options.clouds, recipe.rate_hz, options.event_every, options.full_every)
    about = made_with(case, options)
    soak = Soak(case, playback, parameters, course)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: soak.stop())
    record = soak.run(options.sample_every, options.warm, show_sample)
    document = {
        **about,
        "engine": soak.registrar.engine,
        "sequence": {
            **asdict(recipe),
            "sha256": playback.sha256,
            "points_of_first": playback.frames[0].points,
        },
        **figures(record, options.warm),
    }
    write_document(options.out, document)
    print(summary(document))
    return 0 if document["good"] else 1


def show_sample(sample: Sample) -> None:
    """One line a thousand clouds."""
    print(
        f"{sample.clouds} clouds in {sample.wall_s:.0f} s: {sample.rss_mb:.1f} MB, {sample.threads} threads, "
        f"{sample.open_files} open files, {sample.poses} poses, {sample.state}",
        file=sys.stderr,
        flush=True,
    )


def summary(document: dict[str, object]) -> str:
    """A few lines."""
    names = ("clouds", "events", "poses", "pose_error_mm", "states", "state_changes", "memory")
    lines = [f"{name}: {json.dumps(document[name])}" for name in names]
    return "\n".join([*lines, "good" if document["good"] else f"not good: {document['problems']}"])


if __name__ == "__main__":
    sys.exit(main(tyro.cli(SoakOptions, description=__doc__)))
