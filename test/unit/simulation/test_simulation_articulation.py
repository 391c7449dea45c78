"""Motion between vertebrae: of the size asked for, without bones in each other, and true in all that is written."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.cli.main import main
from end2reg_ros.cloud.recording import Recording
from end2reg_ros.cloud.scene_folder import read_scene
from end2reg_ros.errors import End2RegError
from end2reg_ros.names import TF
from end2reg_ros.simulation import articulation as module
from end2reg_ros.simulation.articulation import (
    Articulation,
    draw_joints,
    level_motions,
    moved_case,
    rigid_part,
)
from end2reg_ros.simulation.camera.sensor import SENSORS
from end2reg_ros.simulation.contact import TOLERANCE_M, ContactCheck
from end2reg_ros.simulation.field.settings import FieldSettings
from end2reg_ros.simulation.picks import simulate_picks
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence

SMALL = replace(SENSORS["ideal"], width=320, height=240)


def neighbours(case: Case, motions: dict[str, np.ndarray]) -> list[tuple[float, float]]:
    """Degrees and millimetres of every level against the one below it, about the segment's centre."""
    found = []
    for upper, lower in pairwise(case.vertebrae):
        T = se3.inverse(motions[upper.level]) @ motions[lower.level]
        centre = 0.5 * (upper.T_model_level[:3, 3] + lower.T_model_level[:3, 3])
        shift = 1e3 * float(np.linalg.norm(se3.apply(T, centre) - centre))
        found.append((float(np.degrees(se3.rotation_angle(T[:3, :3]))), shift))
    return found


def test_neighbours_move_by_no_more_than_asked(case: Case) -> None:
    found, tops = [], []
    for seed in range(4):
        motions = level_motions(case, Articulation(6.0, 0.003, seed))
        tops.append(motions["L1"][0, 3])
        assert list(motions) == list(case.levels)
        np.testing.assert_array_equal(motions["L3"], np.eye(4))
        found += neighbours(case, motions)
    turns, shifts = np.array(found).T
    assert turns.max() <= 6.0 + 1e-9 and shifts.max() <= 3.0 + 1e-9
    assert turns.max() > 4.5 and shifts.max() > 2.2 and turns.min() < 4.0
    assert np.ptp(tops) > 1e-4  # each seed another


def test_exact_motion_has_just_the_size_asked_for(case: Case) -> None:
    for seed in (0, 1):
        motions = level_motions(case, Articulation(4.0, 0.002, seed, exact=True))
        for deg, mm in neighbours(case, motions):
            assert (deg, mm) == pytest.approx((4.0, 2.0), abs=1e-6)


def test_no_motion_changes_nothing(case: Case) -> None:
    motions = level_motions(case, Articulation(0.0, 0.0, 7))
    for T in motions.values():
        np.testing.assert_array_equal(T, np.eye(4))
    np.testing.assert_allclose(rigid_part(case, motions), np.eye(4), atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("exact", [False, True])
def test_bones_do_not_enter_each_other(case: Case, exact: bool) -> None:
    articulation = Articulation(8.0, 0.004, 2, exact)
    moved = moved_case(case, level_motions(case, articulation))
    for (a, b), (c, d) in zip(pairwise(case.vertebrae), pairwise(moved.vertebrae), strict=True):
        rest = ContactCheck(a.mesh, b.mesh).rest_m
        # Measured anew on the moved meshes, where "at rest" is the new place.
        assert ContactCheck(c.mesh, d.mesh).rest_m < rest + TOLERANCE_M + 1e-4
    assert all(joint.depth_m <= TOLERANCE_M for joint in draw_joints(case, articulation))


def test_depth_of_contact_is_measured(case: Case) -> None:
    upper, lower = case.vertebrae[1].mesh, case.vertebrae[2].mesh
    check = ContactCheck(upper, lower)
    towards = np.eye(4)
    towards[2, 3] = 0.012  # the lower one 12 mm up into the upper one
    assert check.depth(np.eye(4)) < 0.001 < 0.003 < check.depth(towards)
    away = np.eye(4)
    away[2, 3] = -0.08
    assert check.depth(away) == 0.0


def test_a_motion_that_fits_nowhere_is_made_smaller(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Articulation(25.0, 0.015, 3, exact=True)
    monkeypatch.setattr(module, "TRIES", 1)  # the first draw of so much bends bone into bone
    exact, free = draw_joints(case, asked), draw_joints(case, replace(asked, exact=False))
    assert max(joint.depth_m for joint in exact) > TOLERANCE_M
    assert all(joint.depth_m <= TOLERANCE_M for joint in free)


def test_moved_case_is_moved_as_a_whole(case: Case) -> None:
    articulation = Articulation(5.0, 0.002, 4)
    motions = level_motions(case, articulation)
    moved = moved_case(case, motions)
    assert moved.levels == case.levels and moved.hash != case.hash
    assert moved.hash == moved_case(case, level_motions(case, articulation)).hash
    for old, new in zip(case.vertebrae, moved.vertebrae, strict=True):
        T = motions[old.level]
        np.testing.assert_allclose(new.T_model_level, T @ old.T_model_level, atol=1e-12)
        own_old = se3.apply(se3.inverse(old.T_model_level), old.mesh.vertices)
        own_new = se3.apply(se3.inverse(new.T_model_level), new.mesh.vertices)
        np.testing.assert_allclose(own_new, own_old, atol=1e-9)
        assert old.landmarks is not None and new.landmarks is not None
        np.testing.assert_allclose(
            new.landmarks.as_array(), se3.apply(T, old.landmarks.as_array()), atol=1e-12
        )
        assert len(new.screws) == len(old.screws)
        for a, b in zip(old.screws, new.screws, strict=True):
            np.testing.assert_allclose(b.entry, se3.apply(T, a.entry), atol=1e-12)
            np.testing.assert_allclose(b.tip, se3.apply(T, a.tip), atol=1e-12)


@pytest.mark.parametrize("landmarks", [True, False])
def test_rigid_part_takes_a_common_motion_whole_and_is_the_best(case: Case, landmarks: bool) -> None:
    if not landmarks:
        case = replace(case, vertebrae=tuple(replace(v, landmarks=None) for v in case.vertebrae))
    T = se3.from_rotation_translation(se3.rotation_from_vector(np.array([0.2, -0.1, 0.3])), np.full(3, 0.02))
    np.testing.assert_allclose(rigid_part(case, dict.fromkeys(case.levels, T)), T, atol=1e-9)
    motions = level_motions(case, Articulation(8.0, 0.003, 1))
    if landmarks:
        points = case.landmark_array()
        moved = moved_case(case, motions).landmark_array()

        def squares(M: np.ndarray) -> float:
            return float(np.sum((se3.apply(M, points) - moved) ** 2))

        best = rigid_part(case, motions)
        assert squares(best) < squares(np.eye(4))
        for k in range(6):
            twist = np.where(np.arange(6) == k, 1e-3, 0.0)
            near = se3.from_rotation_translation(se3.rotation_from_vector(twist[3:]), twist[:3]) @ best
            assert squares(best) < squares(near)


@pytest.mark.parametrize(
    ("deg", "shift_m", "text"),
    [
        (-1.0, 0.0, "the motion between levels is -1 deg, must be 0 to 30"),
        (float("nan"), 0.0, "the motion between levels is nan deg, must be 0 to 30"),
        (31.0, 0.0, "the motion between levels is 31 deg, must be 0 to 30"),
        (1.0, 0.021, "the motion between levels is 21 mm, must be 0 to 20"),
    ],
)
def test_motion_out_of_all_bounds_is_refused(deg: float, shift_m: float, text: str) -> None:
    with pytest.raises(End2RegError, match=f"^{text}$"):
        Articulation(deg, shift_m)


@pytest.fixture(scope="module")
def bent(case: Case) -> SimulatedSequence:
    field = FieldSettings(seed=3, film_max_m=0.0)
    settings = SequenceSettings(3, "stress", SMALL, field, articulation=Articulation(8.0, 0.004, 3))
    return SimulatedSequence(case, settings)


def distance_mm(case: Case, T_camera_levels: dict[str, np.ndarray], points: np.ndarray) -> np.ndarray:
    """(N,) from points in the camera frame to the nearest of the case's meshes, each where its frame is."""
    import open3d as o3d

    nearest = np.full(len(points), np.inf)
    for v in case.vertebrae:
        scene = o3d.t.geometry.RaycastingScene()
        scene.add_triangles(
            o3d.core.Tensor.from_numpy(v.mesh.vertices.astype(np.float32)),
            o3d.core.Tensor.from_numpy(v.mesh.triangles.astype(np.uint32)),
        )
        T_model_camera = v.T_model_level @ se3.inverse(T_camera_levels[v.level])
        own = se3.apply(T_model_camera, points).astype(np.float32)
        nearest = np.minimum(
            nearest, scene.compute_distance(o3d.core.Tensor.from_numpy(own), nthreads=1).numpy()
        )
    return 1e3 * nearest


def test_bone_that_is_seen_lies_on_the_levels_as_the_truth_poses_them(
    case: Case, bent: SimulatedSequence
) -> None:
    for t in (0.0, 9.9):
        frame = bent.frame(t)
        points = frame.points[frame.bone]
        assert t > 0 or len(points) > 300
        if len(points):
            assert distance_mm(case, frame.T_camera_levels, points).max() < 0.1
    frame = bent.frame(0.0)
    rigid = {v.level: frame.T_camera_model @ v.T_model_level for v in case.vertebrae}
    assert np.percentile(distance_mm(case, rigid, frame.points[frame.bone]), 90) > 1.0


def test_truth_of_the_spine_is_its_best_rigid_pose(case: Case, bent: SimulatedSequence) -> None:
    frame = bent.frame(4.2)
    true = np.concatenate(
        [
            se3.apply(frame.T_camera_levels[v.level] @ se3.inverse(v.T_model_level), v.landmarks.as_array())
            for v in case.vertebrae
            if v.landmarks is not None
        ]
    )
    residual = true - se3.apply(frame.T_camera_model, case.landmark_array())
    np.testing.assert_allclose(residual.mean(axis=0), 0.0, atol=1e-9)  # as of any least squares fit
    assert 1e3 * np.linalg.norm(residual, axis=1).max() > 2.0
    assert frame.tags["articulation_deg"] == 8.0 and frame.tags["articulation_mm"] == 4.0
    picks = simulate_picks(case, frame.T_camera_model, 0, 0.0, T_camera_levels=frame.T_camera_levels)
    np.testing.assert_allclose(np.concatenate(list(picks.values())), true, atol=1e-12)


@pytest.mark.slow
def test_command_writes_the_truth_of_every_level(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = ["--articulation-deg", "6", "--articulation-mm", "3", "--seed", "5"]
    assert main(["simulate", "--out", str(tmp_path), "--count", "1", "--suite", "easy", *moved]) == 0
    scene = read_scene(tmp_path / "easy_00005")
    tags = {key: value for key, value in scene.tags.items() if key.startswith("articulation")}
    assert tags == {
        "articulation_deg": 6.0,
        "articulation_mm": 3.0,
        "articulation_seed": 5,
        "articulation_exact": False,
    }
    motions = level_motions(case, Articulation(6.0, 0.003, 5))
    B = rigid_part(case, motions)
    for v in case.vertebrae:
        expected = scene.T_camera_model @ se3.inverse(B) @ motions[v.level] @ v.T_model_level
        np.testing.assert_allclose(scene.T_camera_levels[v.level], expected, atol=1e-9)
    assert scene.case_hash == case.hash

    bag = tmp_path / "bag"
    args = ["--bag", str(bag), "--duration", "0.1", "--rate", "10", "--scenario", "theatre"]
    assert main(["simulate", *args, *moved]) == 0
    with Recording(bag) as recording:
        (truth,) = recording.messages(TF)
    links = {t.child_frame_id: t.transform for t in truth.message.transforms}
    for v in case.vertebrae:
        link = links[f"ground_truth/{v.level}"]
        there = np.array([link.translation.x, link.translation.y, link.translation.z])
        expected = (se3.inverse(B) @ motions[v.level] @ v.T_model_level)[:3, 3]
        np.testing.assert_allclose(there, expected, atol=1e-9)
    capsys.readouterr()


def test_command_refuses_a_motion_out_of_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--out", "a", "--articulation-mm", "25"]) == 1
    text = "end2reg: error: the motion between levels is 25 mm, must be 0 to 20\n"
    assert capsys.readouterr().err == text
