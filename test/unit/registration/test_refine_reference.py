"""The refinement, which looks few points up at first and weighs several times a look-up, against its slow reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from flexed_spine import local, look
from views import tre_mm

from end2reg_ros.registration.fit.refine import refine
from end2reg_ros.registration.fit.refine_reference import refine_reference
from end2reg_ros.registration.fit.surface import PointSurface
from end2reg_ros.registration.settings import RefineSettings
from end2reg_ros.se3 import from_rotation_translation, inverse, rotation_from_vector

Array = np.ndarray


def off(T: Array, mm: float, deg: float, seed: int) -> Array:
    """The pose moved by so much about the model's middle."""
    turn, shift = np.random.default_rng(seed).normal(size=(2, 3))
    R = rotation_from_vector(np.radians(deg) * turn / np.linalg.norm(turn))
    centre = local().centre
    moved = centre - R @ centre + mm / 1000 * shift / np.linalg.norm(shift)
    return T @ from_rotation_translation(R, moved)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("mm", "deg"), [(0.5, 0.5), (2.0, 1.0)])
def test_refine_ends_within_two_hundredths_of_a_millimetre_of_its_reference(
    seed: int, mm: float, deg: float
) -> None:
    """On some points at first and the rest only at the end, the same surface, the same gates."""
    view = look()
    scene, start = view.scene(3600), off(view.T_camera_model, mm, deg, seed)
    settings = replace(RefineSettings(), max_iterations=30, outside_iterations=20)
    fast = refine(scene.points, scene.normals, local().surface, start, settings)
    slow = refine_reference(scene.points, scene.normals, local().surface, start, settings)
    assert tre_mm(fast.T_camera_model, slow) < 0.02
    assert tre_mm(slow, view.T_camera_model) < 0.3 < tre_mm(start, view.T_camera_model)


@pytest.mark.parametrize("seed", range(3))
def test_as_many_look_ups_as_a_frame_gets_are_enough(seed: int) -> None:
    view = look()
    scene, start = view.scene(3600), off(view.T_camera_model, 1.0, 0.5, seed)
    fast = refine(scene.points, scene.normals, local().surface, start, RefineSettings())
    slow = refine_reference(scene.points, scene.normals, local().surface, start, RefineSettings())
    assert tre_mm(fast.T_camera_model, slow) < 0.03
    assert fast.iterations <= RefineSettings().max_iterations + RefineSettings().outside_iterations


def test_the_reference_itself_is_right_on_bare_points() -> None:
    """No noise, every point on the surface, looked up by search tree: the pose comes back."""
    surface = local().surface
    exact, T = PointSurface(surface.points, surface.normals, surface.tree), look().T_camera_model
    points = surface.points[::12] @ T[:3, :3].T + T[:3, 3]
    normals = surface.normals[::12] @ T[:3, :3].T
    found = refine_reference(points, normals, exact, off(T, 1.0, 0.5, 0), RefineSettings())
    assert tre_mm(found, T) < 0.02
    np.testing.assert_allclose(found @ inverse(found), np.eye(4), atol=1e-12)
