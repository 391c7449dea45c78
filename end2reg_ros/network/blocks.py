"""The layers the KPConv networks are made of: unary, convolution and residual blocks (Thomas 2019, figure S1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from end2reg_ros.network.kpconv import KPConv, LevelGeometry, Neighbourhood, max_pool, positive_count
from end2reg_ros.network.norms import CloudNorm

SLOPE = 0.1


@dataclass(frozen=True)
class BlockSettings:
    """What all blocks of a network share: kernel points, groups of the norms, and ``Profile.count``."""

    kernel: int
    groups: int
    count: str


class Unary(nn.Module):
    """Linear, norm, LeakyReLU 0.1 (left out when ``active`` is false)."""

    def __init__(
        self, channels: int, out_channels: int, settings: BlockSettings, active: bool = True
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, out_channels)
        self.norm = CloudNorm(out_channels, settings.groups)
        self.active = active

    def forward(self, features: Tensor, share: Tensor) -> Tensor:
        """(C0, D) from (C0, C)."""
        features = self.norm(self.linear(features), share)
        return F.leaky_relu(features, SLOPE) if self.active else features


class Convolution(nn.Module):
    """KPConv, norm, LeakyReLU 0.1."""

    def __init__(self, channels: int, out_channels: int, settings: BlockSettings) -> None:
        super().__init__()
        self.conv = KPConv(settings.kernel, channels, out_channels)
        self.norm = CloudNorm(out_channels, settings.groups)
        self.count = settings.count

    def forward(
        self, features: Tensor, near: Neighbourhood, share: Tensor, count: Tensor | None = None
    ) -> Tensor:
        """(M, D) from (C0, C); ``share`` is that of the M queries; ``count`` replaces the divisor."""
        if count is None and self.count == "positive":
            count = positive_count(features, near)
        return F.leaky_relu(self.norm(self.conv(features, near, count), share), SLOPE)


class Residual(nn.Module):
    """Bottleneck: narrow (D / 4), convolve, widen, add the input. ``strided`` goes down one level."""

    def __init__(
        self, channels: int, out_channels: int, settings: BlockSettings, strided: bool = False
    ) -> None:
        super().__init__()
        middle = out_channels // 4
        self.strided = strided
        self.narrow = Unary(channels, middle, settings) if channels != middle else None
        self.convolve = Convolution(middle, middle, settings)
        self.widen = Unary(middle, out_channels, settings, active=False)
        self.shortcut = (
            Unary(channels, out_channels, settings, active=False) if channels != out_channels else None
        )

    def forward(self, features: Tensor, level: LevelGeometry, coarser: LevelGeometry | None = None) -> Tensor:
        """Features of the same level, or of ``coarser`` when strided."""
        near, share = level.near, level.share
        if self.strided:
            assert level.down is not None and coarser is not None
            near, share = level.down, coarser.share
        inner = features if self.narrow is None else self.narrow(features, level.share)
        inner = self.widen(self.convolve(inner, near, share), share)
        skip = max_pool(features, near) if self.strided else features
        if self.shortcut is not None:
            skip = self.shortcut(skip, share)
        return F.leaky_relu(inner + skip, SLOPE)
