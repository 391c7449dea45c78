"""Covariances against errors: what is told of them when they are right, too small or too large."""

from __future__ import annotations

import numpy as np
import pytest
from measured_tracks import T_TRUE, fit, rows_of_run
from views import bundled_case

from benchmarks.tracking_study.calibration import (
    Told,
    calibration,
    normalised_errors,
    told_by,
)
from benchmarks.tracking_study.observer import packed, pose_error, spine_axes, unpacked
from end2reg_ros import se3
from end2reg_ros.tracking.types import State


def random_told(scale: float, count: int = 4000) -> Told:
    """Errors drawn from a covariance, which is told ``scale`` times as large."""
    rng = np.random.default_rng(0)
    L = np.diag([3e-4, 2e-4, 6e-4, 4e-3, 3e-3, 2e-3]) @ (
        np.eye(6) + 0.3 * np.tril(rng.normal(size=(6, 6)), -1)
    )
    errors = rng.normal(size=(count, 6)) @ L.T
    return Told(errors, np.repeat((scale * L @ L.T)[None], count, axis=0), np.arange(count) % 4)


@pytest.mark.parametrize("scale", [1.0, 0.25, 4.0])
def test_the_calibration_tells_covariances_that_are_too_small_or_large(scale: float) -> None:
    found = calibration(random_told(scale))
    assert found.mean == pytest.approx(1 / scale, rel=0.05)
    assert found.ratio == pytest.approx([1 / np.sqrt(scale)] * 6, rel=0.05)
    assert found.runs == 4
    if scale == 1.0:
        assert found.inside[0.68] == pytest.approx(0.68, abs=0.03)
        assert found.inside[0.95] == pytest.approx(0.95, abs=0.015)


def test_a_covariance_that_is_not_positive_is_an_infinite_error() -> None:
    told = random_told(1.0, 3)
    told.covariances[1] = np.diag([1e-6, 1e-6, -1e-6, 1e-6, 1e-6, 1e-6])
    assert np.isfinite(normalised_errors(told)).tolist() == [True, False, True]


def test_errors_are_told_in_the_spines_axes() -> None:
    case = bundled_case()
    axes = spine_axes(case)
    assert np.allclose(axes.T @ axes, np.eye(3)) and np.linalg.det(axes) == pytest.approx(1.0)
    assert axes[0, 0] > 0.9 and axes[1, 1] > 0.8 and axes[2, 2] > 0.8  # right, anterior, superior
    along = T_TRUE[:3, :3] @ axes[:, 2] * 0.002
    rows = rows_of_run(
        [(State.TRACKING, fit(se3.from_rotation_translation(np.eye(3), along)))], with_uncertainty=True
    )
    for name in ("spine", "L4"):
        error, covariance = unpacked(rows[0].uncertain[name])
        assert error == pytest.approx([0, 0, 0.002, 0, 0, 0], abs=1e-9)
        assert covariance[0, 0] > 0 and np.allclose(covariance, covariance.T)
    told = told_by([rows], held=False)
    assert "L1" not in told and calibration(told["L2"]).ratio[2] == pytest.approx(2.0)
    assert told_by([rows], held=True).keys() == {"spine", "L1"}


def test_the_normalised_error_does_not_depend_on_the_point() -> None:
    turn = se3.rotation_from_vector(np.array([0.004, -0.002, 0.003]))
    T = se3.from_rotation_translation(turn, np.array([1e-4, 2e-4, -1e-4])) @ T_TRUE
    C = np.diag([1e-7, 2e-7, 3e-7, 1e-5, 2e-5, 3e-5])
    point = np.array([0.05, 0.1, -0.08])
    moved = se3.move_covariance(C, T[:3, :3] @ point)
    values = []
    for at, covariance in ((np.zeros(3), C), (point, moved)):
        error, back = unpacked(packed(pose_error(T, T_TRUE, at), covariance, T[:3, :3]))
        values.append(normalised_errors(Told(error[None], back[None], np.zeros(1, np.int64)))[0])
    assert values[0] == pytest.approx(values[1], rel=0.02) and values[0] > 0.1
