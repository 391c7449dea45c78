"""``icp`` and ``ransac_icp`` on simulated views: millimetres when right, and never a wrong pose called a success."""

from __future__ import annotations

import numpy as np
import pytest
from views import bundled_case, cloud_of, frame, prior, registrar, shifted, tre_mm

from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import RegistrationError
from end2reg_ros.registration import create_registrar
from end2reg_ros.registration.landmarks import prior_from_landmarks
from end2reg_ros.registration.quality import Agreement, agreement
from end2reg_ros.registration.region import ThinSettings, crop, make_region
from end2reg_ros.registration.types import Prior
from end2reg_ros.se3 import apply


def picked_prior(seed: int, T_true: np.ndarray) -> Prior:
    model = bundled_case().landmark_array()
    noise = np.random.default_rng(seed).normal(scale=0.003 / np.sqrt(3), size=model.shape)
    return prior_from_landmarks(apply(T_true, model) + noise, model)


@pytest.mark.parametrize("seed", range(3))
def test_picks_with_3_mm_of_noise_lead_to_a_pose_within_1_mm(seed: int) -> None:
    seen = frame(seed)
    found = registrar().register(cloud_of(seen), picked_prior(seed, seen.T_camera_model))
    assert found.success, found.reason
    assert tre_mm(found.T_camera_model, seen.T_camera_model) < 1.0
    for level in found.levels:
        error = level.T_camera_level[:3, 3] - seen.T_camera_levels[level.level][:3, 3]
        assert 1000 * np.linalg.norm(error) < 1.0
    stddev = np.sqrt(np.diag(found.levels[2].covariance)[:3])
    assert (stddev > 1e-4).all() and (stddev < 1e-3).all()


def test_the_relevant_points_are_bone() -> None:
    seen = frame(0)
    found = registrar().register(cloud_of(seen), picked_prior(0, seen.T_camera_model))
    bone = seen.bone[np.isfinite(seen.points).all(axis=-1)]
    assert found.relevant is not None and len(found.relevant) > 1000
    assert bone[found.relevant].mean() > 0.5  # the rest is tissue that lies on bone, within the gate
    assert bone.mean() < 0.05


def test_wrong_places_are_never_called_a_pose() -> None:
    """Starts 10-70 mm off, along the spine's axis above all: refused, or back within 2 mm of the truth."""
    seen = frame(1)
    cloud = cloud_of(seen)
    refused = 0
    for axis_mm in (-70, -36, -34, -32, -25, -18, 18, 25, 32, 34, 36, 70):
        found = registrar().register(cloud, prior(shifted(seen.T_camera_model, z_mm=axis_mm)))
        refused += not found.success
        assert not found.success or tre_mm(found.T_camera_model, seen.T_camera_model) < 2.0, axis_mm
    for seed in range(8):
        v = np.random.default_rng(seed).normal(size=3)
        v *= 20 / np.linalg.norm(v)
        found = registrar().register(cloud, prior(shifted(seen.T_camera_model, *v)))
        refused += not found.success
        assert not found.success or tre_mm(found.T_camera_model, seen.T_camera_model) < 2.0, v
    assert refused >= 12


def test_a_slip_by_one_level_is_seen_by_the_way_surfaces_turn() -> None:
    seen = frame(0)
    spacing = (
        bundled_case().vertebrae[2].T_model_level[2, 3] - bundled_case().vertebrae[3].T_model_level[2, 3]
    )
    right = registrar().register(cloud_of(seen), prior(seen.T_camera_model))
    slipped = registrar().register(cloud_of(seen), prior(shifted(seen.T_camera_model, z_mm=-1000 * spacing)))
    assert right.quality.normal_agreement > 0.75
    assert slipped.quality.normal_agreement < 0.66
    assert not slipped.success


def test_no_spine_in_view_gives_no_pose() -> None:
    empty, T = frame(0, "empty"), frame(0).T_camera_model
    for axis_mm in (-20, 0, 20):
        found = registrar().register(cloud_of(empty), prior(shifted(T, z_mm=axis_mm)))
        assert not found.success
        assert found.reason_code != "ok"


@pytest.mark.parametrize("count", [0, 1, 50])
def test_tiny_clouds_give_a_reason(count: int) -> None:
    points = np.full((count, 3), 0.5, dtype=np.float32)
    for method in ("icp", "ransac_icp"):
        chosen = registrar() if method == "icp" else create_registrar(method, bundled_case())
        found = chosen.register(Cloud(points, None, "camera", 1), prior(np.eye(4)))
        assert (found.success, found.reason_code) == (False, "no_points")
        assert "points near the model" in found.reason


def test_icp_from_the_middle_of_the_view_is_not_trusted() -> None:
    """Without a prior the whole view misleads ICP; it must not call the result a success unless it is one."""
    seen = frame(0)
    found = registrar().register(cloud_of(seen), None)
    assert not found.success or tre_mm(found.T_camera_model, seen.T_camera_model) < 2.0


def test_ransac_icp_with_a_rough_prior_agrees_with_icp() -> None:
    seen = frame(0)
    chosen = create_registrar("ransac_icp", bundled_case())
    found = chosen.register(cloud_of(seen), picked_prior(0, seen.T_camera_model))
    assert "ransac" in found.timings_ms
    assert not found.success or tre_mm(found.T_camera_model, seen.T_camera_model) < 1.5
    follow = chosen.register(cloud_of(seen), prior(seen.T_camera_model, stddev_m=0.001))
    assert follow.success and tre_mm(follow.T_camera_model, seen.T_camera_model) < 1.0
    assert "ransac" not in follow.timings_ms


def test_unknown_method_is_named() -> None:
    with pytest.raises(RegistrationError, match="unknown method 'magic': choose one of icp, ransac_icp"):
        create_registrar("magic", bundled_case())


def test_see_through_and_cover_are_told_apart() -> None:
    """Bone posed 12 mm towards the camera stands where the camera looked through; 12 mm deeper it is covered."""
    seen, local = frame(0), registrar().local
    T = seen.T_camera_model
    cloud = cloud_of(seen)
    from scipy.spatial import cKDTree

    def classes(pose: np.ndarray) -> Agreement:
        cropped = crop(cloud.points, pose, local.box, 0.03)
        near = local.surface.near(cropped.local) < 0.03
        region = make_region(cloud.points, cropped.index, near, ThinSettings(0.002))
        return agreement(local.surface, pose, region, cKDTree(region.points))

    right, high, deep = classes(T), classes(shifted(T, y_mm=-12)), classes(shifted(T, y_mm=12))
    assert right.violated.mean() < 0.01 and right.supported.mean() > 0.3
    assert high.violated.mean() > 0.3
    assert deep.violated.mean() < 0.05 and deep.covered.mean() > 0.6


def test_registration_is_deterministic() -> None:
    seen = frame(2)
    one, two = (registrar().register(cloud_of(seen), picked_prior(2, seen.T_camera_model)) for _ in range(2))
    np.testing.assert_array_equal(one.T_camera_model, two.T_camera_model)
    assert one.quality == two.quality
