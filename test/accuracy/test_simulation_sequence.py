"""Simulated sequences: the truth is true, equal seeds give equal frames, occluders and scenarios do what they say."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from end2reg_ros import se3
from end2reg_ros.case.model import Case, Mesh, Vertebra
from end2reg_ros.errors import End2RegError
from end2reg_ros.simulation.camera.renderer import Renderer
from end2reg_ros.simulation.camera.sensor import SENSORS, CameraPlacement
from end2reg_ros.simulation.field.settings import FieldSettings
from end2reg_ros.simulation.motion import Pass
from end2reg_ros.simulation.picks import simulate_picks
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence

SMALL = replace(SENSORS["ideal"], width=320, height=240)


@pytest.fixture(scope="module")
def demo(case: Case) -> SimulatedSequence:
    return SimulatedSequence(case, SequenceSettings(seed=0))


def distance_to_bone(case: Case, points: np.ndarray) -> np.ndarray:
    """(N,) distance of points (model frame, metres) to the case's meshes."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    for v in case.vertebrae:
        scene.add_triangles(
            o3d.core.Tensor.from_numpy(v.mesh.vertices.astype(np.float32)),
            o3d.core.Tensor.from_numpy(v.mesh.triangles.astype(np.uint32)),
        )
    return np.asarray(scene.compute_distance(o3d.core.Tensor.from_numpy(points.astype(np.float32))).numpy())


@pytest.mark.parametrize("film_mm", [0.0, 1.0])
def test_bone_pixels_lie_on_the_posed_meshes(case: Case, film_mm: float) -> None:
    settings = SequenceSettings(
        seed=3,
        scenario="stress",
        sensor=SENSORS["ideal"],
        field=FieldSettings(seed=3, film_max_m=1e-3 * film_mm),
    )
    sequence = SimulatedSequence(case, settings)
    for t in (0.0, 5.3):
        frame = sequence.frame(t)
        points = se3.apply(se3.inverse(frame.T_camera_model), frame.points[frame.bone])
        assert len(points) == frame.bone_pixels > 300
        distance = 1e3 * distance_to_bone(case, points)
        assert distance.max() < film_mm + 0.1
        if film_mm:
            assert np.median(distance) > 0.05  # the film is there
        for vertebra in case.vertebrae:
            expected = se3.apply(frame.T_camera_model, vertebra.T_model_level[:3, 3])
            np.testing.assert_allclose(frame.T_camera_levels[vertebra.level][:3, 3], expected, atol=1e-12)


def test_measured_bone_is_as_far_off_as_the_noise(case: Case, demo: SimulatedSequence) -> None:
    frame = demo.frame(0.0)
    measured = frame.bone & np.isfinite(frame.points[..., 2])
    points = se3.apply(se3.inverse(frame.T_camera_model), frame.points[measured])
    distance = 1e3 * distance_to_bone(case, points)
    # Film to 1 mm, 0.4 mm of noise at 0.5 m, 0.3 mm of disparity steps.
    assert np.median(distance) < 0.5
    assert np.percentile(distance, 99) < 2.2


def test_equal_seeds_give_equal_frames(case: Case, demo: SimulatedSequence) -> None:
    again = SimulatedSequence(case, SequenceSettings(seed=0))
    demo.frame(1.0)  # whatever was asked before must not matter
    for t in (4.2, 9.0):
        a, b = demo.frame(t), again.frame(t)
        np.testing.assert_array_equal(a.points, b.points)
        np.testing.assert_array_equal(a.colours, b.colours)
        np.testing.assert_array_equal(a.bone, b.bone)
        np.testing.assert_array_equal(a.T_camera_model, b.T_camera_model)
    other = SimulatedSequence(case, SequenceSettings(seed=1, sensor=SMALL)).frame(4.2)
    assert np.abs(other.T_camera_model - a.T_camera_model).max() > 0.01


def test_frames_have_the_layout_they_promise(demo: SimulatedSequence) -> None:
    frame = demo.frame(2.0)
    assert frame.points.shape == (480, 640, 3) and frame.points.dtype == np.float32
    assert frame.colours.shape == (480, 640, 3) and frame.colours.dtype == np.uint8
    assert frame.bone.shape == (480, 640) and frame.bone.dtype == bool
    invalid = np.isnan(frame.points)
    np.testing.assert_array_equal(invalid.any(axis=-1), invalid.all(axis=-1))
    assert 0.85 < np.mean(~invalid) < 0.99
    # Pixels look where the camera's matrix says.
    K, valid = demo.sensor.camera_matrix(), ~invalid[..., 0]
    u = frame.points[..., 0] / frame.points[..., 2] * K[0, 0] + K[0, 2]
    assert np.abs(u - np.arange(640))[valid].max() < 1e-3
    # The exposed spine is a small part of the view.
    assert 0.005 < frame.bone.mean() < 0.05
    assert frame.tags["scenario"] == "demo" and frame.tags["seed"] == 0 and frame.tags["spine"] is True


def test_sparse_rays_see_what_all_rays_see(case: Case) -> None:
    sequence = SimulatedSequence(case, SequenceSettings(seed=4))
    fast = sequence._renderer
    slow = Renderer(fast.sensor, fast._patient, fast._bones, fast._room, every_pixel=True)
    T_model, T_world = sequence.T_camera_model(17.0), sequence.T_camera_world(17.0)
    event = sequence.scenario.passes[2]
    over = [(sequence._passing[2], T_world @ sequence._T_base_occluder(2, 1.0, 17.0))]
    assert event.kind == "hand_suction"
    (a, bone_a), (b, bone_b) = fast.render(T_model, T_world, over), slow.render(T_model, T_world, over)
    assert bone_a == bone_b
    np.testing.assert_array_equal(a.bone, b.bone)
    np.testing.assert_allclose(a.depth_m[b.bone], b.depth_m[b.bone], atol=1e-7)
    with np.errstate(invalid="ignore"):
        off = np.abs(a.depth_m - b.depth_m)
    near = b.depth_m < 1.0
    # Cloth between the rays is off by less than the camera's noise (0.4 mm).
    assert np.percentile(1e3 * off[near], 99) < 0.4
    assert np.mean(off[near] > 0.002) < 1e-3  # thin edges of it


def test_towel_covers_the_wound_and_leaves(demo: SimulatedSequence) -> None:
    free, covered, after = demo.frame(7.5), demo.frame(9.5), demo.frame(12.0)
    assert free.visible_fraction > 0.95 and after.visible_fraction > 0.95  # breathing and table drift only
    assert covered.visible_fraction < 0.05
    assert covered.tags["occluders"] == ["towel"] and free.tags["occluders"] == []
    assert covered.tags["bone_pixels_uncovered"] > 1000
    assert covered.bone_pixels == np.count_nonzero(covered.bone)


def test_occluder_hides_only_what_lies_behind_it(case: Case) -> None:
    hand = Pass("hand", 5.0, 15.0, over_m=(0.01, 0.02), above_m=0.08)
    settings = SequenceSettings(seed=6, scenario="still", sensor=SMALL)
    without = SimulatedSequence(case, settings).frame(10.0)
    frame = SimulatedSequence(case, replace(settings, extra_passes=(hand,))).frame(10.0)
    assert 0.1 < frame.visible_fraction < 0.9
    assert frame.visible_fraction == pytest.approx(frame.bone_pixels / without.bone_pixels)
    assert not (frame.bone & ~without.bone).any()
    hidden = without.bone & ~frame.bone
    assert (frame.points[hidden][:, 2] < without.points[hidden][:, 2]).all()


def test_spine_leaves_the_view_and_returns(case: Case) -> None:
    sequence = SimulatedSequence(case, SequenceSettings(seed=0, scenario="leave", sensor=SMALL))
    pixels = [sequence.frame(t).bone_pixels for t in (0.0, 5.9, 7.6, 9.0, 10.9, 12.6)]
    assert pixels[2] == pixels[3] == pixels[4] == 0
    assert min(pixels[0], pixels[1], pixels[5]) > 300
    away = sequence.frame(9.0)
    assert away.visible_fraction == 0.0
    assert away.T_camera_model.shape == (4, 4)


def test_a_sliver_at_the_edge_of_the_image_is_not_the_whole_spine(case: Case) -> None:
    sequence = SimulatedSequence(case, SequenceSettings(seed=0, scenario="leave", sensor=SMALL))
    whole = sequence.frame(0.0)
    assert whole.visible_fraction == 1.0
    leaving = [sequence.frame(t) for t in np.arange(6.0, 7.6, 0.05)]
    slivers = [f for f in leaving if 0 < f.bone_pixels < 0.2 * whole.bone_pixels]
    assert slivers
    for frame in slivers:
        assert frame.visible_fraction == pytest.approx(frame.bone_pixels / whole.bone_pixels)


@pytest.mark.parametrize("t", [0.0, 9.5, 17.0])
def test_empty_scene_has_no_bone(case: Case, t: float) -> None:
    frame = SimulatedSequence(case, SequenceSettings(seed=2, scenario="empty", sensor=SMALL)).frame(t)
    assert frame.bone_pixels == 0 and not frame.bone.any() and frame.visible_fraction == 0.0
    assert frame.tags["spine"] is False
    assert np.isfinite(frame.points[..., 2]).mean() > 0.9


def test_unknown_scenario_is_named(case: Case) -> None:
    text = r"^unknown scenario 'party'; one of still, demo, stress, leave, empty, theatre, occlude$"
    with pytest.raises(End2RegError, match=text):
        SimulatedSequence(case, SequenceSettings(scenario="party"))


def test_colours_do_not_give_bone_away(case: Case) -> None:
    """A linear classifier of colour, learned on some seeds, hardly tells bone from its surroundings on others."""
    from scipy.ndimage import binary_dilation

    def colours(seed: int) -> tuple[np.ndarray, np.ndarray]:
        settings = SequenceSettings(
            seed, "still", SMALL, FieldSettings(seed=seed, retractors=False), CameraPlacement(0.35)
        )
        frame = SimulatedSequence(case, settings).frame(0.0)
        around = binary_dilation(frame.bone, iterations=6) & ~frame.bone
        return frame.colours[frame.bone].astype(float), frame.colours[around].astype(float)

    train, test = [colours(k) for k in range(3)], [colours(k) for k in range(3, 7)]
    bone, tissue = (np.concatenate([pair[k] for pair in train]) for k in (0, 1))
    pooled = np.cov(bone.T) + np.cov(tissue.T)
    direction = np.linalg.solve(pooled, bone.mean(axis=0) - tissue.mean(axis=0))
    areas = []
    for bone, tissue in test:
        a, b = bone[::3] @ direction, tissue[::5] @ direction
        areas.append(float(np.mean(a[:, None] > b[None])))
    print("area under the ROC curve of a colour classifier, per seed:", np.round(areas, 2))
    assert 0.35 < np.mean(areas) < 0.7


def test_picks_have_the_error_they_say(case: Case, demo: SimulatedSequence) -> None:
    T = demo.T_camera_model(3.0)
    truth = {v.level: se3.apply(T, v.landmarks.as_array()) for v in case.vertebrae if v.landmarks}
    squares = []
    for seed in range(200):
        picks = simulate_picks(case, T, seed)
        assert list(picks) == list(case.levels)
        squares += [np.sum((picks[level] - truth[level]) ** 2, axis=1) for level in picks]
    assert 1e3 * np.sqrt(np.mean(squares)) == pytest.approx(3.0, rel=0.04)
    np.testing.assert_array_equal(
        simulate_picks(case, T, 5)["L3"], simulate_picks(case, T, 5, levels=("L3",))["L3"]
    )
    np.testing.assert_allclose(simulate_picks(case, T, 5, rms_m=0.0)["L1"], truth["L1"], atol=1e-12)


def test_frame_time_is_printed(demo: SimulatedSequence) -> None:
    """The camera node has about one core for 15 frames a second: CPU time, which other processes do not stretch."""
    demo.frame(0.0)
    spent = []
    for k in range(15):
        start = time.process_time()
        demo.frame(k / 15)
        spent.append(1e3 * (time.process_time() - start))
    print(f"CPU time of a 640x480 frame: median {np.median(spent):.1f} ms, longest {max(spent):.1f} ms")
    assert np.median(spent) < 250  # a guard against a mistake of kind, not a benchmark


@pytest.mark.shared
@pytest.mark.parametrize("name", ["verse004", "vhm_lumbosacral", "ssm_clouthier"])
def test_real_anatomy_is_seen_in_part_and_true(shared_data: Path, name: str) -> None:
    case = case_of_meshes(shared_data / "anatomy" / name)
    sequence = SimulatedSequence(case, SequenceSettings(seed=1, scenario="still", sensor=SENSORS["ideal"]))
    frame = sequence.frame(0.0)
    assert 0.005 < frame.bone.mean() < 0.05
    points = se3.apply(se3.inverse(frame.T_camera_model), frame.points[frame.bone])
    assert 1e3 * distance_to_bone(case, points).max() < 1.1  # film to 1 mm


def case_of_meshes(folder: Path) -> Case:
    import trimesh

    vertebrae = []
    for path in sorted(folder.glob("L?.stl")):
        mesh = trimesh.load_mesh(path)
        surface = Mesh(np.asarray(mesh.vertices) / 1000.0, np.asarray(mesh.faces, dtype=np.int32))
        T = se3.from_rotation_translation(np.eye(3), surface.vertices.mean(axis=0))
        vertebrae.append(Vertebra(path.stem, surface, T, (200, 200, 200)))
    return Case(folder.name, folder, tuple(vertebrae), "", "")
