"""From a cloud and a rough pose to what the network sees, and back to a pose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fake_engine import PROFILE, Array, cloud, sides, truth, turned

from end2reg_ros.cloud.pyramid import UNIT_M
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.engine.types import NetworkOutput
from end2reg_ros.registration.find.network_search import REGION_HALF_M, around_pose, around_region
from end2reg_ros.registration.network import MIN_POINTS, NetworkPass, NetworkScene
from end2reg_ros.registration.scene import MIN_DEPTH_M, Box, crop
from end2reg_ros.registration.types import Stopwatch
from end2reg_ros.se3 import apply, from_rotation_translation, inverse, rotation_from_vector


class Saying:
    """An engine that says one pose of every scene."""

    profile = PROFILE

    def __init__(self, rotation: Array, translation: Array) -> None:
        none = np.zeros(0, np.float32)
        self.output = NetworkOutput(rotation, translation, 1, 1, none, none, none)

    def set_model(self, model: object) -> None:
        """Nothing to encode."""

    def run(self, scene: object, mask: object) -> NetworkOutput:
        return self.output


def posed(rotation: Array, translation: Array, scene: NetworkScene) -> Array:
    """(4, 4) T_camera_model that the network's numbers become."""
    network = NetworkPass(Saying(rotation, translation), sides())  # type: ignore[arg-type]
    return network.pose(scene, Stopwatch()).T_camera_model


def test_the_networks_numbers_become_a_pose() -> None:
    rng = np.random.default_rng(0)
    scene = around_pose(cloud(), truth(), sides(), PROFILE)
    assert scene is not None
    for _ in range(5):
        T_camera_local, T_camera_model = (
            from_rotation_translation(rotation_from_vector(rng.normal(size=3)), rng.normal(size=3))
            for _ in "ab"
        )
        T = inverse(T_camera_local) @ T_camera_model
        shift = apply(T, sides().centre[None])[0] / UNIT_M
        moved = replace(scene, T_camera_local=T_camera_local)
        assert np.allclose(posed(T[:3, :3], shift, moved), T_camera_model, atol=1e-12)
    identity = posed(np.eye(3), np.zeros(3), scene)  # posed as the scene was cropped
    assert np.allclose(identity, truth(), atol=1e-12)


@pytest.mark.parametrize("posed", [True, False])
def test_cells_know_the_clouds_points(posed: bool) -> None:
    start = turned(truth(), 10.0)
    start = start if posed else start @ from_rotation_translation(np.eye(3), sides().centre)
    scene = around_pose(cloud(), start, sides(), PROFILE) if posed else around_region(cloud(), start, PROFILE)
    assert scene is not None
    local_points = apply(inverse(scene.T_camera_local), cloud().points[scene.scene.index].astype(float))
    if not posed:
        assert (np.abs(local_points) < REGION_HALF_M + 1e-6).all()
    level, cell = scene.pyramids.registration.levels[0], scene.cell_of_index()
    assert cell.shape == scene.scene.index.shape and level.count > 500 and cell.max() == level.count - 1
    # A cell's mean lies within half a cell and half a voxel of each of its points.
    held = cell >= 0
    offset = np.abs(local_points[held] / UNIT_M - level.points[cell[held]])
    assert offset.max() < PROFILE.scene.voxels[0] + 0.002 * 3**0.5 / UNIT_M
    thinned = apply(inverse(scene.T_camera_local), scene.scene.thin.points) / UNIT_M
    of_thinned = scene.pyramids.registration.cell_of_point
    for k in (0, level.count // 2, level.count - 1):
        assert np.allclose(thinned[of_thinned == k].mean(axis=0), level.points[k], atol=1e-5)
    label = np.zeros(len(cloud().points), bool)
    label[scene.scene.index[cell == 7]] = True
    share = scene.cell_share(label)
    assert share.shape == (level.count,) and share[7] == 1.0 and share.sum() == 1.0


def test_the_normals_face_the_camera_and_the_colours_are_means() -> None:
    scene = around_pose(cloud(), truth(), sides(), PROFILE)
    assert scene is not None
    attributes = scene.pyramids.registration.attributes[: scene.pyramids.registration.levels[0].count]
    towards = -truth()[:3, :3].T @ np.array([0.0, 0.0, 1.0])
    assert (attributes[:, 3:6] @ towards > 0).mean() > 0.95
    assert np.allclose(np.linalg.norm(attributes[:, 3:6], axis=1), 1.0, atol=1e-3)
    assert 0.1 < attributes[:, :3].mean() < 0.9


def test_fewer_than_sixty_points_are_no_scene() -> None:
    inside = np.flatnonzero(
        (np.abs(apply(inverse(truth()), cloud().points.astype(float)) - sides().centre) < 0.02).all(axis=1)
    )
    assert MIN_POINTS == 60 and len(inside) > 60
    for count, there in ((59, False), (60, True)):
        few = Cloud(cloud().points[inside[:count]], None, "camera", 1)
        assert (around_pose(few, truth(), sides(), PROFILE) is not None) == there


def test_the_crop_is_the_box_before_the_camera() -> None:
    points = cloud().points
    start = turned(truth(), 10.0) @ from_rotation_translation(np.eye(3), sides().centre)
    local = apply(inverse(start), points.astype(float))
    # The spine's surroundings, a corner of the view, and a box that the camera is in.
    for low, high in (([-0.1] * 3, [0.1] * 3), ([0.0, -0.2, 0.05], [0.3, 0.4, 0.3]), ([-2.0] * 3, [2.0] * 3)):
        box = Box(np.array(low), np.array(high))
        inside = np.flatnonzero(
            ((local > box.low) & (local < box.high)).all(axis=1) & (points[:, 2] > MIN_DEPTH_M)
        )
        assert len(inside) > 1000
        np.testing.assert_array_equal(crop(cloud(), start, box, 0.0).index, inside)
    close = np.concatenate([points[:5], [[0, 0, 0.02], [0, 0, -0.3]]]).astype(np.float32)
    for few, expected in ((close, [0, 1, 2, 3, 4]), (points[:0], [])):
        scene = crop(Cloud(few, None, "camera", 1), start, Box(np.full(3, -2.0), np.full(3, 2.0)), 0.0)
        assert scene.index.tolist() == expected and (len(scene.thin) > 0) == bool(expected)


def test_threads_change_the_time_only() -> None:
    one, two = (around_pose(cloud(), truth(), sides(), PROFILE, threads=threads) for threads in (1, 2))
    assert one is not None and two is not None
    np.testing.assert_array_equal(one.scene.index, two.scene.index)
    first, second = one.pyramids.registration, two.pyramids.registration
    np.testing.assert_array_equal(first.attributes, second.attributes)
    np.testing.assert_array_equal(first.patches, second.patches)
    for a, b in zip(first.levels, second.levels, strict=True):
        for name in ("points", "neighbours", "pool", "upsample"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
