"""Where the spine is in the whole view, and which way it runs: a small U-Net on the picture of ``cloud.view_grid``.

Fixed shapes, plain convolutions and batch norms that fold into them: nothing that an exporter or an engine trips over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from end2reg_ros.cloud.view_grid import CHANNELS

OUTPUTS = 7  # bone logit; cosine and sine of twice the axis' angle; superior direction x, y; anterior direction x, y
STRIDE = 2  # cells of the grid to a cell of the maps


@dataclass(frozen=True)
class RegionNetSettings:
    """Widths of the three scales (16, 32 and 64 mm cells)."""

    fine: int = 24
    middle: int = 40
    coarse: int = 64


class _Convolution(nn.Sequential):
    """3x3 convolution, norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


class RegionNet(nn.Module):
    """Maps of bone, of the line along the spine, of its superior direction and of the model's anterior direction.

    The line (twice the angle) is learned long before which of its ends is superior. Directions are x, y of unit vectors
    in the camera frame. They are trained by squared error, so that a direction that the network cannot tell from its
    opposite comes out short: its length is a confidence.
    """

    def __init__(self, settings: RegionNetSettings | None = None) -> None:
        super().__init__()
        s = settings or RegionNetSettings()
        self.stem = nn.Sequential(
            _Convolution(CHANNELS, s.fine, stride=STRIDE, kernel=5), _Convolution(s.fine, s.fine)
        )
        self.down_middle = nn.Sequential(
            _Convolution(s.fine, s.middle, stride=2), _Convolution(s.middle, s.middle)
        )
        self.down_coarse = nn.Sequential(
            _Convolution(s.middle, s.coarse, stride=2),
            _Convolution(s.coarse, s.coarse),
            _Convolution(s.coarse, s.coarse),
        )
        self.up_middle = nn.Sequential(
            _Convolution(s.coarse + s.middle, s.middle), _Convolution(s.middle, s.middle)
        )
        self.up_fine = nn.Sequential(_Convolution(s.middle + s.fine, s.fine), _Convolution(s.fine, s.fine))
        self.head = nn.Conv2d(s.fine, OUTPUTS, 1)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias[:1], -3.0)  # bone is rare

    def forward(self, picture: Tensor) -> Tensor:
        """(B, CHANNELS, 120, 160) -> (B, OUTPUTS, 60, 80)."""
        fine = self.stem(picture)
        middle = self.down_middle(fine)
        coarse = self.down_coarse(middle)
        middle = self.up_middle(torch.cat([_double(coarse), middle], dim=1))
        fine = self.up_fine(torch.cat([_double(middle), fine], dim=1))
        return self.head(fine)


def _double(features: Tensor) -> Tensor:
    return functional.interpolate(features, scale_factor=2.0, mode="nearest")


@torch.no_grad()
def predict_regions(network: RegionNet, picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """(CHANNELS, 120, 160) -> (OUTPUTS, 60, 80), as ``registration.find.region_search`` asks; the network in eval mode."""
    return np.asarray(network(torch.from_numpy(picture)[None])[0].numpy(), np.float32)
