"""Voxel grid: held against its slow reference and against small_gicp; anchored at the frame."""

from __future__ import annotations

import numpy as np
import pytest
from cloud_reference import voxel_reference

from end2reg_ros.cloud.voxel import cell_means, occupied_cells, voxel_downsample, voxel_keys

RNG = np.random.default_rng(3)
POINTS = RNG.uniform(0.2, 0.8, (20, 3)).astype(np.float32)


@pytest.mark.parametrize("voxel", [0.003, 0.05, 1.0])
def test_voxel_grid_equals_reference(voxel: float) -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform(-0.3, 0.7, (500, 3)).astype(np.float32)
    colours = rng.integers(0, 256, (500, 3), dtype=np.uint8)
    grid = voxel_downsample(points, voxel, colours)
    reference = voxel_reference(points, voxel)
    cells = sorted(reference, key=lambda cell: cell[::-1])
    np.testing.assert_allclose(grid.points, [reference[cell] for cell in cells], atol=1e-6)
    assert grid.counts.sum() == 500
    assert grid.colours is not None
    for index in range(len(grid.points)):
        members = grid.cell_of_point == index
        assert members.sum() == grid.counts[index]
        assert np.abs(colours[members].mean(axis=0) - grid.colours[index]).max() <= 0.5


def test_voxel_grid_is_anchored_at_the_frame_and_ignores_order() -> None:
    points = RNG.uniform(0.0, 0.2, (300, 3)).astype(np.float32)
    grid = voxel_downsample(points, 0.01)
    # An outlier beyond the corner adds its own cell and moves no other.
    more = voxel_downsample(np.vstack([points, [[-0.5, -0.5, -0.5]]]).astype(np.float32), 0.01)
    np.testing.assert_array_equal(more.points[1:], grid.points)
    shuffled = voxel_downsample(points[RNG.permutation(300)], 0.01)
    np.testing.assert_allclose(shuffled.points, grid.points, atol=1e-7)


def test_voxel_grid_of_nothing_and_of_nonsense() -> None:
    empty = voxel_downsample(np.zeros((0, 3), np.float32), 0.01)
    assert empty.points.shape == (0, 3)
    with pytest.raises(ValueError, match="voxel must be above 0 m, not 0"):
        voxel_keys(POINTS, 0.0)
    with pytest.raises(ValueError, match=r"points lie more than 0.00104858 m from the origin"):
        voxel_keys(POINTS, 1e-9)


def test_cells_of_columns_and_of_rows_are_the_same() -> None:
    rng = np.random.default_rng(4)
    points, values = rng.normal(size=(400, 3)), rng.normal(size=(400, 6))
    cell, counts = occupied_cells(points, 0.5)
    turned, _ = occupied_cells(np.asfortranarray(points), 0.5)
    np.testing.assert_array_equal(cell, turned)
    assert counts.tolist() == [(cell == k).sum() for k in range(cell.max() + 1)] and counts.max() > 3
    means = cell_means(values, cell, counts)
    np.testing.assert_allclose(
        means, [values[cell == k].mean(axis=0) for k in range(len(counts))], atol=1e-12
    )


def test_voxel_grid_equals_small_gicp() -> None:
    import small_gicp

    theirs = np.asarray(small_gicp.voxelgrid_sampling(POINTS.astype(np.float64), 0.1).points())[:, :3]
    ours = voxel_downsample(POINTS, 0.1).points
    np.testing.assert_allclose(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)], atol=1e-7)
