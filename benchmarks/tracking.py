"""Tracking over simulated sequences and over clouds without a spine: ``python benchmarks/tracking.py STUDY --cases CASE ...``.

Each finished unit is kept as a JSON line in --work, so that a rerun goes on where it stopped; the summary goes to --out as
JSON and Markdown with pictures. ``calibration`` is of the sequences that are in the work folder. Renderer and tracker take
turns in one process; ``live`` studies let a clock run on which slow updates cost clouds.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

import tyro

from benchmarks.tracking_study.calibration import Calibrations
from benchmarks.tracking_study.negatives import Negatives
from benchmarks.tracking_study.orientations import Orientations
from benchmarks.tracking_study.runner import Study, run_study
from benchmarks.tracking_study.sequences import Reacquisition, Sequences
from benchmarks.tracking_study.sweeps import ArticulationSweep, ExposureSweep, OcclusionSweep
from end2reg_ros.errors import End2RegError

STUDIES: tuple[type[Study], ...] = (
    Sequences, Negatives, Orientations, Reacquisition, OcclusionSweep, ExposureSweep, ArticulationSweep, Calibrations,
)  # fmt: skip


def main() -> int:
    """Run a study; returns the exit code."""
    if "OMP_NUM_THREADS" not in os.environ:
        # One thread, as thousands of small products a frame want it: read once, when numpy is first imported.
        alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        os.execve(sys.executable, [sys.executable, *sys.argv], alone)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        named: dict[str, Callable[..., Study]] = {study.name: study for study in STUDIES}
        return run_study(tyro.extras.subcommand_cli_from_dict(named, description=__doc__))
    except End2RegError as error:
        print(f"tracking: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
