"""The listener pairs what it hears with the truth by equal stamps, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from boxes_case import LEVELS, boxes_case

from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.evaluation.report_log import landmark_errors_mm
from end2reg_ros.ros.listener import FrameMatcher, StampedTransform, StatusHeard

START = 1_700_000_000_000_000_000
MS = 1_000_000
T_TRUE = se3.from_rotation_translation(
    se3.rotation_from_vector(np.array([0.3, -0.2, 2.0])), np.array([0.01, 0.02, 0.5])
)


@pytest.fixture
def case() -> Case:
    return boxes_case()


def chain(
    case: Case, T_camera_model: np.ndarray, stamp_ns: int, prefix: str = "", camera: str = "optical"
) -> list[StampedTransform]:
    steps = [StampedTransform(stamp_ns, camera, f"{prefix}spine", T_camera_model)]
    return steps + [
        StampedTransform(stamp_ns, f"{prefix}spine", f"{prefix}{v.level}", v.T_model_level)
        for v in case.vertebrae
    ]


def truth(matcher: FrameMatcher, case: Case, stamp_ns: int, visible: float = 0.9) -> None:
    matcher.hear_transforms(chain(case, T_TRUE, stamp_ns, "ground_truth/"), stamp_ns)
    matcher.hear_truth(StatusHeard(stamp_ns, "TRACKING", "ok", "", visible), stamp_ns)


def test_errors_equal_the_error_of_the_model_pose(case: Case) -> None:
    matcher = FrameMatcher(case)
    T_wrong = (
        se3.from_rotation_translation(
            se3.rotation_from_vector(np.array([0.0, 0.02, 0.01])), np.array([0.002, 0, 0])
        )
        @ T_TRUE
    )
    truth(matcher, case, START)
    matcher.hear_transforms(chain(case, T_wrong, START), START + 40 * MS)
    matcher.hear_status(StatusHeard(START, "TRACKING", "ok", "tracking", latency_ms=31.0), START + 41 * MS)
    (row,) = matcher.finished(START + 42 * MS)
    marks = case.landmark_array()
    expected = 1000 * np.linalg.norm(se3.apply(T_wrong, marks) - se3.apply(T_TRUE, marks), axis=1)
    heard = np.concatenate([row.errors_mm[level] for level in LEVELS])
    np.testing.assert_allclose(heard, expected, atol=1e-9)
    assert row.tre_mm() == pytest.approx(float(np.median(expected)))
    assert row.worst_level_mm() == pytest.approx(float(expected.reshape(3, 3).mean(axis=1).max()))
    assert (row.t, row.state, row.published, row.judged, row.age_ms, row.latency_ms) == (
        0.0,
        "TRACKING",
        True,
        True,
        40.0,
        31.0,
    )
    assert row.visible_fraction == 0.9


def test_landmark_errors_of_a_shift_are_the_shift() -> None:
    moved = T_TRUE.copy()
    moved[:3, 3] += [0.003, 0.004, 0.0]
    assert landmark_errors_mm(moved, T_TRUE, np.random.default_rng(0).normal(size=(3, 3))) == pytest.approx(
        [5.0] * 3
    )


def test_poses_are_never_paired_across_stamps(case: Case) -> None:
    matcher = FrameMatcher(case)
    for k in range(3):
        truth(matcher, case, START + 66 * k * MS)
    late = START + 66 * MS
    matcher.hear_transforms(chain(case, T_TRUE, late), late + 50 * MS)
    matcher.hear_status(StatusHeard(late, "TRACKING", "ok", ""), late + 50 * MS)
    rows = matcher.finished(START + 200 * MS, flush=True)
    assert [row.published for row in rows] == [False, True, False]
    assert [row.judged for row in rows] == [False, True, False]
    assert [row.state for row in rows] == ["SEARCHING", "TRACKING", "TRACKING"]
    assert [round(row.t, 3) for row in rows] == [0.0, 0.066, 0.132]


def test_an_incomplete_stamp_is_waited_for_and_then_given(case: Case) -> None:
    matcher = FrameMatcher(case)
    truth(matcher, case, START)
    assert matcher.finished(START + 1000 * MS) == []
    (row,) = matcher.finished(START + 1600 * MS)
    assert (row.published, row.age_ms, row.errors_mm) == (False, None, {})
    matcher.hear_transforms(chain(case, T_TRUE, START), START + 1700 * MS)
    assert matcher.late > 0


def test_a_pose_sent_twice_is_counted(case: Case) -> None:
    matcher = FrameMatcher(case)
    truth(matcher, case, START)
    for k in range(3):
        matcher.hear_transforms(chain(case, T_TRUE, START), START + (40 + k) * MS)
    matcher.hear_status(StatusHeard(START, "TRACKING", "ok", ""), START + 45 * MS)
    (row,) = matcher.finished(START + 50 * MS)
    assert (row.repeats, row.age_ms) == (2, 40.0)


def test_a_pose_without_a_cloud_is_counted(case: Case) -> None:
    matcher = FrameMatcher(case)
    matcher.hear_transforms(chain(case, T_TRUE, START), START + MS)
    (row,) = matcher.finished(START, flush=True)
    assert (matcher.unknown, row.published, row.errors_mm) == (1, True, {})


def test_poses_in_another_camera_frame_have_no_error(case: Case) -> None:
    matcher = FrameMatcher(case)
    truth(matcher, case, START)
    matcher.hear_transforms(chain(case, T_TRUE, START, camera="other"), START + MS)
    (row,) = matcher.finished(START, flush=True)
    assert row.published and row.errors_mm == {}


def test_the_watchdogs_repetition_does_not_change_a_judgement(case: Case) -> None:
    matcher = FrameMatcher(case)
    truth(matcher, case, START)
    matcher.hear_status(StatusHeard(START, "SEARCHING", "no_prior", "waiting"), START + 30 * MS)
    matcher.hear_status(StatusHeard(START, "LOST", "no_cloud", "no cloud for 1 s"), START + 31 * MS)
    (row,) = matcher.finished(START + 32 * MS)
    assert (row.state, row.reason_code) == ("SEARCHING", "no_prior")
