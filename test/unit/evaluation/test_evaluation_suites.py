"""Test suites: the plan, seeds that no training uses, folders that are kept."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.paper.suites import (
    PROCEDURAL_SEEDS,
    SPARE,
    TRAINING_FIRST_SEED,
    SuiteIndividual,
    plan_suite,
    procedural_individuals,
    write_suite,
)
from benchmarks.paper.sweeps import FIRST_SEED
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.cloud.scene_folder import find_scenes, read_scene
from end2reg_ros.errors import End2RegError
from end2reg_ros.simulation.field.settings import SUITES


def individuals() -> list[SuiteIndividual]:
    real = [SuiteIndividual(Path(f"real_{k}"), 14) for k in range(3)]
    return [*real, *(SuiteIndividual(Path(f"procedural_{seed}"), 3) for seed in PROCEDURAL_SEEDS[:6])]


def test_plan_is_a_fair_mix_from_its_start() -> None:
    plan = plan_suite("standard", individuals())
    assert len(plan) == 60
    assert [scene.name for scene in plan] == sorted(scene.name for scene in plan)
    assert plan[0].name == "standard_000_real_0"
    first = Counter(scene.individual for scene in plan[:24])
    assert [first[k] for k in range(9)] == [6, 6, 6, 1, 1, 1, 1, 1, 1]


def test_no_seed_twice_and_none_of_training() -> None:
    seeds = [scene.seed for suite in SUITES for scene in plan_suite(suite, individuals())]
    drawn = {*seeds, *(seed + SPARE for seed in seeds)}
    assert len(drawn) == 2 * 180
    assert max(drawn) < FIRST_SEED < TRAINING_FIRST_SEED
    assert not set(PROCEDURAL_SEEDS) & set(range(1000, 1064))


def test_faults_of_a_plan() -> None:
    faults = {
        "a suite needs at least one scene": [],
        "two cases of the name x: a suite tells its cases apart by their names": [
            SuiteIndividual(Path("a/x"), 1),
            SuiteIndividual(Path("b/x"), 1),
        ],
        "501 scenes of one case: at most 500 have seeds of their own": [SuiteIndividual(Path("x"), 501)],
    }
    for text, members in faults.items():
        with pytest.raises(End2RegError) as caught:
            plan_suite("easy", members)
        assert str(caught.value) == text
    with pytest.raises(End2RegError) as caught:
        procedural_individuals(Path("x"), 11, 1)
    assert str(caught.value) == "11 procedural cases: 0 to 10 are kept for testing"


def test_suite_is_written_once_and_kept(tmp_path: Path) -> None:
    members = [SuiteIndividual(bundled_case_path(), 2)]
    told: list[tuple[int, int]] = []
    folders = write_suite(tmp_path / "easy", "easy", members, lambda k, n: told.append((k, n)))
    assert told == [(1, 2), (2, 2)]
    assert find_scenes(tmp_path) == folders
    scenes = [read_scene(folder) for folder in folders]
    assert [scene.tags["seed"] for scene in scenes] == [500_000, 500_001]
    assert all(scene.case_path == bundled_case_path().resolve() for scene in scenes)
    content = json.loads((tmp_path / "easy" / "suite.json").read_text())
    assert [row["seed"] for row in content["scenes"]] == [500_000, 500_001]
    before = [(folder / "cloud.ply").stat().st_mtime_ns for folder in folders]
    write_suite(tmp_path / "easy", "easy", members)
    assert [(folder / "cloud.ply").stat().st_mtime_ns for folder in folders] == before
    path = folders[0] / "scene.json"
    path.write_text(path.read_text().replace('"seed": 500000', '"seed": 7'))
    with pytest.raises(End2RegError) as caught:
        write_suite(tmp_path / "easy", "easy", members)
    assert (
        str(caught.value)
        == f"{folders[0]}: holds another scene (other case, version of it or seed): remove it"
    )
