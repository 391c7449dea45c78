"""GroupNorm of one cloud, blind to padding.

Statistics run over one cloud's points only: the model's features do not depend on the scene and are computed once per
case. GeoTransformer stacks both clouds. LayerNorm would do that too, but lets the unsupervised mask collapse to ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class CloudNorm(nn.Module):
    """GroupNorm over the points of a cloud, written as an affine map from two column means.

    Equals ``torch.nn.functional.group_norm`` on the points without their padding.

    Args:
        groups: wished number of groups; the greatest common divisor with ``channels`` is taken.
    """

    gather: Tensor
    spread: Tensor

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = math.gcd(channels, groups)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        member = torch.eye(self.groups).repeat_interleave(channels // self.groups, dim=0)
        # Follow from the sizes: not part of a checkpoint.
        self.register_buffer("gather", member * (self.groups / channels), persistent=False)
        self.register_buffer("spread", member.T.contiguous(), persistent=False)

    def forward(self, features: Tensor, share: Tensor) -> Tensor:
        """(C0, C) normalised; ``share`` (1, C0) is 1 / points for points and 0 for padding (sums to 1)."""
        mean = self._of_groups(share @ features)
        square = self._of_groups(share @ (features * features))
        scale = self.weight / ((square - mean * mean).clamp(min=0.0) + 1e-5).sqrt()
        return features * scale + (self.bias - mean * scale)

    def _of_groups(self, columns: Tensor) -> Tensor:
        """(1, C) -> (1, C) with every column replaced by its group's mean: two small products, few steps in a graph."""
        return (columns @ self.gather) @ self.spread
