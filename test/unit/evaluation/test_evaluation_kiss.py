"""``kiss_matcher_icp``: a clean bone cloud from nowhere, clouds that might end the process, the missing package."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import RegistrationError
from end2reg_ros.evaluation.metrics import Pose, Targets, pose_errors, targets_from_case
from end2reg_ros.registration import Registrar, create_registrar
from end2reg_ros.registration.kiss import KissMatcherIcpRegistrar, in_package_units, is_surface


@pytest.fixture(scope="module")
def registrar(case: Case) -> Registrar:
    pytest.importorskip(
        "kiss_matcher", reason="kiss-matcher is absent: pip install -r requirements/baselines.txt"
    )
    return create_registrar("kiss_matcher_icp", case)


@pytest.fixture(scope="module")
def targets(case: Case) -> Targets:
    return targets_from_case(case)


def pose(degrees: float) -> np.ndarray:
    """The back of the model towards the camera, 0.5 m away, rolled about the line of sight."""
    look = se3.from_rotation_translation(np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]), np.zeros(3))
    roll = se3.rotation_from_vector(np.array([0.1, -0.2, np.radians(degrees)]))
    return np.asarray(se3.from_rotation_translation(roll, np.array([0.02, -0.03, 0.5])) @ look)


def test_clean_bone_from_nowhere(
    registrar: Registrar, targets: Targets, capfd: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(registrar, KissMatcherIcpRegistrar)
    T, rng = pose(130.0), np.random.default_rng(0)
    surface = registrar.local.surface.points
    points = se3.apply(T, surface) + rng.normal(0.0, 0.0002, surface.shape)
    cloud = Cloud(points.astype(np.float32), None, "cam", 1)
    searched = registrar.search(cloud.points)
    assert searched is not None
    assert pose_errors(Pose(searched), Pose(T), targets).mean_tre_mm < 5.0
    found = registrar.register(cloud, None)
    assert pose_errors(Pose(found.T_camera_model), Pose(T), targets).mean_tre_mm < 2.0
    assert found.method == "kiss_matcher_icp"
    assert found.timings_ms["kiss_matcher"] > 0.0 and "ransac" not in found.timings_ms
    assert capfd.readouterr().out == ""


def test_clouds_with_nothing_to_match(registrar: Registrar) -> None:
    rng = np.random.default_rng(0)
    clouds = {
        "empty": np.zeros((0, 3)),
        "one place": np.full((5000, 3), 0.5),
        "far apart": rng.uniform(0.0, 5.0, (500, 3)),
        "few": rng.uniform(0.5, 0.51, (25, 3)),
        "noise": rng.uniform(0.5, 0.54, (2000, 3)),
    }
    for name, points in clouds.items():
        found = registrar.register(Cloud(points.astype(np.float32), None, "cam", 1), None)
        assert not found.success, name
        assert found.reason_code in ("no_points", "few_points", "few_inliers", "see_through"), name


def test_what_counts_as_a_surface() -> None:
    grid = np.stack(np.meshgrid(np.arange(20), np.arange(20)), axis=-1).reshape(-1, 2) * 0.002
    plane = np.column_stack([grid, np.full(len(grid), 0.5)])
    assert is_surface(in_package_units(plane))
    assert not is_surface(in_package_units(plane * 10.0))  # 20 mm apart
    assert not is_surface(in_package_units(plane[:29]))
    assert in_package_units(np.zeros((0, 3))).shape == (0, 3)


def test_missing_package(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kiss_matcher", None)
    with pytest.raises(RegistrationError) as caught:
        create_registrar("kiss_matcher_icp", case)
    assert str(caught.value) == (
        "method kiss_matcher_icp needs the package kiss-matcher: pip install -r requirements/baselines.txt"
    )
