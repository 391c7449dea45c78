"""Training of the region network: ``python -m end2reg_ros.training.region.train --shards S --out region.pt``.

A run that was cut off, or that reached ``--minutes``, goes on where it was when it is started again with the same words.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from end2reg_ros.errors import TrainingError
from end2reg_ros.network.region_net import RegionNet, RegionNetSettings
from end2reg_ros.training.average import MovingAverage
from end2reg_ros.training.checkpoint import read_checkpoint, write_checkpoint
from end2reg_ros.training.command import main
from end2reg_ros.training.data.samples import load_view, scene_files
from end2reg_ros.training.region.data import (
    RegionAugmentation,
    RegionBatch,
    batches,
    make_crop,
    make_mosaic,
    make_sample,
    stack,
)
from end2reg_ros.training.region.loss import RegionLoss, region_loss
from end2reg_ros.training.region.split import split_by_anatomy

FORMAT = "end2reg-region-1"


@dataclass(frozen=True)
class RegionTraining:
    """One training run.

    Attributes:
        steps: of Adam, with ``batch`` whole views and ``mosaics`` of upright crops each; the learning rate rises over
            ``warm_up`` and falls as a cosine.
        average: decay of the moving average of the weights, which is what is kept.
        bone_weight: weight of a bone cell in the cross-entropy; direction_weight: of the directions' losses.
        validate_every: steps; validation_views: at most.
    """

    steps: int = 1200
    batch: int = 6
    mosaics: int = 1
    learning_rate: float = 3e-3
    warm_up: int = 60
    weight_decay: float = 1e-4
    average: float = 0.995
    bone_weight: float = 3.0
    direction_weight: float = 1.0
    seed: int = 0
    validate_every: int = 400
    validation_views: int = 80
    net: RegionNetSettings = dataclasses.field(default_factory=RegionNetSettings)
    augmentation: RegionAugmentation = dataclasses.field(default_factory=RegionAugmentation)


class RegionTrainer:
    """Network, optimiser and moving average of one run."""

    def __init__(self, settings: RegionTraining) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.network = RegionNet(settings.net)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.average = MovingAverage(self.network, settings.average)
        self.done = 0

    def step(self, batch: RegionBatch) -> RegionLoss:
        """One step of Adam; steps with a loss or gradient that is not finite leave the weights alone."""
        s = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = s.learning_rate * _schedule(self.done, s)
        self.network.train()
        loss = region_loss(self.network(batch.picture), batch, s.bone_weight)
        self.optimiser.zero_grad()
        loss.total(s.direction_weight).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        if torch.isfinite(norm):
            self.optimiser.step()
        self.done += 1
        self.average.update_parameters(self.network)
        return loss

    def averaged(self) -> RegionNet:
        """The network with the averaged weights, in eval mode."""
        return cast(RegionNet, self.average.module.eval())

    def save(self, path: Path) -> None:
        """Write the state beside ``path`` and rename it: never half a file."""
        write_checkpoint(
            path,
            {
                "format": FORMAT,
                "settings": dataclasses.asdict(self.settings),
                "done": self.done,
                "state_dict": self.average.module.state_dict(),
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
            },
        )

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            TrainingError: one of other settings, cut short, or of something else.
        """
        state = _read(path)
        if state["settings"] != dataclasses.asdict(self.settings):
            raise TrainingError(f"{path} was trained with other settings: choose another --out, or remove it")
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done = state["done"]
        self.average.resume(state["state_dict"], self.done)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise TrainingError(f"no region network at {path}: train one with end2reg_ros.training.region.train")
    state = read_checkpoint(path, "region network")
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise TrainingError(f"{path} is no region network of this program")
    return state


def load_region_net(path: Path) -> tuple[RegionNet, dict[str, int | float | str]]:
    """The trained network of a checkpoint (its averaged weights), in eval mode, and the record of its training.

    Raises:
        TrainingError: missing, cut short, or not of this program.
    """
    state = _read(path)
    network = RegionNet(RegionNetSettings(**state["settings"]["net"]))
    network.load_state_dict(state["state_dict"])
    return network.eval(), {k: v for k, v in state.items() if isinstance(v, int | float | str)}


def _schedule(done: int, s: RegionTraining) -> float:
    rise = min(1.0, (done + 1) / s.warm_up)
    return rise * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done / s.steps))))


@torch.no_grad()
def validate(network: RegionNet, files: Sequence[Path]) -> dict[str, float]:
    """Of views as they are: bone IoU, error of the line along the spine, share of wrong ends, upright and as they are."""
    hit = union = 0.0
    lines, wrong, wrong_upright = [], [], []
    for number, path in enumerate(files):
        view, rng = load_view(path), np.random.default_rng(number)
        batch = stack([make_sample(view, None, rng)])
        output = network(batch.picture)
        said, true = output[:, 0] > 0.0, batch.bone > 0.5
        hit += float((said & true).sum())
        union += float((said | true).sum())
        if view.T_camera_model is None or not true.any():
            continue
        line, superior = _directions(output, batch)
        lines.append(line)
        wrong.append(not superior)
        crop = stack([make_mosaic([make_crop(view, RegionAugmentation(), rng)])])
        if crop.bone.any():
            wrong_upright.append(not _directions(network(crop.picture), crop)[1])
    return {
        "iou": round(hit / max(union, 1.0), 4),
        "line_median_deg": round(float(np.median(lines)), 2) if lines else math.nan,
        "line_above_25_deg": round(float(np.mean(np.array(lines) > 25.0)), 4) if lines else math.nan,
        "wrong_end": round(float(np.mean(wrong)), 4) if wrong else math.nan,
        "wrong_end_upright": round(float(np.mean(wrong_upright)), 4) if wrong_upright else math.nan,
    }


def _directions(output: Tensor, batch: RegionBatch) -> tuple[float, bool]:
    """Error of the mean line on true bone, degrees, and whether the mean superior direction has the right end."""
    weight = batch.bone[0] / batch.bone.sum()
    x, y = ((batch.directions[0, :2] * weight).sum(dim=(1, 2))).tolist()
    c, s, u, v = ((output[0, 1:5] * weight).sum(dim=(1, 2))).tolist()
    twice = math.degrees(math.atan2(s, c) - 2.0 * math.atan2(y, x))
    return 0.5 * abs((twice + 180.0) % 360.0 - 180.0), u * x + v * y > 0.0


def train(shards: Sequence[Path], out: Path, settings: RegionTraining, minutes: float) -> RegionTrainer:
    """Train, or go on training, until ``settings.steps`` or ``minutes`` from now; the state goes to ``out``.

    Raises:
        TrainingError: no scenes, or an unusable checkpoint at ``out``.
    """
    training, validation = split_by_anatomy(scene_files(*shards))
    if not training:
        raise TrainingError("no scenes to train on: all their anatomies are held out")
    trainer = RegionTrainer(settings)
    if out.is_file():
        trainer.resume(out)
    print(
        f"{len(training)} views to train on, {len(validation)} held out; {trainer.done} of {settings.steps} steps done"
    )
    start, spoken = time.monotonic(), time.monotonic()
    source = batches(
        training, settings.batch, settings.mosaics, settings.augmentation, settings.seed, trainer.done
    )
    parts: list[list[float]] = []
    while trainer.done < settings.steps and time.monotonic() - start < 60.0 * minutes:
        loss = trainer.step(next(source))
        parts.append([float(p.detach()) for p in vars(loss).values()])
        if time.monotonic() - spoken > 20.0 or trainer.done == settings.steps:
            means = "  ".join(f"{k} {v:.3f}" for k, v in zip(vars(loss), np.mean(parts, axis=0), strict=True))
            print(f"{trainer.done:5d}  {means}  {(time.monotonic() - start) / 60.0:.1f} min", flush=True)
            parts, spoken = [], time.monotonic()
            trainer.save(out)
        if trainer.done % settings.validate_every == 0 or trainer.done == settings.steps:
            shown = validation[:: max(1, len(validation) // settings.validation_views)]
            print(json.dumps({"step": trainer.done, **validate(trainer.averaged(), shown)}), flush=True)
    trainer.save(out)
    return trainer


@dataclass(frozen=True)
class TrainRegion:
    """Train the region network; started again with the same words, a run goes on where it was.

    Attributes:
        shards: folders of training scenes.
        out: checkpoint of the network.
        minutes: stop after this long.
        steps: of the whole run.
        seed: of everything random.
    """

    shards: tuple[Path, ...]
    out: Path
    minutes: float = 60.0
    steps: int = RegionTraining.steps
    seed: int = RegionTraining.seed

    def execute(self) -> str:
        """Train on one thread."""
        torch.set_num_threads(1)
        train(self.shards, self.out, RegionTraining(steps=self.steps, seed=self.seed), self.minutes)
        return ""


if __name__ == "__main__":
    main(TrainRegion)
