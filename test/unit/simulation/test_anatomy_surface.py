"""Surfaces from fields: closed, outward, accurate; flaps ironed; the joint space cut where it should be."""

from __future__ import annotations

import numpy as np
import pytest

from end2reg_ros.case.meshes import inspect, signed_volume
from end2reg_ros.case.model import Mesh
from end2reg_ros.simulation.anatomy.arch import ArchPoints
from end2reg_ros.simulation.anatomy.fields import Field, Grid, ball, element_field
from end2reg_ros.simulation.anatomy.morphometry import draw_person
from end2reg_ros.simulation.anatomy.settings import AnatomySettings
from end2reg_ros.simulation.anatomy.surface import closed_surface, iron_folds
from end2reg_ros.simulation.anatomy.vertebra_field import VertebraField, carve_neighbour

GRID = Grid.around(np.full(3, -14.0), np.full(3, 14.0), 0.75)


def sphere(radius: float, x: float = 0.0) -> Field:
    return element_field(*GRID.axes(), (ball(x, 0, 0, radius),))


def test_surface_of_a_sphere_is_closed_outward_and_true_to_a_tenth_of_a_millimetre() -> None:
    vertices, triangles = closed_surface(sphere(10.0), GRID, 1000)
    mesh = Mesh(vertices / 1000.0, triangles)
    assert inspect(mesh).watertight
    assert len(triangles) <= 1000
    assert signed_volume(mesh) * 1e9 == pytest.approx(4 / 3 * np.pi * 10**3, rel=0.01)
    assert np.abs(np.linalg.norm(vertices, axis=1) - 10.0).max() < 0.1


def test_islands_that_a_cut_leaves_are_dropped() -> None:
    field = np.minimum(sphere(6.0, x=-4.0), sphere(2.0, x=10.0))
    vertices, _ = closed_surface(field, GRID, 2000)
    assert vertices[:, 0].max() < 2.2


def test_surface_that_reaches_the_border_of_its_grid_is_still_closed() -> None:
    vertices, triangles = closed_surface(sphere(12.0, x=6.0), GRID, 3000)
    assert inspect(Mesh(vertices / 1000.0, triangles)).watertight


def test_a_flap_is_ironed_out() -> None:
    field = sphere(10.0)
    vertices, triangles = closed_surface(field, GRID, 1000)
    bad = vertices.copy()
    neighbour = triangles[(triangles == 100).any(axis=1)][0]
    other = int(neighbour[neighbour != 100][0])
    bad[100] += 2.5 * (bad[other] - bad[100])  # past its neighbour: triangles turn over
    ironed = iron_folds(bad, triangles, field, GRID)
    a, b, c = (ironed[triangles[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    outward = (normals * (a + b + c)).sum(axis=1) / np.linalg.norm(normals, axis=1)
    assert outward.min() > 0
    assert np.abs(np.linalg.norm(ironed, axis=1) - 10.0).max() < 0.25
    assert (ironed != bad).any(axis=1).sum() < 40  # only there


def test_carving_leaves_the_gap_and_nothing_else_changes() -> None:
    shape = draw_person(np.random.default_rng(0), AnatomySettings()).levels[0]
    points = ArchPoints(np.zeros(3), {}, {}, {})
    upper = VertebraField(GRID, sphere(7.0, x=-6.0), points, shape)
    lower = VertebraField(GRID, sphere(7.0, x=6.5), points, shape)  # overlaps by 1.5 mm
    T = np.eye(4)
    T[2, 3] = 1.0
    before = lower.field.copy()
    carve_neighbour(upper, lower, T, gap=1.5)
    vertices, _ = closed_surface(lower.field, GRID, 4000)
    distance = np.linalg.norm(vertices - np.array([-6.0, 0, 1.0]), axis=1) - 7.0
    assert 1.3 < distance.min() < 1.7
    far = np.linalg.norm(vertices - np.array([-6.0, 0, 1.0]), axis=1) > 10.0
    assert np.abs(np.linalg.norm(vertices[far] - np.array([6.5, 0, 0]), axis=1) - 7.0).max() < 0.1
    assert (lower.field >= before - 1e-5).all()
