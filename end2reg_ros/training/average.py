"""Exponential moving average of weights: what a run keeps, as single steps of batch 1 jump about."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage(AveragedModel):
    """A copy of a network (``module``) whose weights and running statistics follow those of the trained one.

    Step n keeps min(decay, (1 + n) / (10 + n)) of the average: early on it forgets faster, so that the random start does not
    linger.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        def mixed(average: Tensor, now: Tensor, steps: Tensor | int) -> Tensor:
            if not average.is_floating_point():  # a counter
                return now
            keep = min(decay, (1.0 + int(steps)) / (10.0 + int(steps)))
            return torch.lerp(average, now, 1.0 - keep)

        super().__init__(network, avg_fn=mixed, use_buffers=True)
        self.n_averaged += 1  # the start counts: torch's own would forget it at the first update

    @property
    def steps(self) -> int:
        """Updates so far."""
        return int(self.n_averaged) - 1

    def resume(self, weights: Mapping[str, Tensor], steps: int) -> None:
        """Go on from the averaged weights of a checkpoint, after so many updates."""
        self.module.load_state_dict(dict(weights))
        self.n_averaged.fill_(steps + 1)
