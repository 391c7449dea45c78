"""Many small things at once: transforms in stacks, points in columns.

Numpy is quick along the last axis and slow along one of three. So points that are looked up by the thousand are kept as
(N, 3) arrays that lie in memory as three columns, and one call moves, turns or compares a column.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def in_columns(points: NDArray[np.floating]) -> NDArray[Any]:
    """(3, N) the columns of points (N, 3), each in one piece; no copy where they lie so already."""
    return np.ascontiguousarray(points.T)


def moved(T: Array, columns: NDArray[np.floating]) -> Array:
    """(3, N) the points ``columns`` (3, N) moved by T (4, 4)."""
    result: Array = T[:3, :3] @ columns
    result += T[:3, 3:]
    return result


def dot(a: Array, b: Array) -> Array:
    """(N,) products of the vectors in the columns of a and b, (3, N) each."""
    result: Array = a[0] * b[0]
    result += a[1] * b[1]
    result += a[2] * b[2]
    return result


def inverses(T: Array) -> Array:
    """(..., 4, 4) inverses of rigid transforms (..., 4, 4)."""
    result = np.zeros_like(T)
    R = np.swapaxes(T[..., :3, :3], -1, -2)
    result[..., :3, :3] = R
    result[..., :3, 3:] = -(R @ T[..., :3, 3:])
    result[..., 3, 3] = 1.0
    return result


def each_applied(T: Array, points: Array) -> Array:
    """(..., 3) each point (..., 3) moved by its own transform (..., 4, 4)."""
    result: Array = (T[..., :3, :3] @ points[..., None])[..., 0] + T[..., :3, 3]
    return result


def skews(v: Array) -> Array:
    """(..., 3, 3) matrices with ``skews(v) @ w == cross(v, w)``, of vectors (..., 3)."""
    result = np.zeros((*v.shape, 3))
    for k in range(3):
        a, b = (k + 1) % 3, (k + 2) % 3
        result[..., a, b] = -v[..., k]
        result[..., b, a] = v[..., k]
    return result


def rotations_from_vectors(vectors: Array) -> Array:
    """(..., 3, 3) rotations of rotation vectors (..., 3) in radians (Rodrigues)."""
    angle = np.sqrt((vectors * vectors).sum(axis=-1))[..., None, None]
    K = skews(vectors)
    # Both quotients are smooth at no turn at all: np.sinc(x) is sin(pi x) / (pi x).
    half = np.sinc(angle / (2 * np.pi))
    result: Array = np.eye(3) + np.sinc(angle / np.pi) * K + 0.5 * half**2 * (K @ K)
    return result


def rotation_vectors(R: Array) -> Array:
    """(..., 3) rotation vectors in radians of rotations (..., 3, 3) of less than half a turn."""
    axis, sine, cosine = _axis_sine_cosine(R)
    factor = np.where(sine > 1e-9, np.arctan2(sine, cosine) / np.maximum(2 * sine, 2e-9), 0.5)
    result: Array = axis * factor[..., None]
    return result


def rotation_angles(R: Array) -> Array:
    """(...) angles in radians of rotations (..., 3, 3), right near 0 and near pi."""
    _, sine, cosine = _axis_sine_cosine(R)
    return np.asarray(np.arctan2(sine, cosine))


def _axis_sine_cosine(R: Array) -> tuple[Array, Array, Array]:
    """Axis times twice the sine of the angle, the sine, the cosine."""
    axis = np.stack(
        [R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], axis=-1
    )
    trace = R[..., 0, 0] + R[..., 1, 1] + R[..., 2, 2]
    return axis, np.sqrt((axis * axis).sum(axis=-1)) / 2, (trace - 1.0) / 2


def runs(level_index: NDArray[np.integer], count: int) -> tuple[NDArray[np.intp] | None, list[int]]:
    """How to go through items level by level: an order of them, None where they are in order; ``count`` + 1 bounds.

    Args:
        level_index: (N,) of each item; those below 0 come first, before the first bound.
        count: levels.
    """
    order = None
    if len(level_index) and not bool((level_index[1:] >= level_index[:-1]).all()):
        # Numbers of one byte are sorted in a tenth of the time.
        order = np.argsort(level_index.astype(np.int8 if count < 128 else np.int64), kind="stable")
        level_index = level_index[order]
    return order, np.searchsorted(level_index, np.arange(count + 1)).tolist()


def level_by_level(T: Array, columns: Array, bounds: list[int], turn_only: bool = False) -> Array:
    """(3, N) points in columns (3, N), in the order of their levels, each moved by its level's T (levels, 4, 4).

    ``bounds`` as of ``runs``, the first of them 0; ``turn_only`` leaves the shift out.
    """
    result = np.empty(columns.shape)
    for k, (first, last) in enumerate(pairwise(bounds)):
        if first < last:
            part = result[:, first:last]
            np.matmul(T[k, :3, :3], columns[:, first:last], out=part)
            if not turn_only:
                part += T[k, :3, 3:]
    return result
