"""``end2reg case``: what a user sees, and the exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from case_shapes import ball

from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.case.picture import save_picture
from end2reg_ros.case.shaded_view import ParallelView, draw
from end2reg_ros.cli.main import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundled_case_path(), tmp_path / "case"))


def test_create_validate_show(
    tmp_path: Path, folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    meshes = [str(folder / "meshes" / f"L{i}.stl") for i in (3, 2)]
    assert main(["case", "create", "--out", "new", "--meshes", *meshes, "--name", "two levels"]) == 0
    out = capsys.readouterr().out
    assert "two levels: 2 levels, hash " in out and "proposed" in out and "written: new" in out
    assert main(["case", "validate", "new"]) == 0
    assert capsys.readouterr().out == "new: valid (0 errors, 0 warnings)\n"
    assert main(["case", "show", "new"]) == 0
    assert "picture: two_levels.png" in capsys.readouterr().out
    assert (tmp_path / "two_levels.png").stat().st_size > 20_000
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["case.yaml", "meshes"]


def test_show_as_json(folder: Path, capsys: Capture) -> None:
    assert main(["case", "show", str(folder), "--json", "--table-only"]) == 0
    shown = json.loads(capsys.readouterr().out)
    case = load_case(folder)
    assert (shown["hash"], shown["name"], shown["picture"]) == (case.hash, case.name, None)
    assert [level["level"] for level in shown["levels"]] == ["L1", "L2", "L3", "L4", "L5"]
    third = shown["levels"][2]
    assert 60 < third["size_mm"][0] < 110 and len(third["T_model_level"]) == 16
    marks = case.vertebrae[2].landmarks
    assert marks is not None
    np.testing.assert_allclose(third["landmarks_mm"]["spinous"], marks.spinous * 1000, atol=1e-3)


@pytest.mark.parametrize("name", ["[/b]", "[red]x[/red]", "[link=x]y"])
def test_a_name_with_markup_is_printed_as_it_is(folder: Path, capsys: Capture, name: str) -> None:
    document = (folder / "case.yaml").read_text().splitlines()
    document[0] = f"name: {json.dumps(name)}"
    (folder / "case.yaml").write_text("\n".join(document))
    assert main(["case", "show", str(folder), "--table-only"]) == 0
    assert f"{name}: 5 levels, hash " in capsys.readouterr().out


def test_validate_names_faults_and_fails(folder: Path, capsys: Capture) -> None:
    (folder / "meshes" / "L2.stl").unlink()
    assert main(["case", "validate", str(folder)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "error: L2: meshes/L2.stl is missing [missing_file]"
    assert out[-1] == f"{folder}: NOT VALID (1 error, 0 warnings)"
    assert main(["case", "validate", str(folder), "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["valid"] is False
    assert shown["faults"] == [
        {"code": "missing_file", "level": "L2", "text": "L2: meshes/L2.stl is missing", "severity": "error"}
    ]
    assert main(["case", "validate", str(folder / "nothing")]) == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["show", "CASE/nothing"], "CASE/nothing: no such case folder"),
        (["show", "CASE", "--picture", "CASE/no/p.png"], "CASE/no/p.png: the picture cannot be written ("),
        (["create", "--out", "CASE/x"], "give either meshes (--meshes) or a label map (--labels)"),
        (
            ["create", "--out", "CASE", "--meshes", "CASE/meshes"],
            "CASE: is not empty; overwrite it with --overwrite",
        ),
        (["create", "--out", "CASE/x", "--labels", "CASE/x.nii"], "CASE/x.nii: no such file"),
        (
            ["create", "--out", "CASE/x", "--labels", "CASE/x.nii", "--label-numbers", "L3:22"],
            "--label-numbers: 'L3:22' is not of the form L3=22",
        ),
        (
            ["create", "--out", "CASE/x", "--labels", "CASE/x.nii", "--spacing", "0"],
            "--spacing must be 0.2-3 mm and --smoothing 0-3 mm",
        ),
    ],
)
def test_errors_are_one_line(folder: Path, capsys: Capture, arguments: list[str], text: str) -> None:
    assert main(["case", *(a.replace("CASE", str(folder)) for a in arguments)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"end2reg: error: {text.replace('CASE', str(folder))}")
    assert captured.err.count("\n") == 1


def test_an_existing_case_is_kept_when_its_successor_fails(folder: Path, capsys: Capture) -> None:
    before = load_case(folder).hash
    bad = folder.parent / "L3.stl"
    bad.write_bytes(b"")
    assert main(["case", "create", "--out", str(folder), "--meshes", str(bad), "--overwrite"]) == 1
    assert load_case(folder).hash == before


def test_the_picture_shows_every_level_in_its_colour(tmp_path: Path) -> None:
    import matplotlib.image

    case = load_case(bundled_case_path())
    picture = matplotlib.image.imread(save_picture(case, tmp_path / "case.png"))[..., :3] * 255
    pixels = picture.reshape(-1, 3)
    bright = pixels[pixels.max(axis=1) > 60]
    direction = bright / np.linalg.norm(bright, axis=1, keepdims=True)
    for vertebra in case.vertebrae:
        colour = np.array(vertebra.colour) / np.linalg.norm(vertebra.colour)
        assert (direction @ colour > 0.999).sum() > 5000, vertebra.level


def test_the_shaded_view_of_a_ball() -> None:
    """Depth of a sphere is known in closed form; the nearer of two hides the other."""
    view = ParallelView(
        np.array([1.0, 0, 0]), np.array([0, 0, 1.0]), np.array([-0.03, -0.03]), np.array([0.03, 0.03]), 2000.0
    )
    assert view.shape == (120, 120)
    np.testing.assert_array_equal(view.towards, [0, -1, 0])
    red, blue = (255, 0, 0), (0, 0, 255)
    picture, depth = draw([(ball(20.0, fineness=5), red), (ball(20.0, (0, 30, 0), fineness=4), blue)], view)
    x, z = np.meshgrid((np.arange(120) + 0.5) / 2000 - 0.03, 0.03 - (np.arange(120) + 0.5) / 2000)
    inside = np.hypot(x, z) < 0.0185
    expected = np.sqrt(0.02**2 - x[inside] ** 2 - z[inside] ** 2)
    # The ball is made of flat triangles: a little inside, more where it is seen from the side.
    slope = np.hypot(x, z)[inside] / expected
    assert (np.abs(depth[inside] - expected) < 2e-5 * (1 + slope)).all()
    outside = np.hypot(x, z) > 0.0205
    assert np.isinf(depth[outside]).all() and (picture[outside] == 0).all()
    assert (picture[inside][:, 3] == 255).all() and (picture[inside][:, 2] == 0).all()
    assert picture[60, 50, 0] > 150  # lit from the upper left
    assert int(picture[30, 40, 0]) > int(picture[95, 80, 0])
