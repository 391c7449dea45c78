"""Pairs of near points as tables: order, width, equal distances, nothing at all."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from end2reg_ros.cloud.neighbours import TableSize, nearest, nearest_first, within_itself, within_other

# On a line: the distance of 5 and 0 is the radius itself.
LINE = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [5, 0, 0]], np.float32)


def test_pairs_become_rows() -> None:
    owner, member = np.array([2, 0, 2, 2, 0]), np.array([4, 1, 0, 3, 5])
    squared = np.array([0.5, 9.0, 0.25, 0.25, 4.0])
    table, found = nearest_first(owner, member, squared, TableSize(4, 2, 6))
    assert table.dtype == np.int32
    assert table.tolist() == [[5, 1], [6, 6], [0, 3], [6, 6]]
    assert found.tolist() == [2, 0, 3]


def test_order_of_pairs_changes_nothing_and_small_differences_count() -> None:
    rng = np.random.default_rng(0)
    owner, member = np.divmod(rng.permutation(60 * 3000)[:50_000], 3000)
    squared = 1.0 - 1e-11 * rng.permutation(len(owner))  # apart by 2^-36 of the largest
    size = TableSize(64, 1000, 3072)
    table, found = nearest_first(owner, member, squared, size)
    again, _ = nearest_first(owner[::-1], member[::-1], squared[::-1], size)
    np.testing.assert_array_equal(table, again)
    for row in (0, 31, 59):
        mine = np.flatnonzero(owner == row)
        expected = member[mine[np.argsort(squared[mine])]]
        assert found[row] == len(mine) < 1000
        assert table[row].tolist() == [*expected, *[3072] * (1000 - len(mine))]


def test_the_radius_itself_is_outside() -> None:
    tree = cKDTree(LINE)
    table, found = within_itself(tree, LINE, 2.0, TableSize(5, 3, 9))
    assert table.tolist() == [[0, 1, 9], [1, 0, 2], [2, 1, 9], [3, 9, 9], [9, 9, 9]]
    assert found.tolist() == [2, 3, 2, 1]
    table, found = within_other(cKDTree(LINE[[3, 0]]), tree, 3.0, TableSize(3, 2, 4))
    assert table.tolist() == [[3, 4], [0, 1], [4, 4]]
    assert found.tolist() == [1, 3]


def test_points_in_one_place_are_near() -> None:
    same = np.ones((3, 3), np.float32)
    for table, found in (
        within_itself(cKDTree(same), same, 0.1, TableSize(3, 3, 3)),
        within_other(cKDTree(same), cKDTree(same), 0.1, TableSize(3, 3, 3)),
    ):
        assert table.tolist() == [[0, 1, 2]] * 3 and found.tolist() == [3, 3, 3]


def test_nearest() -> None:
    rows, squared = nearest(LINE, np.array([[1.4, 0, 0], [9, 0, 0]], np.float32))
    assert rows.tolist() == [1, 3]
    np.testing.assert_allclose(squared, [0.16, 16.0], rtol=1e-6)
    rows, squared = nearest(LINE, np.zeros((0, 3), np.float32))
    assert rows.shape == squared.shape == (0,)


def test_nothing_is_near_nothing() -> None:
    nothing = np.zeros((0, 3), np.float32)
    table, found = within_itself(cKDTree(nothing), nothing, 1.0, TableSize(2, 2, 7))
    assert table.tolist() == [[7, 7], [7, 7]] and found.sum() == 0
    table, found = within_other(cKDTree(LINE + 10), cKDTree(LINE), 1.0, TableSize(4, 1, 4))
    assert table.tolist() == [[4]] * 4 and found.sum() == 0
