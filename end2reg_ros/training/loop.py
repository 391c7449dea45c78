"""The training loop: seeded, resumable at any time, and loud about what goes wrong."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from end2reg_ros.engine.torch_weights import load_into, load_weights
from end2reg_ros.errors import TrainingError
from end2reg_ros.network.losses import LossSettings
from end2reg_ros.network.model import End2Reg
from end2reg_ros.profile import get_profile
from end2reg_ros.training.average import MovingAverage
from end2reg_ros.training.checkpoint import TrainingState, load_state, write_checkpoint
from end2reg_ros.training.config import TrainingConfig
from end2reg_ros.training.data.loader import (
    PairDataset,
    PairTensors,
    ShardIndex,
    fixed_pairs,
    pairs_from,
    to_device,
)
from end2reg_ros.training.logs import RunLog, draw_curves
from end2reg_ros.training.progress import ProgressBar
from end2reg_ros.training.steps import StepResult, registration_step, segmentation_step
from end2reg_ros.training.validation import validate

LOG_EVERY = 100
COLLAPSE_WINDOW = 300
MAX_SKIPPED_IN_A_ROW = 50
MAY_CHANGE = ("threads", "validate_every", "checkpoint_minutes", "validation_scenes")


class Trainer:
    """One run in one folder: ``run`` goes on until the end, or until the minutes are up."""

    def __init__(self, config: TrainingConfig, folder: Path, device: str = "cpu", workers: int = 1) -> None:
        """Set up.

        Raises:
            TrainingError: no shards, an unknown profile, a device that torch does not have.
            WeightsError: weights to start from that do not fit.
        """
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config, self.folder, self.device, self.workers = config, folder, device, workers
        try:
            self.profile = get_profile(config.profile)
        except ValueError as fault:
            raise TrainingError(str(fault)) from None
        self.network = End2Reg(self.profile)
        if config.start_from:
            load_into(self.network, load_weights(Path(config.start_from)).network, "network")
        try:
            self.network.to(device)
        except (RuntimeError, AssertionError) as fault:
            raise TrainingError(
                f"torch cannot use the device '{device}': {str(fault).splitlines()[0]}"
            ) from None
        self.average = MovingAverage(self.network, config.average)
        self.optimiser = self._optimiser()
        self.generator = torch.Generator().manual_seed(config.seed)
        self.loss = LossSettings(pairs=config.fine_pairs)
        self.phase = "segmentation" if config.strategy == "two_step" else "registration"
        self.iteration, self.seconds, self.skipped = 0, 0.0, 0
        self._in_a_row, self._text = 0, ""
        self.index = ShardIndex(config.shards, config.weights)
        self.validation = fixed_pairs(
            config.validation, self.profile, config.augmentation, config.validation_scenes
        )
        folder.mkdir(parents=True, exist_ok=True)
        self.log = RunLog(folder)
        self._window: deque[StepResult] = deque(maxlen=COLLAPSE_WINDOW)

    @property
    def checkpoint(self) -> Path:
        """Where the run's state is kept."""
        return self.folder / "checkpoint.pt"

    def resume(self) -> None:
        """Go on from the folder's checkpoint.

        Raises:
            TrainingError: none there, unreadable, or of a run with other settings.
        """
        state = load_state(self.checkpoint)
        now = asdict(self.config)
        for name, value in now.items():
            if name not in MAY_CHANGE and _plain(state.config.get(name)) != _plain(value):
                raise TrainingError(
                    f"{self.checkpoint} is of a run with {name}: {state.config.get(name)}, not {value}"
                )
        self.phase, self.iteration = state.phase, state.iteration
        self.seconds, self.skipped = state.seconds, state.skipped
        load_into(self.network, state.network, "network")
        self.average.resume(
            state.average, state.iteration if state.average_steps is None else state.average_steps
        )
        if self.phase == "registration":
            self._freeze()
        self.optimiser = self._optimiser()
        self.optimiser.load_state_dict(state.optimiser)
        self.generator.set_state(state.generator)
        self.log.cut(self.phase, self.iteration)

    def run(self, minutes: float = math.inf, progress: bool = True) -> bool:
        """Train. Returns whether the run has reached its end; if not, ``resume`` goes on.

        Raises:
            TrainingError: the mask has collapsed, or nothing but non-finite steps.
        """
        until = time.monotonic() + 60.0 * minutes
        if self.phase == "segmentation":
            if not self._phase(self.config.segmentation_iterations, until, progress, self._segmentation):
                self.save()
                return False
            self.phase, self.iteration = "registration", 0
            self.average = MovingAverage(self.network, self.config.average)
            self._freeze()
            self.optimiser = self._optimiser()
        ended = self._phase(self.config.iterations, until, progress, self._registration)
        if ended:
            self._validate(partial(print, flush=True))
        self.save()
        draw_curves(self.log.path, self.folder / "curves.png")
        self.log.close()
        return ended

    def averaged(self) -> End2Reg:
        """The network with the averaged weights, in eval mode."""
        return cast(End2Reg, self.average.module.eval())

    def save(self) -> None:
        """Write the checkpoint."""
        state = TrainingState(
            self.iteration, self.phase, self.network.state_dict(), self.average.module.state_dict(),
            self.optimiser.state_dict(), self.generator.get_state(), asdict(self.config), self.seconds, self.skipped,
            self.average.steps,
        )  # fmt: skip
        write_checkpoint(self.checkpoint, vars(state))

    def _phase(
        self, count: int, until: float, progress: bool, step: Callable[[PairTensors], StepResult]
    ) -> bool:
        config = self.config
        seed = config.seed + (1_000_003 if self.phase == "segmentation" else 0)
        data = PairDataset(self.index, self.profile, config.augmentation, seed, count * config.accumulate)
        pairs = pairs_from(data, self.iteration * config.accumulate, self.workers)
        saved = time.monotonic()
        with ProgressBar(self.phase, count, progress) as bar:
            while self.iteration < count:
                began = time.monotonic()
                if began > until:
                    return False
                rate = self._set_rate(count)
                result, norm = self._update(pairs, step)
                self.iteration += 1
                self.seconds += time.monotonic() - began
                self._window.append(result)
                bar.step(self.iteration, self._text)
                if self.iteration % LOG_EVERY == 0:
                    self._log(rate, norm)
                if self.iteration % config.validate_every == 0 and self.iteration < count:
                    self._validate(bar.line)
                if time.monotonic() - saved > 60.0 * config.checkpoint_minutes:
                    self.save()
                    saved = time.monotonic()
        return True

    def _update(self, pairs: Any, step: Callable[[PairTensors], StepResult]) -> tuple[StepResult, float]:
        """One step of the optimiser, left out when a loss or gradient is not finite."""
        self.network.train()
        self.network.zero_grad()  # all of it: a frozen part's last gradients would count in the clipped norm
        for _ in range(self.config.accumulate):
            pair: PairTensors = to_device(next(pairs), self.device) if self.device != "cpu" else next(pairs)
            result = step(pair)
            (result.total / self.config.accumulate).backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip))
        if math.isfinite(norm) and math.isfinite(float(result.total.detach())):
            self.optimiser.step()
            self.average.update_parameters(self.network)
            self._in_a_row = 0
        else:
            self.skipped += 1
            self._in_a_row += 1
            if self._in_a_row > MAX_SKIPPED_IN_A_ROW:
                raise TrainingError(
                    f"{self._in_a_row} steps in a row gave no finite loss or gradient: lower the learning rate"
                )
        return result.detached(), norm

    def _registration(self, pair: PairTensors) -> StepResult:
        return registration_step(
            self.network, pair, self.config.strategy, self._tau(), self.loss, self.generator
        )

    def _segmentation(self, pair: PairTensors) -> StepResult:
        return segmentation_step(self.network, pair)

    def _tau(self) -> float:
        """Falls evenly on a logarithmic scale."""
        config = self.config
        return config.tau * (config.tau_end / config.tau) ** (self.iteration / config.iterations)

    def _set_rate(self, count: int) -> float:
        """Linear warm-up, then a cosine down to ``final_rate`` of it."""
        config = self.config
        done = (self.iteration - config.warm_up) / max(1, count - config.warm_up)
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, max(0.0, done))))
        share = config.final_rate + (1.0 - config.final_rate) * cosine
        rate = config.learning_rate * min(1.0, (self.iteration + 1) / max(1, config.warm_up)) * share
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        return rate

    def _log(self, rate: float, norm: float) -> None:
        recent = list(self._window)[-LOG_EVERY:]
        mean = {
            name: float(sum(getattr(r, name) for r in recent) / len(recent))
            for name in ("loss", "coarse", "fine", "mask_share", "mask_iou")
        }
        self.log.row(
            {"phase": self.phase, "iteration": self.iteration, "seconds": self.seconds, "rate": rate,
             "tau": self._tau(), "gradient": norm, "skipped": self.skipped, **mean}
        )  # fmt: skip
        self._text = f"loss {mean['loss']:.3f}, mask {mean['mask_share']:.2f}, IoU {mean['mask_iou']:.2f}"
        config = self.config
        if (
            config.strategy == "end_to_end"
            and self.iteration >= config.collapse_after
            and len(self._window) == COLLAPSE_WINDOW
            and sum(r.mask_share for r in self._window) / COLLAPSE_WINDOW > config.collapse_share
        ):
            raise TrainingError(
                f"the mask has collapsed: {100 * mean['mask_share']:.0f} % of the points have label 1 after "
                f"{self.iteration} iterations (limit {100 * config.collapse_share:.0f} %)"
            )

    def _validate(self, say: Callable[[str], None]) -> None:
        if not self.validation or self.phase != "registration":
            return
        found = validate(self.averaged(), self.validation, self.config.strategy)
        row = found.as_row()
        self.log.row(
            {"phase": self.phase, "iteration": self.iteration, "seconds": self.seconds,
             "validation_mask_share": row.pop("mask_share"), "validation_mask_iou": row.pop("mask_iou"), **row}
        )  # fmt: skip
        say(
            f"{self.phase} {self.iteration}: landmark error {found.tre_median_mm:.2f} "
            f"[{found.tre_q1_mm:.2f}, {found.tre_q3_mm:.2f}] mm, {100 * found.outlier_share:.0f} % above 10 mm, "
            f"mask IoU {found.mask_iou:.2f}, share {found.mask_share:.2f} ({found.scenes} scenes)"
        )
        draw_curves(self.log.path, self.folder / "curves.png")

    def _optimiser(self) -> torch.optim.Adam:
        trained = [p for p in self.network.parameters() if p.requires_grad]
        return torch.optim.Adam(trained, lr=self.config.learning_rate, weight_decay=self.config.weight_decay)

    def _freeze(self) -> None:
        """The second step of ``two_step`` leaves the segmentation as it is."""
        if self.config.strategy == "two_step":
            self.network.segmentation.requires_grad_(False)


def _plain(value: Any) -> Any:
    """Tuples and lists alike, as a checkpoint may turn one into the other."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
