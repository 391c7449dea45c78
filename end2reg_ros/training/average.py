"""Exponential moving average of weights: what a run keeps, as single steps of batch 1 jump about."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """Average of a network's weights; early on it forgets faster, so that the random start does not linger."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        keep = min(self.decay, (1.0 + self.steps) / (10.0 + self.steps))
        for name, value in network.state_dict().items():
            self.weights[name].lerp_(value, 1.0 - keep)

    def load(self, weights: dict[str, Tensor], steps: int) -> None:
        """Go on from a checkpoint, which lies on the CPU, after so many updates."""
        self.weights = {name: value.clone().to(self.weights[name].device) for name, value in weights.items()}
        self.steps = steps
