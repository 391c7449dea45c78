"""Where a convolution's kernel points sit: one in the centre, the others pushed apart on a shell (KPConv, section 3.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def kernel_points(count: int, shell: float, seed: int = 0, steps: int = 300) -> NDArray[np.float32]:
    """(count, 3) points: the first at the origin, the others at mean distance ``shell``, spread evenly.

    Gradient descent on the energy sum 1/|a - b| over all pairs plus sum |a|^2; the same seed gives the same points.

    Args:
        count: at least 2.
        shell: mean distance of the outer points from the centre.
        seed: of the random start.
        steps: of the descent.
    """
    rng = np.random.default_rng(seed)
    outer = rng.normal(size=(count - 1, 3))
    outer /= np.linalg.norm(outer, axis=1, keepdims=True)
    for step in range(steps):
        everyone = np.concatenate([np.zeros((1, 3)), outer])
        apart = outer[:, None] - everyone[None]
        cubed = np.linalg.norm(apart, axis=2, keepdims=True) ** 3
        push = np.divide(apart, cubed, out=np.zeros_like(apart), where=cubed > 1e-9).sum(axis=1)
        move = push - 2.0 * outer
        length = np.linalg.norm(move, axis=1, keepdims=True)
        # Steps shrink to nothing: no point may jump over another, and the end is a rest.
        outer += move * np.minimum(0.05, 0.1 / np.maximum(length, 1e-9)) * (1.0 - step / steps)
    outer *= shell / np.linalg.norm(outer, axis=1).mean()
    return np.concatenate([np.zeros((1, 3)), outer]).astype(np.float32)
