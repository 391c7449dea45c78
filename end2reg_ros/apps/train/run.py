"""A run of training from its configuration to the weights file: what ``end2reg train`` runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from end2reg_ros.engine.torch_weights import save_weights
from end2reg_ros.errors import TrainingError
from end2reg_ros.training.config import read_config
from end2reg_ros.training.loop import Trainer
from end2reg_ros.training.validation import validate


def train(
    config_path: Path,
    out: Path,
    resume: bool = False,
    minutes: float | None = None,
    device: str = "cpu",
    workers: int = 1,
    shown: bool = False,
) -> tuple[dict[str, object], str]:
    """Train in ``out``; once the run has reached its end, write the averaged weights there.

    Args:
        minutes: stop after so many, resumable; None: at the run's end.
        workers: processes that prepare scenes ahead.

    Returns:
        What came of it, as JSON takes it, and in one line.

    Raises:
        TrainingError: a configuration that cannot be; a folder that holds a run already, or none to go on with.
    """
    config = read_config(config_path)
    if not resume and (out / "checkpoint.pt").is_file():
        raise TrainingError(f"{out} holds a run already: --resume goes on with it, or choose another --out")
    trainer = Trainer(config, out, device, workers)
    if resume:
        trainer.resume()
    ended = trainer.run(float("inf") if minutes is None else minutes, shown)
    outcome: dict[str, object] = {
        "ended": ended,
        "phase": trainer.phase,
        "iteration": trainer.iteration,
        "seconds": round(trainer.seconds, 1),
        "skipped": trainer.skipped,
    }
    if not ended:
        first = trainer.phase == "segmentation"
        count = config.segmentation_iterations if first else config.iterations
        text = f"{trainer.phase} {trainer.iteration} of {count}: go on with --resume"
        return outcome | {"out": str(out)}, text
    network = trainer.averaged()
    record = {**outcome, "config": asdict(config)}  # without the folder, which is of this machine
    if trainer.validation:
        found = validate(network, trainer.validation, config.strategy)
        outcome["validation"] = record["validation"] = found.as_row()
    path = out / "weights.safetensors"
    outcome["hash"] = save_weights(path, trainer.profile, network.state_dict(), {}, record)
    text = f"{path}: {trainer.iteration} iterations, {trainer.seconds / 60:.0f} min"
    return outcome | {"out": str(out), "weights": str(path)}, text
