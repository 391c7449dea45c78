"""Scene folders as training scenes: they equal what the shards hold; what is missing in them is told or made up for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.cloud.scene_folder import StoredScene, read_scene, write_scene
from end2reg_ros.errors import CloudError, TrainingError
from end2reg_ros.simulation.random_scenes import SceneSettings, scene_of_frame, simulate_scene
from end2reg_ros.training.data.anatomies import load_individual, make_anatomy
from end2reg_ros.training.data.samples import LabelledView, SceneSample, load_anatomy, load_scene
from end2reg_ros.training.data.scene_folder_dataset import SceneFolderDataset, write_shards
from end2reg_ros.training.data.scene_making import make_scene


@pytest.fixture(scope="module")
def simulated() -> StoredScene:
    case = load_case(bundled_case_path())
    scene = simulate_scene(case, SceneSettings("standard", 11))
    return replace(scene_of_frame("a", scene.frame, scene.tags, case.path), case_hash=case.hash)


def write_plain_ply(path: Path, points: np.ndarray) -> None:
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
    names = "".join(f"property float {c}\n" for c in "xyz")
    path.write_bytes((head + names + "end_header\n").encode() + points.astype("<f4").tobytes())


def same(a: SceneSample, b: SceneSample) -> None:
    for name in ("points", "colours", "normals", "bone", "view_points", "view_colours", "view_bone"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    np.testing.assert_allclose(a.T_camera_model, b.T_camera_model, atol=1e-12)


@pytest.mark.slow
def test_a_scene_folder_equals_the_shard_of_its_frame(simulated: StoredScene, tmp_path: Path) -> None:
    write_scene(tmp_path / "scenes" / "a", simulated)
    individual = load_individual(bundled_case_path())
    anatomy = make_anatomy(individual.case, individual.case.name, individual.group)
    assert simulated.bone is not None
    T = simulated.T_camera_model
    view = LabelledView(simulated.cloud.points, simulated.cloud.colours, simulated.bone, T, "x", "standard")
    expected = make_scene(view, anatomy, 0, {})
    dataset = SceneFolderDataset(tmp_path / "scenes")
    assert len(dataset) == 1
    sample, _ = dataset[0]
    same(sample, expected)
    assert sample.bone.sum() > 300 and sample.suite == "standard"
    # And written as a shard folder it reads back the same.
    assert write_shards(tmp_path / "scenes", tmp_path / "shards") == 1
    stored = load_scene(tmp_path / "shards" / "scene" / "000000.npz")
    same(stored, expected)
    model = load_anatomy(tmp_path / "shards" / "anatomy" / f"{stored.anatomy}.npz")
    assert np.array_equal(model.points, anatomy.points) and model.levels == individual.case.levels
    assert json.loads((tmp_path / "shards" / "shards.json").read_text())["scenes"] == 1
    with pytest.raises(TrainingError, match="is not empty; choose another folder"):
        write_shards(tmp_path / "scenes", tmp_path / "shards")


@pytest.mark.slow
def test_colours_and_labels_may_be_missing(simulated: StoredScene, tmp_path: Path) -> None:
    bare = replace(simulated, bone=None, cloud=replace(simulated.cloud, colours=None))
    write_scene(tmp_path / "s" / "a", bare)
    # Our own writer gives points without colours grey ones; others leave them out.
    write_plain_ply(tmp_path / "s" / "a" / "cloud.ply", simulated.cloud.points)
    sample, _ = SceneFolderDataset(tmp_path / "s")[0]
    assert sample.colours is None and sample.view_colours is None
    assert sample.tags["bone_label"] == "within 3 mm of the model"
    write_scene(tmp_path / "t" / "a", simulated)
    truth, _ = SceneFolderDataset(tmp_path / "t")[0]
    assert np.array_equal(truth.points, sample.points)
    recall = (sample.bone[truth.bone > 0] > 0).mean()
    assert recall > 0.9 and sample.bone.sum() < 4 * truth.bone.sum()
    write_shards(tmp_path / "s", tmp_path / "shards")
    assert load_scene(tmp_path / "shards" / "scene" / "000000.npz").colours is None


def test_a_view_without_a_spine(simulated: StoredScene, tmp_path: Path) -> None:
    write_scene(tmp_path / "a", replace(simulated, case_path=None, tags={"spine": False}))
    sample, anatomy = SceneFolderDataset(tmp_path)[0]
    assert sample.anatomy == "" and not len(sample.points) and len(sample.view_points) > 1000
    assert anatomy is None


@pytest.mark.slow
def test_what_cannot_be_used_is_told(simulated: StoredScene, tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="holds no scene folder"):
        SceneFolderDataset(tmp_path)
    write_scene(tmp_path / "a", replace(simulated, case_path=None))
    with pytest.raises(TrainingError, match=r'scene\.json: names no case; add "case"'):
        SceneFolderDataset(tmp_path)[0]
    write_scene(tmp_path / "a", replace(simulated, case_hash="00" * 32))
    with pytest.raises(TrainingError, match="was made with another version of case"):
        SceneFolderDataset(tmp_path)[0]
    away = simulated.T_camera_model.copy()
    away[2, 3] += 2.0
    write_scene(tmp_path / "a", replace(simulated, bone=None, T_camera_model=away))
    with pytest.raises(TrainingError, match="no bone in it; is T_camera_model right"):
        SceneFolderDataset(tmp_path)[0]
    assert read_scene(tmp_path / "a").bone is None
