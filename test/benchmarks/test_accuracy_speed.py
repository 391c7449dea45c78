"""Variants over scenes: starts, turns, rows, dots, and the script as a whole with made-up methods."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_in import StandInRegistrar
from views import bundled_case

from benchmarks import accuracy_speed
from benchmarks.accuracy_speed import (
    NEAR_DEG,
    NEAR_M,
    Variant,
    by_case,
    dots_of_rows,
    run_variants,
    shipped_variants,
    variant_rows,
)
from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.scene_folder import StoredScene, write_scene
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CaseError, End2RegError, RegistrationError
from end2reg_ros.registration import CLASSICAL
from end2reg_ros.registration.types import Prior, Quality, Registration

TRUTH = se3.from_rotation_translation(
    np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]), np.array([0.0, 0.0, 0.6])
)


class Off(StandInRegistrar):
    """Is off by so many mm; keeps what it was given."""

    method, engine, engine_hash, engine_text, needs_prior = "off", "", "", "", False

    def __init__(self, mm: float, journal: list[tuple[float, Prior | None]]) -> None:
        self.mm, self._journal = mm, journal

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        self._journal.append((self.mm, prior))
        T = TRUTH.copy()
        T[0, 3] += self.mm / 1000
        return Registration(T, True, "ok", "", Quality(), np.eye(6), "off", "")


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    points = np.arange(1, 31, dtype=np.float32).reshape(10, 3) / 100
    for number in range(3):
        case = bundled_case().path
        scene = StoredScene(f"s{number}", Cloud(points, None, "cam", 0), None, TRUTH, {}, {}, case)
        write_scene(tmp_path / "suite" / f"s{number}", scene)
    return tmp_path / "suite"


def test_variants_take_turns_and_are_given_the_same(scenes: Path) -> None:
    journal: list[tuple[float, Prior | None]] = []
    offsets = {"one": 1.0, "far": 12.0}
    folders = sorted(scenes.iterdir())
    made: list[str] = []

    def create(label: str, case: Case) -> Off:
        made.append(label)
        return Off(offsets[label], journal)

    trials = list(run_variants(folders, ("following", "near", "none"), None, list(offsets), create))
    assert made == ["one", "far"]  # once a case
    assert [mm for mm, _ in journal] == [1.0, 12.0] * 3 + [12.0, 1.0] * 3 + [1.0, 12.0] * 3
    priors = [prior for _, prior in journal]
    assert all(a is b for a, b in zip(priors[::2], priors[1::2], strict=True))
    for following, near, none in zip(priors[0::6], priors[2::6], priors[4::6], strict=True):
        assert none is None and following is not None and near is not None
        np.testing.assert_array_equal(following.T_camera_model, near.T_camera_model)
        assert (following.source, near.source) == ("last_frame", "perturbed")
        moved = se3.inverse(TRUTH) @ near.T_camera_model
        assert 0.0 < np.degrees(se3.rotation_angle(moved[:3, :3])) <= NEAR_DEG
        centre = bundled_case().centroid()
        assert 0.0 < np.linalg.norm(se3.apply(moved, centre) - centre) <= NEAR_M + 1e-9
    rows = variant_rows([trial for start, trial in trials if start == "near"], ["far", "absent", "one"])
    assert [(row.method, row.trials) for row in rows] == [("far", 3), ("one", 3)]
    assert rows[0].tre_mm.median == pytest.approx(12.0) and rows[1].tre_mm.median == pytest.approx(1.0)
    assert (rows[0].outliers, rows[1].outliers, rows[0].wrong_reported) == (1.0, 0.0, 1.0)
    dots = dots_of_rows(rows, [Variant("one", "icp", group="x")])
    assert [(dot.label, dot.group, round(dot.tre_mm, 6)) for dot in dots] == [
        ("far", "", 12.0),
        ("one", "x", 1.0),
    ]
    assert dots[0].ms == rows[0].wall_ms.median


def test_scenes_are_grouped_by_case(scenes: Path, tmp_path: Path) -> None:
    folders = sorted(scenes.iterdir())
    assert by_case(folders, None) == {bundled_case().path.resolve(): folders}
    assert by_case(folders, tmp_path) == {tmp_path.resolve(): folders}
    write_scene(
        tmp_path / "loose",
        StoredScene("loose", Cloud(np.ones((3, 3), np.float32), None, "c", 0), None, TRUTH),
    )
    with pytest.raises(CaseError) as caught:
        by_case([tmp_path / "loose"], None)
    assert str(caught.value) == "scene loose names no case: give one with --case"


def test_labels_are_unique_and_methods_known() -> None:
    variants = shipped_variants()
    assert len({variant.label for variant in variants}) == len(variants)
    assert {variant.method for variant in variants if variant.search is None} == set(CLASSICAL)
    for variant in variants:
        accuracy_speed.parse_method(variant.method, 1)
    assert {v.pairs for v in variants} == {None, 32, 128} and {v.iterations for v in variants} == {
        None,
        5,
        10,
    }


def test_a_missing_package_is_told_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise RegistrationError("kiss is missing")

    monkeypatch.setattr(accuracy_speed, "load_kiss_matcher", missing)
    engines = accuracy_speed.Engines()
    accuracy_speed.check(Variant("icp", "icp"), bundled_case(), engines, 1)
    with pytest.raises(RegistrationError, match=r"^kiss is missing$"):
        accuracy_speed.check(Variant("kiss", "kiss_matcher_icp"), bundled_case(), engines, 1)


def test_the_script(
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def check(variant: Variant, *arguments: Any) -> None:
        if variant.method == "kiss_matcher_icp":
            raise RegistrationError("the package is missing")

    def create(variant: Variant, case: Case, engines: Any, threads: int) -> Off:
        assert threads == 1
        return Off(1.0 if variant.method == "icp" else 12.0, [])

    monkeypatch.setattr(accuracy_speed, "registrar_of", create)
    monkeypatch.setattr(accuracy_speed, "check", check)
    out = tmp_path / "out"
    arguments = ["--scenes", str(scenes), "--out", str(out), "--threads", "1", "--limit", "2"]
    monkeypatch.setattr(sys, "argv", ["x", *arguments, "--variants", "icp", "--starts", "near", "none"])
    assert accuracy_speed.main() == 0
    names = {path.name for path in out.iterdir()}
    pictures = {"accuracy_speed_suite_near.png", "accuracy_speed_suite_none.png"}
    assert names == {"accuracy_speed.json", "accuracy_speed.md", *pictures}
    content = json.loads((out / "accuracy_speed.json").read_text())
    assert content["absent"] == [{"label": "kiss_matcher_icp", "why": "the package is missing"}]
    assert [(row["method"], row["trials"]) for row in content["rows"]["suite, near"]] == [
        ("icp", 2),
        ("ransac_icp", 2),
    ]
    assert content["rows"]["suite, none"][0]["tre_mm"]["median"] == pytest.approx(1.0)
    assert len(content["scenes"]["suite, none"]) == 4
    assert content["cases"] == {bundled_case().path.name: bundled_case().hash}
    assert "Not measured: kiss_matcher_icp: the package is missing." in capsys.readouterr().out


def test_the_script_names_faults(
    scenes: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    base = ["x", "--scenes", str(scenes), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*base, "--variants", "nonsense"])
    assert accuracy_speed.main() == 1
    assert (
        capsys.readouterr().err == "accuracy_speed: no variant is called like nonsense: --list names them\n"
    )

    def refuse(*arguments: Any) -> Any:
        raise End2RegError("no")

    monkeypatch.setattr(accuracy_speed, "check", refuse)
    monkeypatch.setattr(sys, "argv", [*base, "--variants", "ransac_icp"])
    assert accuracy_speed.main() == 1
    assert capsys.readouterr().err.splitlines() == [
        "accuracy_speed: without ransac_icp: no",
        "accuracy_speed: none of the variants can be run here",
    ]
    monkeypatch.setattr(sys, "argv", ["x", "--list"])
    assert accuracy_speed.main() == 0
    assert capsys.readouterr().out.splitlines() == [variant.label for variant in shipped_variants()]
