"""What is received is paired with the truth by equal stamps, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from boxes_case import LEVELS, boxes_case

from end2reg_ros import se3
from end2reg_ros.apps.demo.assess import assess
from end2reg_ros.apps.demo.summary import summarise
from end2reg_ros.case.model import Case
from end2reg_ros.evaluation.frame_matcher import FrameMatcher, ReceivedPose, ReceivedStatus, StampedTransform
from end2reg_ros.evaluation.rows import landmark_errors_mm, latest

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
    matcher.add_transforms(chain(case, T_TRUE, stamp_ns, "ground_truth/"), stamp_ns)
    matcher.add_truth(ReceivedStatus(stamp_ns, "TRACKING", "ok", "", visible), stamp_ns)


def test_errors_equal_the_error_of_the_model_pose(case: Case) -> None:
    matcher = FrameMatcher(case)
    T_wrong = (
        se3.from_rotation_translation(
            se3.rotation_from_vector(np.array([0.0, 0.02, 0.01])), np.array([0.002, 0, 0])
        )
        @ T_TRUE
    )
    truth(matcher, case, START)
    matcher.add_transforms(chain(case, T_wrong, START), START + 40 * MS)
    matcher.add_status(ReceivedStatus(START, "TRACKING", "ok", "tracking", latency_ms=31.0), START + 41 * MS)
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
    matcher.add_transforms(chain(case, T_TRUE, late), late + 50 * MS)
    matcher.add_status(ReceivedStatus(late, "TRACKING", "ok", ""), late + 50 * MS)
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


def test_a_late_pose_gives_the_row_again_with_its_error_and_age(case: Case) -> None:
    matcher = FrameMatcher(case)
    truth(matcher, case, START)
    assert len(matcher.finished(START + 1600 * MS)) == 1
    wrong = T_TRUE.copy()
    wrong[0, 3] += 0.012
    matcher.add_transforms(chain(case, wrong, START), START + 1700 * MS)
    matcher.add_status(ReceivedStatus(START, "TRACKING", "ok", ""), START + 1701 * MS)
    (row,) = matcher.finished(START + 1750 * MS)
    assert (row.published, row.late, row.repeats, row.age_ms) == (True, True, 0, 1700.0)
    assert (row.state, row.judged) == ("TRACKING", True)
    assert row.worst_level_mm() == pytest.approx(12.0)
    assert matcher.finished(START + 1800 * MS) == []
    s = summarise([row])
    assert (s.late_poses, s.late_wrong, s.false_tracking) == (1, 1, 1)


def test_a_pose_sent_again_after_its_row_was_given_is_a_repeat(case: Case) -> None:
    matcher = FrameMatcher(case)
    rows = []
    for k in range(2):
        stamp_ns = START + 66 * k * MS
        truth(matcher, case, stamp_ns)
        matcher.add_transforms(chain(case, T_TRUE, stamp_ns), stamp_ns + 40 * MS)
        matcher.add_status(ReceivedStatus(stamp_ns, "TRACKING", "ok", ""), stamp_ns + 41 * MS)
        rows += matcher.finished(stamp_ns + 50 * MS)
    assert [row.repeats for row in rows] == [0, 0]
    for _ in range(2):
        matcher.add_transforms(chain(case, T_TRUE, START), START + 5000 * MS)
    again = matcher.finished(START + 5050 * MS)
    assert [(row.stamp_ns, row.repeats, row.late, row.age_ms) for row in again] == [(START, 2, False, 40.0)]
    s = summarise(latest([*rows, *again]))
    assert (s.frames, s.published, s.repeated_poses) == (2, 2, 2)
    assert assess(s, [], "demo") == ["2 poses were sent again under a stamp already published"]


def test_a_pose_after_the_memory_belongs_to_no_cloud(case: Case) -> None:
    matcher = FrameMatcher(case)
    truth(matcher, case, START)
    matcher.add_transforms(chain(case, T_TRUE, START), START + 40 * MS)
    matcher.add_status(ReceivedStatus(START, "TRACKING", "ok", ""), START + 41 * MS)
    rows = matcher.finished(START + 50 * MS) + matcher.finished(START + 11_000 * MS)
    truth(matcher, case, START)  # nothing is known of it any more: no cloud of its own
    assert matcher.finished(START + 11_100 * MS, flush=True) == []
    matcher.add_transforms(chain(case, T_TRUE, START), START + 12_000 * MS)
    rows = latest([*rows, *matcher.finished(START + 12_100 * MS, flush=True)])
    assert [(row.unknown, row.published) for row in rows] == [(False, True), (True, True)]
    assert summarise(rows).unknown_poses == 1


def test_a_pose_from_the_future_does_not_stop_the_rows(case: Case) -> None:
    matcher = FrameMatcher(case)
    matcher.add_transforms(chain(case, T_TRUE, START + 3_600_000 * MS), START)
    (strange,) = matcher.finished(START + 1600 * MS)
    assert strange.unknown
    truth(matcher, case, START + 1700 * MS)
    matcher.add_status(ReceivedStatus(START + 1700 * MS, "LOST", "low_overlap", ""), START + 1701 * MS)
    (row,) = matcher.finished(START + 1750 * MS)
    assert (row.unknown, row.stamp_ns) == (False, START + 1700 * MS)


def test_a_pose_that_is_not_a_number_is_published_and_not_compared(case: Case) -> None:
    matcher = FrameMatcher(case)
    truth(matcher, case, START)
    matcher.add_transforms(chain(case, np.full((4, 4), np.nan), START), START + MS)
    (row,) = matcher.finished(START, flush=True)
    assert (row.published, row.errors_mm, row.T_camera_levels) == (True, {}, {})
    assert summarise([row]).uncompared_poses == 1


def test_a_scene_without_a_spine_is_complete_without_transforms(case: Case) -> None:
    matcher = FrameMatcher(case)
    matcher.add_truth(ReceivedStatus(START, "SEARCHING", "no_spine", "", 0.0), START)
    assert matcher.finished(START + MS) == []
    matcher.add_status(ReceivedStatus(START, "SEARCHING", "no_prior", ""), START + 2 * MS)
    (row,) = matcher.finished(START + 3 * MS)
    assert (row.published, row.T_camera_levels_true) == (False, {})


def test_a_pose_sent_twice_is_counted(case: Case) -> None:
    matcher = FrameMatcher(case)
    truth(matcher, case, START)
    for k in range(3):
        matcher.add_transforms(chain(case, T_TRUE, START), START + (40 + k) * MS)
    matcher.add_status(ReceivedStatus(START, "TRACKING", "ok", ""), START + 45 * MS)
    (row,) = matcher.finished(START + 50 * MS)
    assert (row.repeats, row.age_ms) == (2, 40.0)


def test_a_pose_without_a_cloud_is_counted(case: Case) -> None:
    matcher = FrameMatcher(case)
    matcher.add_transforms(chain(case, T_TRUE, START), START + MS)
    (row,) = matcher.finished(START, flush=True)
    assert (row.unknown, row.published, row.errors_mm) == (True, True, {})
    s = summarise([row])
    assert (s.frames, s.published, s.unknown_poses) == (0, 0, 1)


def test_poses_in_another_camera_frame_have_no_error(case: Case) -> None:
    matcher = FrameMatcher(case)
    truth(matcher, case, START)
    matcher.add_transforms(chain(case, T_TRUE, START, camera="other"), START + MS)
    (row,) = matcher.finished(START, flush=True)
    assert row.published and row.errors_mm == {}
    assert summarise([row]).uncompared_poses == 1


def test_the_watchdogs_repetition_does_not_change_a_judgement(case: Case) -> None:
    matcher = FrameMatcher(case)
    truth(matcher, case, START)
    matcher.add_status(ReceivedStatus(START, "SEARCHING", "no_prior", "waiting"), START + 30 * MS)
    matcher.add_status(ReceivedStatus(START, "LOST", "no_cloud", "no cloud for 1 s"), START + 31 * MS)
    (row,) = matcher.finished(START + 32 * MS)
    assert (row.state, row.reason_code) == ("SEARCHING", "no_prior")


# --- the network's own pose ---------------------------------------------------------------------------------------


def shifted(x_mm: float) -> np.ndarray:
    T = T_TRUE.copy()
    T[0, 3] += x_mm / 1000
    return T


def a_pose(matcher: FrameMatcher, case: Case, stamp_ns: int, x_mm: float = 0.5) -> None:
    """Truth, poses off by so much, and the status, all complete."""
    truth(matcher, case, stamp_ns)
    matcher.add_transforms(chain(case, shifted(x_mm), stamp_ns), stamp_ns + 40 * MS)
    matcher.add_status(ReceivedStatus(stamp_ns, "TRACKING", "ok", ""), stamp_ns + 41 * MS)


def test_the_networks_error_stands_beside_the_refined_one(case: Case) -> None:
    matcher = FrameMatcher(case)
    matcher.add_network_pose(ReceivedPose(START, "optical", shifted(3.0)), START + 39 * MS)
    a_pose(matcher, case, START)
    (row,) = matcher.finished(START + 42 * MS)
    assert row.network_errors_mm.keys() == row.errors_mm.keys() == set(LEVELS)
    assert row.network_tre_mm() == pytest.approx(3.0)
    assert row.tre_mm() == pytest.approx(0.5)
    s = summarise([row])
    assert (s.compared_twice, s.network_tre_mm.median) == (1, pytest.approx(3.0))
    assert s.refined_tre_mm.median == pytest.approx(0.5)


def test_a_turned_network_pose_is_judged_at_the_landmarks(case: Case) -> None:
    matcher = FrameMatcher(case)
    turn = se3.from_rotation_translation(se3.rotation_from_vector(np.array([0.03, 0.0, 0.02])), np.zeros(3))
    matcher.add_network_pose(ReceivedPose(START, "optical", T_TRUE @ turn), START)
    a_pose(matcher, case, START)
    (row,) = matcher.finished(START + 42 * MS)
    marks = case.landmark_array()
    expected = 1000 * np.linalg.norm(se3.apply(T_TRUE @ turn, marks) - se3.apply(T_TRUE, marks), axis=1)
    heard = np.concatenate([row.network_errors_mm[level] for level in LEVELS])
    np.testing.assert_allclose(heard, expected, atol=1e-9)


def test_a_network_pose_that_comes_late_gives_the_row_again(case: Case) -> None:
    matcher = FrameMatcher(case)
    a_pose(matcher, case, START)
    (first,) = matcher.finished(START + 42 * MS)
    assert first.network_errors_mm == {}
    matcher.add_network_pose(ReceivedPose(START, "optical", shifted(2.0)), START + 43 * MS)
    (again,) = matcher.finished(START + 44 * MS)
    assert (again.network_tre_mm(), again.late, again.repeats) == (pytest.approx(2.0), False, 0)
    assert latest([first, again]) == [again]
    matcher.add_network_pose(
        ReceivedPose(START, "optical", shifted(9.0)), START + 45 * MS
    )  # the first one counts
    assert matcher.finished(START + 46 * MS) == []


def test_a_network_pose_that_cannot_be_compared_has_no_error(case: Case) -> None:
    matcher = FrameMatcher(case)
    for k, (frame, T) in enumerate((("other", T_TRUE), ("optical", np.full((4, 4), np.nan)))):
        stamp_ns = START + k * 66 * MS
        matcher.add_network_pose(ReceivedPose(stamp_ns, frame, T), stamp_ns)
        a_pose(matcher, case, stamp_ns)
    rows = matcher.finished(START + 200 * MS)
    assert [row.network_errors_mm for row in rows] == [{}, {}]
    s = summarise(rows)
    assert (s.published, s.compared_twice, s.network_tre_mm.count, s.refined_tre_mm.count) == (2, 0, 0, 0)


def test_a_network_pose_alone_makes_no_row(case: Case) -> None:
    matcher = FrameMatcher(case)
    matcher.add_network_pose(ReceivedPose(START, "optical", T_TRUE), START)
    assert matcher.finished(START + MS, flush=True) == []
    truth(matcher, case, START + 66 * MS)
    matcher.add_network_pose(ReceivedPose(START + 66 * MS, "optical", T_TRUE), START + 67 * MS)
    (row,) = matcher.finished(START + 70 * MS, flush=True)
    assert (row.published, row.unknown) == (False, False)
