"""Metrics against values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from end2reg_ros import se3
from end2reg_ros.case.model import Case, Landmarks, Mesh, Vertebra
from end2reg_ros.errors import CaseError
from end2reg_ros.evaluation.figures import stream_figures
from end2reg_ros.evaluation.metrics import (
    Pose,
    level_slip,
    level_transform,
    point_errors_mm,
    pose_errors,
    targets_from_case,
)
from end2reg_ros.evaluation.rows import CloudRow
from end2reg_ros.evaluation.spread import share, spread, success_interval

SPACING = 0.036


def make_case(levels: int = 3, landmarks: bool = True) -> Case:
    """Cubes of 20 mm, 36 mm apart along -z, landmarks 30 mm from the middle: left, right and behind."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.01
    vertebrae = []
    for number in range(levels):
        centre = np.array([0.0, 0.0, -SPACING * number])
        points = Landmarks(
            spinous=centre + np.array([0, -0.03, 0]),
            transverse_left=centre + np.array([-0.03, 0, 0]),
            transverse_right=centre + np.array([0.03, 0, 0]),
        )
        mesh = Mesh(corners + centre, np.zeros((0, 3), np.int32))
        T = se3.from_rotation_translation(np.eye(3), centre)
        vertebrae.append(Vertebra(f"L{number + 1}", mesh, T, (200, 200, 200), points if landmarks else None))
    return Case("cubes", Path("cubes"), tuple(vertebrae), "test", "0" * 64)


CASE = make_case()
TARGETS = targets_from_case(CASE)
TRUE = Pose(
    se3.from_rotation_translation(
        se3.rotation_from_vector(np.array([0.3, -0.2, 1.0])), np.array([0.1, -0.05, 0.6])
    )
)


def moved(
    rotvec: tuple[float, float, float] = (0, 0, 0), shift: tuple[float, float, float] = (0, 0, 0)
) -> Pose:
    """The truth after a motion in the model frame."""
    R = se3.rotation_from_vector(np.array(rotvec, dtype=float))
    return Pose(TRUE.T_camera_model @ se3.from_rotation_translation(R, np.array(shift, dtype=float)))


def test_exact_pose_has_no_error() -> None:
    errors = pose_errors(TRUE, TRUE, TARGETS)
    assert errors.mean_tre_mm == pytest.approx(0.0, abs=1e-9)
    assert errors.rmse_mm == pytest.approx(0.0, abs=1e-9)
    assert errors.rre_deg == pytest.approx(0.0, abs=1e-6)
    assert (errors.level_slip, list(errors.tre_mm)) == (0, ["L1", "L2", "L3"])


def test_pure_shift_moves_every_point_alike() -> None:
    errors = pose_errors(moved(shift=(0.002, -0.001, 0.002)), TRUE, TARGETS)
    for level in ("L1", "L2", "L3"):
        np.testing.assert_allclose(errors.tre_mm[level], [3.0, 3.0, 3.0], atol=1e-9)
    assert errors.rmse_mm == pytest.approx(3.0)
    assert errors.mean_distance_mm == pytest.approx(3.0)
    assert errors.rte_mm == pytest.approx(3.0)
    assert errors.rre_deg == pytest.approx(0.0, abs=1e-6)


def test_rotation_about_the_axis_of_the_cubes() -> None:
    angle = np.radians(10.0)
    errors = pose_errors(moved((0, 0, angle)), TRUE, TARGETS)
    # A chord of radius 30 mm at every landmark, of 10*sqrt(2) mm at every corner; the axis itself stays.
    assert errors.mean_tre_mm == pytest.approx(2 * 30 * np.sin(angle / 2))
    assert errors.rmse_mm == pytest.approx(2 * 10 * np.sqrt(2) * np.sin(angle / 2))
    assert errors.rre_deg == pytest.approx(10.0)
    assert errors.rte_mm == pytest.approx(0.0, abs=1e-9)


def test_rmse_and_mean_distance_differ_where_errors_differ() -> None:
    # About x at L1's middle: corners at y, z of (+-10, z +- 10) mm, z = 0, -36, -72.
    angle = np.radians(4.0)
    errors = pose_errors(moved((angle, 0, 0)), TRUE, TARGETS)
    radii = np.array([np.hypot(10, z + s) for z in (0, -36, -72) for s in (-10, 10) for _ in range(4)])
    chords = 2 * radii * np.sin(angle / 2)
    assert errors.rmse_mm == pytest.approx(np.sqrt(np.mean(chords**2)))
    assert errors.mean_distance_mm == pytest.approx(np.mean(chords))
    assert errors.rmse_mm > errors.mean_distance_mm
    # RTE at the model's centroid (36 mm away), not at the origin of the frame (which does not move at all).
    assert errors.rte_mm == pytest.approx(2 * 36 * np.sin(angle / 2))
    assert errors.worst_level_mm == pytest.approx(float(errors.tre_mm["L3"].mean()))


def test_articulated_truth_counts_where_the_vertebra_really_is() -> None:
    shift = se3.from_rotation_translation(np.eye(3), np.array([0.0, 0.004, 0.0]))
    T_l3 = TRUE.T_camera_model @ shift @ TARGETS.T_model_levels["L3"]
    truth = Pose(TRUE.T_camera_model, {"L3": T_l3})
    rigid = pose_errors(TRUE, truth, TARGETS)
    np.testing.assert_allclose([rigid.tre_mm[level][0] for level in ("L1", "L2", "L3")], [0, 0, 4], atol=1e-9)
    np.testing.assert_allclose(pose_errors(truth, truth, TARGETS).tre_mm["L3"], 0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("shift_mm", "slip"),
    [(0, 0), (10, 0), (17, 0), (-36, 1), (36, -1), (-40, 1), (-30, 1), (-72, 2), (72, -2)],
)
def test_level_slip(shift_mm: float, slip: int) -> None:
    assert level_slip(moved(shift=(0, 0, shift_mm / 1000)), TRUE, TARGETS) == slip


def test_a_fit_that_is_plainly_wrong_is_no_slip() -> None:
    assert level_slip(moved(shift=(0.2, 0, -0.036)), TRUE, TARGETS) == 0
    single = targets_from_case(make_case(1))
    assert level_slip(moved(shift=(0, 0, 0.036)), TRUE, single) == 0


def test_case_without_landmarks_is_refused() -> None:
    with pytest.raises(CaseError) as caught:
        targets_from_case(make_case(landmarks=False))
    assert str(caught.value) == "case cubes: has no landmarks, so no target registration error can be told"


def test_model_points_are_thinned() -> None:
    assert [len(points) for points in targets_from_case(CASE, 3).model_points.values()] == [3, 3, 3]
    assert point_errors_mm(np.eye(4), np.eye(4), np.zeros((0, 3))).shape == (0,)


def test_spread() -> None:
    result = spread([4.0, 1.0, 3.0, 2.0])
    assert (result.count, result.median, result.q1, result.q3, result.maximum) == (4, 2.5, 1.75, 3.25, 4.0)
    assert result.text() == "2.50 [1.75, 3.25]"
    assert spread([]).text() == "–"
    assert share([True, False, False, True]) == 0.5
    assert np.isnan(share([]))


def test_wilson_interval() -> None:
    # Wilson 1927 for 8 of 10 at 95 %: 0.490 to 0.943.
    assert success_interval(8, 10) == pytest.approx((0.490, 0.943), abs=1e-3)
    assert success_interval(0, 10) == pytest.approx((0.0, 0.278), abs=1e-3)


def frame(
    t: float, pose: Pose | None, visible: bool = True, state: str = "TRACKING", film: float = 0.0
) -> CloudRow:
    """A cloud; ``film``: seconds of the film that it shows: at rest where it is that of the cloud before."""
    stamp_ns, share = int(t * 1e9), 1.0 if visible else 0.0
    true = {n: (np.eye(4) + film).ravel().tolist() for n in TARGETS.T_model_levels}
    if pose is None:
        return CloudRow(t, stamp_ns, "LOST", visible_fraction=share, T_camera_levels_true=true)
    errors = pose_errors(pose, TRUE, TARGETS)
    places = {
        n: (level_transform(pose, n, TARGETS) @ T).ravel().tolist() for n, T in TARGETS.T_model_levels.items()
    }
    return CloudRow(
        t, stamp_ns, state, published=True, age_ms=10.0 + t, visible_fraction=share,
        errors_mm={level: list(e) for level, e in errors.tre_mm.items()}, slip=errors.level_slip,
        T_camera_levels=places, T_camera_levels_true=true,
    )  # fmt: skip


def test_stream_availability_first_pose_and_reacquisition() -> None:
    near, slipped = moved(shift=(0.001, 0, 0)), moved(shift=(0, 0, -0.036))
    frames = [
        frame(0.0, None, visible=False),
        frame(1.0, None),
        frame(2.0, near),
        frame(3.0, near),
        frame(4.0, None, visible=False),
        frame(5.0, None),
        frame(6.0, None),
        frame(7.0, near),
        frame(8.0, None),
        frame(9.0, slipped, state="DEGRADED"),
        frame(10.0, moved(shift=(0.011, 0, 0))),
        frame(11.0, near, visible=False),
        frame(12.0, None),
    ]
    figures = stream_figures(frames)
    assert (figures.frames, figures.published, figures.uncompared_poses) == (13, 6, 0)
    assert figures.availability == pytest.approx(5 / 9)  # in view from the first pose on: 2, 3, 5 to 10, 12
    assert figures.time_to_first_pose_s == pytest.approx(1.0)
    assert figures.reacquisition_s == pytest.approx((2.0, 1.0))
    assert figures.never_reacquired == 1
    assert (figures.level_slips, figures.blind_poses) == (1, 1)
    assert (figures.false_poses, figures.false_tracking) == (2, 1)
    assert figures.tre_mm.count == 6 * 9
    assert figures.tre_mm.median == pytest.approx(1.0)
    assert figures.outliers == pytest.approx(2 / 6)
    p50, _, p99 = figures.pose_age_ms
    assert p50 == pytest.approx(18.0)  # of 12, 13, 17, 19, 20, 21
    assert p99 == pytest.approx(np.percentile([12, 13, 17, 19, 20, 21], 99))


def test_stream_jitter_counts_only_what_is_at_rest() -> None:
    poses = [moved(shift=(x, 0, 0)) for x in (0.0, 0.001, -0.001, 0.05)]
    frames = [frame(t, pose, film=max(t - 2, 0)) for t, pose in enumerate(poses)]
    # Frames 0, 1, 2 are one stretch at rest: deviations 0, 1 and -1 mm about their mean.
    assert stream_figures(frames).jitter_mm == pytest.approx(np.sqrt(2 / 3))
    assert np.isnan(stream_figures(frames[:2]).jitter_mm)


def test_stream_of_nothing() -> None:
    figures = stream_figures([])
    assert (figures.frames, figures.published, figures.reacquisition_s) == (0, 0, ())
    assert np.isnan(figures.availability) and np.isnan(figures.time_to_first_pose_s)
