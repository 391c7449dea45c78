"""``end2reg train``: the network from shards of simulated scenes, in pieces of any length."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict, dataclass
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
        from end2reg_ros.engine.torch_weights import save_weights
        from end2reg_ros.training.config import read_config
        from end2reg_ros.training.loop import Trainer
        from end2reg_ros.training.validation import validate

        config = read_config(self.config)
        if self.minutes is not None and not self.minutes > 0:
            raise TrainingError(f"--minutes must be above 0, not {self.minutes:g}")
        if self.workers < 0:
            raise TrainingError(f"--workers must be 0 or more, not {self.workers}")
        if not self.resume and (self.out / "checkpoint.pt").is_file():
            raise TrainingError(
                f"{self.out} holds a run already: --resume goes on with it, or choose another --out"
            )
        trainer = Trainer(config, self.out, self.device, self.workers)
        if self.resume:
            trainer.resume()
        shown = sys.stdout.isatty() and not self.json
        # What is told on the way must not stand among the JSON.
        with contextlib.redirect_stdout(sys.stderr) if self.json else contextlib.nullcontext():
            ended = trainer.run(float("inf") if self.minutes is None else self.minutes, shown)
        outcome: dict[str, object] = {
            "ended": ended,
            "phase": trainer.phase,
            "iteration": trainer.iteration,
            "seconds": round(trainer.seconds, 1),
            "skipped": trainer.skipped,
            "out": str(self.out),
        }
        if ended:
            network = trainer.averaged()
            record = {**outcome, "config": asdict(config)}
            del record["out"]  # a folder of this machine
            if trainer.validation:
                found = validate(network, trainer.validation, config.strategy)
                outcome["validation"] = record["validation"] = found.as_row()
            path = self.out / "weights.safetensors"
            outcome["hash"] = save_weights(path, trainer.profile, network.state_dict(), {}, record)
            outcome["weights"] = str(path)
        if self.json:
            print(json.dumps(outcome, indent=1))
        elif ended:
            print(f"{outcome['weights']}: {trainer.iteration} iterations, {trainer.seconds / 60:.0f} min")
        else:
            first = trainer.phase == "segmentation"
            count = config.segmentation_iterations if first else config.iterations
            print(f"{trainer.phase} {trainer.iteration} of {count}: go on with --resume")
        return 0
