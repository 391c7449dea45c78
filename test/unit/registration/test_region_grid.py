"""The picture of the whole view, against a slow reference; faulty and odd clouds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from end2reg_ros.cloud.view_grid import (
    CELL_M,
    CHANNEL_NAMES,
    CHANNELS,
    COLUMNS,
    ENOUGH_POINTS,
    LAYER_M,
    ROWS,
    view_grid,
    view_origin,
)

CORNER = np.array([-0.64, -0.48])


def surface(count: int = 4000, seed: int = 0) -> NDArray[np.float32]:
    """A wavy surface with a second one 60 mm behind a part of it."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(-0.12, 0.12, (count, 2))
    z = 0.5 + 0.02 * np.sin(30 * xy[:, 0]) + rng.normal(0, 0.002, count)
    z[: count // 4] += 0.06
    return np.column_stack([xy, z]).astype(np.float32)


def slow_cells(
    points: NDArray[np.float32], colours: NDArray[np.uint8]
) -> dict[tuple[int, int], tuple[float, float, NDArray[np.float64]]]:
    """Row, column -> mean depth, spread and mean colour, one cell and one quarter at a time."""
    half = CELL_M / 2
    quarters = np.floor((points[:, :2] - CORNER.astype(np.float32)) / np.float32(half)).astype(int)[:, ::-1]
    cells: dict[tuple[int, int], tuple[float, float, NDArray[np.float64]]] = {}
    for cell in {(int(r), int(c)) for r, c in quarters // 2}:
        mine = (quarters // 2 == cell).all(axis=1)
        mine &= points[:, 2] <= points[mine, 2].min() + np.float32(LAYER_M)
        depths, hues = [], []
        for quarter in {(int(r), int(c)) for r, c in quarters[mine]}:
            part = mine & (quarters == quarter).all(axis=1)
            depths.append(float(points[part, 2].astype(np.float64).mean()))
            hues.append(colours[part].mean(axis=0))
        cells[cell] = (float(np.mean(depths)), max(depths) - min(depths), np.mean(hues, axis=0))
    return cells


def test_cells_equal_a_slow_reference() -> None:
    points = surface()
    colours = np.random.default_rng(1).integers(0, 256, points.shape).astype(np.uint8)
    grid = view_grid(points, colours, origin=CORNER)
    expected = slow_cells(points, colours)
    assert grid.occupied.sum() == len(expected) > 500
    for (row, column), (depth, spread, rgb) in expected.items():
        assert grid.depth[row, column] == pytest.approx(depth, abs=1e-6)
        assert grid.channels[10, row, column] == pytest.approx(spread / (LAYER_M / 2), abs=1e-4)
        assert grid.channels[3:6, row, column] == pytest.approx(rgb / 255 - 0.5, abs=1e-5)
    assert (grid.channels[6] == grid.occupied).all()


def test_relative_depth_and_normals_of_a_plane() -> None:
    y, x = np.mgrid[-0.0995:0.1:0.001, -0.0995:0.1:0.001]
    points = np.column_stack([x.ravel(), y.ravel(), (0.5 + 0.3 * x).ravel()]).astype(np.float32)
    grid = view_grid(points, origin=CORNER)
    inner = np.s_[52:68, 72:88]  # away from the plane's edges
    normal = np.array([0.3, 0.0, -1.0]) / np.hypot(0.3, 1.0)
    assert grid.channels[7:10][(slice(None), *inner)] == pytest.approx(
        np.broadcast_to(normal[:, None, None], (3, 16, 16)), abs=0.02
    )
    assert np.abs(grid.channels[1][inner]).max() < 0.02  # the mean of a plane's surroundings is itself
    raised = points.copy()
    bump = np.hypot(raised[:, 0], raised[:, 1]) < 0.008
    raised[bump, 2] -= 0.008
    assert view_grid(raised, origin=CORNER).channels[1, 60, 80] < -0.5


def test_a_thinned_cloud_gives_nearly_the_same_picture() -> None:
    y, x = np.mgrid[-0.2:0.2:0.0012, -0.2:0.2:0.0012]
    z = 0.5 + 0.02 * np.sin(25 * x) * np.cos(18 * y)
    dense = np.column_stack([x.ravel(), y.ravel(), z.ravel()]).astype(np.float32)
    keys = np.floor(dense / 0.005).astype(int)
    _, inverse, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    thin = np.stack([np.bincount(inverse.ravel(), dense[:, k]) / counts for k in range(3)], axis=1)
    a, b = view_grid(dense, origin=CORNER), view_grid(thin.astype(np.float32), origin=CORNER)
    both = a.occupied & b.occupied
    assert both.sum() > 0.97 * a.occupied.sum()
    difference = np.abs(a.channels - b.channels)[:, both]
    for name, mean in zip(CHANNEL_NAMES, difference.mean(axis=1), strict=True):
        assert mean < 0.1, name


def test_the_middle_is_that_of_the_nearer_points_in_whole_cells() -> None:
    rng = np.random.default_rng(0)
    near = rng.uniform([0.1, -0.2, 0.5], [0.3, 0.0, 0.6], (3000, 3))
    floor = rng.uniform([-0.9, 0.5, 1.3], [-0.5, 0.9, 1.4], (1900, 3))
    origin = view_origin(np.concatenate([near, floor]))
    assert np.abs(origin + CELL_M * np.array([COLUMNS, ROWS]) / 2 - [0.2, -0.1]).max() < 1.5 * CELL_M
    assert np.abs(origin / CELL_M - np.rint(origin / CELL_M)).max() < 1e-9


@pytest.mark.parametrize("count", [0, 50])
def test_few_points(count: int) -> None:
    points = surface(max(count, 1))[:count]
    grid = view_grid(points, np.full(points.shape, 7, np.uint8))
    assert grid.channels.shape == (CHANNELS, ROWS, COLUMNS)
    assert np.isfinite(grid.channels).all()
    assert 0 < grid.occupied.sum() <= count or count == 0 == grid.occupied.sum()


def test_faulty_points_change_nothing() -> None:
    points = surface()
    bad = np.array(
        [[np.nan, 0, 0.5], [0, np.inf, 0.5], [0, 0, np.nan], [0, 0, -0.5], [0, 0, 0], [0, 0, 9], [5, 0, 0.5]]
    ).astype(np.float32)
    clean = view_grid(points, origin=CORNER)
    dirty = view_grid(np.concatenate([points, bad]), origin=CORNER)
    assert np.array_equal(clean.channels, dirty.channels)
    assert np.array_equal(view_origin(points), view_origin(np.concatenate([points, bad])))
    nothing = view_grid(bad)
    assert np.isfinite(nothing.channels).all()
    assert np.isfinite(nothing.origin).all()


def test_no_colours_is_not_grey() -> None:
    points = surface()
    without = view_grid(points, None, origin=CORNER)
    one = view_grid(points, np.full(points.shape, 128, np.uint8), origin=CORNER)
    assert not without.channels[3:7].any()
    assert (one.channels[6] == one.occupied).all()
    kept = [c for c in range(CHANNELS) if not 3 <= c < 7]
    assert np.array_equal(without.channels[kept], one.channels[kept])


def test_order_and_density_of_points() -> None:
    points = surface()
    mixed = np.random.default_rng(2).permutation(len(points))
    a, b = view_grid(points, origin=CORNER), view_grid(points[mixed], origin=CORNER)
    assert a.channels == pytest.approx(b.channels, abs=1e-4)
    many = np.repeat(points, ENOUGH_POINTS // len(points) + 1, axis=0)
    assert len(many) > ENOUGH_POINTS
    assert view_grid(many, origin=CORNER).occupied.sum() == a.occupied.sum()


def test_extra_values_are_averaged() -> None:
    points = np.array([[0.001, 0.001, 0.5], [0.002, 0.001, 0.5], [0.006, 0.006, 0.5]], np.float32)
    values = np.array([[1.0], [0.0], [1.0]])
    grid = view_grid(points, values=values, origin=np.zeros(2))
    assert grid.values[0, 0, 0] == pytest.approx(0.75)  # quarters 0.5 and 1
    assert grid.occupied.sum() == 1


def test_arrays_that_do_not_fit() -> None:
    points = surface(10)
    with pytest.raises(ValueError, match=r"^points of a view must be \(N, 3\), not \(10, 2\)$"):
        view_grid(points[:, :2])
    with pytest.raises(ValueError, match=r"^9 colours for 10 points$"):
        view_grid(points, np.zeros((9, 3), np.uint8))
    with pytest.raises(ValueError, match=r"^9 values for 10 points$"):
        view_grid(points, None, np.zeros((9, 1)))
