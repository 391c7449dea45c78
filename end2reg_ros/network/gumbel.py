"""Straight-through Gumbel-softmax: a hard mask forward, the soft one's gradient backward (End2Reg eq. 1-3)."""

from __future__ import annotations

import torch
from torch import Tensor


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
    """Independent Gumbel(0, 1) samples: -log(-log u)."""
    uniform = torch.rand(shape, generator=generator)
    # Between the smallest and the largest float32 for which both logarithms are finite.
    return -torch.log(-torch.log(uniform.clamp(min=1e-20, max=1.0 - 1e-7)))


def soft_mask(logits: Tensor, noise: Tensor, tau: float) -> Tensor:
    """(N,) soft probability of "relevant" (eq. 1) from (N, 2) logits and noise."""
    return torch.softmax((logits + noise) / tau, dim=1)[:, 1]


def straight_through_mask(logits: Tensor, noise: Tensor, tau: float) -> Tensor:
    """(N,) exactly 0 or 1 forward (argmax of logits + noise), gradient of ``soft_mask`` backward (eq. 2, 3)."""
    soft = soft_mask(logits, noise, tau)
    noisy = (logits + noise).detach()
    hard = (noisy[:, 1] > noisy[:, 0]).to(logits.dtype)
    # Eq. 2 in this order: hard + (soft - sg(soft)) adds an exact zero.
    return hard + (soft - soft.detach())


def argmax_mask(logits: Tensor) -> Tensor:
    """(N,) 0 or 1: the plain argmax, as at run time. No noise, no gradient."""
    return (logits[:, 1] > logits[:, 0]).to(logits.dtype)
