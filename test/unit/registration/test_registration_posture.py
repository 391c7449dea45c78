"""How the vertebrae stand to one another: what moves, by how much, and what no spine holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from boxes_case import boxes_case
from flexed_spine import T_true, fitted, flexed, level_errors, local, look

from end2reg_ros.registration.fit import posture as module
from end2reg_ros.registration.fit.posture import (
    Posture,
    implausible_segment,
    segment_centres,
    segment_motions,
    straight,
)
from end2reg_ros.se3 import apply, from_rotation_translation, rotation_from_vector

Array = np.ndarray
CASE = boxes_case()
CENTRES = segment_centres(CASE)
ANYWHERE = from_rotation_translation(rotation_from_vector(np.array([0.7, -0.4, 1.1])), np.full(3, 0.2))


def in_deg_mm(posture: Posture) -> Array:
    """(segments, 2) motion of each level against the next one."""
    found = np.array(segment_motions(posture, CENTRES))
    return np.stack([np.degrees(found[:, 0]), 1000 * found[:, 1]], axis=1)


def test_segment_centres_lie_between_the_vertebra_frames() -> None:
    assert CENTRES.shape == (2, 3)
    np.testing.assert_allclose(CENTRES[0], [0.0005, 0.002, 0.082], atol=1e-12)


def test_points_normals_and_poses_move_with_their_level() -> None:
    rng, posture = np.random.default_rng(0), flexed(5.0, 3.0, 1, CASE)
    points, directions = rng.normal(size=(2, 40, 3))
    level = rng.integers(0, 3, 40)
    moved, turned = posture.posed(points, level), posture.turned(directions, level)
    for k, T in enumerate(posture.motions):
        mine = level == k
        assert mine.any()
        np.testing.assert_allclose(moved[mine], apply(T, points[mine]), atol=1e-12)
        np.testing.assert_allclose(turned[mine], directions[mine] @ T[:3, :3].T, atol=1e-12)
        np.testing.assert_allclose(posture.level_pose(ANYWHERE, k), ANYWHERE @ T, atol=1e-12)


def test_straight_is_the_posture_of_the_ct() -> None:
    posture, points = straight(3), np.random.default_rng(0).normal(size=(9, 3))
    level = np.arange(9) % 3
    np.testing.assert_array_equal(posture.posed(points, level), points)
    np.testing.assert_allclose(in_deg_mm(posture), 0.0, atol=1e-9)
    assert implausible_segment(posture, CASE, CENTRES) is None


@pytest.mark.parametrize(("deg", "mm"), [(2.0, 1.0), (8.0, 4.0), (0.0, 2.0), (5.0, 0.0)])
def test_motions_between_neighbours_are_told_whatever_the_whole_does(deg: float, mm: float) -> None:
    posture = flexed(deg, mm, 3, CASE)
    np.testing.assert_allclose(in_deg_mm(posture), [[deg, mm], [deg, mm]], atol=1e-6)
    carried = Posture(ANYWHERE @ posture.motions)
    np.testing.assert_allclose(in_deg_mm(carried), [[deg, mm], [deg, mm]], atol=1e-6)


def test_a_pure_turn_about_a_segments_centre_is_no_shift() -> None:
    R = rotation_from_vector(np.array([0.1, 0.0, 0.0]))
    about = from_rotation_translation(R, CENTRES[1] - R @ CENTRES[1])
    posture = Posture(np.stack([np.eye(4), np.eye(4), about]))
    found = segment_motions(posture, CENTRES)
    assert found[0] == pytest.approx((0.0, 0.0), abs=1e-12)
    assert found[1] == pytest.approx((0.1, 0.0), abs=1e-12)


def test_a_spine_moves_by_8_degrees_and_4_mm_and_no_posture_beyond_11_and_6_is_believed() -> None:
    for seed in range(5):
        assert implausible_segment(flexed(8.0, 4.0, seed, CASE), CASE, CENTRES) is None
    assert implausible_segment(flexed(12.0, 1.0, 0, CASE), CASE, CENTRES) == (
        "L1 is turned by 12.0 deg against L2 (limit 11.0 deg)"
    )
    lower = flexed(1.0, 7.0, 0, CASE).motions
    lower[0] = lower[1]  # L1 moves with L2
    assert implausible_segment(Posture(lower), CASE, CENTRES) == (
        "L2 is shifted by 7.0 mm against L3 (limit 6.0 mm)"
    )


def test_a_fit_of_an_implausible_posture_is_refused_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    view = look(8.0, 4.0)
    right = fitted(view, posture=view.posture)
    assert right.success and level_errors(right, view)[:, 0].max() < 0.3
    monkeypatch.setattr(module, "MAX_TURN_RAD", np.radians(7.0))
    turned = fitted(view, posture=view.posture)
    assert (turned.success, turned.reason_code) == (False, "implausible_posture")
    assert turned.reason == "L1 is turned by 8.0 deg against L2 (limit 7.0 deg)"
    monkeypatch.setattr(module, "MAX_TURN_RAD", np.radians(11.0))
    monkeypatch.setattr(module, "MAX_SHIFT_M", 0.003)
    shifted = fitted(view, posture=view.posture)
    assert (shifted.success, shifted.reason_code) == (False, "implausible_posture")
    assert shifted.reason.startswith("L1 is shifted by 4.0 mm against L2 (limit 3.0 mm)")


def test_a_start_whose_levels_lead_to_an_implausible_posture_stays_one_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What passed as one rigid body is not lost for it."""
    view = look(2.0, 1.0)
    loose = fitted(view, continues=False)
    assert loose.success and loose.posture is not None
    monkeypatch.setattr(module, "MAX_TURN_RAD", np.radians(1.0))
    found = fitted(view, continues=False)
    assert found.success and found.posture is None
    for vertebra, level in zip(local().case.vertebrae, found.levels, strict=True):
        np.testing.assert_allclose(
            level.T_camera_level, found.T_camera_model @ vertebra.T_model_level, atol=1e-12
        )


def test_the_spines_pose_and_the_posture_make_each_levels_pose() -> None:
    view = look(4.0, 2.0)
    found = fitted(view, posture=view.posture)
    assert found.posture is not None and not np.allclose(found.T_camera_model, T_true(), atol=1e-4)
    for k, vertebra in enumerate(local().case.vertebrae):
        expected = found.posture.level_pose(found.T_camera_model, k) @ vertebra.T_model_level
        np.testing.assert_allclose(found.levels[k].T_camera_level, expected, atol=1e-12)


def test_a_case_of_one_vertebra_has_no_segments() -> None:
    single = replace(CASE, vertebrae=CASE.vertebrae[:1])
    centres = segment_centres(single)
    assert centres.shape == (0, 3)
    assert segment_motions(straight(1), centres) == []
    assert implausible_segment(straight(1), single, centres) is None
