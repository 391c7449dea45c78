"""The region network of a training run, read from its checkpoint."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from end2reg_ros.errors import TrainingError
from end2reg_ros.network.region_net import RegionNet, RegionNetSettings

FORMAT = "end2reg-region-1"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's document; ``state_dict`` holds the averaged weights.

    Raises:
        TrainingError: missing, cut short, or not of this program.
    """
    if not path.is_file():
        raise TrainingError(f"no region network at {path}: train one with end2reg_ros.training.region.train")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile) as fault:
        raise TrainingError(
            f"{path} cannot be read, it may be cut short: {str(fault).splitlines()[0]}"
        ) from None
    except Exception as fault:  # pickle's own errors
        raise TrainingError(f"{path} is no region network: {type(fault).__name__}") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise TrainingError(f"{path} is no region network of this program")
    return state


def load_region_net(path: Path) -> RegionNet:
    """The trained network of a checkpoint, in eval mode.

    Raises:
        TrainingError: see ``read_checkpoint``.
    """
    state = read_checkpoint(path)
    network = RegionNet(RegionNetSettings(**state["settings"]["net"]))
    network.load_state_dict(state["state_dict"])
    return network.eval()
