"""Point files and scene folders: exact round trips and the texts of the faults."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from end2reg_ros import se3
from end2reg_ros.cloud.files import read_cloud
from end2reg_ros.cloud.ply import PlyPoints, read_ply, write_ply
from end2reg_ros.cloud.scene_folder import StoredScene, find_scenes, read_scene, write_scene
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CloudError

RNG = np.random.default_rng(3)
POINTS = RNG.uniform(0.2, 0.8, (20, 3)).astype(np.float32)
COLOURS = RNG.integers(0, 256, (20, 3), dtype=np.uint8)
BONE = RNG.random(20) > 0.5


def fault_of(function: Any, *arguments: Any) -> tuple[str, str]:
    with pytest.raises(CloudError) as caught:
        function(*arguments)
    return caught.value.code, str(caught.value)


# PLY


def test_ply_round_trip_and_exact_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    write_ply(path, PlyPoints(POINTS, COLOURS, BONE))
    back = read_ply(path)
    np.testing.assert_array_equal(back.points, POINTS)
    np.testing.assert_array_equal(back.colours, COLOURS)
    np.testing.assert_array_equal(back.bone, BONE)
    header, body = path.read_bytes().split(b"end_header\n", 1)
    assert header.decode().splitlines() == [
        "ply", "format binary_little_endian 1.0", "element vertex 20", "property float x", "property float y",
        "property float z", "property uchar red", "property uchar green", "property uchar blue",
        "property uchar bone",
    ]  # fmt: skip
    assert struct.unpack("<fff4B", body[:16]) == (*POINTS[0], *COLOURS[0], BONE[0])


def test_ply_without_colours_is_grey(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", PlyPoints(POINTS))
    back = read_ply(tmp_path / "a.ply")
    assert back.bone is None
    assert back.colours is not None and (back.colours == 128).all()


def test_open3d_reads_ours_and_we_read_open3d(tmp_path: Path) -> None:
    import open3d as o3d

    write_ply(tmp_path / "a.ply", PlyPoints(POINTS, COLOURS, BONE))
    cloud = o3d.io.read_point_cloud(tmp_path / "a.ply")
    np.testing.assert_array_equal(np.asarray(cloud.points, np.float32), POINTS)
    np.testing.assert_allclose(np.asarray(cloud.colors) * 255, COLOURS, atol=1e-9)
    for ascii_file in (False, True):
        o3d.io.write_point_cloud(tmp_path / "b.ply", cloud, write_ascii=ascii_file)
        back = read_ply(tmp_path / "b.ply")
        np.testing.assert_allclose(back.points, POINTS, atol=1e-6)
        np.testing.assert_array_equal(back.colours, COLOURS)


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_of_others(tmp_path: Path, order: str) -> None:
    header = (
        f"ply\r\nformat {order} 1.0\r\ncomment made elsewhere\r\nelement vertex 2\r\nproperty uint8 bone\r\n"
        "property double z\r\nproperty float32 nx\r\nproperty float y\r\nproperty double x\r\n"
        "property float red\r\nproperty float green\r\nproperty float blue\r\n"
        "element face 1\r\nproperty list uchar int vertex_indices\r\nend_header\r\n"
    )
    rows = [(1, 0.5, 9.0, 0.25, 0.125, 1.0, 0.5, 0.0), (0, 0.75, 9.0, -0.5, 0.0, 0.0, 0.2, 1.0)]
    if order == "ascii":
        body = "".join(" ".join(str(v) for v in row) + "\r\n" for row in rows).encode() + b"3 0 1 0\r\n"
    else:
        sign = "<" if "little" in order else ">"
        body = b"".join(struct.pack(sign + "Bdffdfff", *row) for row in rows) + b"\x03"
    (tmp_path / "a.ply").write_bytes(header.encode() + body)
    content = read_ply(tmp_path / "a.ply")
    np.testing.assert_array_equal(content.points, [[0.125, 0.25, 0.5], [0.0, -0.5, 0.75]])
    np.testing.assert_array_equal(content.colours, [[255, 128, 0], [0, 51, 255]])
    assert content.bone is not None and content.bone.tolist() == [True, False]


def test_ply_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    assert fault_of(read_ply, path) == ("unreadable", f"{path}: cannot be read (No such file or directory)")
    path.write_bytes(b"solid stl")
    assert fault_of(read_ply, path) == ("unreadable", f"{path}: is not a PLY file (no 'ply ... end_header')")
    write_ply(path, PlyPoints(POINTS, COLOURS))
    path.write_bytes(path.read_bytes()[:-1])
    assert fault_of(read_ply, path) == ("truncated", f"{path}: is truncated, 19 of 20 points are there")
    write_ply(path, PlyPoints(POINTS[:0]))
    assert fault_of(read_ply, path) == ("empty_cloud", f"{path}: has no points")
    text = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nend_header\n1 2\n"
    path.write_text(text)
    expected = ("no_xyz_fields", f"{path}: has no x, y, z properties (its properties: x, y)")
    assert fault_of(read_ply, path) == expected
    path.write_text(text.replace("property float y", "property float y\nproperty float z"))
    assert fault_of(read_ply, path) == ("unreadable", f"{path}: not 3 numbers on every line")
    path.write_text("ply\nformat odd 1.0\nend_header\n")
    assert fault_of(read_ply, path) == ("unreadable", f"{path}: PLY header not understood ('odd')")

    path.write_text(text.replace("float y", "float x"))
    expected = ("unreadable", f"{path}: PLY header not understood (property x is given twice)")
    assert fault_of(read_ply, path) == expected
    path.write_text(text.replace("float y", "float y\nproperty float z").replace("1 2\n", "# 1 2 3\n"))
    assert fault_of(read_ply, path) == ("unreadable", f"{path}: not 3 numbers on every line")
    assert fault_of(read_ply, Path("a\0b")) == ("unreadable", "'a\\x00b': no file can have this name")


# Files of other kinds


def test_read_points_of_every_kind(tmp_path: Path) -> None:
    import open3d as o3d

    invalid = POINTS.copy()
    invalid[3] = np.nan
    invalid[5] = 0.0
    valid = np.delete(POINTS, [3, 5], axis=0)
    write_ply(tmp_path / "a.ply", PlyPoints(invalid, COLOURS))
    np.save(tmp_path / "a.npy", invalid)
    np.savetxt(tmp_path / "a.xyz", np.hstack([invalid, COLOURS]))
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(invalid.astype(np.float64)))
    o3d.io.write_point_cloud(tmp_path / "a.pcd", cloud)
    for suffix in ("ply", "npy", "xyz", "pcd"):
        read = read_cloud(tmp_path / f"a.{suffix}")
        np.testing.assert_allclose(read.points, valid, atol=1e-7)
        assert (read.received, read.frame_id) == (20, "camera")
        if suffix in ("ply", "xyz"):
            np.testing.assert_array_equal(read.colours, np.delete(COLOURS, [3, 5], axis=0))


def test_read_points_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    assert fault_of(read_cloud, path) == ("unreadable", f"{path}: no such file")
    np.save(path, np.eye(4))
    expected = ("no_xyz_fields", f"{path}: must hold (N, 3) or (N, 6) numbers, not 4x4 float64")
    assert fault_of(read_cloud, path) == expected
    np.save(path, POINTS * 1000.0)
    code, text = fault_of(read_cloud, path)
    assert code == "unit_mm"
    assert text.startswith(f"{path}: extends over ") and text.endswith(
        "its unit seems to be mm, metres are needed"
    )
    np.save(path, POINTS * np.nan)
    assert fault_of(read_cloud, path) == ("all_invalid", f"{path}: none of its 20 points is valid")
    np.save(path, POINTS[:0])
    assert fault_of(read_cloud, path) == ("empty_cloud", f"{path}: has no points")
    path.write_bytes(b"nonsense")
    assert fault_of(read_cloud, path)[0] == "unreadable"
    for shape in ("(99999999999999, 3)", "(3, (", "[" * 5000):
        head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(6000) + b"\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
        code, text = fault_of(read_cloud, path)
        assert code == "unreadable" and text.startswith(f"{path}: cannot be read (") and "\n" not in text
    other = tmp_path / "a.las"
    other.write_bytes(b"")
    expected = ("unreadable", f"{other}: unknown kind of point file (known: .ply, .pcd, .npy, .xyz)")
    assert fault_of(read_cloud, other) == expected
    pcd = tmp_path / "a.pcd"
    pcd.write_bytes(b"nonsense")
    assert fault_of(read_cloud, pcd) == ("unreadable", f"{pcd}: is not a PCD file with points")
    (tmp_path / "a.xyz").write_text("1 2 three\n")
    assert fault_of(read_cloud, tmp_path / "a.xyz")[0] == "unreadable"


@pytest.mark.shared
def test_real_pcd_has_its_published_counts(shared_data: Path) -> None:
    cloud = read_cloud(shared_data / "pairs" / "pcl_face_template" / "person.pcd")
    assert (len(cloud.points), cloud.received) == (242_749, 307_200)


# Scene folders


def scene(case_path: Path | None = None) -> StoredScene:
    T = se3.from_rotation_translation(
        se3.rotation_from_vector(np.array([0.1, 0.2, 3.0])), np.array([0, 0.1, 0.6])
    )
    levels = {"L1": T, "L2": np.eye(4)}
    cloud = Cloud(POINTS, COLOURS, "cam", 0, received=20)
    return StoredScene("scene_0000", cloud, BONE, T, levels, {"occlusion": 0.3, "kind": "hand"}, case_path)


def test_scene_round_trip(tmp_path: Path) -> None:
    written = scene(tmp_path / "case")
    write_scene(tmp_path / "scenes" / "scene_0000", written)
    (tmp_path / "scenes" / "notes").mkdir()
    assert find_scenes(tmp_path / "scenes") == [tmp_path / "scenes" / "scene_0000"]
    assert find_scenes(tmp_path / "scenes" / "scene_0000") == [tmp_path / "scenes" / "scene_0000"]
    back = read_scene(tmp_path / "scenes" / "scene_0000")
    np.testing.assert_array_equal(back.cloud.points, POINTS)
    np.testing.assert_array_equal(back.cloud.colours, COLOURS)
    np.testing.assert_array_equal(back.bone, BONE)
    np.testing.assert_array_equal(back.T_camera_model, written.T_camera_model)
    assert list(back.T_camera_levels) == ["L1", "L2"]
    np.testing.assert_array_equal(back.T_camera_levels["L1"], written.T_camera_levels["L1"])
    assert (back.name, back.cloud.frame_id, back.tags) == ("scene_0000", "cam", written.tags)
    assert back.case_path == tmp_path / "case"
    content = json.loads((tmp_path / "scenes" / "scene_0000" / "scene.json").read_text())
    assert content["case"] == "../../case" and "case_hash" not in content
    write_scene(tmp_path / "known", replace(written, case_hash="ab12"))
    assert read_scene(tmp_path / "known").case_hash == "ab12"
    assert len(content["T_camera_model"]) == 16


def test_smallest_scene_of_a_stranger(tmp_path: Path) -> None:
    write_ply(
        tmp_path / "c.ply", PlyPoints(np.vstack([POINTS, [[0, 0, 0], [np.nan, 1, 1]]]).astype(np.float32))
    )
    content = {"cloud": "c.ply", "frame_id": "cam", "T_camera_model": np.eye(4).tolist()}
    (tmp_path / "scene.json").write_text(json.dumps(content))
    back = read_scene(tmp_path)
    np.testing.assert_array_equal(back.cloud.points, POINTS)
    assert (back.case_path, back.tags, back.T_camera_levels, back.bone) == (None, {}, {}, None)


MIRROR = np.diag([-1.0, 1, 1, 1]).ravel().tolist()
FAR = se3.from_rotation_translation(np.eye(3), np.array([0.0, 0.0, 600.0])).ravel().tolist()
RIGID = "is not a rigid transform (rotation orthonormal and right-handed, last row 0 0 0 1)"
SCENE_FAULTS = [
    ({"frame_id": ""}, "frame_id must be a non-empty text"),
    ({"T_camera_model": [1, 2]}, "T_camera_model must be 16 numbers (4x4, row-major, metres)"),
    ({"T_camera_model": None}, "T_camera_model must be 16 numbers (4x4, row-major, metres)"),
    ({"T_camera_model": MIRROR}, f"T_camera_model {RIGID}"),
    ({"T_camera_levels": {"L1": MIRROR}}, f"T_camera_levels.L1 {RIGID}"),
    (
        {"T_camera_model": FAR},
        "T_camera_model is 600 m from the camera: it seems to be in mm, metres are needed",
    ),
    ({"tags": [1]}, "tags must map names to values"),
    ({"T_camera_levels": [1]}, "T_camera_levels must map level names to 16 numbers each"),
    ({"case": 3}, "case must be a path"),
    ({"case_hash": 3}, "case_hash must be a text"),
    ({"T_camera_model": [10**400] * 16}, "T_camera_model must be 16 numbers (4x4, row-major, metres)"),
    ({"cloud": 3}, "cloud must be a file name"),
    ({"cloud": "a\0b"}, "cloud has a character that no path can have"),
    ({"case": "\ud800"}, "case has a character that no path can have"),
]


@pytest.mark.parametrize(("change", "text"), SCENE_FAULTS)
def test_scene_faults(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    write_scene(tmp_path, scene())
    path = tmp_path / "scene.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert fault_of(read_scene, tmp_path) == ("bad_scene", f"{path}: {text}")


def test_scene_folder_faults(tmp_path: Path) -> None:
    expected = ("no_scene", f"{tmp_path}: is not a scene folder (no scene.json)")
    assert fault_of(read_scene, tmp_path) == expected
    expected = ("no_scene", f"{tmp_path}: holds no scene folder (a folder with a scene.json)")
    assert fault_of(find_scenes, tmp_path) == expected
    missing = tmp_path / "missing"
    assert fault_of(find_scenes, missing) == ("no_scene", f"{missing}: is not a folder")
    (tmp_path / "scene.json").write_text("{")
    assert fault_of(read_scene, tmp_path)[0] == "bad_scene"
