"""Distance fields of the parametric anatomy against slow, obvious references."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from end2reg_ros.simulation.anatomy.fields import (
    FAR_MM,
    Grid,
    Part,
    add_part,
    ball,
    element_field,
    smooth_max,
    smooth_min,
    smooth_noise,
)

A, B, C = ball(0, 0, 0, 2.0), ball(10, 1, 0, 3.0), ball(3, 8, 2, 1.0)


def lines(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(points[:, k].astype(np.float32)[:, None, None] for k in range(3))  # type: ignore[return-value]


@pytest.mark.parametrize("element", [(A,), (A, B), (A, B, C)], ids=["ball", "cone", "triangle"])
def test_element_is_distance_to_the_foot_on_the_skeleton_less_the_radius_there(element: tuple) -> None:
    """Reference: the nearest of many sampled skeleton points gives the foot, its interpolated radius is taken off."""
    points = np.random.default_rng(0).uniform([-8, -8, -8], [18, 16, 10], (300, 3))
    steps = np.linspace(0, 1, 201)
    u, v = (g.ravel() for g in np.meshgrid(steps, steps, indexing="ij"))
    inside = u + v <= 1
    weights = np.stack([1 - u[inside] - v[inside], u[inside], v[inside]], axis=1)[:, : len(element)]
    if len(element) < 3:
        weights = (
            np.stack([1 - steps, steps], axis=1)[:, : len(element)] if len(element) == 2 else np.ones((1, 1))
        )
    skeleton = weights @ np.stack([b.at for b in element])
    radii = weights @ np.array([b.radius for b in element])
    distance, foot = cKDTree(skeleton).query(points)
    expected = distance - radii[foot]
    found = element_field(*lines(points), element)[:, 0, 0]
    # A triangle also counts its edges' cones, whose radius may be larger beside the foot: never more, hardly less.
    assert (found - expected).max() < 0.05
    assert np.abs(found - expected).max() < (0.05 if len(element) < 3 else 0.6)


def test_smooth_minimum_equals_the_minimum_away_from_the_seam_and_is_k_quarters_lower_on_it() -> None:
    a = np.array([0.0, 1.0, 5.0], dtype=np.float32)
    b = np.array([4.0, 1.0, 1.0], dtype=np.float32)
    np.testing.assert_allclose(smooth_min(a, b, 2.0), [0.0, 0.5, 1.0], atol=1e-6)
    np.testing.assert_allclose(smooth_max(a, b, 2.0), [4.0, 1.5, 5.0], atol=1e-6)


def test_parts_evaluated_in_their_boxes_have_the_zero_level_of_the_full_grid() -> None:
    grid = Grid.around(np.array([-15.0, -15, -15]), np.array([25.0, 20, 15]), 0.8)
    parts = [Part(((A, B, C),), 3.0), Part(((ball(8, 6, -4, 3.0), ball(15, 8, 2, 2.0)),), 2.0)]
    fast = np.full(grid.shape, FAR_MM, dtype=np.float32)
    slow = fast.copy()
    for part in parts:
        add_part(fast, grid, part)
        own = np.full(grid.shape, FAR_MM, dtype=np.float32)
        for element in part.elements:
            own = np.minimum(own, element_field(*grid.axes(), element))
        slow = smooth_min(slow, own, part.blend)
    near = np.abs(slow) < 1.2
    assert near.sum() > 2000
    np.testing.assert_allclose(fast[near], slow[near], atol=1e-4)
    assert ((fast < 0) == (slow < 0)).all()


def test_noise_by_one_matrix_product_is_the_sum_of_its_waves() -> None:
    grid = Grid(np.array([1.0, -2.0, 3.0]), 2.0, (6, 5, 4))
    fast = smooth_noise(grid, np.random.default_rng(4), 9.0, waves=7)
    rng = np.random.default_rng(4)
    directions = rng.standard_normal((7, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    k = directions * (2 * np.pi / 9.0) * rng.uniform(0.6, 1.4, (7, 1))
    phase = rng.uniform(0, 2 * np.pi, 7)
    for node in np.ndindex(grid.shape):
        x = grid.origin + grid.voxel * np.array(node)
        assert fast[node] == pytest.approx(np.sqrt(2 / 7) * np.cos(k @ x + phase).sum(), abs=1e-4)


def test_noise_has_unit_variance() -> None:
    grid = Grid(np.zeros(3), 1.0, (60, 60, 60))
    assert smooth_noise(grid, np.random.default_rng(1), 7.0).std() == pytest.approx(1.0, abs=0.1)
