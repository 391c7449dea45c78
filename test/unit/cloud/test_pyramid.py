"""Voxel pyramid and padded tables against a slow reference; order, anchoring, padding, truncation, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from end2reg_ros.cloud import pyramid_reference as slow
from end2reg_ros.cloud.normals import estimate_normals
from end2reg_ros.cloud.pyramid import (
    COLOUR,
    NORMAL,
    UNIT_M,
    Pyramid,
    PyramidSpec,
    build_pyramid,
    cells_of,
    counts,
    fit,
    nearest_rows,
    point_attributes,
    tables_of,
)
from end2reg_ros.profile import get_profile

SPEC = PyramidSpec((0.125, 0.25, 0.5), 2.5, (300, 120, 40), (200, 200, 200), fine_level=0, patch_points=30)


def sheet(count: int, seed: int = 0) -> np.ndarray:
    """(count, 3) points of a wavy sheet around the origin."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(-0.9, 0.9, (count, 2))
    return np.column_stack([xy, 0.2 * np.sin(5 * xy[:, 0])])


def rows(table: np.ndarray, row: int, missing: int) -> list[int]:
    """Entries of a table's row that are not missing."""
    return [int(i) for i in table[row] if i != missing]


def test_equals_the_slow_reference() -> None:
    points = sheet(900)
    built = build_pyramid(points, None, SPEC)
    clouds = [slow.cell_means(points, 0.125)]
    clouds.append(slow.cell_means(np.float32(clouds[0]), 0.25))
    clouds.append(slow.cell_means(np.float32(clouds[1]), 0.5))
    assert built.truncation.dropped_points == 0 and max(built.truncation.neighbours) == 0
    for i, level in enumerate(built.levels):
        capacity = SPEC.capacities[i]
        assert level.count == len(clouds[i])
        np.testing.assert_allclose(level.points[: level.count], clouds[i], atol=1e-6)
        own = level.points[: level.count].astype(np.float64)
        radius = 2.5 * SPEC.voxels[i]
        for row, point in enumerate(own):
            assert rows(level.neighbours, row, capacity) == slow.within(own, point, radius, 200)
        if level.pool is None or level.upsample is None:
            continue
        coarser = built.levels[i + 1]
        above = coarser.points[: coarser.count].astype(np.float64)
        for row, point in enumerate(above):
            assert rows(level.pool, row, capacity) == slow.within(own, point, radius, 200)
        assert level.upsample[: level.count].tolist() == [slow.nearest(above, point) for point in own]
    fine, nodes = (built.levels[i].points[: built.levels[i].count].astype(np.float64) for i in (0, 2))
    for row, members in enumerate(slow.patches(fine, nodes, 30)):
        assert rows(built.patches, row, 300) == members
    assert built.truncation.patch_points == len(fine) - sum(map(len, slow.patches(fine, nodes, 30)))


@pytest.mark.parametrize("name", ["realtime", "paper"])
def test_equals_a_search_for_every_row(name: str) -> None:
    spec = get_profile(name).scene
    # Two sheets across each other: here rows have more neighbours than fit.
    points = np.concatenate([sheet(4000), sheet(1500, 1)[:, [0, 2, 1]]])
    cells = cells_of(points, None, spec)
    built = tables_of(cells, spec)
    expected = slow.tables_by_query(cells, spec)
    assert max(built.truncation.neighbours) > 0 or name == "paper"
    for table, cut in (("neighbours", built.truncation.neighbours), ("pool", built.truncation.pool)):
        for i, rows_expected in enumerate(expected[table]):
            capacity, width, count = spec.capacities[i], spec.neighbours[i], counts(cells)[i]
            assert cut[i] == (rows_expected[:, width] < count).sum()
            found = getattr(built.levels[i], table)
            assert (found[len(rows_expected) :] == capacity).all()
            queries = cells.points[i + (table == "pool")]
            found, there = found[: len(queries)], rows_expected[:, :width] < count
            np.testing.assert_array_equal(found < capacity, there)
            # Those whose distances differ by less than a key tells apart may change places.
            np.testing.assert_allclose(
                lengths(cells.points[i], queries, found),
                lengths(cells.points[i], queries, rows_expected[:, :width]),
                rtol=0.0,
                atol=1e-8 * spec.voxels[i] ** 2,
            )
            assert (np.where(there, found, count) == rows_expected[:, :width]).mean() > 0.99
    for i, rows_expected in enumerate(expected["upsample"]):
        np.testing.assert_array_equal(built.levels[i].upsample[: counts(cells)[i]], rows_expected)
    held = np.bincount(expected["node"][0], minlength=counts(cells)[-1])
    assert built.truncation.patch_points == np.maximum(held - spec.patch_points, 0).sum()
    for row in range(counts(cells)[-1]):
        members = [i for i in built.patches[row] if i < spec.capacities[spec.fine_level]]
        assert len(members) == min(held[row], spec.patch_points)
        assert (expected["node"][0][members] == row).all()


def lengths(points: np.ndarray, queries: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Squared distances of a table's entries to the points they belong to; -1 where missing."""
    wide = np.append(points, np.zeros((1, 3)), axis=0).astype(np.float64)
    apart = wide[np.minimum(table, len(points))] - queries[:, None]
    return np.where(table < len(points), (apart**2).sum(axis=2), -1.0)


def test_equally_near_points_come_by_row() -> None:
    # One point in the middle of each cell of a block: every distance occurs up to 24 times.
    x, y, z = np.meshgrid(*[np.arange(5) / 8 + 1 / 16] * 3, indexing="ij")
    points = np.random.default_rng(2).permutation(np.column_stack([x.ravel(), y.ravel(), z.ravel()]))
    spec = replace(SPEC, neighbours=(21, 21, 21))
    level = build_pyramid(points, None, spec).levels[0]
    own = level.points[:125].astype(np.float64)
    for row, point in enumerate(own):
        assert rows(level.neighbours, row, 300) == slow.within(own, point, 2.5 * 0.125, 21)


def assert_same(one: Pyramid, other: Pyramid) -> None:
    """Both pyramids hold the same tables and the same points."""
    for a, b in zip(one.levels, other.levels, strict=True):
        np.testing.assert_allclose(a.points, b.points, atol=1e-7)
        for name in ("mask", "neighbours", "pool", "upsample"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_array_equal(one.patches, other.patches)
    np.testing.assert_allclose(one.attributes, other.attributes, atol=1e-6)


def test_order_of_points_changes_nothing() -> None:
    points, order = sheet(900), np.random.default_rng(5).permutation(900)
    attributes = point_attributes(900, None, np.random.default_rng(6).normal(size=(900, 3)))
    one = build_pyramid(points, attributes, SPEC)
    other = build_pyramid(points[order], attributes[order], SPEC)
    assert_same(one, other)
    np.testing.assert_array_equal(one.cell_of_point[order], other.cell_of_point)


def test_cells_are_anchored_at_the_origin() -> None:
    points = sheet(900)
    before = build_pyramid(points, None, SPEC)
    # A far point at the cloud's corner leaves every other cell as it was.
    after = build_pyramid(
        np.concatenate([points, [[-1.93, -1.71, -1.03]]]), None, replace(SPEC, capacities=(301, 121, 41))
    )
    for level, grown in zip(before.levels, after.levels, strict=True):
        assert grown.count == level.count + 1
        np.testing.assert_allclose(grown.points[1 : grown.count], level.points[: level.count], atol=1e-7)
    # Moving the cloud by whole cells of the coarsest level moves the points and no table.
    moved = build_pyramid(points + np.array([4.0, -2.0, 6.0]), None, SPEC)
    order = [
        np.array_equal(a.neighbours, b.neighbours) for a, b in zip(before.levels, moved.levels, strict=True)
    ]
    assert order == [True, True, True]


def test_padding_is_marked_and_harmless() -> None:
    level = build_pyramid(sheet(50), None, SPEC).levels[0]
    assert level.mask.sum() == level.count < 60
    assert (level.points[level.count :] == 0).all()
    assert (level.neighbours[level.count :] == 300).all() and (level.upsample[level.count :] == 120).all()
    used = level.neighbours[: level.count]
    assert ((used < level.count) | (used == 300)).all()
    assert (used[:, 0] == np.arange(level.count)).all(), "the nearest neighbour of a point is itself"
    assert all(table.dtype == np.int32 for table in (level.neighbours, level.pool, level.upsample))


def test_what_does_not_fit_is_counted() -> None:
    points = sheet(900)
    full = build_pyramid(points, None, SPEC)
    small = build_pyramid(points, None, replace(SPEC, capacities=(100, 120, 40), neighbours=(8, 200, 200)))
    assert small.levels[0].count == 100
    assert small.truncation.points == (full.levels[0].count - 100, 0, 0)
    assert small.truncation.dropped_points == full.levels[0].count - 100
    # Thinned evenly: what is left still spans the sheet.
    assert np.ptp(small.levels[0].points[:100, :2], axis=0).min() > 1.6
    assert (small.cell_of_point == -1).any() and small.cell_of_point.max() == 99
    narrow = build_pyramid(points, None, replace(SPEC, neighbours=(8, 200, 200)))
    more = (full.levels[0].neighbours < 300).sum(axis=1) > 8
    assert narrow.truncation.neighbours == (more.sum(), 0, 0)
    np.testing.assert_array_equal(narrow.levels[0].neighbours, full.levels[0].neighbours[:, :8])


def test_cells_tell_which_sizes_are_enough() -> None:
    points = sheet(900)
    attributes = point_attributes(900, None, np.random.default_rng(6).normal(size=(900, 3)))
    cells = cells_of(points, attributes, SPEC)
    whole = build_pyramid(points, attributes, SPEC)
    assert counts(cells) == tuple(level.count for level in whole.levels)
    small = replace(SPEC, capacities=tuple(count + 1 for count in counts(cells)))
    tight = replace(SPEC, capacities=counts(cells))
    smaller = replace(SPEC, capacities=(counts(cells)[0] - 1, *counts(cells)[1:]))
    other = replace(SPEC, voxels=(0.12, 0.24, 0.48))
    assert [fit(cells, spec) for spec in (SPEC, small, tight, smaller, other)] == [
        True,
        True,
        True,
        False,
        False,
    ]
    for spec in (small, tight):
        one, two = tables_of(cells, spec), build_pyramid(points, attributes, spec)
        assert_same(one, two)
        np.testing.assert_array_equal(one.cell_of_point, two.cell_of_point)
        assert one.truncation == two.truncation == whole.truncation
    with pytest.raises(
        ValueError,
        match=r"^cells of \(0.125, 0.25, 0.5\) in numbers of \(\d+, \d+, \d+\) do not fit "
        r"a pyramid of \(0.125, 0.25, 0.5\) with room for \(\d+, \d+, \d+\)$",
    ):
        tables_of(cells, smaller)


def test_attributes_are_means_and_normals_stay_unit() -> None:
    points = np.array([[0.01, 0.01, 0.01], [0.02, 0.02, 0.02], [0.4, 0.4, 0.4]])
    normals = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 0]])
    colours = np.array([[255, 0, 0], [0, 0, 255], [51, 51, 51]], np.uint8)
    built = build_pyramid(points, point_attributes(3, colours, normals), SPEC)
    np.testing.assert_allclose(built.attributes[0, COLOUR], [0.5, 0, 0.5])
    np.testing.assert_allclose(built.attributes[0, NORMAL], [0.5**0.5, 0.5**0.5, 0], atol=1e-6)
    np.testing.assert_allclose(built.attributes[1], [0.2, 0.2, 0.2, 0, 0, 0], atol=1e-6)
    assert built.cell_of_point.tolist() == [0, 0, 1]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_tiny_clouds(count: int) -> None:
    built = build_pyramid(sheet(3)[:count], None, SPEC)
    assert built.levels[0].count == count
    assert (built.patches < 300).sum() == count
    assert np.isfinite(built.attributes).all()


def test_rows_of_another_pyramid() -> None:
    one, other = (
        build_pyramid(sheet(300), None, SPEC).levels[0],
        build_pyramid(sheet(300, 1), None, SPEC).levels[0],
    )
    rows_of_one = nearest_rows(one, other)
    seen = other.points[: other.count].astype(np.float64)
    assert rows_of_one[: one.count].tolist() == [
        slow.nearest(seen, p) for p in one.points[: one.count].astype(np.float64)
    ]
    assert (rows_of_one[one.count :] == 300).all()


def test_bad_input_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"^points must be \(M, 3\), attributes \(M, 6\), not \(4, 2\), \(4, 6\)$"
    ):
        build_pyramid(np.zeros((4, 2)), None, SPEC)
    with pytest.raises(ValueError, match=r"^points or attributes are not finite$"):
        build_pyramid(np.array([[0, 0, np.nan]]), None, SPEC)
    with pytest.raises(
        ValueError, match=r"^voxels, capacities and neighbours of a pyramid must name the same levels$"
    ):
        replace(SPEC, voxels=(0.1,))
    with pytest.raises(ValueError, match=r"^unknown profile 'fast': choose one of paper, realtime$"):
        get_profile("fast")


def test_profiles_hold_the_published_sizes() -> None:
    paper, realtime = get_profile("paper"), get_profile("realtime")
    assert paper.segmentation is not None and realtime.segmentation is None
    assert paper.segmentation.voxels == (0.04, 0.08, 0.16, 0.32, 0.64) and paper.scene.voxels == (
        0.025,
        0.05,
        0.1,
        0.2,
    )
    assert (paper.segmentation.radius_voxels, paper.scene.radius_voxels) == (2.5, 7.0)
    assert (paper.segmentation_kernel_points, paper.kernel_points) == (15, 20)
    assert realtime.scene.voxels[0] * UNIT_M * 1000 == pytest.approx(4.75)
    assert realtime.inlier_radius * UNIT_M * 1000 == pytest.approx(4.75)


def test_normals_face_the_camera() -> None:
    points = sheet(2000) * [1, 1, 0] + [0, 0, 5.0]
    normals = estimate_normals(points)
    np.testing.assert_allclose(normals, np.tile([0, 0, -1.0], (2000, 1)), atol=1e-3)
    np.testing.assert_allclose(estimate_normals(points, np.array([0, 0, 9.0])), -normals, atol=1e-3)
    assert (estimate_normals(points[:3]) == 0).all()
    np.testing.assert_array_equal(estimate_normals(points, threads=2), normals)
