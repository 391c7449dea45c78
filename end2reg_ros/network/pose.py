"""Weighted rigid fits (Kabsch 1976; Horn 1987) of many small point sets at once. No gradient is meant to flow.

The form without SVD is the one that a static graph can hold: Horn's 4x4 matrix, whose largest eigenvector is the
rotation's quaternion, found by repeated squaring.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from end2reg_ros.network.kpconv import gather_rows

SQUARINGS = 12
NORMALISE_EVERY = 3
# Ratio of the second to the first eigenvalue of the scatter below which points count as lying on one line.
LINE = 0.01


class RigidFit(NamedTuple):
    """x -> R x + t for a batch: ``rotation`` (B, 3, 3), ``translation`` (B, 3), ``spread`` (B,).

    ``spread`` is about the ratio of the second to the first eigenvalue of the thinner set's scatter: near 0 for points
    on one line, where the turn about that line is free.
    """

    rotation: Tensor
    translation: Tensor
    spread: Tensor


def fit_rigid(source: Tensor, target: Tensor, weight: Tensor, svd: bool = False) -> RigidFit:
    """The rotation and translation that minimise sum w |R source + t - target|^2, for each of B sets.

    Args:
        source, target: (B, C, 3).
        weight: (B, C), not negative; all 0 gives the identity.
        svd: the reference solution by singular values instead of Horn's.
    """
    share = (weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-6))[:, :, None]
    source_mean, target_mean = (share * source).sum(dim=1), (share * target).sum(dim=1)
    x, y = source - source_mean[:, None], target - target_mean[:, None]
    covariance = (share * x).transpose(1, 2) @ y
    rotation = rotation_svd(covariance) if svd else rotation_horn(covariance)
    moved = (rotation @ source_mean[:, :, None])[:, :, 0]
    spread = torch.minimum(_spread((share * x).transpose(1, 2) @ x), _spread((share * y).transpose(1, 2) @ y))
    return RigidFit(rotation, target_mean - moved, spread)


def rotation_svd(covariance: Tensor) -> Tensor:
    """(B, 3, 3) rotations R that maximise tr(R H) of covariances H = sum w x y^T (B, 3, 3). Reference."""
    u, _, vt = torch.linalg.svd(covariance.double())
    v = vt.transpose(1, 2)
    sign = torch.linalg.det(v @ u.transpose(1, 2))
    flip = torch.diag_embed(torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], dim=1))
    return (v @ flip @ u.transpose(1, 2)).to(covariance.dtype)


def rotation_horn(covariance: Tensor) -> Tensor:
    """(B, 3, 3) rotations R that maximise tr(R H), by Horn's quaternion matrix and repeated squaring.

    The identity for a covariance (B, 3, 3) of zeros.
    """
    h = covariance.reshape(-1, 9)
    xx, xy, xz, yx, yy, yz, zx, zy, zz = (h[:, i] for i in range(9))
    rows = [
        torch.stack([xx + yy + zz, yz - zy, zx - xz, xy - yx], dim=1),
        torch.stack([yz - zy, xx - yy - zz, xy + yx, zx + xz], dim=1),
        torch.stack([zx - xz, xy + yx, yy - xx - zz, yz + zy], dim=1),
        torch.stack([xy - yx, zx + xz, yz + zy, zz - xx - yy], dim=1),
    ]
    matrix = torch.stack(rows, dim=1)
    identity = torch.eye(4, device=h.device, dtype=h.dtype)
    size = (matrix * matrix).sum(dim=(1, 2), keepdim=True).sqrt()
    # The tiny extra entry decides an empty covariance in favour of the identity. Shifted so that no eigenvalue is
    # negative: the largest one is then also the largest in size.
    matrix = matrix / size.clamp(min=1e-12) + identity
    matrix = matrix + 1e-7 * identity[:, :1] * identity[:1]
    for i in range(SQUARINGS):
        matrix = matrix @ matrix
        # The largest eigenvalue is at least half of the size, so that a few powers cannot underflow.
        if i % NORMALISE_EVERY == NORMALISE_EVERY - 1:
            matrix = matrix / (matrix * matrix).sum(dim=(1, 2), keepdim=True).sqrt().clamp(min=1e-12)
    # Every row is now the quaternion times a number; the one with the largest diagonal entry is the most exact.
    diagonal = (matrix * identity).sum(dim=2)
    start = 4 * torch.arange(matrix.shape[0], device=h.device)
    return _rotation(gather_rows(matrix.reshape(-1, 4), start + diagonal.argmax(dim=1)))


def _rotation(quaternion: Tensor) -> Tensor:
    """(B, 3, 3) of (B, 4) quaternions w, x, y, z of any length."""
    q = quaternion / (quaternion * quaternion).sum(dim=1, keepdim=True).sqrt().clamp(min=1e-12)
    w, x, y, z = (q[:, i] for i in range(4))
    entries = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(entries, dim=1).reshape(-1, 3, 3)


def _spread(scatter: Tensor) -> Tensor:
    """(B,) second symmetric function of the eigenvalues over the trace squared: 0 on a line, at most 1/3."""
    trace = scatter[:, 0, 0] + scatter[:, 1, 1] + scatter[:, 2, 2]
    minors = 0.5 * (trace * trace - (scatter * scatter).sum(dim=(1, 2)))
    return minors / (trace * trace).clamp(min=1e-12)
