"""``python -m end2reg_ros.training.package``: a training run and a region finder as the one weights file that is shipped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from end2reg_ros.engine.torch_weights import load_weights, save_weights
from end2reg_ros.errors import TrainingError
from end2reg_ros.profile import get_profile
from end2reg_ros.training.checkpoint import load_state
from end2reg_ros.training.command import main
from end2reg_ros.training.region.train import load_region_net

LARGEST_BYTES = 25_000_000


@dataclass(frozen=True)
class Package:
    """Put the averaged weights of a run and the region finder's into one file, with the record of both.

    Attributes:
        run: folder of a training run, ended or not (then its checkpoint's averaged weights are taken), or a weights file.
        region: checkpoint of the region finder; without it the file has none, and a start is needed.
        out: the safetensors file.
        note: one line for the record.
    """

    run: Path
    out: Path
    region: Path | None = None
    note: str = ""

    def execute(self) -> str:
        """Write the file; returns a line with its size and its hash.

        Raises:
            TrainingError: no run, or a file above the size that the repository takes.
            WeightsError: weights that cannot be read.
        """
        network, profile, record = self._network()
        region: dict[str, torch.Tensor] = {}
        if self.region is not None:
            finder, record["region"] = load_region_net(self.region)
            region = finder.state_dict()
        config = record.get("config")
        if isinstance(config, dict):  # folders of one machine mean nothing on another
            for name in ("shards", "validation"):
                config[name] = [Path(str(folder)).name for folder in config.get(name, ())]
        record.pop("out", None)
        if self.note:
            record["note"] = self.note
        self.out.parent.mkdir(parents=True, exist_ok=True)
        digest = save_weights(self.out, get_profile(profile), network, region, record)
        if self.out.stat().st_size > LARGEST_BYTES:
            raise TrainingError(f"{self.out} has {self.out.stat().st_size} bytes, {LARGEST_BYTES} at most")
        return f"{self.out}: {self.out.stat().st_size} bytes, hash {digest}"

    def _network(self) -> tuple[dict[str, torch.Tensor], str, dict[str, Any]]:
        """State, profile and record of the run."""
        path = self.run / "weights.safetensors" if self.run.is_dir() else self.run
        if path.is_file():
            weights = load_weights(path)
            return weights.network, weights.profile, dict(weights.record)
        state = load_state(self.run / "checkpoint.pt")
        record = {
            "ended": False,
            "iteration": state.iteration,
            "seconds": round(state.seconds, 1),
            "config": state.config,
        }
        return state.average, str(state.config["profile"]), record


if __name__ == "__main__":
    main(Package)
