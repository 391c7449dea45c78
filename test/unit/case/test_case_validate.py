"""Validation names every fault, and calls nothing a fault that is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from case_shapes import ball, moved, specs, without_triangles

from end2reg_ros.case import Case, CaseSpec, Landmarks, LevelSpec, Mesh, Screw, write_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.case.checks import (
    Fault,
    check_levels,
    has_errors,
    load_valid_case,
    penetration,
    validate_case,
)
from end2reg_ros.case.meshes import read_mesh
from end2reg_ros.errors import CaseError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundled_case_path(), tmp_path / "case"))


def found(faults: list[Fault]) -> list[tuple[str, str, str]]:
    return [(f.code, f.level, f.severity) for f in faults]


def changed(
    case: Case, transform: Callable[[np.ndarray], np.ndarray], points: bool = True
) -> list[LevelSpec]:
    """All levels with their vertices (and landmarks and screws) passed through a map of RAS metres."""
    result = []
    for level in specs(case):
        mesh = Mesh(transform(level.mesh.vertices), level.mesh.triangles)
        marks, screws = level.landmarks, level.screws
        if points and marks is not None:
            marks = Landmarks(*(transform(p) for p in marks.as_array()))
            screws = tuple(replace(s, entry=transform(s.entry), tip=transform(s.tip)) for s in screws)
        result.append(
            replace(level, mesh=mesh, landmarks=marks if points else None, screws=screws if points else ())
        )
    return result


def test_the_bundled_case_has_no_fault() -> None:
    assert validate_case(bundled_case_path()) == []


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "levels", "warnings"),
    [
        ("verse004", "T12 L1 L2 L3 L4 L5", []),
        ("ssm_clouthier", "L2 L3 L4 L5", []),
        # Shrink-wrapped, its facets run up to 3.6 mm into each other: true, and no reason to refuse it.
        ("vhm_lumbosacral", "L1 L2 L3 L4 L5", ["overlap"] * 4),
    ],
)
def test_real_spines_have_no_error(shared_data: Path, name: str, levels: str, warnings: list[str]) -> None:
    meshes = [LevelSpec(n, read_mesh(shared_data / "anatomy" / name / f"{n}.stl")) for n in levels.split()]
    faults = check_levels(meshes)
    assert not has_errors(faults)
    assert [f.code for f in faults] == warnings


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", ["verse004", "ssm_clouthier", "vhm_lumbosacral"])
@pytest.mark.parametrize("levels", [("L2", "L3", "L4", "L5"), ("L5",), ("L3",)])
def test_real_spines_in_lps_are_seen(shared_data: Path, name: str, levels: tuple[str, ...]) -> None:
    turn = (-1.0, -1.0, 1.0)
    folder = shared_data / "anatomy" / name
    meshes = [LevelSpec(n, moved(read_mesh(folder / f"{n}.stl"), turn)) for n in levels]
    assert ("front_back_flip", "", "error") in found(check_levels(meshes))


def test_missing_changed_and_broken_files(folder: Path) -> None:
    (folder / "meshes" / "L1.stl").unlink()
    path = folder / "meshes" / "L2.stl"
    content = bytearray(path.read_bytes())
    content[84] ^= 1
    path.write_bytes(content)
    broken = folder / "meshes" / "L3.stl"
    broken.write_bytes(broken.read_bytes()[:1000])
    faults = validate_case(folder)
    assert found(faults) == [
        ("missing_file", "L1", "error"),
        ("checksum", "L2", "error"),
        ("mesh", "L3", "error"),
    ]
    assert faults[0].text == "L1: meshes/L1.stl is missing"
    assert (
        faults[1].text == "L2: meshes/L2.stl changed since the case was made (sha256 differs from case.yaml)"
    )
    assert faults[2].text == f"{broken}: truncated STL: 7000 triangles announced, 18 stored"


def test_a_folder_that_is_no_case(tmp_path: Path) -> None:
    faults = validate_case(tmp_path)
    assert found(faults) == [("case", "", "error")]
    assert (
        faults[0].text == f"{tmp_path}: no case.yaml in this folder; make a case with `end2reg case create`"
    )


def test_a_hole_is_named(case: Case) -> None:
    levels = specs(case)
    levels[1] = replace(levels[1], mesh=without_triangles(levels[1].mesh, 1))
    faults = check_levels(levels)
    assert found(faults) == [("not_watertight", "L2", "error")]
    assert faults[0].text == "L2 is not watertight: 3 open edges"


def test_turned_triangles_and_pieces_are_named(case: Case) -> None:
    levels = specs(case)
    triangles = levels[0].mesh.triangles.copy()
    triangles[10] = triangles[10, ::-1]
    levels[0] = replace(levels[0], mesh=Mesh(levels[0].mesh.vertices, triangles))
    crumb = ball(2.0, tuple(levels[4].mesh.vertices.mean(axis=0) * 1000 - [0, 60, 0]))
    count = len(levels[4].mesh.vertices)
    vertices = np.concatenate([levels[4].mesh.vertices, crumb.vertices])
    pieces = Mesh(vertices, np.concatenate([levels[4].mesh.triangles, crumb.triangles + count]))
    levels[4] = replace(levels[4], mesh=pieces)
    faults = check_levels(levels)
    assert found(faults) == [("not_watertight", "L1", "error"), ("pieces", "L5", "warning")]
    assert faults[0].text == "L1 is not watertight: triangles are wound against each other at 3 edges"
    assert faults[1].text == "L5 is in 2 separate pieces"


def test_metres_for_millimetres_is_named(case: Case, tmp_path: Path) -> None:
    levels = changed(case, lambda p: p / 1000.0, points=False)
    write_case(tmp_path / "c", CaseSpec("c", tuple(levels)))
    faults = validate_case(tmp_path / "c")
    assert found(faults) == [("wrong_unit", level, "error") for level in case.levels]
    size = max(np.ptp(case.vertebrae[2].mesh.vertices, axis=0))
    assert faults[2].text == f"L3 is {size:.3g} mm large: the file is in metres, not in mm"


def test_a_wrong_scale_is_a_warning(case: Case) -> None:
    level = replace(specs(case)[2], mesh=moved(case.vertebrae[2].mesh, 1.3), landmarks=None, screws=())
    width = np.ptp(level.mesh.vertices[:, 0]) * 1000
    faults = check_levels([level])
    assert found(faults) == [("size", "L3", "warning")]
    assert faults[0].text == f"L3 is {width:.0f} mm wide; a lumbar vertebra is 60-110 mm wide"


def test_mirrored_left_to_right_is_seen_by_landmarks_and_screws(case: Case) -> None:
    faults = check_levels(changed(case, lambda p: p * [-1.0, 1.0, 1.0]))
    assert {(f.code, f.severity) for f in faults} == {("left_right_flip", "error")}
    text = "L1 is flipped left to right: transverse_left lies right of transverse_right (RAS has right at +x)"
    assert faults[0].text == text
    assert (
        faults[1].text
        == "L1 screw left is flipped left to right: its entry lies on the right (RAS has right at +x)"
    )
    assert len(faults) == 5 * 3
    # A mirrored vertebra without points looks like a vertebra: nothing can be seen, and nothing is claimed.
    assert check_levels(changed(case, lambda p: p * [-1.0, 1.0, 1.0], points=False)) == []


def test_lps_is_seen_without_landmarks(case: Case) -> None:
    faults = check_levels(changed(case, lambda p: p * [-1.0, -1.0, 1.0], points=False))
    assert found(faults) == [("front_back_flip", "", "error")]
    assert faults[0].text == (
        "the spinous processes point to +y: the meshes are turned front to back; "
        "RAS has anterior at +y (files in LPS, as 3D Slicer writes them, have x and y negated: --axes lps)"
    )


def test_upside_down_and_other_axes_are_seen(case: Case) -> None:
    faults = check_levels(changed(case, lambda p: p * [1.0, 1.0, -1.0], points=False))
    assert found(faults) == [("upside_down", "", "error")]
    faults = check_levels(changed(case, lambda p: p[..., [0, 2, 1]], points=False))
    assert ("not_ras", "", "error") in found(faults)
    assert "the levels lie along y: the meshes are not in RAS axes (superior is +z)" in [
        f.text for f in faults
    ]


def test_levels_out_of_order(case: Case) -> None:
    first, second, *rest = specs(case)
    faults = check_levels([second, first, *rest])
    assert found(faults) == [("order", "L2", "error")]
    assert faults[0].text == "L2 and L1 are listed out of order; levels go from cranial to caudal"
    swapped = [replace(first, level="L2"), replace(second, level="L1")]
    faults = check_levels([swapped[1], swapped[0], *rest])
    assert found(faults)[0] == ("order", "L1", "error")
    assert faults[0].text == "L1 and L2 are out of order: L1 lies below"


def test_a_gap_is_a_warning(case: Case) -> None:
    levels = [replace(s, level=n) for s, n in zip(specs(case)[::2], ("L1", "L2", "L3"), strict=True)]
    faults = check_levels(levels)
    assert found(faults) == [("spacing", "L1", "warning"), ("spacing", "L2", "warning")]
    assert faults[0].text.startswith("L1 and L2 are 7") and faults[0].text.endswith(
        "mm apart; neighbours are 18-60 mm"
    )


def test_overlap_is_measured() -> None:
    lower = ball(20.0, fineness=4)
    assert penetration(lower, ball(20.0, (0, 0, 45), fineness=4)) == 0.0
    assert penetration(lower, ball(20.0, (0, 0, 37), fineness=4)) * 1000 == pytest.approx(3.0, abs=0.1)


def test_overlapping_levels(case: Case) -> None:
    levels = specs(case)
    levels[2] = replace(levels[1], level="L3")
    faults = [f for f in check_levels(levels) if f.code == "overlap"]
    assert found(faults)[0] == ("overlap", "L2", "error")
    assert faults[0].text.startswith("L2 and L3 overlap by ")


def test_landmarks_off_the_bone(case: Case) -> None:
    levels = specs(case)
    marks = levels[2].landmarks
    assert marks is not None
    levels[2] = replace(levels[2], landmarks=replace(marks, spinous=marks.spinous + np.array([0, -0.004, 0])))
    levels[3] = replace(levels[3], landmarks=levels[2].landmarks)
    faults = check_levels(levels)
    assert faults[0].code == "landmark_off_surface" and faults[0].severity == "warning"
    assert faults[0].text == "L3 landmark spinous is 4.0 mm off the surface"
    wrong_level = [f for f in faults if f.level == "L4"]
    assert len(wrong_level) >= 2 and has_errors(wrong_level)


def test_screws_off_the_bone(case: Case) -> None:
    levels = specs(case)
    good = levels[2].screws[0]
    along = (good.tip - good.entry) / np.linalg.norm(good.tip - good.entry)
    long = replace(good, tip=good.tip + 0.030 * along, length=0.075)
    above = replace(good, entry=good.entry - 0.015 * along)
    thick = Screw("left", good.entry, good.tip, 0.065, 0.0045)
    texts = [[f.text for f in check_levels([replace(levels[2], screws=(s,))])] for s in (long, above, thick)]
    assert len(texts[0]) == 1 and texts[0][0].startswith("L3 screw left: the tip is ")
    assert texts[0][0].endswith(" mm outside the bone")
    assert len(texts[1]) == 1 and texts[1][0].startswith("L3 screw left: the entry is 1")
    assert texts[2] == [
        "L3 screw left: a diameter of 65 mm; 2-12 mm expected",
        "L3 screw left: a length of 4.5 mm; 15-90 mm expected",
    ]


def test_a_case_with_errors_is_not_loaded_for_use(case: Case, tmp_path: Path) -> None:
    swapped = []
    for level in specs(case):
        marks = level.landmarks
        assert marks is not None
        turned = Landmarks(marks.spinous, marks.transverse_right, marks.transverse_left)
        swapped.append(replace(level, landmarks=turned))
    folder = write_case(tmp_path / "swapped", CaseSpec("swapped", tuple(swapped)))
    errors = [fault for fault in validate_case(folder) if fault.severity == "error"]
    for _ in range(2):  # worked out, and kept
        with pytest.raises(CaseError) as caught:
            load_valid_case(folder)
        first = "L1 is flipped left to right: transverse_left lies right of transverse_right (RAS has right at +x)"
        assert str(caught.value) == (
            f"{folder}: not a valid case: {first} and {len(errors) - 1} more; "
            f"`end2reg case validate {folder}` tells all"
        )


def test_levels_named_from_the_wrong_end_are_not_loaded_for_use(case: Case, tmp_path: Path) -> None:
    names = [level.level for level in specs(case)][::-1]
    levels = tuple(replace(level, level=name) for level, name in zip(specs(case), names, strict=True))
    folder = write_case(tmp_path / "reversed", CaseSpec("reversed", levels))
    with pytest.raises(
        CaseError, match="not a valid case: L5 and L4 are listed out of order; levels go from"
    ):
        load_valid_case(folder)


def test_warnings_of_a_case_in_use_are_told_once(
    case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    levels = tuple(replace(level, level=f"{level.level}x") for level in specs(case)[:1])
    folder = write_case(tmp_path / "odd", CaseSpec("odd", levels))
    assert load_valid_case(folder).levels == ("L1x",)
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"{folder}: L1x: not an anatomical level (C1-C7, T1-T13, L1-L6, S1)"]
