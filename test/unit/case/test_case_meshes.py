"""Mesh files, surfaces, distances and frames."""

from __future__ import annotations

import codecs
from pathlib import Path

import numpy as np
import pytest
import trimesh
from case_shapes import ball, moved, without_triangles
from distance_reference import signed_distance_reference

from end2reg_ros import se3
from end2reg_ros.case import Landmarks, Mesh, Screw, load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.case.frames import R_RAS_BODY, screw_frame, vertebra_frame
from end2reg_ros.case.meshes import inspect, oriented, read_mesh, signed_volume, stl_bytes, volume_centroid
from end2reg_ros.case.raycast import signed_distance
from end2reg_ros.errors import CaseError


def save(mesh: Mesh, path: Path, **options: object) -> Path:
    """Write a mesh in mm with trimesh: another program's file."""
    trimesh.Trimesh(mesh.vertices * 1000.0, mesh.triangles, process=False).export(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "options"), [("a.stl", {}), ("a.stl", {"file_type": "stl_ascii"}), ("a.ply", {}), ("a.obj", {})]
)
def test_every_format_gives_the_same_surface(tmp_path: Path, name: str, options: dict) -> None:
    mesh = ball(20.0, (5, -3, 900))
    read = read_mesh(save(mesh, tmp_path / name, **options))
    assert (len(read.vertices), len(read.triangles)) == (642, 1280)
    assert inspect(read).watertight
    np.testing.assert_allclose(volume_centroid(read) * 1000, [5, -3, 900], atol=1e-3)
    assert signed_volume(read) * 1e6 == pytest.approx(
        trimesh.creation.icosphere(3, 20.0).volume / 1000, rel=1e-5
    )
    distance = signed_distance_reference(mesh, read.vertices[:20])
    assert np.abs(distance).max() * 1000 < 1e-3


def test_stl_round_trip_is_exact_to_single_precision() -> None:
    mesh = ball(20.0, (0, 0, -1000))
    read = read_mesh(Path("x.stl"), stl_bytes(mesh))
    assert np.array_equal(read.triangles, mesh.triangles) or len(read.triangles) == len(mesh.triangles)
    corners = np.sort(read.vertices[read.triangles].reshape(-1, 9), axis=0)
    expected = np.sort(mesh.vertices[mesh.triangles].reshape(-1, 9), axis=0)
    assert np.abs(corners - expected).max() * 1000 < 1e-4
    assert stl_bytes(read) == stl_bytes(read_mesh(Path("x.stl"), stl_bytes(read)))


def test_merging_equals_trimesh_on_the_bundled_case() -> None:
    path = bundled_case_path() / "meshes" / "L3.stl"
    mine, theirs = read_mesh(path), trimesh.load(path)
    report = inspect(mine)
    assert len(mine.vertices) == len(theirs.vertices)
    assert len(mine.triangles) == len(theirs.faces)
    assert report.watertight and theirs.is_watertight
    assert report.components == theirs.body_count == 1
    np.testing.assert_allclose(volume_centroid(mine) * 1000, theirs.center_mass, atol=1e-6)


def test_a_mesh_turned_inside_out_is_turned_back(tmp_path: Path) -> None:
    mesh = ball()
    inside_out = Mesh(mesh.vertices, mesh.triangles[:, ::-1])
    assert signed_volume(inside_out) < 0
    assert signed_volume(oriented(inside_out)) == pytest.approx(signed_volume(mesh))
    assert signed_volume(read_mesh(save(inside_out, tmp_path / "a.stl"))) > 0


def test_inspect_counts_holes_windings_and_pieces() -> None:
    mesh = ball()
    assert inspect(without_triangles(mesh, 1)).open_edges == 3
    one_turned = mesh.triangles.copy()
    one_turned[0] = one_turned[0, ::-1]
    report = inspect(Mesh(mesh.vertices, one_turned))
    assert (report.open_edges, report.flipped_edges, report.watertight) == (0, 3, False)
    far = moved(mesh, shift_mm=(100, 0, 0))
    both = Mesh(
        np.concatenate([mesh.vertices, far.vertices]), np.concatenate([mesh.triangles, far.triangles + 642])
    )
    assert inspect(both).components == 2 and inspect(both).watertight


def test_degenerate_triangles_are_dropped() -> None:
    mesh = ball()
    extra = np.array([[0, 0, 1], [5, 5, 5]], dtype=np.int32)
    read = read_mesh(Path("x.stl"), stl_bytes(Mesh(mesh.vertices, np.concatenate([mesh.triangles, extra]))))
    assert len(read.triangles) == len(mesh.triangles) and inspect(read).watertight


def bad_files() -> list[tuple[str, bytes, str]]:
    """File name, content, error text after the path."""
    good = stl_bytes(ball(fineness=1))
    nan = np.frombuffer(good, dtype=np.uint8).copy()
    nan[84 + 12 : 84 + 16] = np.frombuffer(np.float32(np.nan).tobytes(), dtype=np.uint8)
    text = trimesh.creation.icosphere(1).export(file_type="stl_ascii").encode()
    ply = trimesh.creation.icosphere(1).export(file_type="ply")
    points = b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    faces = points.replace(
        b"end_header", b"element face 1\nproperty list uchar int vertex_indices\nend_header"
    )
    faces += b"0 0 0\n1 0 0\n0 1 0\n3 0 1 INDEX\n"
    return [
        ("a.stl", good[: 84 + 50 * 30 + 7], "truncated STL: 80 triangles announced, 30 stored"),
        ("a.stl", good[:40], "truncated STL: 40 bytes"),
        ("a.stl", b"", "truncated STL: 0 bytes"),
        ("a.stl", text[: len(text) // 2], "truncated STL: the text ends without endsolid"),
        ("a.stl", b"solid empty\nendsolid empty\n", "no triangles"),
        ("a.stl", bytes(84), "no triangles"),
        ("a.stl", nan.tobytes(), "coordinates that are not finite numbers"),
        ("a.ply", ply[: len(ply) // 2], "not a readable PLY mesh"),
        ("a.ply", points + b"0 0 0\n1 0 0\n0 1 0\n", "no triangles"),
        ("a.ply", b"not a ply", "not a readable PLY mesh"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no triangles"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "not a readable OBJ mesh"),
        ("a.ply", faces.replace(b"INDEX", b"-1"), "a triangle names vertex -1, but the file has 0 to 2"),
        ("a.ply", faces.replace(b"INDEX", b"-7"), "a triangle names vertex -7, but the file has 0 to 2"),
        ("a.ply", faces.replace(b"INDEX", b"3"), "a triangle names vertex 3, but the file has 0 to 2"),
        ("a.vtk", good, "not a mesh file (.stl, .ply, .obj)"),
    ]


@pytest.mark.parametrize(("name", "content", "text"), bad_files())
def test_bad_mesh_files_give_one_clear_line(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CaseError) as error:
        read_mesh(path)
    assert str(error.value).startswith(f"{path}: {text}")
    assert "\n" not in str(error.value)


def test_relative_vertices_of_an_obj_and_a_mark_before_the_text_of_an_stl_are_read(tmp_path: Path) -> None:
    tetrahedron = b"v 0 0 0\nv 9 0 0\nv 0 9 0\nv 0 0 9\n"
    (tmp_path / "a.obj").write_bytes(tetrahedron + b"f -4 -2 -3\nf -4 -3 -1\nf -4 -1 -2\nf -3 -2 -1\n")
    (tmp_path / "b.obj").write_bytes(tetrahedron + b"f 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n")
    relative, plain = read_mesh(tmp_path / "a.obj"), read_mesh(tmp_path / "b.obj")
    np.testing.assert_array_equal(relative.vertices[relative.triangles], plain.vertices[plain.triangles])
    text = trimesh.creation.icosphere(1).export(file_type="stl_ascii").encode()
    (tmp_path / "a.stl").write_bytes(codecs.BOM_UTF8 + text)
    assert len(read_mesh(tmp_path / "a.stl").triangles) == 80


def test_missing_mesh_file(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"L3\.stl: no such file$"):
        read_mesh(tmp_path / "L3.stl")


def test_fast_distance_equals_the_reference() -> None:
    mesh = load_case(bundled_case_path()).vertebrae[2].mesh
    rng = np.random.default_rng(0)
    points = mesh.vertices[rng.integers(len(mesh.vertices), size=60)] + rng.normal(scale=0.006, size=(60, 3))
    fast, slow = signed_distance(mesh, points), signed_distance_reference(mesh, points)
    assert (slow < 0).sum() > 5 and (slow > 0).sum() > 5
    np.testing.assert_allclose(fast, slow, atol=1e-7)


def test_distance_to_a_ball_is_known() -> None:
    mesh = ball(20.0, (0, 0, -1000), fineness=5)
    points = np.array([[0, 0, -1.0], [0.03, 0, -1.0], [0, -0.019, -1.0]])
    np.testing.assert_allclose(signed_distance_reference(mesh, points) * 1000, [-20, 10, -1], atol=0.02)
    np.testing.assert_allclose(signed_distance(mesh, points) * 1000, [-20, 10, -1], atol=0.02)


def test_frame_without_landmarks_has_the_ct_axes() -> None:
    T = vertebra_frame(ball(20.0, (10, 20, 30)))
    assert se3.is_rigid(T)
    np.testing.assert_allclose(T[:3, 3] * 1000, [10, 20, 30], atol=1e-6)
    np.testing.assert_array_equal(T[:3, 0], [0, 1, 0])  # anterior is +y in RAS
    np.testing.assert_array_equal(T[:3, 1], [-1, 0, 0])  # left is -x
    np.testing.assert_array_equal(T[:3, 2], [0, 0, 1])


def test_frame_follows_the_landmarks() -> None:
    upright = Landmarks(*(np.array(p) / 1000 for p in ([0, -60, 0], [-45, -20, 5], [45, -20, 5])))
    np.testing.assert_allclose(vertebra_frame(ball(), upright)[:3, :3], R_RAS_BODY, atol=1e-9)
    R = se3.rotation_from_vector(np.radians([12.0, -7.0, 20.0]))
    turned = Landmarks(*(R @ p for p in upright.as_array()))
    T = vertebra_frame(ball(), turned)
    assert se3.is_rigid(T)
    assert np.degrees(se3.rotation_angle((R @ R_RAS_BODY).T @ T[:3, :3])) < 1e-6


def test_landmarks_on_a_line_give_no_frame() -> None:
    line = Landmarks(*(np.array(p) / 1000 for p in ([-70, 0, 0], [-45, 0, 0], [45, 0, 0])))
    with pytest.raises(
        CaseError, match=r"^the landmarks and the centroid lie on one line: they give no axes$"
    ):
        vertebra_frame(ball(), line)


def test_screw_frame_points_along_the_trajectory() -> None:
    screw = Screw("left", np.array([-0.02, -0.04, 0.0]), np.array([-0.01, 0.0, 0.0]), 0.0065, 0.045)
    T = screw_frame(screw, vertebra_frame(ball()))
    assert se3.is_rigid(T)
    np.testing.assert_array_equal(T[:3, 3], screw.entry)
    np.testing.assert_allclose(T[:3, 2], np.array([10, 40, 0]) / np.hypot(10, 40), atol=1e-12)
    np.testing.assert_allclose(T[:3, 0], [0, 0, 1], atol=1e-12)
