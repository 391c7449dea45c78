"""Geometric transformer over superpoints (GeoTransformer, section 3.2): self-attention that knows where things are,
cross-attention that compares the two clouds.

Masks are additive -1e4: -inf gives NaN in a row where everything is masked, -1e12 overflows half precision.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from end2reg_ros.profile import Profile

MASKED = -1e4


def attention_mask(mask: Tensor) -> Tensor:
    """(N,) of 1 and 0 -> (N,) of 0 and -1e4, to be added to scores."""
    return (1.0 - mask) * MASKED


class Attention(nn.Module):
    """Multi-head attention, with ``pair_channels`` also of an embedding of pairs (relative position); add, norm (post-LN)."""

    def __init__(self, channels: int, heads: int, pair_channels: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.position = nn.Linear(pair_channels, channels) if pair_channels else None
        self.out = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor, embedding: Tensor | None = None) -> Tensor:
        """(N, C) attends to (M, C); ``mask`` (M,) additive; ``embedding`` (N, M, pair_channels)."""
        query = self._split(self.query(x))
        scores = query @ self._split(self.key(source)).transpose(1, 2)
        if self.position is not None and embedding is not None:
            scores = scores + self.position_scores(query, embedding)
        scores = scores * (query.shape[2] ** -0.5) + mask
        mixed = torch.softmax(scores, dim=2) @ self._split(self.value(source))
        return self.norm(x + self.out(mixed.transpose(0, 1).reshape(x.shape)))

    def position_scores(self, query: Tensor, embedding: Tensor) -> Tensor:
        """(heads, N, M) of q . (W E + b), re-associated as (W^T q) . E + q . b: E is never projected pair by pair."""
        assert self.position is not None
        heads, _, width = query.shape
        weight = self.position.weight.reshape(heads, width, -1)
        turned = (query @ weight).transpose(0, 1)
        constant = (query * self.position.bias.reshape(heads, 1, width)).sum(dim=2, keepdim=True)
        return torch.bmm(turned, embedding.transpose(1, 2)).transpose(0, 1) + constant

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], self.heads, -1).transpose(0, 1)


class FeedForward(nn.Module):
    """Linear to twice the width, ReLU, back, add and norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, 2 * channels)
        self.squeeze = nn.Linear(2 * channels, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) -> (N, C)."""
        return self.norm(x + self.squeeze(F.relu(self.expand(x))))


class Layer(nn.Module):
    """Attention and feed-forward."""

    def __init__(self, channels: int, heads: int, pair_channels: int = 0) -> None:
        super().__init__()
        self.attention = Attention(channels, heads, pair_channels)
        self.feed_forward = FeedForward(channels)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor, embedding: Tensor | None = None) -> Tensor:
        """(N, C) after attending to ``source`` (M, C)."""
        return self.feed_forward(self.attention(x, source, mask, embedding))


class GeometricTransformer(nn.Module):
    """Alternating self- and cross-attention; the first self-attention sees one cloud only and belongs to its encoding."""

    def __init__(self, in_channels: int, profile: Profile) -> None:
        super().__init__()
        channels, heads = profile.transformer_channels, profile.heads
        self.into = nn.Linear(in_channels, channels)
        self.self_layers = nn.ModuleList(
            Layer(channels, heads, profile.embedding_channels) for _ in range(profile.transformer_layers)
        )
        self.cross_layers = nn.ModuleList(Layer(channels, heads) for _ in range(profile.transformer_layers))
        self.out = nn.Linear(channels, channels)

    def begin(self, features: Tensor, embedding: Tensor, mask: Tensor) -> Tensor:
        """(N, C) of one cloud after the first self-attention, from its (N, in_channels) and (N, N, C)."""
        x = self.into(features)
        return self.self_layers[0](x, x, attention_mask(mask), embedding)

    def forward(
        self, model: tuple[Tensor, Tensor, Tensor], scene: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Both clouds' features after all layers, from (``begin``'s features, embedding, mask) of each."""
        x, model_embedding, model_mask = model
        y, scene_embedding, scene_mask = scene
        model_mask, scene_mask = attention_mask(model_mask), attention_mask(scene_mask)
        for i, cross in enumerate(self.cross_layers):
            if i > 0:
                own = self.self_layers[i]
                x = own(x, x, model_mask, model_embedding)
                y = own(y, y, scene_mask, scene_embedding)
            # One after the other, as published: the scene sees the model's updated features.
            x = cross(x, y, scene_mask)
            y = cross(y, x, model_mask)
        return self.out(x), self.out(y)
