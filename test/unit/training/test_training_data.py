"""Shards: the same scenes by number in any run, resumable; what is in them is true; faulty files and recipes are told."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree
from training_shards import make_shards

from end2reg_ros import se3
from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.errors import TrainingError
from end2reg_ros.simulation.camera.sensor import CameraPlacement
from end2reg_ros.simulation.motion import Pass
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence
from end2reg_ros.training.command import run_command
from end2reg_ros.training.data.field_views import draw_field
from end2reg_ros.training.data.recipe import SEED_MIN, CaseBase, ShardRecipe, read_recipe
from end2reg_ros.training.data.samples import load_anatomy, load_scene, scene_path
from end2reg_ros.training.data.shards import MakeShards, make_scenes, variant_order

ROOT = Path(__file__).resolve().parents[3]
RECIPE = ShardRecipe(
    first_seed=7_000_000, cases=(CaseBase(str(bundled_case_path())),), variants_per_base=2, fields_per_variant=1,
    views_per_field=2, empty_share=0.0, suites={"standard": 1.0},
)  # fmt: skip


def build_shards(recipe: ShardRecipe, out: Path, first: int = 0, end: int | None = None) -> int:
    return len(list(make_scenes(recipe, out, first, end)))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes of two variants, made whole."""
    out = tmp_path_factory.mktemp("shards")
    assert build_shards(RECIPE, out) == 4
    return out


def content(shards: Path) -> dict[str, bytes]:
    files = sorted(p for p in shards.rglob("*") if p.is_file())
    return {p.relative_to(shards).as_posix(): p.read_bytes() for p in files}


@pytest.mark.slow
def test_two_builds_in_any_order_give_equal_bytes(shards: Path, tmp_path: Path) -> None:
    for first, end in ((3, 4), (0, 2), (1, 4)):
        build_shards(RECIPE, tmp_path, first, end)
    assert content(tmp_path) == content(shards)
    scenes = [load_scene(scene_path(shards, n)) for n in range(4)]
    assert len({s.points.tobytes() for s in scenes}) == 4


@pytest.mark.slow
def test_a_run_goes_on_where_another_was_stopped(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    shutil.copytree(shards, out)
    before = content(out)
    scene_path(out, 1).unlink()
    (out / "scene" / ".000001.npz.1.part").write_bytes(b"half")
    kept = {n: scene_path(out, n).stat().st_mtime_ns for n in (0, 2, 3)}
    assert build_shards(RECIPE, out) == 1
    assert {n: scene_path(out, n).stat().st_mtime_ns for n in kept} == kept
    after = content(out)
    assert after.pop("scene/.000001.npz.1.part") == b"half"
    assert after == before
    assert build_shards(RECIPE, out) == 0


@pytest.mark.slow
def test_what_is_stored_is_true(shards: Path) -> None:
    for n in range(4):
        scene = load_scene(scene_path(shards, n))
        anatomy = load_anatomy(shards / "anatomy" / f"{scene.anatomy}.npz")
        assert scene.anatomy == f"v{n // 2:05d}" and scene.suite == "standard"
        assert scene.seed >= SEED_MIN and scene.tags["seed"] == scene.seed
        T = se3.inverse(scene.T_camera_model)
        local = se3.apply(T, scene.points.astype(np.float64))
        bone = scene.bone > 0
        distance = cKDTree(anatomy.points).query(local[bone])[0]
        assert bone.sum() > 100 and np.percentile(distance, 90) < 0.003  # film, noise, 1.5 mm sampling
        assert cKDTree(anatomy.points).query(local[~bone])[0].mean() > 0.01
        assert np.ptp(local[:, 0]) <= 0.18 + 1e-5 and np.ptp(local[:, 1]) <= 0.14 + 1e-5
        assert local[:, 2].min() >= anatomy.points[:, 2].min() - 0.06 - 1e-5
        # One point a voxel, colours and labels for each, normals of length one towards the camera.
        assert len(np.unique(np.floor(scene.view_points / 0.005), axis=0)) > 0.99 * len(scene.view_points)
        assert scene.colours is not None and scene.view_colours is not None
        assert len(scene.colours) == len(scene.normals) == len(scene.points)
        lengths = np.linalg.norm(scene.normals.astype(float) / 127, axis=1)
        assert np.percentile(np.abs(lengths - 1), 99) < 0.02
        assert ((scene.normals * scene.points).sum(axis=1) < 1e-3).mean() > 0.99
        assert len(anatomy.landmarks) == 3 * len(anatomy.levels) == 3 * len(anatomy.T_model_levels)
        assert np.abs(np.linalg.norm(anatomy.normals, axis=1) - 1).max() < 1e-4


@pytest.mark.slow
def test_a_scene_without_a_spine_holds_a_view_and_nothing_else(tmp_path: Path) -> None:
    build_shards(replace(RECIPE, empty_share=1.0), tmp_path, 0, 1)
    scene = load_scene(scene_path(tmp_path, 0))
    assert scene.anatomy == "" and len(scene.points) == 0
    assert scene.colours is not None and scene.colours.shape == (0, 3)
    assert len(scene.view_points) > 3000 and not scene.view_bone.any()
    assert np.array_equal(scene.T_camera_model, np.eye(4))


def test_shares_of_what_is_drawn() -> None:
    suites, sensors = {"easy": 0.25, "hard": 0.75}, {"d435": 0.9, "d405": 0.1}
    draws = [draw_field(SEED_MIN + k, suites, sensors, 0.03) for k in range(3000)]
    assert np.mean([not d.spine for d in draws]) == pytest.approx(0.03, abs=0.012)
    assert np.mean([d.suite == "hard" for d in draws]) == pytest.approx(0.75, abs=0.03)
    assert np.mean([d.sensor == "d405" for d in draws]) == pytest.approx(0.1, abs=0.02)


def test_any_first_part_has_all_individuals_alike() -> None:
    recipe = read_recipe(ROOT / "config" / "training" / "shards.yaml")
    order = variant_order(recipe)
    assert len(order) == 64 * recipe.variants_per_base
    for rounds in range(1, recipe.variants_per_base):
        assert sorted(i for i, _ in order[: 64 * rounds]) == sorted(list(range(64)) * rounds)
    heavy = replace(
        RECIPE, cases=(CaseBase("a"), CaseBase("b", 3.0)), variants_per_base=10, procedural_count=0
    )
    first = [i for i, _ in variant_order(heavy)[:12]]
    assert first.count(0) == 3 and first.count(1) == 9


@pytest.mark.slow
def test_another_recipe_or_range_is_refused(shards: Path) -> None:
    with pytest.raises(TrainingError, match="holds scenes of another recipe; choose another folder"):
        build_shards(replace(RECIPE, first_seed=8_000_000), shards)
    with pytest.raises(TrainingError, match="scenes 0 to 9: the recipe makes scenes 0 to 4"):
        build_shards(RECIPE, shards, 0, 9)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("first_seed: 5\nprocedural: {count: 1}", "'first_seed' must be at least 1000000, not 5"),
        ("sees: 1", "unknown setting 'sees'"),
        ("procedural: {number: 3}", "procedural: unknown setting 'number'"),
        ("mix: true", "no individuals"),
        ("procedural: {count: 1}\nsuites: {daft: 1}", "'suites': unknown 'daft'; one of easy"),
        ("procedural: {count: 1}\nsensors: {d435: -1}", "the share of d435 must be 0 or more"),
        ("cases: [{weight: 2}]", "cases: 'path' is missing"),
        ("procedural: {count: 1.5}", "'count' must be a whole number, not 1.5"),
        ("procedural: {count: 1}\nmix: 3", "'mix' must be true or false, not 3"),
        ("procedural: {count: 1}\nsuites: [easy]", "'suites' must map names to numbers"),
        ("[1, 2]", "a recipe is a list of 'name: value' lines"),
        ("a: [", "cannot read the recipe"),
    ],
)  # fmt: skip
def test_faulty_recipes(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "shards.yaml"
    path.write_text(text)
    with pytest.raises(TrainingError) as error:
        read_recipe(path)
    assert fault in str(error.value) and "shards.yaml" in str(error.value) and "\n" not in str(error.value)


def test_faulty_files(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "sheets", views=1, spineless=0)
    whole = scene_path(shards, 0)
    short, foreign, single = tmp_path / "short.npz", tmp_path / "foreign.npz", tmp_path / "single.npz"
    short.write_bytes(whole.read_bytes()[:-2000])
    np.savez(foreign, points=np.zeros((3, 3), np.float32))
    with single.open("wb") as file:
        np.save(file, np.zeros(3))
    for path, text in (
        (short, "not a training scene, or cut short"),
        (foreign, "not a training scene \\(no '"),
        (single, "not a training scene"),
        (tmp_path / "none.npz", "no such training scene"),
        (shards / "anatomy" / "sheet_3.npz", "not a training scene \\(no '"),
    ):
        with pytest.raises(TrainingError, match=text):
            load_scene(path)
    with pytest.raises(TrainingError, match="not a training anatomy \\(no '"):
        load_anatomy(whole)
    with np.load(whole) as data:
        arrays = dict(data)
    np.savez(foreign, **{**arrays, "bone": arrays["bone"][:-1]})
    with pytest.raises(TrainingError, match="not a training scene \\(uint8 array of shape"):
        load_scene(foreign)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["still", "demo"])
def test_the_same_field_from_elsewhere_equals_one_built_there(scenario: str) -> None:
    case = load_case(bundled_case_path())
    here, there = CameraPlacement(0.5, 10.0), CameraPlacement(0.6, 25.0, 100.0, 70.0, (0.02, -0.03))
    passes = (Pass("suction", 5.0, 15.0, above_m=0.004), Pass("hand", 5.0, 15.0, over_m=(0.02, 0.05)))
    settings = SequenceSettings(seed=3, scenario=scenario, placement=here)
    first = SimulatedSequence(case, settings)
    before = first.frame(8.0)
    moved = first.seen_from(there, passes).frame(8.0)
    built = SimulatedSequence(case, replace(settings, placement=there, extra_passes=passes)).frame(8.0)
    assert moved.points.tobytes() == built.points.tobytes()
    assert moved.colours.tobytes() == built.colours.tobytes()
    assert np.array_equal(moved.bone, built.bone)
    assert np.array_equal(moved.T_camera_model, built.T_camera_model)
    assert moved.visible_fraction == built.visible_fraction < 1.0
    assert moved.tags == built.tags
    assert first.frame(8.0).points.tobytes() == before.points.tobytes()


def test_errors_of_the_commands_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(MakeShards(tmp_path / "none.yaml", tmp_path)) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: cannot read the recipe") and said.err.count("\n") == 1
    assert said.out == ""
