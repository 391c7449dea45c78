"""Many transforms and points at once: the same as one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from end2reg_ros import se3
from end2reg_ros import se3_batch as stacks

Array = np.ndarray
RNG = np.random.default_rng(0)


def transforms(count: int) -> Array:
    vectors, shifts = RNG.normal(size=(2, count, 3))
    pairs = zip(vectors, shifts, strict=True)
    return np.stack([se3.from_rotation_translation(se3.rotation_from_vector(v), t) for v, t in pairs])


def test_stacks_are_what_single_ones_are() -> None:
    T, points = transforms(6), RNG.normal(size=(6, 3))
    for k in range(6):
        np.testing.assert_allclose(stacks.inverses(T)[k], se3.inverse(T[k]), atol=1e-14)
        np.testing.assert_allclose(stacks.each_applied(T, points)[k], se3.apply(T[k], points[k]), atol=1e-14)
        np.testing.assert_array_equal(stacks.skews(points)[k], se3.skew(points[k]))
    np.testing.assert_allclose(stacks.moved(T[0], points.T).T, se3.apply(T[0], points), atol=1e-14)
    np.testing.assert_allclose(stacks.dot(points.T, 2 * points.T), 2 * (points**2).sum(axis=1), atol=1e-14)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-7, 1e-3, 0.1, 1.0, 3.0])
def test_rotations_of_all_sizes(angle: float) -> None:
    axes = RNG.normal(size=(5, 3))
    vectors = angle * axes / np.linalg.norm(axes, axis=1, keepdims=True)
    R = stacks.rotations_from_vectors(vectors)
    single = np.stack([se3.rotation_from_vector(v) for v in vectors])
    np.testing.assert_allclose(R, single, atol=1e-15 + 1e-15 * angle)
    np.testing.assert_allclose(stacks.rotation_vectors(R), vectors, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(stacks.rotation_angles(R), angle, rtol=1e-9, atol=1e-15)


def test_columns_of_an_array_that_lies_so_are_no_copy() -> None:
    rows = RNG.normal(size=(7, 3))
    columns = stacks.in_columns(rows)
    assert columns.flags.c_contiguous and not np.shares_memory(columns, rows)
    assert np.shares_memory(stacks.in_columns(columns.T), columns)


def test_runs_lead_through_the_levels_one_by_one() -> None:
    level = np.array([2, -1, 0, 2, 0, -1])
    order, bounds = stacks.runs(level, 4)
    assert order is not None and order.tolist() == [1, 5, 2, 4, 0, 3]
    assert bounds == [2, 4, 4, 6, 6]
    assert stacks.runs(np.array([-1, 0, 0, 1]), 2) == (None, [1, 3, 4])
    assert stacks.runs(np.zeros(0, dtype=np.int64), 2) == (None, [0, 0, 0])
    many = np.array([200, 3])  # more levels than a byte counts
    order, bounds = stacks.runs(many, 201)
    assert order is not None and order.tolist() == [1, 0] and bounds[200:] == [1, 2]


def test_each_level_moves_by_itself() -> None:
    T, points, bounds = transforms(3), RNG.normal(size=(8, 3)), [0, 5, 5, 8]
    whole = stacks.level_by_level(T, points.T, bounds).T
    np.testing.assert_allclose(whole[:5], se3.apply(T[0], points[:5]), atol=1e-14)
    np.testing.assert_allclose(whole[5:], se3.apply(T[2], points[5:]), atol=1e-14)
    turned = stacks.level_by_level(T, points.T, bounds, turn_only=True).T
    np.testing.assert_allclose(turned[:5], points[:5] @ T[0, :3, :3].T, atol=1e-14)
