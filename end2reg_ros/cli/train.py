"""``end2reg train``: the network from shards of simulated scenes, in pieces of any length."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from end2reg_ros.errors import TrainingError


@dataclass(frozen=True)
class Train:
    """Train a network. Exit 0 when the run has reached its end or its minutes are up (then --resume goes on)."""

    config: Path
    """YAML of the run, see config/training/*.yaml and docs/training.md."""
    out: Path = Path("training_run")
    """Folder of the run: checkpoint, log.csv, TensorBoard events, curves.png, weights."""
    resume: bool = False
    """Go on from the folder's checkpoint."""
    minutes: float | None = None
    """Stop after so many minutes, resumable; without it the run goes to its end."""
    device: str = "cpu"
    """cpu or cuda."""
    workers: int = 1
    """Processes that prepare scenes ahead; 0 prepares them in between."""
    json: bool = False
    """Print the outcome as JSON; no progress bar."""

    def run(self) -> int:
        """Train, and write the averaged weights when the run has ended."""
        from end2reg_ros.apps.train.run import train

        if self.minutes is not None and not self.minutes > 0:
            raise TrainingError(f"--minutes must be above 0, not {self.minutes:g}")
        if self.workers < 0:
            raise TrainingError(f"--workers must be 0 or more, not {self.workers}")
        shown = sys.stdout.isatty() and not self.json
        # What is told on the way must not stand among the JSON.
        with contextlib.redirect_stdout(sys.stderr) if self.json else contextlib.nullcontext():
            outcome, text = train(
                self.config, self.out, self.resume, self.minutes, self.device, self.workers, shown
            )
        print(json.dumps(outcome, indent=1) if self.json else text)
        return 0
