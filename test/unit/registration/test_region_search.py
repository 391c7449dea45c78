"""Two looks at a view, with a made-up network that knows bone by its colour: any roll, the doubtful end, odd clouds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from end2reg_ros.cloud.view_grid import CHANNELS, COLUMNS, ROWS
from end2reg_ros.registration.find.region_candidates import CandidateSettings
from end2reg_ros.registration.find.region_search import CROP, search_regions, turn_upright
from end2reg_ros.se3 import apply, inverse, rotation_angle

Floats = NDArray[np.float32]
SHAPE = (ROWS // 2, COLUMNS // 2)


class ColourNet:
    """Bone is red; its superior end is green too. Upright it knows which end is up, at other angles it guesses wrong."""

    def __init__(self, confidence: float = 1.0) -> None:
        self.confidence = confidence
        self.seen: list[Floats] = []

    def __call__(self, picture: Floats) -> Floats:
        self.seen.append(picture)
        red = picture[3].reshape(SHAPE[0], 2, SHAPE[1], 2).max(axis=(1, 3)) > 0.2
        green = picture[4].reshape(SHAPE[0], 2, SHAPE[1], 2).max(axis=(1, 3)) > 0.2
        output = np.zeros((7, *SHAPE), np.float32)
        output[0] = np.where(red, 4.0, -9.0)
        if red.sum() > 2:
            cells = np.argwhere(red)[:, ::-1].astype(float)
            along = np.linalg.svd(cells - cells.mean(axis=0), full_matrices=False)[2][0]
            up = np.argwhere(green)[:, ::-1].mean(axis=0) - cells.mean(axis=0)
            true = along if along @ up > 0 else -along
            upright = abs(true[1]) > np.cos(np.radians(12.0))
            said = true * (self.confidence if upright else -0.2)
            output[1:5] = np.array(
                [along[0] ** 2 - along[1] ** 2, 2 * along[0] * along[1], said[0], said[1]]
            )[:, None, None]
        return output


def scene(roll_deg: float) -> tuple[Floats, NDArray[np.uint8], NDArray[np.bool_], NDArray[np.float64]]:
    """Points, colours, bone and T_camera_local of a red strip on skin, the camera turned by ``roll_deg``."""
    z, x = np.mgrid[-0.22:0.22:0.003, -0.22:0.22:0.003]
    a = np.radians(roll_deg)
    R = np.array([[np.cos(a), 0, np.sin(a)], [np.sin(a), 0, -np.cos(a)], [0, 1, 0]])
    bone = ((np.abs(x) < 0.02) & (np.abs(z) < 0.08)).ravel()
    local = np.column_stack([x.ravel(), np.zeros(x.size), z.ravel()])
    colours = np.full((x.size, 3), 90, np.uint8)
    colours[bone, 0] = 250
    colours[bone & (local[:, 2] > 0.04), 1] = 250
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, [0.06, -0.04, 0.55]
    return apply(T, local).astype(np.float32), colours, bone, T


@pytest.mark.parametrize("roll_deg", [0.0, 45.0, 100.0, 180.0, -60.0])
def test_the_second_look_decides_which_end_is_up(roll_deg: float) -> None:
    points, colours, bone, T = scene(roll_deg)
    network = ColourNet()
    (found,) = search_regions(network, points, colours)
    assert np.degrees(rotation_angle(found.T_camera_local[:3, :3].T @ T[:3, :3])) < 10.0  # cells of 16 mm
    assert np.linalg.norm(found.centre - T[:3, 3]) < 0.012
    assert (found.T_camera_local[:3, 3] == found.centre).all()
    assert (np.abs(apply(inverse(found.T_camera_local), points[bone])) < [0.04, 0.03, 0.1]).all()
    assert len(network.seen) == 2
    rows, columns = np.nonzero(network.seen[1][0])
    assert np.ptp(rows) < CROP[0]
    assert np.ptp(columns) < CROP[1]


def test_doubt_of_the_second_look_is_told() -> None:
    points, colours, _, _ = scene(30.0)
    first, second = search_regions(ColourNet(confidence=0.6), points, colours)
    assert first.direction_probability == pytest.approx(0.8, abs=0.02)
    assert second.direction_probability == pytest.approx(0.2, abs=0.02)
    assert second.axis_superior == pytest.approx(-first.axis_superior)
    alone = search_regions(ColourNet(confidence=0.6), points, colours, CandidateSettings(flip_min=0.3))
    assert len(alone) == 1


def test_nothing_in_nothing_out() -> None:
    network = ColourNet()
    points, _, _, _ = scene(0.0)
    assert search_regions(network, points) == []  # no colours: this network sees no bone
    assert search_regions(network, points[:50]) == []
    assert search_regions(network, np.zeros((0, 3), np.float32)) == []
    nan = np.full((60, 3), np.nan, np.float32)
    assert search_regions(network, nan, np.full((60, 3), 250, np.uint8)) == []
    assert all(p.shape == (CHANNELS, ROWS, COLUMNS) and np.isfinite(p).all() for p in network.seen)


def test_faulty_points_do_not_matter() -> None:
    points, colours, _, _ = scene(70.0)
    bad = np.array([[np.nan, 0, 0.5], [0, np.inf, 0.5], [0, 0, 0]], np.float32)
    red = np.array([[250, 0, 0]] * 3, np.uint8)
    (a,) = search_regions(ColourNet(), points, colours)
    (b,) = search_regions(ColourNet(), np.concatenate([points, bad]), np.concatenate([colours, red]))
    assert a.T_camera_local == pytest.approx(b.T_camera_local)


@pytest.mark.parametrize("direction", [(1.0, 0.0), (0.0, 2.0), (-0.3, -0.4)])
def test_turn_upright(direction: tuple[float, float]) -> None:
    R = turn_upright(np.array(direction))
    unit = np.array([*direction, 0.0]) / np.hypot(*direction)
    assert R @ unit == pytest.approx([0.0, -1.0, 0.0])
    assert np.abs(R @ R.T - np.eye(3)).max() < 1e-12
    assert np.linalg.det(R) == pytest.approx(1.0)
