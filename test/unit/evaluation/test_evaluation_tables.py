"""Regions that methods are given, and the paper's tables 1 and 2 as text."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from stand_in import StandInRegistrar

from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.scene_folder import StoredScene, write_scene
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import End2RegError, RegistrationError
from end2reg_ros.evaluation.benchmark import BenchmarkSettings, CaseBench, Trial, run_benchmark
from end2reg_ros.evaluation.metrics import PoseErrors
from end2reg_ros.evaluation.tables import finite
from end2reg_ros.evaluation.tables_paper import paper_rows, rows_of_document, table_1, table_2
from end2reg_ros.registration.types import Prior, Quality, Registration

TRUTH = se3.from_rotation_translation(
    np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]), np.array([0.0, 0.0, 0.6])
)


class Recorder(StandInRegistrar):
    """Gives back the truth and keeps what it was given."""

    method, engine, engine_hash, needs_prior = "recorder", "", "", False

    def __init__(self) -> None:
        self.clouds: list[Cloud] = []

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        self.clouds.append(cloud)
        return Registration(TRUTH, True, "ok", "", Quality(), np.eye(6), "recorder", "", {"all": 1.0})


@pytest.fixture
def folder(case: Case, tmp_path: Path) -> Path:
    points = np.arange(1, 31, dtype=np.float32).reshape(10, 3) / 100
    colours = np.arange(30, dtype=np.uint8).reshape(10, 3)
    scene = StoredScene(
        "scene", Cloud(points, colours, "cam", 0), np.arange(10) < 4, TRUTH, {}, {}, case.path
    )
    write_scene(tmp_path / "scene", scene)
    return tmp_path / "scene"


def test_regions_are_what_methods_get(case: Case, folder: Path) -> None:
    recorder = Recorder()
    bench = CaseBench(case, ("recorder",), lambda name, case: recorder, lambda cloud: np.array([7, 2, 5]))
    settings = BenchmarkSettings(("recorder",), ("none",), ("view", "found", "bone"))
    trials = list(run_benchmark([folder], lambda scene: bench, settings))
    assert [trial.region for trial in trials] == ["view", "found", "bone"]
    view, found, bone = recorder.clouds
    assert [len(cloud.points) for cloud in (view, found, bone)] == [10, 3, 4]
    np.testing.assert_array_equal(found.points, view.points[[7, 2, 5]])
    assert found.colours is not None and view.colours is not None
    np.testing.assert_array_equal(found.colours, view.colours[[7, 2, 5]])
    assert trials[1].wall_ms > trials[1].timings_ms["region"] > 0.0
    assert "region" not in trials[0].timings_ms


def test_no_region_is_no_pose_and_no_success(case: Case, folder: Path) -> None:
    recorder = Recorder()
    settings = BenchmarkSettings(("recorder",), ("none", "landmarks"), ("found",))
    for nothing in (None, np.zeros(0, np.int64)):
        bench = CaseBench(case, ("recorder",), lambda name, case: recorder, lambda cloud, n=nothing: n)
        trials = list(run_benchmark([folder], lambda scene, bench=bench: bench, settings))
        assert [(t.success, t.reason_code, t.errors) for t in trials] == [(False, "no_region", None)] * 2
        assert trials[0].initial_tre_mm is None and trials[1].initial_tre_mm is not None
    assert recorder.clouds == []
    (row, _) = paper_rows(trials)
    assert (row.poses, row.outliers, row.reported, row.wrong_reported) == (0, 1.0, 0.0, 0.0)


def test_found_needs_a_finder(case: Case, folder: Path) -> None:
    bench = CaseBench(case, ("recorder",), lambda name, case: Recorder())
    with pytest.raises(RegistrationError) as caught:
        list(
            run_benchmark(
                [folder], lambda scene: bench, BenchmarkSettings(("recorder",), ("none",), ("found",))
            )
        )
    assert str(caught.value) == f"case {case.name}: no region finder is there, which --regions found needs"


def trial(tre_mm: float | None, success: bool = True, **more: float) -> Trial:
    """A trial of two levels of equal TRE; ``worst`` is the TRE of the second."""
    errors = None
    if tre_mm is not None:
        tre = {"L1": np.full(3, tre_mm), "L2": np.full(3, more.get("worst", tre_mm))}
        errors = PoseErrors(tre, more.get("rmse", tre_mm), tre_mm, 1.0, tre_mm, 0)
    return Trial("s", "end2reg", "none", "view", success, "ok", errors, None, None, more.get("ms", 10.0))


def test_rows_and_tables() -> None:
    trials = [
        trial(1.0, ms=10.0), trial(2.0, ms=20.0), trial(3.0, ms=30.0), trial(12.0, ms=40.0),
        trial(14.0, False, ms=50.0), trial(1.0, worst=11.0), trial(None, True), trial(None, False),
    ]  # fmt: skip
    (row,) = paper_rows(trials)
    assert (row.trials, row.poses) == (8, 6)
    assert row.outliers == 4 / 8  # 12, 14 and both without a pose; the mean of 1 and 11 is not above 10
    assert row.reported == 6 / 8
    assert row.wrong_reported == 3 / 8  # 12, the one with a level at 11, and a success without a pose
    assert row.tre_mm.median == pytest.approx(4.5)
    rmse = np.array([1.0, 2.0, 3.0, 12.0, 14.0, 1.0])
    assert row.rmse_mean_mm == pytest.approx(5.5)
    assert row.rmse_sd_mm == pytest.approx(np.sqrt(((rmse - 5.5) ** 2).sum() / 5))
    lines = table_1({"standard": [row]})
    assert lines[0] == (
        "| suite | method | region | prior | n | TRE mm | > 10 mm | reported | wrong as success "
        "| RRE deg | RTE mm | ms p50 | ms p95 |"
    )
    assert lines[2] == (
        "| standard | end2reg | view | none | 8 | 4.50 [2.25, 10.50] | 50.0 % | 75.0 % | 37.5 % "
        "| 1.00 [1.00, 1.00] | 2.50 [1.25, 9.75] | 15 | 46 |"
    )
    assert table_2({"standard": [row]})[2] == "| standard | end2reg | view | none | 8 | 6 | 5.50 ± 5.89 |"
    (single,) = paper_rows([trial(None)])
    assert table_2({"x": [single]})[2] == "| x | end2reg | view | none | 1 | 0 | – |"


def test_rows_come_back_from_a_document() -> None:
    rows = paper_rows([trial(1.0), replace(trial(None), method="icp"), replace(trial(2.0), region="bone")])
    plain = json.loads(json.dumps(finite({"paper": [asdict(row) for row in rows]}), allow_nan=False))
    again = rows_of_document(plain)
    assert table_1({"x": again}) == table_1({"x": rows}) and table_2({"x": again}) == table_2({"x": rows})
    assert [row.region for row in again] == ["view", "view", "bone"]
    with pytest.raises(End2RegError) as caught:
        rows_of_document({"trials": []})
    assert str(caught.value) == (
        "the document holds no rows of the paper's tables: run end2reg evaluate again"
    )
