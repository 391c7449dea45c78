"""Thinned scene points: normals as a slow solver finds them, whenever they are asked for, and what lies near."""

from __future__ import annotations

import numpy as np
import pytest
import small_gicp
from scipy.spatial import cKDTree

from end2reg_ros.registration.scene import ThinCloud, flattest_direction

VOXEL_M = 0.002


def bumpy(seed: int = 0, count: int = 6000) -> np.ndarray:
    """A rough sheet 0.5 m in front of the camera, metres, float32."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-0.05, 0.05, size=(2, count))
    z = 0.5 + 0.01 * np.sin(80 * x) * np.cos(60 * y) + rng.normal(scale=0.0003, size=count)
    return np.stack([x, y, z], axis=1).astype(np.float32)


def test_points_are_one_a_voxel_and_the_same_with_several_threads() -> None:
    points = bumpy()
    thin, other = ThinCloud(points, VOXEL_M), ThinCloud(points, VOXEL_M, threads=2)
    assert len(thin) == len(np.unique(np.floor(points.astype(np.float64) / VOXEL_M), axis=0))
    np.testing.assert_array_equal(thin.points, other.points)
    rows = np.arange(len(thin))
    np.testing.assert_array_equal(thin.normals_at(rows), other.normals_at(rows))


def test_normals_are_those_of_the_library() -> None:
    thin = ThinCloud(bumpy(), VOXEL_M)
    cloud = small_gicp.PointCloud(np.ascontiguousarray(thin.points))
    small_gicp.estimate_normals(cloud, num_neighbors=12)
    found, expected = thin.normals_at(np.arange(len(thin))), cloud.normals()[:, :3]
    np.testing.assert_allclose(np.abs((found * expected).sum(axis=1)), 1.0, atol=1e-9)
    assert ((found * thin.points).sum(axis=1) <= 0).all()  # towards the camera


def test_normals_are_fitted_once_and_do_not_depend_on_who_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = ThinCloud(bumpy(), VOXEL_M), ThinCloud(bumpy(), VOXEL_M)
    fitted: list[int] = []
    fit = one._fit
    monkeypatch.setattr(one, "_fit", lambda rows: (fitted.extend(rows.tolist()), fit(rows))[1])
    one.normals_at(np.array([7, 3, 90]))
    one.normals_at(np.array([90, 4]))
    assert fitted == [7, 3, 90, 4]
    every = np.arange(len(one))
    np.testing.assert_allclose(one.normals_at(every), other.normals_at(every), rtol=0, atol=1e-12)
    assert sorted(fitted) == every.tolist()


def test_few_points_have_no_normals_and_none_lie_near_nothing() -> None:
    few = ThinCloud(bumpy(count=4), VOXEL_M)
    np.testing.assert_array_equal(few.normals_at(np.arange(len(few))), 0.0)
    none = ThinCloud(np.zeros((0, 3), np.float32), VOXEL_M)
    assert (len(none), none.points.shape, none.normals_at(np.arange(0)).shape) == (0, (0, 3), (0, 3))
    assert not none.near(np.zeros((2, 3)), 1.0).any()
    assert few.near(np.zeros((0, 3)), 1.0).shape == (0,)


@pytest.mark.parametrize("limit", [0.0025, 0.0007, 0.02])
def test_what_is_near_is_what_a_search_tree_finds(limit: float) -> None:
    thin, rng = ThinCloud(bumpy(), VOXEL_M), np.random.default_rng(1)
    places = thin.points[::2] + rng.normal(scale=0.003, size=thin.points[::2].shape)
    places = np.concatenate([places, rng.uniform(-1.0, 1.0, size=(300, 3))])
    distance, _ = cKDTree(thin.points).query(places)
    found = thin.near(places, limit)
    assert 10 < found.sum() < len(places)
    np.testing.assert_array_equal(found, distance < limit)


def test_flattest_direction_against_a_slow_solver() -> None:
    rng = np.random.default_rng(2)
    factors = rng.normal(size=(400, 3, 3)) * 10 ** rng.uniform(-4, 0, size=(400, 1, 3))
    A = factors @ np.swapaxes(factors, 1, 2)
    values, vectors = np.linalg.eigh(A)
    clear = (values[:, 1] - values[:, 0]) > 1e-3 * values[:, 2]
    assert clear.sum() > 100
    found = flattest_direction(A[:, 0, 0], A[:, 0, 1], A[:, 0, 2], A[:, 1, 1], A[:, 1, 2], A[:, 2, 2])
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), 1.0, atol=1e-12)
    np.testing.assert_allclose(np.abs((found.T * vectors[:, :, 0]).sum(axis=1))[clear], 1.0, atol=1e-8)


def test_flattest_direction_of_planes_along_the_axes_and_of_nothing() -> None:
    zero, one = np.zeros(4), np.ones(4)
    xx, yy, zz = np.array([0.0, 1, 1, 0]), np.array([1.0, 0, 1, 0]), np.array([1.0, 2, 0, 0])
    found = flattest_direction(xx, zero, zero, yy, zero, zz)
    np.testing.assert_allclose(np.abs(found), [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]], atol=1e-7)
    assert np.isfinite(flattest_direction(one, zero, zero, one, zero, one)).all()  # a ball has any
