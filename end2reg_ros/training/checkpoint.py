"""The state of a training run on disk: written whole or not at all, so that a run may be cut off at any time."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from end2reg_ros.errors import TrainingError


@dataclass
class TrainingState:
    """Everything a run needs to go on.

    Attributes:
        iteration: steps done in this phase; phase: ``segmentation`` or ``registration``.
        network, average: weights and their moving average.
        optimiser: of Adam.
        generator: of the Gumbel noise and of the drawn pairs.
        config: the run's settings, to refuse a resume with others.
        seconds: spent so far.
        skipped: steps left out as their loss or gradient was not finite.
        average_steps: updates of the moving average; None in checkpoints that do not tell.
    """

    iteration: int
    phase: str
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    optimiser: dict[str, Any]
    generator: Tensor
    config: dict[str, Any]
    seconds: float
    skipped: int
    average_steps: int | None = None


def write_checkpoint(path: Path, document: dict[str, Any]) -> None:
    """Write to a temporary file beside ``path`` and rename it."""
    temporary = path.with_suffix(".tmp")
    torch.save(document, temporary)
    os.replace(temporary, path)


def read_checkpoint(path: Path, kind: str) -> Any:
    """What ``write_checkpoint`` wrote, on the CPU; no code in the file is run.

    Args:
        kind: what it should be, for the error: "training checkpoint".

    Raises:
        TrainingError: cut short, or no checkpoint.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile) as fault:
        first = " ".join(str(fault).split())[:120]
        raise TrainingError(f"checkpoint {path} cannot be read, it may be cut short: {first}") from None
    except Exception as fault:  # pickle's own errors
        raise TrainingError(f"{path} is no {kind}: {type(fault).__name__}") from None


def load_state(path: Path) -> TrainingState:
    """Read a run's checkpoint.

    Raises:
        TrainingError: missing, cut short, or not a checkpoint of this program.
    """
    if not path.is_file():
        raise TrainingError(f"no checkpoint {path} to resume from: start without --resume")
    document = read_checkpoint(path, "training checkpoint")
    try:
        return TrainingState(**document)
    except TypeError as fault:
        raise TrainingError(f"{path} is no training checkpoint: {type(fault).__name__}") from None
