"""Each vertebra's own pose: found in millimetres and degrees where the spine has flexed, left alone where it has not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from flexed_spine import fitted, level_errors, local, look, own_error, registered, rigid_errors
from views import bundled_case, tre_mm

from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.fit.articulated import refine_levels
from end2reg_ros.registration.fit.matching import ScenePoints
from end2reg_ros.registration.fit.posture import segment_motions, straight
from end2reg_ros.registration.local import LocalRegistration
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.se3 import apply, inverse

Array = np.ndarray
SEEN = [(2.0, 1.0), (4.0, 2.0), (8.0, 4.0)]


@pytest.mark.parametrize(("deg", "mm"), SEEN)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_flexed_spine_is_followed_level_by_level(deg: float, mm: float, seed: int) -> None:
    """From the posture before: every own pose right, while no one rigid pose fits them all."""
    view = look(deg, mm, seed)
    found = fitted(view, posture=view.posture)
    assert found.success, found.reason
    own, rigid = level_errors(found, view), rigid_errors(found, view)
    assert own[:, 0].max() < 0.3 and own[:, 1].max() < 0.3
    assert rigid[:, 0].max() > 1.4 * mm and rigid[:, 1].max() > deg
    assert not any(level.held for level in found.levels)


@pytest.mark.parametrize(("deg", "mm"), SEEN)
def test_a_flexed_spine_is_found_as_a_flexed_start(deg: float, mm: float) -> None:
    """Nothing is known of the posture: levels are looked for one from the other."""
    view = look(deg, mm)
    found = fitted(view, continues=False, flexed=True)
    assert found.success, found.reason
    assert found.posture is not None
    own = level_errors(found, view)
    assert own[:, 0].max() < 0.3 and own[:, 1].max() < 0.3
    moved = np.array(segment_motions(found.posture, local().fitter.skeleton.segment_centres))
    np.testing.assert_allclose(np.degrees(moved[:, 0]), deg, atol=0.3)
    np.testing.assert_allclose(1000 * moved[:, 1], mm, atol=0.3)


def test_a_little_flexed_spine_is_found_as_any_start() -> None:
    """Judged as one body first, then its levels are let loose: 2 degrees and 1 mm between neighbours."""
    view = look(2.0, 1.0)
    found = fitted(view, continues=False)
    assert found.success, found.reason
    own, rigid = level_errors(found, view), rigid_errors(found, view)
    assert own[:, 0].max() < 0.3 and own[:, 1].max() < 0.3
    assert rigid[:, 0].max() > 1.4


def test_a_much_flexed_spine_taken_as_one_body_is_refused_with_the_level_that_tells() -> None:
    found = fitted(look(4.0, 2.0, 1), continues=False)
    assert (found.success, found.reason_code) == (False, "level_disagrees")
    assert found.reason.startswith("L1: inlier ratio 0.7") and found.reason.endswith(" below 0.95")


@pytest.mark.parametrize("request_", [{}, {"continues": False}, {"continues": False, "flexed": True}])
def test_levels_that_have_not_moved_keep_to_the_rigid_pose(request_: dict[str, bool]) -> None:
    view = look()
    found = fitted(view, **request_)
    assert found.success and found.posture is not None
    for level, vertebra in zip(found.levels, bundled_case().vertebrae, strict=True):
        rigid = found.T_camera_model @ vertebra.T_model_level
        assert 1000 * np.linalg.norm(level.T_camera_level[:3, 3] - rigid[:3, 3]) < 0.1
    own, as_one = level_errors(found, view), rigid_errors(found, view)
    assert np.abs(own - as_one)[:, 0].max() < 0.1 and own[:, 1].max() < 0.1
    assert tre_mm(found.T_camera_model, view.T_camera_model) < 0.3


def test_a_track_takes_up_a_posture_within_a_few_frames() -> None:
    """The track began with the CT's posture; the spine stands 2 degrees and 1 mm from it at every segment."""
    view, errors = look(2.0, 1.0, 1), []
    T, posture = view.T_camera_model, None
    for _ in range(6):
        found = fitted(view, T, posture=posture)
        assert found.success, found.reason
        T, posture = found.T_camera_model, found.posture
        errors.append(level_errors(found, view)[:, 0].max())
    assert errors[0] > 0.4 and errors[-1] < 0.3
    assert errors[-1] <= min(errors) + 0.05  # and it stays there


def test_the_spines_pose_is_the_rigid_one_that_fits_all_levels_best() -> None:
    """Turned about a common motion, the posture is what is left: its motions average to none."""
    view = look(4.0, 2.0)
    found = fitted(view, posture=view.posture)
    assert found.posture is not None
    surface = local().surface
    rest, level = surface.points[surface.coarse], surface.level_index[surface.coarse]
    left = found.posture.posed(rest, level) - rest
    assert 1000 * np.linalg.norm(left.mean(axis=0)) < 0.05
    centred = rest - rest.mean(axis=0)
    turn = np.cross(centred, left).mean(axis=0) / (centred**2).sum(axis=1).mean()
    assert np.degrees(np.linalg.norm(turn)) < 0.05


@pytest.mark.slow
def test_without_articulation_the_spine_is_one_rigid_body() -> None:
    view = look(2.0, 1.0)
    rigid = LocalRegistration(bundled_case(), replace(RegistrationSettings(), articulation=None))
    for continues in (False, True):
        found = registered(rigid, view.cloud(), view.T_camera_model, continues)
        assert found.success and found.posture is None
        assert rigid_errors(found, view)[:, 0].max() > 1.2
        for level, vertebra in zip(found.levels, bundled_case().vertebrae, strict=True):
            np.testing.assert_allclose(
                level.T_camera_level, found.T_camera_model @ vertebra.T_model_level, atol=1e-12
            )
    assert rigid.fitter.reach(view.posture) == 0.0
    assert 0.002 < local().fitter.reach(view.posture) < 0.02
    assert local().fitter.reach(straight(5)) == local().fitter.reach(None) == 0.0


def test_a_case_of_one_vertebra_is_registered_as_one_body() -> None:
    """No neighbour to move against: one pose, of the spine and of its level."""
    case, view = bundled_case(), look()
    single = replace(case, vertebrae=case.vertebrae[2:3], hash="cd" * 32)
    alone = LocalRegistration(single, RegistrationSettings())
    seen = view.without([0, 1, 3, 4])
    for continues in (False, True):
        found = registered(alone, seen.cloud(), view.T_camera_model, continues)
        assert found.success, found.reason
        assert found.posture is None and len(found.levels) == 1
        error_mm, turn_deg = own_error(found.levels[0].T_camera_level, view, 2)
        assert error_mm < 0.4 and turn_deg < 0.5


def slipped(by: int, of: int = 2) -> Array:
    """The spine's pose with level ``of`` put where its neighbour ``by`` levels on is."""
    frames = [v.T_model_level for v in bundled_case().vertebrae]
    return look().T_camera_model @ frames[of + by] @ inverse(frames[of])


@pytest.mark.slow
@pytest.mark.parametrize("covered", [(), (0, 1, 4)])
@pytest.mark.parametrize("by", [-1, 1])
def test_a_slip_by_one_level_is_refused_however_freely_levels_may_move(
    covered: tuple[int, ...], by: int
) -> None:
    """Starts one level off, of a spine that stands as in the CT and of a flexed one; few levels and all of them seen."""
    for deg in (0.0, 4.0):
        view = look(deg, deg / 2).without(covered)
        right = fitted(view, continues=False, posture=view.posture)
        assert right.success, right.reason
        for request in ({}, {"flexed": True}, {"posture": view.posture}):
            assert not fitted(view, slipped(by), continues=False, **request).success, (deg, request)


def test_next_to_no_points_give_no_levels() -> None:
    view, surface = look(), local().surface
    settings = local().settings
    assert settings.articulation is not None
    few = view.scene(5)
    few = ScenePoints(few.points[:5], few.normals[:5])
    found = refine_levels(
        few, surface, local().fitter.skeleton, view.T_camera_model, straight(5), settings.refine,
        settings.articulation,
    )  # fmt: skip
    assert found is None
    table = Cloud(view.cloud().points[view.level < 0], None, "camera", 1)
    for continues in (False, True):
        nothing = registered(local(), table, view.T_camera_model, continues)
        assert not nothing.success and nothing.posture is None
        assert nothing.reason == "only 0 points near the model"


def test_points_off_the_surface_lead_to_a_refusal_not_to_an_error() -> None:
    """Enough points near the model, none of them within a gate of it."""
    view, surface = look(), local().surface
    off = view.points[view.level >= 0] + 0.0072 * view.normals[view.level >= 0]
    far, _ = surface.tree.query(apply(inverse(view.T_camera_model), off))
    cloud = Cloud(off[far > 0.0068].astype(np.float32), None, "camera", 1)
    assert len(cloud.points) > 3000
    for continues, flexed in ((True, False), (False, True), (False, False)):
        found = registered(local(), cloud, view.T_camera_model, continues, straight(5), flexed)
        assert not found.success and found.reason, (continues, flexed)
        assert np.isfinite(found.T_camera_model).all() and np.isfinite(found.covariance).all()
    assert tre_mm(found.T_camera_model, view.T_camera_model) < 10.0
