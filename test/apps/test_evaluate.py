"""`end2reg evaluate`: priors, regions, verdict counts, tables as text, and a whole run on the bundled case."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stand_in import StandInRegistrar

from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.cli.evaluate import Evaluate
from end2reg_ros.cloud.scene_folder import StoredScene, find_scenes, read_scene, write_scene
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CaseError, CloudError, End2RegError
from end2reg_ros.evaluation.benchmark import (
    BenchmarkSettings,
    CaseBench,
    Trial,
    make_prior,
    run_benchmark,
)
from end2reg_ros.evaluation.metrics import Pose, pose_errors, targets_from_case
from end2reg_ros.evaluation.plots import draw_success
from end2reg_ros.evaluation.regions import cloud_of_region
from end2reg_ros.evaluation.scenes import true_pose
from end2reg_ros.evaluation.summary import misalignment_bins, summarise
from end2reg_ros.evaluation.trial_tables import document, markdown
from end2reg_ros.registration.find.global_search import Oriented, RansacSettings, ransac_fpfh
from end2reg_ros.registration.types import Prior, Quality, Registration


class FakeRegistrar(StandInRegistrar):
    """Gives back the prior, or a pose 50 mm off that it takes for good."""

    method, engine, engine_hash, engine_text = "fake", "none", "", ""

    def __init__(self) -> None:
        self.clouds: list[Cloud] = []

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        self.clouds.append(cloud)
        if prior is not None:
            return Registration(prior.T_camera_model, True, "ok", "", Quality(), np.eye(6), "fake", "none")
        T = se3.from_rotation_translation(np.eye(3), np.array([0.05, 0.0, 0.6])) @ LOOK
        success = len(self.clouds) % 2 == 1
        code = "ok" if success else "few_inliers"
        return Registration(T, success, code, "", Quality(), np.eye(6), "fake", "none")


# The back of the model towards the camera, head up in the image.
LOOK = se3.from_rotation_translation(np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]), np.zeros(3))
TRUTH = se3.from_rotation_translation(np.eye(3), np.array([0.0, 0.0, 0.6])) @ LOOK


@pytest.fixture(scope="module")
def bench(case: Case) -> CaseBench:
    made = CaseBench(case, ())
    made.registrars["fake"] = FakeRegistrar()
    return made


@pytest.fixture(scope="module")
def scenes(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three views of the bundled case with a table beside the bone: the surface that faces the camera, 0.3 mm noise."""
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    for number in range(3):
        turn = se3.from_rotation_translation(se3.rotation_from_vector(rng.normal(0, 0.1, 3)), np.zeros(3))
        T = TRUTH @ turn
        bone = np.concatenate([_facing(v.mesh.vertices, v.mesh.triangles, T) for v in case.vertebrae])
        bone += rng.normal(0.0, 0.0003, bone.shape)
        table = np.stack(
            [rng.uniform(0.15, 0.3, 500), rng.uniform(-0.1, 0.1, 500), np.full(500, 0.65)], axis=1
        )
        points = np.concatenate([bone, table]).astype(np.float32)
        label = np.arange(len(points)) < len(bone)
        cloud = Cloud(points, np.full((len(points), 3), 150, np.uint8), "cam", 0)
        scene = StoredScene(f"scene_{number}", cloud, label, T, {}, {"number": number}, case.path)
        write_scene(folder / scene.name, scene)
    yield folder


def _facing(vertices: np.ndarray, triangles: np.ndarray, T: np.ndarray) -> np.ndarray:
    """Centres of the triangles that face the camera (self-occlusion is left out: the test only needs a surface)."""
    corners = se3.apply(T, vertices)[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    centres = corners.mean(axis=1)
    return np.asarray(centres[np.sum(normals * centres, axis=1) < 0])


def run(scenes: Path, bench: CaseBench, settings: BenchmarkSettings) -> list[Trial]:
    return list(run_benchmark(find_scenes(scenes), lambda scene: bench, settings))


def test_every_scene_method_and_prior_once(scenes: Path, bench: CaseBench) -> None:
    trials = run(scenes, bench, BenchmarkSettings(("fake",), ("none", "landmarks")))
    keys = [(t.scene, t.method, t.prior) for t in trials]
    assert keys == [(f"scene_{n}", "fake", prior) for n in range(3) for prior in ("none", "landmarks")]
    for trial in trials:
        assert trial.errors is not None
        if trial.prior == "landmarks":  # the fake gives the prior back
            assert trial.errors.mean_tre_mm == trial.initial_tre_mm
            assert 0.1 < trial.errors.mean_tre_mm < 3.0
        else:
            assert trial.initial_tre_mm is None
            assert trial.errors.mean_tre_mm > 40.0


def test_priors_depend_on_seed_and_scene_alone(bench: CaseBench) -> None:
    truth = Pose(TRUTH)
    for kind in ("landmarks", "perturbed"):
        first, again = (make_prior(kind, bench, truth, BenchmarkSettings(), 4) for _ in range(2))
        assert first is not None and again is not None
        np.testing.assert_array_equal(first.T_camera_model, again.T_camera_model)
        for settings, number in ((BenchmarkSettings(), 5), (BenchmarkSettings(seed=1), 4)):
            other = make_prior(kind, bench, truth, settings, number)
            assert other is not None and not np.allclose(other.T_camera_model, first.T_camera_model)


def test_perturbed_prior_stays_in_its_limits_and_fills_them(bench: CaseBench) -> None:
    settings = BenchmarkSettings(max_rotation_rad=float(np.radians(20)), max_offset_m=0.01)
    priors = [make_prior("perturbed", bench, Pose(TRUTH), settings, n) for n in range(200)]
    errors = [
        pose_errors(Pose(p.T_camera_model), Pose(TRUTH), bench.targets) for p in priors if p is not None
    ]
    rotations, shifts = [e.rre_deg for e in errors], [e.rte_mm for e in errors]
    assert 18.0 < max(rotations) <= 20.0 and min(rotations) < 2.0
    assert 9.0 < max(shifts) <= 10.0 and min(shifts) < 1.0


def test_region_bone_gives_only_bone(scenes: Path, bench: CaseBench) -> None:
    fake = FakeRegistrar()
    bench.registrars["fake"] = fake
    run(scenes, bench, BenchmarkSettings(("fake",), ("none",), ("bone",)))
    assert all(cloud.points[:, 0].max() < 0.15 for cloud in fake.clouds)
    scene = StoredScene("bare", fake.clouds[0], None, TRUTH)
    with pytest.raises(CloudError) as caught:
        cloud_of_region(scene, "bone")
    assert str(caught.value) == "scene bare: has no bone label, which --regions bone needs"
    covered = StoredScene("covered", fake.clouds[0], np.zeros(len(fake.clouds[0].points), bool), TRUTH)
    with pytest.raises(CloudError) as caught:
        cloud_of_region(covered, "bone")
    assert str(caught.value) == "scene covered: no point is bone, which --regions bone needs"


def test_both_regions_in_one_run(scenes: Path, bench: CaseBench) -> None:
    bench.registrars["fake"] = FakeRegistrar()
    trials = run(scenes, bench, BenchmarkSettings(("fake",), ("none", "landmarks"), ("view", "bone")))
    rows = [(s.prior, s.region, s.all.trials) for s in summarise(trials)]
    assert rows == [(prior, region, 3) for region in ("view", "bone") for prior in ("none", "landmarks")]
    # The same scene has the same prior on either region.
    with_prior = {(t.scene, t.region): t.initial_tre_mm for t in trials if t.prior == "landmarks"}
    assert with_prior["scene_1", "view"] == with_prior["scene_1", "bone"]
    text = markdown(summarise(trials), "x", [])
    assert "| fake | none | view | 3 |" in text and "| fake | landmarks | bone | 3 | 3 | 0 |" in text
    tables = [line for line in text.splitlines() if line.startswith("| method")]
    assert (
        tables[0]
        == tables[1]
        == (
            "| method | prior | region | n | TRE mm | TRE vertebra poses mm | landmarks > 10 mm | < 2 mm | < 3 mm | < 5 mm "
            "| RMSE mm | mean_distance mm | RRE deg | RTE mm | level slips |"
        )
    )
    assert tables[2] == (
        "| method | prior | region | scenes | reported success | of these wrong (a vertebra > 10 mm) "
        "| initial TRE mm | ms a registration | ms p95 | reasons |"
    )


def test_success_against_misalignment(scenes: Path, bench: CaseBench, tmp_path: Path) -> None:
    bench.registrars["fake"] = FakeRegistrar()
    (trial,) = run(scenes, bench, BenchmarkSettings(("fake",), ("landmarks",)))[:1]
    assert trial.errors is not None
    off = [3.5, 1.0, 4.0, 2.5, 8.0, 1.5, 2.2, 9.0]  # mm; as far as their priors
    trials = [
        replace(
            trial, initial_tre_mm=x, errors=replace(trial.errors, tre_mm={"L1": np.full(3, x)}), wall_ms=1.0
        )
        for x in off
    ]
    near, far = misalignment_bins(trials)
    assert (near.initial_tre_mm.count, near.initial_tre_mm.median, near.initial_tre_mm.maximum) == (
        4,
        1.85,
        2.5,
    )
    assert near.success == {2.0: 0.5, 3.0: 1.0, 5.0: 1.0}
    assert (far.initial_tre_mm.count, far.initial_tre_mm.median, far.initial_tre_mm.maximum) == (4, 6.0, 9.0)
    assert far.success == {2.0: 0.0, 3.0: 0.0, 5.0: 0.5}
    assert far.interval[5.0] == pytest.approx((0.15, 0.85), abs=0.005)
    assert misalignment_bins([replace(trial, initial_tre_mm=None)]) == []
    settings = BenchmarkSettings(("fake",), ("landmarks",))
    written = json.loads(json.dumps(document(trials, summarise(trials), settings, {}), allow_nan=False))
    assert [b["success"] for b in written["summaries"][0]["by_misalignment"]] == [
        {"2.0": 0.5, "3.0": 1.0, "5.0": 1.0},
        {"2.0": 0.0, "3.0": 0.0, "5.0": 0.5},
    ]

    figure = draw_success({"fake": trials})
    assert [axes.get_title() for axes in figure.axes] == ["TRE < 2 mm", "TRE < 3 mm", "TRE < 5 mm"]
    for axes, rates in zip(figure.axes, ([0.5, 0.0], [1.0, 0.0], [1.0, 0.5]), strict=True):
        np.testing.assert_allclose(axes.lines[0].get_ydata(orig=False), rates)


def test_truth_of_another_anatomy_is_refused(case: Case) -> None:
    scene = StoredScene(
        "odd", Cloud(np.zeros((1, 3), np.float32), None, "cam", 0), None, TRUTH, {"C1": TRUTH}
    )
    with pytest.raises(CloudError) as caught:
        true_pose(scene, targets_from_case(case))
    assert str(caught.value) == "scene odd: its levels (C1) are not the case's (L1, L2, L3, L4, L5)"


def test_wrong_poses_reported_as_success_are_counted(scenes: Path, bench: CaseBench) -> None:
    bench.registrars["fake"] = FakeRegistrar()
    trials = run(scenes, bench, BenchmarkSettings(("fake",), ("none",)))
    (summary,) = summarise(trials)
    # The fake takes the first and the third for good; all are 50 mm off.
    assert (summary.all.trials, summary.reported.trials, summary.wrong_reported) == (3, 2, 2)
    assert summary.reasons == {"ok": 2, "few_inliers": 1}
    assert summary.all.success == {2.0: 0.0, 3.0: 0.0, 5.0: 0.0}
    assert summary.all.landmark_outliers == 1.0
    # One vertebra 12 mm off is wrong, though the mean over all five is 2.4 mm.
    errors = trials[0].errors
    assert errors is not None
    tre = {level: np.full(3, 12.0 if level == "L5" else 0.0) for level in errors.tre_mm}
    tilted = replace(trials[0], errors=replace(errors, tre_mm=tre), success=True)
    assert summarise([tilted])[0].wrong_reported == 1
    assert summarise([tilted])[0].reported.tre_mm.median == pytest.approx(2.4)
    # A success without a pose is as wrong as one can be.
    broken = [replace(trial, errors=None, success=True) for trial in trials]
    assert summarise(broken)[0].wrong_reported == 3


def test_tables_and_json(scenes: Path, bench: CaseBench) -> None:
    bench.registrars["fake"] = FakeRegistrar()
    settings = BenchmarkSettings(("fake",), ("landmarks",))
    trials = run(scenes, bench, settings)
    summaries = summarise(trials)
    text = markdown(summaries, "Evaluation of 3 scenes", ["note"])
    assert text.startswith("# Evaluation of 3 scenes\n\n- note\n")
    tre = summaries[0].all.tre_mm
    assert (
        f"| fake | landmarks | view | 3 | {tre.median:.2f} [{tre.q1:.2f}, {tre.q3:.2f}] | – | 0 % |" in text
    )
    assert "| fake | landmarks | view | 3 | 3 | 0 |" in text
    content = document(trials, summaries, settings, {"command": "end2reg evaluate"})
    parsed = json.loads(json.dumps(content, allow_nan=False))
    assert parsed["settings"]["seed"] == 0
    told = {"end2reg_ros", "Python", "numpy", "scipy", "open3d", "small-gicp"}
    assert told <= set(parsed["environment"]["versions"])
    assert len(parsed["trials"][0]["errors"]["tre_mm"]["L3"]) == 3


def test_whole_run_on_the_bundled_case(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Evaluate(scenes, tmp_path / "out", methods=("icp",), priors=("landmarks",))
    assert command.run() == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out" / "evaluation.md").read_text()
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (result["scenes"], len(result["trials"])) == (3, 3)
    (summary,) = result["summaries"]
    assert summary["wrong_reported"] == 0
    assert summary["all"]["tre_mm"]["median"] < 1.0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["evaluation.json", "evaluation.md", "time.png", "tre.png"]


def test_methods_write_nothing_to_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    """Open3D warns there of few feature matches, which would spoil --json."""
    rng = np.random.default_rng(0)
    source, target = (Oriented(rng.uniform(-0.05, 0.05, (count, 3))) for count in (3000, 30))
    ransac_fpfh(source, target, RansacSettings(iterations=100))
    assert capfd.readouterr().out == ""


def test_faults_of_the_command(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(CloudError) as caught:
        Evaluate(tmp_path, tmp_path / "out").run()
    assert str(caught.value) == f"{tmp_path}: holds no scene folder (a folder with a scene.json)"
    with pytest.raises(End2RegError) as fault:
        Evaluate(scenes, tmp_path / "out", methods=("magic",)).run()
    assert "magic" in str(fault.value)
    with pytest.raises(End2RegError) as fault:
        Evaluate(scenes, tmp_path / "out", limit=0).run()
    assert str(fault.value) == "--limit is 0, must be at least 1"
    with pytest.raises(End2RegError) as fault:
        Evaluate(scenes, tmp_path / "out", seed=-1).run()
    assert str(fault.value) == "--seed is -1, must be at least 0"
    scene = StoredScene("alone", Cloud(np.ones((4, 3), np.float32), None, "cam", 0), None, TRUTH)
    write_scene(tmp_path / "alone", scene)
    with pytest.raises(CaseError) as nameless:
        Evaluate(tmp_path / "alone", tmp_path / "out").run()
    assert str(nameless.value) == "scene alone names no case: give one with --case"
    write_scene(tmp_path / "alone", replace(scene, case_path=tmp_path / "gone"))
    with pytest.raises(CaseError) as nameless:
        Evaluate(tmp_path / "alone", tmp_path / "out").run()
    assert str(nameless.value) == f"scene alone: {tmp_path / 'gone'}: no such case folder"


def test_a_bad_scene_is_told_before_any_work(scenes: Path, case: Case, tmp_path: Path) -> None:
    folder, out = tmp_path / "scenes", tmp_path / "out"
    first = read_scene(scenes / "scene_0")

    def refused() -> str:
        with pytest.raises(CloudError) as caught:
            Evaluate(folder, out, methods=("icp",), priors=("landmarks",), regions=("view", "bone")).run()
        assert not out.exists()
        return str(caught.value)

    write_scene(folder / "scene_0", first)
    write_scene(folder / "scene_1", replace(first, bone=None))
    assert refused() == "scene scene_1: has no bone label, which --regions bone needs"
    write_scene(folder / "scene_1", first)
    cut = folder / "scene_1" / "cloud.ply"
    cut.write_bytes(cut.read_bytes()[:-1])
    count = len(first.cloud.points)
    assert refused() == f"{cut}: is truncated, {count - 1} of {count} points are there"
    write_scene(folder / "scene_1", replace(first, case_hash="0" * 64))
    assert refused() == (
        f"scene scene_1: was made with another version of case {case.path} "
        f"(hash 000000000000, now {case.hash[:12]})"
    )
    write_scene(folder / "scene_1", replace(first, case_hash=case.hash))
    assert Evaluate(folder, out, methods=("icp",), priors=("landmarks",)).run() == 0
