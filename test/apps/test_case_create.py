"""Making cases from mesh files and label maps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
import yaml
from case_shapes import moved, without_triangles, write_nifti

from end2reg_ros.case import Case, Mesh, load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.case.checks import validate_case
from end2reg_ros.case.create import CreateRequest, create_case
from end2reg_ros.case.levels import default_colour, level_of_file, sort_levels
from end2reg_ros.case.meshes import inspect
from end2reg_ros.errors import CaseError


@pytest.fixture(scope="module")
def bundled() -> Case:
    return load_case(bundled_case_path())


def export(mesh: Mesh, path: Path, factor: float = 1000.0) -> Path:
    """Write a mesh as another program would: trimesh, mm by default."""
    trimesh.Trimesh(mesh.vertices * factor, mesh.triangles, process=False).export(path)
    return path


@pytest.fixture(scope="module")
def files(bundled: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of mesh files in three formats, with a pelvis between them."""
    folder = tmp_path_factory.mktemp("meshes")
    for vertebra, name in zip(
        bundled.vertebrae[1:4], ("patient_7_L2.stl", "L3.ply", "vertebrae_l4.obj"), strict=True
    ):
        export(vertebra.mesh, folder / name)
    export(bundled.vertebrae[0].mesh, folder / "pelvis.stl")
    return folder


def refusal(**request: object) -> str:
    with pytest.raises(CaseError) as error:
        create_case(CreateRequest(**request))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_case_from_a_folder_of_meshes(files: Path, bundled: Case, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    created = create_case(
        CreateRequest(tmp_path / "spine", meshes=(files,)),
        lambda text, done, total: steps.append((text, done, total)),
    )
    assert created.faults == () and validate_case(created.path) == []
    case = load_case(created.path)
    assert (case.name, case.levels) == ("spine", ("L2", "L3", "L4"))
    assert case.source == "meshes patient_7_L2.stl, L3.ply, vertebrae_l4.obj"
    for made, given in zip(case.vertebrae, bundled.vertebrae[1:4], strict=True):
        assert made.landmarks is not None and made.landmarks.proposed
        assert inspect(made.mesh).watertight
        np.testing.assert_allclose(np.ptp(made.mesh.vertices, 0), np.ptp(given.mesh.vertices, 0), atol=1e-6)
        np.testing.assert_allclose(made.T_model_level[:3, 3], given.T_model_level[:3, 3], atol=1e-6)
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)
    assert steps[-1] == ("done", 7, 7)


def test_the_same_inputs_give_the_same_case(files: Path, tmp_path: Path) -> None:
    request = [CreateRequest(tmp_path / n, meshes=(files / "L3.ply",), name="x") for n in "ab"]
    assert load_case(create_case(request[0]).path).hash == load_case(create_case(request[1]).path).hash


def test_given_landmarks_and_screws_are_taken_and_the_rest_proposed(
    files: Path, bundled: Case, tmp_path: Path
) -> None:
    given = bundled.vertebrae[2]
    assert given.landmarks is not None and given.screws
    names = ("spinous", "transverse_left", "transverse_right")
    marks = {"L3": {n: (getattr(given.landmarks, n) * 1000).tolist() for n in names}}
    (tmp_path / "marks.json").write_text(json.dumps(marks))
    screws = {
        "L3": {
            s.side: {
                "entry": (s.entry * 1000).tolist(),
                "tip": (s.tip * 1000).tolist(),
                "diameter": 6.5,
                "length": 45,
            }
            for s in given.screws
        }
    }
    (tmp_path / "screws.yaml").write_text(yaml.safe_dump(screws))
    request = CreateRequest(
        tmp_path / "c", meshes=(files,), landmarks=tmp_path / "marks.json", screws=tmp_path / "screws.yaml"
    )
    second, third, _ = load_case(create_case(request).path).vertebrae
    assert second.landmarks is not None and second.landmarks.proposed and second.screws == ()
    assert third.landmarks is not None and not third.landmarks.proposed
    np.testing.assert_allclose(third.landmarks.as_array(), given.landmarks.as_array(), atol=1e-6)
    assert [(s.side, s.diameter, s.length) for s in third.screws] == [
        ("left", 0.0065, 0.045),
        ("right", 0.0065, 0.045),
    ]
    np.testing.assert_allclose(third.screws[0].entry, given.screws[0].entry, atol=1e-6)


def test_lps_files_are_turned_when_told_and_refused_when_not(bundled: Case, tmp_path: Path) -> None:
    given = bundled.vertebrae[2]
    assert given.landmarks is not None
    file = export(moved(given.mesh, (-1.0, -1.0, 1.0)), tmp_path / "L3.stl")
    marks = given.landmarks.as_array() * [-1000, -1000, 1000]
    names = ("spinous", "transverse_left", "transverse_right")
    (tmp_path / "m.json").write_text(json.dumps({"L3": dict(zip(names, marks.tolist(), strict=True))}))
    text = refusal(out=tmp_path / "c", meshes=(file,))
    assert text.startswith(
        "the spinous processes point to +y: the meshes are turned front to back; RAS has anterior at"
    )
    assert not (tmp_path / "c").exists()
    created = create_case(
        CreateRequest(tmp_path / "c", meshes=(file,), landmarks=tmp_path / "m.json", axes="lps")
    )
    made = load_case(created.path).vertebrae[0]
    assert made.landmarks is not None and created.faults == ()
    np.testing.assert_allclose(made.T_model_level, given.T_model_level, atol=1e-6)
    assert load_case(created.path).source == "meshes L3.stl (LPS axes turned to RAS)"


def test_nothing_is_written_for_a_faulty_case_unless_wanted(bundled: Case, tmp_path: Path) -> None:
    file = export(without_triangles(bundled.vertebrae[2].mesh, 2), tmp_path / "L3.stl")
    text = refusal(out=tmp_path / "c", meshes=(file,))
    assert text.startswith("L3 is not watertight: ") and text.endswith(" open edges")
    assert not (tmp_path / "c").exists()
    created = create_case(CreateRequest(tmp_path / "c", meshes=(file,), allow_faults=True))
    assert [f.code for f in created.faults] == ["not_watertight"]
    assert load_case(created.path).levels == ("L3",)


def test_bad_meshes(files: Path, bundled: Case, tmp_path: Path) -> None:
    out = tmp_path / "c"
    empty = tmp_path / "empty"
    empty.mkdir()
    other = tmp_path / "other"
    other.mkdir()
    export(bundled.vertebrae[0].mesh, other / "pelvis.stl")
    export(bundled.vertebrae[2].mesh, other / "again_L3.stl")
    (tmp_path / "L3.stl").write_bytes((files / "patient_7_L2.stl").read_bytes()[:500])
    metres = export(bundled.vertebrae[2].mesh, tmp_path / "m_L3.stl", 1.0)
    cases = [
        ((), "give either meshes (--meshes) or a label map (--labels)"),
        ((empty,), f"{empty}: no mesh files (.stl, .ply, .obj) in this folder"),
        (
            (other / "pelvis.stl",),
            f"{other / 'pelvis.stl'}: the file name gives no level; name it after its level (L3.stl)",
        ),
        ((tmp_path / "L4.stl",), f"{tmp_path / 'L4.stl'}: no such file"),
        ((tmp_path / "L3.stl",), f"{tmp_path / 'L3.stl'}: truncated STL: 7000 triangles announced, 8 stored"),
        ((files, other), f"{other / 'again_L3.stl'}: L3 is already given by {files / 'L3.ply'}"),
        ((metres,), "L3 is 0.0"),
    ]
    for meshes, text in cases:
        assert refusal(out=out, meshes=meshes).startswith(text)
    assert refusal(out=out, meshes=(metres,)).endswith(" mm large: the file is in metres, not in mm")
    (other / "again_L3.stl").unlink()
    text = f"{other}: no mesh file in this folder is named after its level (L3.stl)"
    assert refusal(out=out, meshes=(other,)) == text
    assert refusal(out=out, meshes=(files,), levels=("L2", "L5")) == "no mesh for L5 (--levels)"
    assert (
        refusal(out=out, meshes=(files,), ct=empty)
        == "a CT (--ct) is only used together with its label map (--labels)"
    )
    for given in ({"numbering": "verse"}, {"label_numbers": ("L3=22",)}):
        text = "--numbering and --label-numbers are only used with a label map (--labels)"
        assert refusal(out=out, meshes=(files,), **given) == text
    text = "--spacing and --smoothing are only used with a label map (--labels)"
    assert refusal(out=out, meshes=(files,), spacing=1.0) == text
    numbers = {"labels": tmp_path / "seg.nii", "label_numbers": ("L3=22",)}
    text = "give --levels or --label-numbers, not both: exactly the numbered levels are made"
    assert refusal(out=out, levels=("L3",), **numbers) == text
    assert refusal(out=out, numbering="verse", **numbers) == "give --numbering or --label-numbers, not both"
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "not valid JSON ("),
        ("[1]", "expected one entry per level (L3: ...)"),
        ('{"L3": {"spinous": [0, 0, 0]}}', "L3: landmark transverse_left is missing"),
        ('{"L3": {"spinous": [NaN, 0, 0], "transverse_left": [0, 0, 0], "transverse_right": [0, 0, 0]}}',
         "L3 spinous: expected three finite numbers in mm, not [nan, 0, 0]"),
        ('{"L3": {"spinous": [' + "7" * 400 + ', 0, 0], "transverse_left": [0, 0, 0], "transverse_right": [0, 0, 0]}}',
         "L3 spinous: expected three finite numbers in mm, not [" + "7" * 76 + "..."),
        ("[" * 100_000, "not valid JSON ("),
        ('{"L9": {"spinous": [0, 0, 0], "transverse_left": [0, 0, 0], "transverse_right": [0, 0, 0]}}',
         "L9 is not in the case (L2, L3, L4)"),
    ],
)  # fmt: skip
def test_bad_landmark_files(files: Path, tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "marks.json"
    path.write_text(text)
    assert refusal(out=tmp_path / "c", meshes=(files,), landmarks=path).startswith(f"{path}: {error}")


def test_landmarks_in_metres_are_refused(files: Path, bundled: Case, tmp_path: Path) -> None:
    marks = bundled.vertebrae[1].landmarks
    assert marks is not None
    names = ("spinous", "transverse_left", "transverse_right")
    content = {"L2": dict(zip(names, marks.as_array().tolist(), strict=True))}
    (tmp_path / "m.json").write_text(json.dumps(content))
    text = refusal(out=tmp_path / "c", meshes=(files / "patient_7_L2.stl",), landmarks=tmp_path / "m.json")
    assert text.startswith("L2")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("L3: {left: [", "not valid YAML ("),
        ("- 1", "expected one entry per level (L3: ...)"),
        ("L3: {top: {}}", "L3: unknown entry 'top' (known: left, right)"),
        (
            "L3: {left: {entry: [0, 0, 0], tip: [0, 0, 0], diameter: 5}}",
            "L3 left: entry and tip are the same point",
        ),
        ("L3: {left: {entry: [0, 0, 0], tip: [0, 9, 0]}}", "L3 left: diameter is missing"),
        (
            "L3: {left: {entry: [0, 0, 0], tip: [0, 9, 0], diameter: 0x" + "f" * 5000 + "}}",
            "line 1: a number of 5002 characters",
        ),
        (
            "L3: {left: {entry: [0, 0], tip: [0, 9, 0], diameter: 5}}",
            "L3 left entry: expected three finite numbers in mm",
        ),
    ],
)
def test_bad_screw_files(files: Path, tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "screws.yaml"
    path.write_text(text)
    assert refusal(out=tmp_path / "c", meshes=(files,), screws=path).startswith(f"{path}: {error}")


def voxelised(bundled: Case, spacing_mm: float, levels: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A label map of vertebrae of the bundled case, stored left-posterior-superior, and its affine."""
    from end2reg_ros.case.raycast import signed_distance

    vertices = np.concatenate([bundled.vertebrae[i].mesh.vertices for i in levels]) * 1000
    low, high = vertices.min(axis=0) - 5, vertices.max(axis=0) + 5
    affine = np.diag([-spacing_mm, -spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = [high[0], high[1], low[2]]
    shape = np.ceil((high - low) / spacing_mm).astype(int)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    points = (index @ affine[:3, :3].T + affine[:3, 3]) / 1000
    values = np.zeros(len(points), dtype=np.int16)
    for vertebra, label in levels.items():
        values[signed_distance(bundled.vertebrae[vertebra].mesh, points) < 0] = label
    return values.reshape(shape), affine


def test_a_case_from_a_label_map(bundled: Case, tmp_path: Path) -> None:
    values, affine = voxelised(bundled, 1.5, {2: 29, 3: 28})
    seg = write_nifti(tmp_path / "seg.nii.gz", values, affine)
    ct = write_nifti(tmp_path / "ct.nii.gz", np.where(values > 0, 300, 30).astype(np.int16), affine)
    created = create_case(CreateRequest(tmp_path / "c", labels=seg, ct=ct))
    assert created.faults == ()
    case = load_case(created.path)
    assert case.levels == ("L3", "L4")
    assert (
        case.source.startswith("label map seg.nii.gz (sha256 ")
        and "), totalsegmentator numbering (guessed): L3=29, L4=28; CT ct.nii.gz " in case.source
    )
    for made, truth in zip(case.vertebrae, bundled.vertebrae[2:4], strict=True):
        from end2reg_ros.case.raycast import signed_distance

        off_mm = np.abs(signed_distance(truth.mesh, made.mesh.vertices[::7])) * 1000
        assert np.median(off_mm) < 0.3 and np.quantile(off_mm, 0.95) < 0.9
        np.testing.assert_allclose(made.T_model_level[:3, 3], truth.T_model_level[:3, 3], atol=0.0004)
        assert made.landmarks is not None and truth.landmarks is not None
        assert np.linalg.norm(made.landmarks.as_array() - truth.landmarks.as_array(), axis=1).max() < 0.007
    by_hand = CreateRequest(tmp_path / "d", labels=seg, label_numbers=("L1=29",))
    case = load_case(create_case(by_hand).path)
    assert case.levels == ("L1",) and "), by hand: L1=29" in case.source


def test_a_wrong_numbering_shows_as_upside_down(bundled: Case, tmp_path: Path) -> None:
    values, affine = voxelised(bundled, 2.0, {2: 29, 3: 28})
    seg = write_nifti(tmp_path / "seg.nii.gz", values, affine)
    text = refusal(out=tmp_path / "c", labels=seg, label_numbers=("L3=28", "L4=29"))
    assert text.startswith(
        "the levels run upside down: each lies below the next one (RAS has superior at +z; or wrong"
    )


def test_a_label_map_that_ends_in_the_bone_is_noted(bundled: Case, tmp_path: Path) -> None:
    values, affine = voxelised(bundled, 2.0, {2: 22})
    seg = write_nifti(tmp_path / "seg.nii.gz", values[:, :, :-6], affine)
    faults = create_case(CreateRequest(tmp_path / "c", labels=seg)).faults
    assert ("cut", "L3", "warning") in [(f.code, f.level, f.severity) for f in faults]
    text = "L3 is cut off by the edge of the label map: its surface ends there, the bone does not"
    assert text in [f.text for f in faults]


def test_level_names() -> None:
    names = {
        "L3.stl": "L3",
        "vertebrae_L1.ply": "L1",
        "sub-01_l5_mesh.obj": "L5",
        "T12.stl": "T12",
        "L1-smooth.stl": "L1",
    }
    assert {name: level_of_file(Path(name)) for name in names} == names
    for name in ("pelvis.stl", "L12.stl", "L1_L2.stl", "XL3.stl", "L3a.stl", "sacrum.ply", "L0.stl"):
        assert level_of_file(Path(name)) is None, name
    assert sort_levels(["L5", "T12", "L1", "C7"]) == ["C7", "T12", "L1", "L5"]
    with pytest.raises(CaseError, match=r"^X1: not a vertebral level \(C1-C7, T1-T13, L1-L6, S1\)$"):
        sort_levels(["X1"])
    assert len({default_colour(f"L{i}") for i in range(1, 6)}) == 5
    assert default_colour("L3", 0) == default_colour("L3", 4)
