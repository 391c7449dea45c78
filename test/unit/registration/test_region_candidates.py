"""From maps of bone and directions to candidates: pose, roll, merging, doubt about the direction, odd input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from end2reg_ros.cloud.view_grid import CELL_M, COLUMNS, ROWS, ViewGrid, view_grid
from end2reg_ros.registration.find.region_candidates import (
    CandidateSettings,
    RegionMaps,
    find_candidates,
    read_maps,
    region_candidates,
)
from end2reg_ros.se3 import apply, inverse, rotation_angle

Array = NDArray[np.float64]
ORIGIN = -0.5 * CELL_M * np.array([COLUMNS, ROWS])
SHAPE = (ROWS // 2, COLUMNS // 2)


@dataclass(frozen=True)
class Spine:
    """A strip of bone on a slab of skin in a truth frame (right, anterior, superior), half sizes in metres."""

    roll_deg: float = 0.0
    tilt_deg: float = 0.0
    centre: tuple[float, float, float] = (0.05, -0.03, 0.5)
    half_width: float = 0.025
    half_length: float = 0.08
    gap: float = 0.0  # the middle of the strip hidden, half length
    length: float = 1.0  # of the direction maps

    def rotation(self) -> Array:
        """(3, 3) right, anterior, superior in the camera frame."""
        a, t = np.radians(self.roll_deg), np.radians(self.tilt_deg)
        level = np.stack([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]], axis=1)
        lean = np.array([[1, 0, 0], [0, np.cos(t), -np.sin(t)], [0, np.sin(t), np.cos(t)]])
        turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
        return np.asarray(turn @ lean @ level)


def view(spine: Spine) -> tuple[ViewGrid, RegionMaps, Array]:
    """Grid, perfect maps, and the bone's points in the camera frame."""
    R, centre = spine.rotation(), np.array(spine.centre)
    z, x = np.mgrid[-0.2:0.2:0.003, -0.2:0.2:0.003]
    local = np.column_stack([x.ravel(), np.zeros(x.size), z.ravel()])
    points = (local @ R.T + centre).astype(np.float32)
    bone = (np.abs(local[:, 0]) < spine.half_width) & (np.abs(local[:, 2]) < spine.half_length)
    bone &= np.abs(local[:, 2]) >= spine.gap
    grid = view_grid(points, values=bone[:, None].astype(np.float32), origin=ORIGIN)
    share = grid.values[0].reshape(SHAPE[0], 2, SHAPE[1], 2).mean(axis=(1, 3))
    up = R[:2, 2] / np.linalg.norm(R[:2, 2])
    return (
        grid,
        RegionMaps(
            share.astype(np.float32),
            constant(np.array([up[0] ** 2 - up[1] ** 2, 2 * up[0] * up[1]])),
            constant(spine.length * up),
            constant(R[:2, 1]),
        ),
        points[bone].astype(np.float64),
    )


def constant(vector: Array) -> NDArray[np.float32]:
    return np.broadcast_to(vector[:, None, None], (2, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("roll_deg", [0.0, 33.0, 90.0, 135.0, 180.0, -70.0])
@pytest.mark.parametrize("tilt_deg", [0.0, 30.0])
def test_pose_turns_with_the_view(roll_deg: float, tilt_deg: float) -> None:
    spine = Spine(roll_deg, tilt_deg)
    grid, maps, bone = view(spine)
    (found,) = region_candidates(grid, maps)
    T = found.T_camera_local
    assert np.degrees(rotation_angle(T[:3, :3].T @ spine.rotation())) < 1.0
    assert np.linalg.det(T[:3, :3]) == pytest.approx(1.0)
    assert np.linalg.norm(found.centre - spine.centre) < 0.012
    assert (T[:3, 3] == found.centre).all()
    assert found.axis_superior == pytest.approx(T[:3, 2])
    assert found.outward == pytest.approx(-T[:3, 1])
    assert found.outward[2] < 0  # towards the camera
    local = np.abs(apply(inverse(T), bone))
    assert (local < [0.045, 0.03, 0.10]).all()
    assert found.area_m2 == pytest.approx(
        4 * spine.half_width * spine.half_length * np.cos(np.radians(tilt_deg)), rel=0.2
    )
    assert found.score > 0.7
    assert found.direction_probability == pytest.approx(1.0)


def test_an_instrument_across_makes_one_candidate_two_spines_two() -> None:
    grid, maps, _ = view(Spine(roll_deg=40.0, gap=0.03))
    (found,) = region_candidates(grid, maps)
    assert np.linalg.norm(found.centre - [0.05, -0.03, 0.5]) < 0.012
    other_grid, other, _ = view(Spine(roll_deg=40.0, centre=(-0.15, 0.15, 0.5), half_length=0.03))
    both = RegionMaps(np.maximum(maps.bone, other.bone), maps.line, maps.superior, maps.anterior)
    depth = np.maximum(grid.depth, other_grid.depth)
    two = region_candidates(ViewGrid(grid.channels, depth, grid.origin, grid.values), both)
    assert len(two) == 2
    assert two[0].area_m2 > two[1].area_m2
    assert np.linalg.norm(two[1].centre - [-0.15, 0.15, 0.5]) < 0.015


def test_doubt_about_the_direction_gives_its_opposite_too() -> None:
    grid, maps, _ = view(Spine(roll_deg=-20.0, tilt_deg=20.0, length=0.4))
    first, second = region_candidates(grid, maps)
    assert first.direction_probability == pytest.approx(0.7, abs=0.01)
    assert second.direction_probability == pytest.approx(0.3, abs=0.01)
    assert first.score / second.score == pytest.approx(0.7 / 0.3, rel=0.05)
    assert (first.centre == second.centre).all()
    assert second.axis_superior == pytest.approx(-first.axis_superior)
    assert second.outward == pytest.approx(first.outward)
    assert np.linalg.det(second.T_camera_local[:3, :3]) == pytest.approx(1.0)
    turned = first.T_camera_local[:3, :3].T @ second.T_camera_local[:3, :3]
    assert np.degrees(rotation_angle(turned)) == pytest.approx(180.0)
    assert len(region_candidates(grid, maps, CandidateSettings(most=1))) == 1


def test_no_direction_at_all_is_half_and_half() -> None:
    grid, maps, _ = view(Spine(roll_deg=10.0, length=0.0))
    found = region_candidates(grid, maps)
    assert [round(c.direction_probability, 3) for c in found] == [0.5, 0.5]


def test_little_bone_is_nothing() -> None:
    grid, maps, _ = view(Spine(half_width=0.012, half_length=0.012))
    assert region_candidates(grid, maps) == []
    empty = view_grid(np.zeros((0, 3), np.float32))
    assert region_candidates(empty, maps) == []  # bone where the view has no points


def test_bone_without_probability_is_nothing_and_nan_is_none() -> None:
    grid, maps, _ = view(Spine())
    low = RegionMaps(0.25 * maps.bone, maps.line, maps.superior, maps.anterior)
    assert region_candidates(grid, low) == []
    bone = maps.bone.copy()
    bone[:20] = np.nan
    clean = RegionMaps(np.nan_to_num(bone), maps.line, maps.superior, maps.anterior)
    nan = RegionMaps(bone, maps.line, maps.superior, maps.anterior)
    assert [c.area_m2 for c in region_candidates(grid, nan)] == [
        c.area_m2 for c in region_candidates(grid, clean)
    ]
    lost = RegionMaps(maps.bone, np.full_like(maps.line, np.nan), maps.superior, maps.anterior)
    assert all(np.isfinite(c.T_camera_local).all() for c in region_candidates(grid, lost))


def test_maps_that_do_not_fit() -> None:
    grid, maps, _ = view(Spine())
    wrong = RegionMaps(
        maps.bone[:7, :9], maps.line[:, :7, :9], maps.superior[:, :7, :9], maps.anterior[:, :7, :9]
    )
    with pytest.raises(
        ValueError, match=r"maps of \(7, 9\) and \[\(2, 7, 9\)\] do not fit a view of \(120, 160\)"
    ):
        region_candidates(grid, wrong)


def test_the_networks_output_is_read_in_order() -> None:
    grid, maps, _ = view(Spine(roll_deg=77.0))
    with np.errstate(divide="ignore"):
        logit = np.log(maps.bone / (1 - maps.bone))
    output = np.concatenate([np.clip(logit, -1000, 1000)[None], maps.line, maps.superior, maps.anterior])
    assert read_maps(output.astype(np.float32)).bone == pytest.approx(maps.bone, abs=1e-6)
    (expected,) = region_candidates(grid, maps)
    (found,) = find_candidates(output.astype(np.float32), grid)
    assert found.T_camera_local == pytest.approx(expected.T_camera_local)
    with pytest.raises(ValueError, match=r"a region network's output is \(7, H, W\), not \(5, 60, 80\)"):
        find_candidates(output[:5], grid)
