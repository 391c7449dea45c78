"""The visible surface of a case, and the grids that stand in for searches over it."""

from __future__ import annotations

import numpy as np
import open3d as o3d
import pytest
import trimesh
from scipy.spatial import cKDTree
from views import bundled_case, registrar

from end2reg_ros.registration.fit.surface import LEVEL, NORMAL, POINT, PointSurface, lattice_around
from end2reg_ros.registration.fit.surface_build import distance_grid, nearest_grid, sample_surface, thin


def test_samples_lie_on_the_surface_and_face_outwards() -> None:
    surface, case = registrar().local.surface, bundled_case()
    for k, vertebra in enumerate(case.vertebrae):
        mine = np.flatnonzero(surface.level_index == k)[::10]
        scene = o3d.t.geometry.RaycastingScene()
        vertices, triangles = (
            vertebra.mesh.vertices.astype(np.float32),
            vertebra.mesh.triangles.astype(np.uint32),
        )
        scene.add_triangles(o3d.core.Tensor(vertices), o3d.core.Tensor(triangles))

        def signed_mm(points: np.ndarray, scene: o3d.t.geometry.RaycastingScene = scene) -> np.ndarray:
            return 1000 * scene.compute_signed_distance(o3d.core.Tensor(points.astype(np.float32))).numpy()

        assert np.abs(signed_mm(surface.points[mine])).max() < 0.01
        outside = signed_mm(surface.points[mine] + 3e-4 * surface.normals[mine])
        assert (outside > 0).mean() > 0.98


def test_only_what_a_camera_behind_the_patient_can_see_is_kept() -> None:
    """Nothing that faces forwards; of the spinous tip, which nothing hides, there are samples."""
    surface, case = registrar().local.surface, bundled_case()
    assert surface.normals[:, 1].max() < 0.85  # a view tilted by 49 degrees sees that far round
    for k, vertebra in enumerate(case.vertebrae):
        mine = surface.points[surface.level_index == k]
        assert vertebra.landmarks is not None
        assert 1000 * np.linalg.norm(mine - vertebra.landmarks.spinous, axis=1).min() < 2.0
        covered_front = vertebra.mesh.vertices[vertebra.mesh.vertices[:, 1].argmax()]
        assert 1000 * np.linalg.norm(mine - covered_front, axis=1).min() > 3.0


def test_sampling_is_even() -> None:
    mesh = bundled_case().vertebrae[2].mesh
    points, normals = sample_surface(mesh, 0.002, np.random.default_rng(0))
    area = trimesh.Trimesh(mesh.vertices, mesh.triangles).area
    assert len(points) == int(area / 0.002**2)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-9)


def test_distance_grid_agrees_with_a_search_within_a_cell() -> None:
    surface = registrar().local.surface
    points = surface.points[::50] + np.random.default_rng(1).normal(
        scale=0.006, size=surface.points[::50].shape
    )
    exact, _ = surface.tree.query(points)
    found = distance_grid(surface.points, cell=0.003)(points.astype(np.float32))
    assert 1000 * np.abs(found - exact).max() < 3.0 * np.sqrt(3)
    assert np.isinf(distance_grid(surface.points)(np.array([[5.0, 5.0, 5.0]], dtype=np.float32)))[0]


@pytest.mark.slow
def test_nearest_grid_agrees_with_the_tree() -> None:
    """The sample found is at most 0.6 mm further away than the nearest one, and almost always on the same patch."""
    surface = registrar().local.surface
    rng = np.random.default_rng(2)
    points = surface.points[::20] + rng.normal(scale=0.0015, size=surface.points[::20].shape)
    exact, at = surface.tree.query(points, distance_upper_bound=0.004)
    fast, index = nearest_grid(surface.points, surface.tree).query(points, surface.points, 0.004)
    both = np.isfinite(exact) & np.isfinite(fast)
    excess_mm = 1000 * (fast[both] - exact[both])
    assert both.sum() > 0.98 * np.isfinite(exact).sum()
    assert excess_mm.max() < 1.2
    assert np.percentile(excess_mm, 95) < 0.6
    turned = np.einsum("ij,ij->i", surface.normals[index[both]], surface.normals[at[both]])
    assert (turned > 0.7).mean() > 0.97


def test_every_cell_of_the_nearest_grid_holds_what_a_search_finds_from_its_centre() -> None:
    """All over the grid, however it is filled: the nearest sample, or none where it is near the reach or beyond."""
    surface, reach = registrar().local.surface, 0.006
    mine = surface.points[surface.level_index == 2]
    tree = cKDTree(mine)
    grid = nearest_grid(mine, tree, reach=reach)
    cells = np.arange(0, len(grid.sample), 5)
    exact, at = tree.query(grid.lattice.centres(cells), distance_upper_bound=reach)
    found = grid.sample[cells]
    held = found >= 0
    np.testing.assert_array_equal(found[held], at[held])
    # What is looked up is chosen by a rough distance, two cells of 3 mm off at worst.
    assert held[exact < reach - 0.0022].all()
    assert 0.05 < held.mean() < 0.9


def test_places_outside_a_lattice_get_cells_of_its_border() -> None:
    """However far away: the border has no sample, and is infinitely far from the surface."""
    points = np.random.default_rng(4).uniform(-0.02, 0.03, size=(300, 3))
    lattice = lattice_around(points, 0.003, 0.004)
    border = lattice.border.ravel()
    assert not border[lattice.cells(points)].any()
    centres = lattice.centres(np.arange(lattice.count))
    np.testing.assert_array_equal(lattice.cells(centres), np.arange(lattice.count))
    outside = np.concatenate(
        [points + far * axis for axis in np.eye(3) for far in (-50.0, -0.065, 0.065, 50.0)]
    )
    assert border[lattice.cells(outside)].all()
    assert border[lattice.cells(outside.astype(np.float32))].all()
    cell = lattice.cells(points).astype(np.int64)
    beside = lattice.centres((cell[:, None] + lattice.neighbours).ravel()).reshape(-1, 27, 3)
    offsets = np.round((beside - lattice.centres(cell)[:, None]) / lattice.cell)
    assert {tuple(o) for o in offsets[0]} == {
        (x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)
    }
    assert np.isinf(distance_grid(points).distance[distance_grid(points).lattice.border.ravel()]).all()
    grid = nearest_grid(points, cKDTree(points))
    assert (grid.sample[grid.lattice.border.ravel()] == -1).all()


def test_a_look_up_tells_all_of_the_sample() -> None:
    """The same through the grid and through a search tree, for points that lie right on samples."""
    surface = registrar().local.surface
    index = np.arange(0, len(surface.points), 40)
    columns = np.ascontiguousarray((surface.points[index] + 1e-5 * surface.normals[index]).T)
    tree = PointSurface(surface.points, surface.normals, surface.tree).look_up(columns, 0.003)
    grid = surface.look_up(columns, 0.003)
    assert tree.found.all() and grid.found.mean() > 0.99
    np.testing.assert_allclose(tree.rows[:, POINT], surface.points[index])
    np.testing.assert_allclose(tree.rows[:, NORMAL], surface.normals[index])
    np.testing.assert_allclose(tree.squared, 1e-10, rtol=1e-6)
    for found in (tree, grid):
        np.testing.assert_allclose(found.offset.T + found.rows[:, POINT], columns.T, atol=1e-15)
        np.testing.assert_allclose((found.offset**2).sum(axis=0), found.squared, rtol=1e-6)
    nearest, at = surface.nearest(columns.T, 0.003)
    np.testing.assert_array_equal(np.isfinite(nearest), grid.found)
    np.testing.assert_array_equal(grid.rows[grid.found, LEVEL], surface.level_index[at[grid.found]])


def test_thinning_keeps_one_point_a_cell() -> None:
    points = np.random.default_rng(3).uniform(0, 0.02, size=(5000, 3))
    kept = points[thin(points, 0.005)]
    cells = {tuple(c) for c in np.floor(kept / 0.005).astype(int)}
    assert len(cells) == len(kept) == 4**3
