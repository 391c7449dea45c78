"""ScenePoints points looked up on a surface whose levels stand apart from the CT's posture, against a search tree a level."""

from __future__ import annotations

import numpy as np
import pytest
from flexed_spine import View, flexed, local, look
from scipy.spatial import cKDTree

from end2reg_ros.registration.fit.matching import (
    ASSIGNED_WITHIN_M,
    Matches,
    PostureMatcher,
    RigidMatcher,
    ScenePoints,
)
from end2reg_ros.registration.fit.posture import Posture, straight
from end2reg_ros.registration.fit.refine import cos_limit
from end2reg_ros.registration.settings import RefineSettings
from end2reg_ros.se3 import apply, inverse

Array = np.ndarray
GATE, COS = 0.003, cos_limit(RefineSettings())
GRID_M = 0.0015  # by how much a grid may tell another distance than a tree


def look_up(view: View, posture: Posture, scene: ScenePoints) -> Matches:
    """In the posture, at the view's true pose."""
    return PostureMatcher(local().surface, posture).match(scene, inverse(view.T_camera_model), GATE, COS)


def distances(points: Array, posture: Posture) -> Array:
    """(N, levels) from each point, model frame, to the samples of each posed level."""
    surface, columns = local().surface, []
    for k, T in enumerate(posture.motions):
        samples = apply(T, surface.points[surface.level_index == k])
        columns.append(cKDTree(samples).query(points)[0])
    return np.stack(columns, axis=1)


def test_every_point_belongs_to_the_level_it_was_seen_on() -> None:
    view = look(4.0, 2.0)
    matches = look_up(view, view.posture, view.scene())
    bone = np.flatnonzero(view.level >= 0)
    bone = bone[:: len(bone) // 4000]  # as ``View.scene`` takes them
    own = view.level[bone][matches.index]
    assert len(matches.index) > 0.95 * len(view.scene().points)
    assert (matches.level == own).mean() > 0.99  # the rest lies where facets of two levels meet
    assert matches.agreement > 0.97
    assert np.sqrt(np.mean(matches.residual**2)) < 0.0005


def test_what_is_told_of_a_match_holds() -> None:
    """Points and normals in the model frame, as the posed level lies there; residuals along the normals."""
    view = look(8.0, 4.0)
    T, scene, surface = inverse(view.T_camera_model), view.scene(1500), local().surface
    matches = look_up(view, view.posture, scene)
    np.testing.assert_allclose(matches.points, apply(T, scene.points[matches.index]), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(matches.normals, axis=1), 1.0, atol=1e-9)
    towards = np.einsum("ij,ij->i", scene.normals[matches.index] @ T[:3, :3].T, matches.normals)
    assert (towards > COS).all()
    for k in range(5):
        mine = matches.level == k
        samples = apply(view.posture.motions[k], surface.points[surface.level_index == k])
        on_surface = matches.points[mine] - matches.residual[mine, None] * matches.normals[mine]
        off = cKDTree(samples).query(on_surface)[0]
        assert np.quantile(off, 0.95) < 0.0015  # samples lie 1 mm apart


@pytest.mark.parametrize("seed", range(3))
def test_a_point_is_assigned_to_the_nearest_posed_level(seed: int) -> None:
    view, rng = look(6.0, 3.0, seed), np.random.default_rng(seed)
    points = apply(inverse(view.T_camera_model), view.scene(1500).points)
    points = points + rng.normal(scale=0.003, size=points.shape)
    posture, T = view.posture, view.T_camera_model
    scene = ScenePoints(apply(T, points), np.tile([0.0, 0.0, -1.0], (len(points), 1)))
    level = PostureMatcher(local().surface, posture).assigned(scene, inverse(T)).level
    assert level is not None
    apart = distances(points, posture)
    order = np.sort(apart, axis=1)
    clear = (order[:, 0] < ASSIGNED_WITHIN_M - GRID_M) & (order[:, 1] - order[:, 0] > GRID_M)
    assert clear.sum() > 800
    right = level[clear] == apart.argmin(axis=1)[clear]
    # The grid knows the CT's posture: where another level was nearer there, a point off the surface may be missed.
    assert right.mean() > 0.97
    assert right[order[clear, 0] < 0.0015].mean() > 0.99
    far = order[:, 0] > ASSIGNED_WITHIN_M + GRID_M
    assert far.any() and (level[far] == -1).all()


def between_two_levels(posture: Posture) -> tuple[Array, Array, Array]:
    """Points (N, 3) within 3 mm of both L3 and L4, model frame, and how far from each."""
    surface, motions = local().surface, posture.motions
    upper = apply(motions[2], surface.points[surface.level_index == 2])
    lower = apply(motions[3], surface.points[surface.level_index == 3])
    near, index = cKDTree(lower).query(upper)
    close = near < 0.005
    points = (upper[close] + lower[index[close]]) / 2
    up = np.array([0.0, 0.0, 0.0008])
    points = np.concatenate([points, points + up, points - up])
    apart = distances(points, posture)
    return points, apart[:, 2], apart[:, 3]


def test_points_between_two_levels_speak_for_the_nearer_one_only() -> None:
    """Where the facets of two levels meet: each point is looked up once, on the level that it is nearer to."""
    posture, T = flexed(3.0, 1.0, 2), look().T_camera_model
    points, upper, lower = between_two_levels(posture)
    assert len(points) > 100
    matcher = PostureMatcher(local().surface, posture)
    scene = matcher.assigned(ScenePoints(apply(T, points), np.zeros_like(points)), inverse(T))
    assert scene.level is not None and set(scene.level) <= {-1, 2, 3}
    sure = np.abs(upper - lower) > GRID_M
    assert sure.sum() > 20
    assert (scene.level[sure] == np.where(upper < lower, 2, 3)[sure]).mean() > 0.95
    assert not (scene.level[sure] == np.where(upper < lower, 3, 2)[sure]).any()
    matches = matcher.match(scene, inverse(T), GATE, -2.0)
    assert len(np.unique(matches.index)) == len(matches.index)
    np.testing.assert_array_equal(matches.level, scene.level[matches.index])


def test_an_assignment_holds_for_later_look_ups_and_is_thinned_with_the_scene() -> None:
    """A point given to L3 is none of L4's, however near L4 has come since."""
    view, surface = look(), local().surface
    rest = PostureMatcher(surface, straight(5)).assigned(view.scene(), inverse(view.T_camera_model))
    assert rest.level is not None
    few = rest.every(3)
    assert few.level is not None
    np.testing.assert_array_equal(few.level, rest.level[::3])
    np.testing.assert_array_equal(few.points, rest.points[::3])
    assert rest.every(1) is rest and rest.every(0) is rest
    motions = straight(5).motions
    motions[3, 2, 3] += 0.005  # L4 has risen by 5 mm
    matches = look_up(view, Posture(motions), rest)
    np.testing.assert_array_equal(matches.level, rest.level[matches.index])


def test_in_the_cts_posture_the_look_up_is_the_rigid_one() -> None:
    view, surface = look(), local().surface
    T, scene = inverse(view.T_camera_model), view.scene()
    rigid = RigidMatcher(surface).match(scene, T, GATE, COS)
    posed = PostureMatcher(surface, straight(5)).match(scene, T, GATE, COS)
    both, r, p = np.intersect1d(rigid.index, posed.index, return_indices=True)
    assert len(both) > 0.995 * max(len(rigid.index), len(posed.index))
    np.testing.assert_allclose(posed.residual[p], rigid.residual[r], atol=1e-9)
    np.testing.assert_array_equal(posed.level[p], rigid.level[r])
    assert posed.agreement == pytest.approx(rigid.agreement, abs=0.005)


@pytest.mark.parametrize("kind", ["rigid", "posed"])
def test_gate_and_normals_keep_points_out(kind: str) -> None:
    view, surface = look(), local().surface
    matcher = RigidMatcher(surface) if kind == "rigid" else PostureMatcher(surface, straight(5))
    T, scene = inverse(view.T_camera_model), view.scene(2000)
    matches = matcher.match(scene, T, GATE, COS)
    lifted = ScenePoints(scene.points - [0.0, 0.0, 0.02], scene.normals)
    assert len(matcher.match(lifted, T, GATE, COS).index) < 0.05 * len(matches.index)
    away = matcher.match(ScenePoints(scene.points, -scene.normals), T, GATE, COS)
    assert len(away.index) < 0.05 * len(matches.index) and away.agreement < 0.05
    half = scene.normals.copy()
    half[::2] *= -1
    assert matcher.match(ScenePoints(scene.points, half), T, GATE, COS).agreement == pytest.approx(
        0.5, abs=0.03
    )


@pytest.mark.parametrize("kind", ["rigid", "posed"])
def test_no_points_match_nothing(kind: str) -> None:
    surface, none = local().surface, np.zeros((0, 3))
    matcher = RigidMatcher(surface) if kind == "rigid" else PostureMatcher(surface, straight(5))
    found = matcher.match(ScenePoints(none, none), np.eye(4), GATE, COS)
    assert (len(found.index), len(found.residual), found.agreement) == (0, 0, 0.0)
