"""Paired-point registration: the rigid transform that best maps one point set onto another, point by point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.errors import RegistrationError
from end2reg_ros.se3 import best_rotation, from_rotation_translation

Array = NDArray[np.float64]


def kabsch(source: Array, target: Array, weights: Array | None = None) -> Array:
    """T_target_source that minimises sum w |T source - target|^2 (Kabsch 1976; Arun 1987).

    Args:
        source: (N, 3) points, N >= 3.
        target: (N, 3) the same points in the target frame.
        weights: (N,) non-negative; all 1 when None.

    Raises:
        RegistrationError: fewer than three pairs, or pairs on one line (the rotation about it is free).
    """
    if len(source) != len(target) or len(source) < 3:
        raise RegistrationError(f"a paired-point registration needs at least 3 pairs, got {len(source)}")
    w = np.ones(len(source)) if weights is None else np.asarray(weights, dtype=np.float64)
    w = w / w.sum()
    source_mean, target_mean = w @ source, w @ target
    spread = np.linalg.svd(np.sqrt(w)[:, None] * (source - source_mean), compute_uv=False)
    if spread[1] < 0.02 * spread[0] or spread[0] == 0.0:
        raise RegistrationError("the picked points lie on one line: pick points on both sides of the spine")
    R = best_rotation((target - target_mean).T @ (w[:, None] * (source - source_mean)))
    return from_rotation_translation(R, target_mean - R @ source_mean)
