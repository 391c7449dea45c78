"""KPConv encoder and decoder with skip connections; the segmentation and the registration both use them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from end2reg_ros.network.blocks import BlockSettings, Convolution, Residual, Unary
from end2reg_ros.network.kpconv import LevelGeometry, gather_rows


def level_channels(width: int, levels: int) -> list[int]:
    """Channels after each level of an encoder: 2, 4, 8, ... times the width."""
    return [width * 2 ** (i + 1) for i in range(levels)]


class Encoder(nn.Module):
    """One convolution and one residual block on level 0, then three residual blocks a level, the first strided."""

    def __init__(self, channels: int, width: int, levels: int, settings: BlockSettings) -> None:
        super().__init__()
        widths = level_channels(width, levels)
        self.first = Convolution(channels, width, settings)
        self.second = Residual(width, widths[0], settings)
        steps = range(1, levels)
        self.down = nn.ModuleList(
            Residual(widths[i - 1], widths[i - 1], settings, strided=True) for i in steps
        )
        self.widen = nn.ModuleList(Residual(widths[i - 1], widths[i], settings) for i in steps)
        self.last = nn.ModuleList(Residual(widths[i], widths[i], settings) for i in steps)

    def forward(
        self, features: Tensor, geometry: list[LevelGeometry], count: Tensor | None = None
    ) -> list[Tensor]:
        """Features of every level, fine to coarse; ``count`` (C0, 1) replaces the first layer's divisor."""
        finest = geometry[0]
        result = [self.second(self.first(features, finest.near, finest.share, count), finest)]
        for i, (down, widen, last) in enumerate(zip(self.down, self.widen, self.last, strict=True)):
            x = down(result[-1], geometry[i], geometry[i + 1])
            result.append(last(widen(x, geometry[i + 1]), geometry[i + 1]))
        return result


class Decoder(nn.Module):
    """Up from the coarsest level to ``finest``: copy the nearest coarse feature, join the skip, unary.

    With ``out_channels`` the last step is a bare linear layer to that many channels.
    """

    def __init__(
        self,
        width: int,
        levels: int,
        settings: BlockSettings,
        finest: int = 0,
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        widths = level_channels(width, levels)
        self.finest = finest
        self.steps = nn.ModuleList()
        for i in range(levels - 2, finest - 1, -1):
            joined = widths[i + 1] + widths[i]
            if i == finest and out_channels is not None:
                self.steps.append(nn.Linear(joined, out_channels))
            else:
                self.steps.append(Unary(joined, widths[i], settings))

    def forward(self, features: list[Tensor], geometry: list[LevelGeometry]) -> Tensor:
        """(C_finest, channels) from the features of all levels."""
        x = features[-1]
        for step, i in zip(self.steps, range(len(features) - 2, self.finest - 1, -1), strict=True):
            up = geometry[i].up
            assert up is not None
            x = torch.cat([gather_rows(x, up), features[i]], dim=1)
            x = step(x, geometry[i].share) if isinstance(step, Unary) else step(x)
        return x
