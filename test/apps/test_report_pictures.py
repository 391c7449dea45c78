"""Pictures of the report: the model lands where it projects, and covered bone is not painted as seen."""

from __future__ import annotations

import numpy as np
import pytest
from boxes_case import boxes_case

from end2reg_ros import se3
from end2reg_ros.apps.demo import overlay as draw
from end2reg_ros.case.model import Case

K = np.array([[600.0, 0, 159.5], [0, 600.0, 119.5], [0, 0, 1]])
FACING = se3.from_rotation_translation(
    np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.array([0.0, 0.064, 0.5])
)


@pytest.fixture
def case() -> Case:
    return boxes_case()


def level_poses(case: Case) -> dict[str, np.ndarray]:
    return {v.level: FACING @ v.T_model_level for v in case.vertebrae}


def test_the_raster_puts_every_vertebra_where_it_projects(case: Case) -> None:
    ids, depth, shade = draw.raster(case, level_poses(case), K, (320, 240))
    for k, vertebra in enumerate(case.vertebrae):
        centre = se3.apply(FACING, vertebra.mesh.vertices.mean(axis=0))
        u, v, w = K @ centre
        assert ids[round(v / w), round(u / w)] == k
        assert depth[round(v / w), round(u / w)] == pytest.approx(centre[2] - 0.012, abs=1e-6)
    assert set(np.unique(ids)) == {-1, 0, 1, 2}
    assert np.isinf(depth[ids < 0]).all() and (shade[ids >= 0] > 0).all()


def test_the_window_encloses_the_model_and_keeps_its_pixels(case: Case) -> None:
    view = draw.CameraPicture(np.zeros((240, 320, 3), np.uint8), K)
    window = draw.around(case, level_poses(case), view, width=400)
    width, height = window.size()
    assert (width, height) == (400, 300)
    inside, _, _ = draw.raster(case, level_poses(case), window.camera_matrix(K), window.size())
    all_of_it, _, _ = draw.raster(case, level_poses(case), K, (320, 240))
    assert (inside >= 0).sum() / window.scale**2 == pytest.approx((all_of_it >= 0).sum(), rel=0.03)
    assert (inside[[0, -1]] < 0).all() and (inside[:, [0, -1]] < 0).all()


def test_the_overlay_fills_what_is_seen_and_only_outlines_what_is_covered(case: Case) -> None:
    colour = np.full((240, 320, 3), 100, np.uint8)
    poses = level_poses(case)
    ids, depth, _ = draw.raster(case, poses, K, (320, 240))
    free = draw.CameraPicture(colour, K, np.where(np.isfinite(depth), depth, 1.0).astype(np.float32))
    hidden = draw.CameraPicture(colour, K, np.full((240, 320), 0.3, np.float32))
    window = draw.whole(free, width=320)
    inner = (ids == 1) & ~draw.outline(ids, 4)
    seen = draw.overlay(case, free, window, poses)[inner].astype(int)
    assert np.abs(seen - 100).max() > 20
    assert (draw.overlay(case, hidden, window, poses)[inner] == 100).all()
    assert (draw.overlay(case, hidden, window, poses) != 100).any()
    white = draw.overlay(case, free, window, {}, poses)
    assert (white[draw.outline(ids)] == 255).all() and (white[inner] == 100).all()
