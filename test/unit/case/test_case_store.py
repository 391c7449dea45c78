"""Case folders: written, loaded, and refused with one clear line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from case_shapes import ball, moved, spec, specs

from end2reg_ros import se3
from end2reg_ros.case import Case, CaseSpec, LevelSpec, load_case, write_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.case.checks import validate_case
from end2reg_ros.case.meshes import stl_bytes
from end2reg_ros.errors import CaseError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundled case that a test may damage."""
    return Path(shutil.copytree(bundled_case_path(), tmp_path / "case"))


def change(folder: Path, old: str, new: str) -> None:
    """Replace the first occurrence of a text in case.yaml."""
    path = folder / "case.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def refusal(path: Path) -> str:
    """The text with which a case is refused, without the folder."""
    with pytest.raises(CaseError) as error:
        load_case(path)
    text = str(error.value)
    assert "\n" not in text
    return text.replace(str(path), "CASE")


def test_the_bundled_case_is_a_lumbar_spine_in_metres(case: Case) -> None:
    assert case.levels == ("L1", "L2", "L3", "L4", "L5")
    for vertebra in case.vertebrae:
        width_mm = np.ptp(vertebra.mesh.vertices[:, 0]) * 1000
        assert 60 < width_mm < 110
        assert se3.is_rigid(vertebra.T_model_level)
        assert (
            vertebra.T_model_level[1, 0] > 0.8 and vertebra.T_model_level[0, 1] < -0.9
        )  # anterior +y, left -x
        assert vertebra.landmarks is not None
    heights = [v.T_model_level[2, 3] for v in case.vertebrae]
    assert heights == sorted(heights, reverse=True)


def test_round_trip(case: Case, tmp_path: Path) -> None:
    copy = load_case(write_case(tmp_path / "copy", spec(case)))
    assert (copy.name, copy.source, copy.levels) == (case.name, case.source, case.levels)
    for a, b in zip(copy.vertebrae, case.vertebrae, strict=True):
        np.testing.assert_array_equal(a.mesh.vertices, b.mesh.vertices)
        np.testing.assert_array_equal(a.mesh.triangles, b.mesh.triangles)
        assert a.landmarks is not None and b.landmarks is not None
        np.testing.assert_allclose(a.landmarks.as_array(), b.landmarks.as_array(), atol=1e-6)
        assert (a.colour, a.landmarks.proposed, len(a.screws)) == (
            b.colour,
            b.landmarks.proposed,
            len(b.screws),
        )
        for s, t in zip(a.screws, b.screws, strict=True):
            assert (s.side, s.diameter, s.length) == (t.side, t.diameter, t.length)
            np.testing.assert_allclose([s.entry, s.tip], [t.entry, t.tip], atol=1e-6)
    assert copy.hash == load_case(write_case(tmp_path / "again", spec(case))).hash


def test_the_hash_sees_every_file(folder: Path) -> None:
    first = load_case(folder).hash
    assert len(first) == 64 and first == load_case(folder).hash
    change(folder, "colour: [", "colour: [0, 0, 0] #")
    assert load_case(folder).hash != first


def test_a_mesh_is_written_wound_outwards(tmp_path: Path) -> None:
    mesh = ball()
    inside_out = type(mesh)(mesh.vertices, mesh.triangles[:, ::-1])
    case = load_case(write_case(tmp_path / "c", CaseSpec("c", (LevelSpec("L3", inside_out),))))
    assert case.vertebrae[0].landmarks is None
    from end2reg_ros.case.meshes import signed_volume

    assert signed_volume(case.vertebrae[0].mesh) > 0


def test_overwriting_is_asked_for(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "case"
    write_case(path, spec(case))
    with pytest.raises(CaseError, match=r"case: is not empty; overwrite it with --overwrite$"):
        write_case(path, spec(case))
    write_case(path, CaseSpec("small", tuple(specs(case)[1:3])), overwrite=True)
    assert load_case(path).levels == ("L2", "L3")
    assert sorted(p.name for p in (path / "meshes").iterdir()) == ["L2.stl", "L3.stl"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("all of it")
    with pytest.raises(CaseError, match=r"full: is not empty; choose an empty folder$"):
        write_case(tmp_path / "full", spec(case), overwrite=True)
    assert (tmp_path / "full" / "thesis.txt").exists()
    with pytest.raises(CaseError, match=r"a case needs at least one level$"):
        write_case(tmp_path / "none", CaseSpec("none", ()))


def test_missing_things(folder: Path, tmp_path: Path) -> None:
    assert refusal(tmp_path / "nothing") == "CASE: no such case folder"
    assert refusal(folder / "case.yaml") == "CASE: not a case folder"
    (folder / "meshes" / "L3.stl").unlink()
    assert refusal(folder) == "CASE/meshes/L3.stl: no such file"
    (folder / "case.yaml").unlink()
    assert refusal(folder) == "CASE: no case.yaml in this folder; make a case with `end2reg case create`"


def test_a_truncated_mesh_is_named_before_its_checksum(folder: Path) -> None:
    path = folder / "meshes" / "L2.stl"
    path.write_bytes(path.read_bytes()[: 84 + 50 * 100])
    assert refusal(folder).startswith("CASE/meshes/L2.stl: truncated STL: ")
    assert refusal(folder).endswith(" triangles announced, 100 stored")


def test_a_changed_mesh_is_refused(folder: Path) -> None:
    path = folder / "meshes" / "L2.stl"
    content = bytearray(path.read_bytes())
    content[84] ^= 1  # one bit of a normal that nobody reads
    path.write_bytes(content)
    text = "CASE/meshes/L2.stl: changed since the case was made (sha256 differs from case.yaml)"
    assert refusal(folder) == text


@pytest.mark.parametrize(
    ("factor", "size", "unit"),
    [(0.001, "0.0", "metres"), (0.1, "9.", "centimetres"), (1000.0, "9.", "micrometres")],
)
def test_another_unit_is_named(case: Case, tmp_path: Path, factor: float, size: str, unit: str) -> None:
    level = case.vertebrae[2]
    write_case(tmp_path / "c", CaseSpec("c", (LevelSpec("L3", moved(level.mesh, factor)),)))
    text = refusal(tmp_path / "c")
    assert text.startswith(f"CASE/meshes/L3.stl: L3 is {size}")
    assert text.endswith(f"mm large: the file is in {unit}, not in mm")


BAD_DOCUMENTS = [
    ("units: mm", "units: m", "CASE/case.yaml: units must be mm, not 'm'"),
    ("units: mm", "", "CASE/case.yaml: units must be mm, not None"),
    ("frame: RAS", "frame: LPS", "CASE/case.yaml: frame must be RAS, not 'LPS'"),
    ("level: L2", "level: L1", "CASE/case.yaml: level L1 is given twice"),
    (
        "level: L2",
        "level: L/2",
        "CASE/case.yaml: level 2: 'L/2' is not a name of letters, digits and underscores",
    ),
    (
        "mesh: meshes/L1.stl",
        "mesh: ../L1.stl",
        "CASE/case.yaml: L1: mesh file ../L1.stl is outside the case folder",
    ),
    (
        "mesh: meshes/L1.stl",
        "mesh: /etc/L1.stl",
        "CASE/case.yaml: L1: mesh file /etc/L1.stl is outside the case folder",
    ),
    ("sha256: ", "sha256: x", "CASE/case.yaml: L1: no sha256 of meshes/L1.stl (64 hexadecimal digits)"),
    (
        "landmarks:",
        "landmark:",
        "CASE/case.yaml: level 1: unknown entry 'landmark' (known: colour, landmarks, level, mesh, ",
    ),
    ("spinous:", "spinal:", "CASE/case.yaml: L1 landmarks: unknown entry 'spinal' (known: "),
    (
        "spinous: [",
        "spinous: [.nan, 0, 0] #",
        "CASE/case.yaml: L1 landmarks spinous: expected three finite numbers in mm",
    ),
    (
        "spinous: [",
        "spinous: [1, 2] #",
        "CASE/case.yaml: L1 landmarks spinous: expected three finite numbers in mm",
    ),
    ("spinous: [", "spinous: [0, 900, 0] #", "CASE/case.yaml: L1: landmark spinous is 8"),
    (
        "diameter: ",
        "diameter: -",
        "CASE/case.yaml: L1 screws left diameter: expected a number of mm above zero, not -",
    ),
    ("    left:", "    up:", "CASE/case.yaml: L1 screws: unknown entry 'up' (known: left, right)"),
    (
        "colour: [",
        "colour: [300, 0, 0] #",
        "CASE/case.yaml: L1: colour must be three whole numbers from 0 to 255",
    ),
    ("name: ", "name: [", "CASE/case.yaml: not valid YAML ("),
]


@pytest.mark.parametrize(
    ("old", "new", "text"), BAD_DOCUMENTS, ids=[t[1][:24].strip() for t in BAD_DOCUMENTS]
)
def test_bad_documents(folder: Path, old: str, new: str, text: str) -> None:
    change(folder, old, new)
    assert refusal(folder).startswith(text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "CASE/case.yaml: expected named entries (frame, levels, name, notes, source, units)"),
        ("- 1\n", "CASE/case.yaml: expected named entries (frame, levels, name, notes, source, units)"),
        ("units: mm\nname: x\n", "CASE/case.yaml: no levels"),
        ("units: mm\nname: x\nlevels: []\n", "CASE/case.yaml: no levels"),
        ("a: [" * 3000, "CASE/case.yaml: not valid YAML ("),
        ("\x00\x01", "CASE/case.yaml: not valid YAML ("),
    ],
)
def test_documents_that_are_none(folder: Path, text: str, error: str) -> None:
    (folder / "case.yaml").write_text(text)
    assert refusal(folder).startswith(error)


def test_the_document_reads_as_the_contract_says(folder: Path) -> None:
    content = yaml.safe_load((folder / "case.yaml").read_text())
    assert content["units"] == "mm" and [level["level"] for level in content["levels"]] == [
        "L1",
        "L2",
        "L3",
        "L4",
        "L5",
    ]
    first = content["levels"][0]
    assert first["mesh"] == "meshes/L1.stl" and len(first["colour"]) == 3
    import hashlib

    assert first["sha256"] == hashlib.sha256((folder / "meshes" / "L1.stl").read_bytes()).hexdigest()
    assert (folder / "meshes" / "L1.stl").read_bytes() == stl_bytes(load_case(folder).vertebrae[0].mesh)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("units: mm", "units: &a [1]\nnotes: [*a, *a]", "line 3: aliases (*a) are not read"),
        ("units: mm", "units: mm\n<<: {frame: RAS}", "line 3: merge keys (<<) are not read"),
        ("units: mm", "units: m\nunits: mm", "line 3: 'units' is given twice"),
        ("units: mm", "units: mm\n[a, b]: 3", "line 3: a name is a list or a mapping"),
        ("units: mm", "units: 0x" + "f" * 20000, "line 2: a number of 20002 characters"),
        ("units: mm", "units: " + "1:" * 4000 + "59", "line 2: a number of 8002 characters"),
        ("units: mm", "units: " + "1:" * 4000 + "59.5", "line 2: a number of 8004 characters"),
        ("units: mm", 'units: "m\\0"', "line 2: 'm\\x00' has a character that no text can have"),
        ("units: mm", 'units: "\\ud800"', "line 2: '\\ud800' has a character that no text can have"),
        ("level: L1", "level: spine", "level 1: 'spine' cannot name a level: it is a frame of the tracker"),
        (
            "level: L1",
            "level: L" + "1" * 40,
            f"level 1: 'L{'1' * 40}' cannot name a level: it is longer than 32 letters",
        ),
        ("mesh: meshes", "mesh: " + "m" * 5000, "L1: the name of its mesh file has 5007 letters"),
    ],
)
def test_yaml_that_hangs_crashes_or_deceives_a_reader_is_refused(
    folder: Path, old: str, new: str, text: str
) -> None:
    change(folder, old, new)
    assert refusal(folder) == f"CASE/case.yaml: {text}"
    assert [fault.text.replace(str(folder), "CASE") for fault in validate_case(folder)] == [
        f"CASE/case.yaml: {text}"
    ]


def test_more_levels_than_a_spine_has(folder: Path) -> None:
    path = folder / "case.yaml"
    document = yaml.safe_load(path.read_text())
    document["levels"] = [{"level": f"V{index}"} for index in range(2000)]
    path.write_text(yaml.safe_dump(document))
    assert refusal(folder) == "CASE/case.yaml: 2000 levels; at most 40 are taken"
