"""Which points matter for registration: a KPConv U-Net from colours (and normals) to two logits a point."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from end2reg_ros.network.backbone import Decoder, Encoder
from end2reg_ros.network.blocks import BlockSettings
from end2reg_ros.network.kpconv import LevelGeometry
from end2reg_ros.network.norms import CloudNorm
from end2reg_ros.profile import Profile


class SegmentationNet(nn.Module):
    """U-Net, then Linear - norm - ReLU - Linear to [irrelevant, relevant]."""

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        settings = BlockSettings(profile.segmentation_kernel_points, profile.groups, profile.count)
        levels = len((profile.segmentation or profile.scene).voxels)
        width = profile.segmentation_width
        self.attributes = 6 if profile.segmentation_normals else 3
        self.encoder = Encoder(1 + self.attributes, width, levels, settings)
        self.decoder = Decoder(width, levels, settings)
        self.hidden = nn.Linear(2 * width, width)
        self.norm = CloudNorm(width, profile.groups)
        self.logits = nn.Linear(width, 2)
        with torch.no_grad():
            self.logits.bias.copy_(torch.tensor([0.0, profile.logit_bias]))

    def forward(self, attributes: Tensor, geometry: list[LevelGeometry]) -> Tensor:
        """(C0, 2) logits from (C0, 6) attributes."""
        mask = geometry[0].mask
        # "Present" must be the divisor of the first layer: a feature sum with a normal in it may be negative.
        features = torch.cat([mask, attributes[:, : self.attributes]], dim=1)
        encoded = self.encoder(features, geometry, geometry[0].near.size)
        decoded = self.decoder(encoded, geometry)
        return self.logits(F.relu(self.norm(self.hidden(decoded), geometry[0].share)))
