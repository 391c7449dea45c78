"""Optimal transport with a dustbin (Sarlin 2020; GeoTransformer, section 3.3). Always in float32."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MASKED = -1e4
TINY = 1e-30


class Sinkhorn(nn.Module):
    """Log assignment of padded patches; the score of "no partner" is learned.

    Args:
        iterations: of row and column normalisation (20 are within 1.2e-4 of 100).
        limit: scores are clamped to +- this and exponentials are scaled by matrix products; 0: log domain throughout.
    """

    def __init__(self, iterations: int, limit: float = 0.0) -> None:
        super().__init__()
        self.iterations = iterations
        self.limit = limit
        self.dustbin = nn.Parameter(torch.tensor(1.0))

    def forward(self, scores: Tensor, row_mask: Tensor, column_mask: Tensor) -> Tensor:
        """(k, P + 1, Q + 1) log assignment; the last row and column are the dustbins.

        exp of a row in use sums to 1 (the dustbin row to the number of columns in use), likewise for columns.

        Args:
            scores: (k, P, Q).
            row_mask, column_mask: (k, P), (k, Q) of 1 and 0.
        """
        if self.limit:
            return self._scaled(scores.clamp(min=-self.limit, max=self.limit), row_mask, column_mask)
        one = torch.ones_like(row_mask[:, :1])
        row_bias = torch.cat([(1.0 - row_mask) * MASKED, 0.0 * one], dim=1)[:, :, None]
        column_bias = torch.cat([(1.0 - column_mask) * MASKED, 0.0 * one], dim=1)[:, None]
        cost = self._with_dustbins(scores)
        cost = (cost + row_bias + column_bias).clamp(min=2.0 * MASKED)

        row_count, column_count = row_mask.sum(dim=1, keepdim=True), column_mask.sum(dim=1, keepdim=True)
        total = (row_count + column_count).clamp(min=1.0).log()
        log_rows = torch.cat([row_bias[:, :-1, 0], column_count.clamp(min=1e-4).log()], dim=1) - total
        log_columns = torch.cat([column_bias[:, 0, :-1], row_count.clamp(min=1e-4).log()], dim=1) - total
        u, v = torch.zeros_like(log_rows), torch.zeros_like(log_columns)
        for _ in range(self.iterations):
            u = log_rows - _log_sum_exp(cost + v[:, None], 2)
            v = log_columns - _log_sum_exp(cost + u[:, :, None], 1)
        return cost + u[:, :, None] + v[:, None] + total[:, :, None]

    def _scaled(self, scores: Tensor, row_mask: Tensor, column_mask: Tensor) -> Tensor:
        """Log assignment by scaling exp(scores): its sums are matrix products, and nothing is exponentiated twice."""
        one = torch.ones_like(row_mask[:, :1])
        cost = self._with_dustbins(scores)
        row_use = torch.cat([row_mask, one], dim=1)[:, :, None]
        column_use = torch.cat([column_mask, one], dim=1)[:, None]
        kernel = cost.exp() * row_use * column_use

        row_count, column_count = row_mask.sum(dim=1, keepdim=True), column_mask.sum(dim=1, keepdim=True)
        total = (row_count + column_count).clamp(min=1.0)
        row_sums = torch.cat([row_mask, column_count], dim=1)[:, :, None] / total[:, :, None]
        column_sums = torch.cat([column_mask, row_count], dim=1)[:, :, None] / total[:, :, None]
        transposed = kernel.transpose(1, 2)
        u, v = row_sums, torch.ones_like(column_sums)
        for _ in range(self.iterations):
            u = row_sums / torch.bmm(kernel, v).clamp(min=TINY)
            v = column_sums / torch.bmm(transposed, u).clamp(min=TINY)
        scale = u.clamp(min=TINY).log() + v.clamp(min=TINY).log().transpose(1, 2)
        return cost + scale + total.log()[:, :, None] + (row_use * column_use - 1.0) * -MASKED

    def _with_dustbins(self, scores: Tensor) -> Tensor:
        """(k, P + 1, Q + 1) scores with a row and a column for points without a partner."""
        pairs, rows, columns = scores.shape
        side = self.dustbin.expand(pairs, rows, 1)
        below = self.dustbin.expand(pairs, 1, columns + 1)
        return torch.cat([torch.cat([scores, side], dim=2), below], dim=1)


def _log_sum_exp(x: Tensor, dim: int) -> Tensor:
    """torch.logsumexp for finite x: without its care for infinities, which is half of its gradient's cost."""
    largest = x.detach().amax(dim=dim, keepdim=True)
    return (x - largest).exp().sum(dim=dim).log() + largest.squeeze(dim)
