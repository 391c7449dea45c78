"""CT label maps: read, refused, and turned into surfaces at sub-voxel accuracy."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from case_shapes import ellipsoid_labels, write_nifti

from end2reg_ros import se3
from end2reg_ros.case.isosurface import SurfaceSettings, decimate, label_surface
from end2reg_ros.case.labels import (
    NUMBERINGS,
    TOTALSEGMENTATOR,
    TOTALSEGMENTATOR_V1,
    VERSE,
    check_ct,
    choose_labels,
    guess_numbering,
    read_label_map,
)
from end2reg_ros.case.meshes import face_geometry, inspect, read_mesh, signed_volume, volume_centroid
from end2reg_ros.case.model import Mesh
from end2reg_ros.case.raycast import signed_distance
from end2reg_ros.errors import CaseError

RADII = np.array([24.0, 17.0, 13.0])


def affine(
    spacing: tuple[float, float, float], turn_deg: tuple[float, float, float], mirror: bool
) -> np.ndarray:
    """Voxels to RAS mm, oblique, with the origin of RAS at voxel (30, 30, 30) of 1.0 mm or its like."""
    R = se3.rotation_from_vector(np.radians(np.array(turn_deg, dtype=float)))
    A = np.eye(4)
    A[:3, :3] = R @ np.diag(spacing) @ np.diag([-1.0 if mirror else 1.0, 1.0, 1.0])
    A[:3, 3] = -A[:3, :3] @ (np.array([31.3, 30.6, 29.9]) / np.array(spacing))
    return A


def off_ellipsoid_mm(mesh: Mesh) -> np.ndarray:
    """First-order distance of the vertices to the ellipsoid, mm, positive outside."""
    p = mesh.vertices * 1000
    value = np.linalg.norm(p / RADII, axis=1)
    gradient = np.linalg.norm(p / RADII**2, axis=1) / value
    return (value - 1.0) / gradient


@pytest.mark.parametrize(
    ("spacing", "turn_deg", "mirror"),
    [
        ((1.0, 1.0, 1.0), (0, 0, 0), False),
        ((1.0, 1.0, 2.0), (8, -5, 12), False),
        ((1.0, 1.0, 2.0), (8, -5, 12), True),
        ((0.5, 0.5, 1.5), (90, 0, 0), True),
    ],
)
def test_the_surface_of_an_ellipsoid_is_found_below_the_voxel(
    tmp_path: Path, spacing: tuple[float, float, float], turn_deg: tuple[float, float, float], mirror: bool
) -> None:
    A = affine(spacing, turn_deg, mirror)
    shape = tuple(int(np.ceil(62 / s)) for s in spacing)
    path = write_nifti(tmp_path / "a.nii.gz", ellipsoid_labels(A, RADII, shape, 22), A)
    surface = label_surface(read_label_map(path), 22)
    report = inspect(surface.mesh)
    assert report.watertight and report.components == 1 and not surface.cut
    # Outwards also where the affine mirrors: a positive volume, 1-2 % low by the smoothing.
    assert signed_volume(surface.mesh) * 1e6 == pytest.approx(4 / 3 * np.pi * RADII.prod() / 1000, rel=0.03)
    np.testing.assert_allclose(volume_centroid(surface.mesh) * 1000, 0.0, atol=0.1)
    off_mm = np.abs(off_ellipsoid_mm(surface.mesh))
    assert np.median(off_mm) < 0.15 and np.quantile(off_mm, 0.95) < 0.45


def test_storage_order_does_not_matter(tmp_path: Path) -> None:
    A = affine((1.0, 1.0, 2.0), (0, 0, 0), False)
    image = nib.Nifti1Image(ellipsoid_labels(A, RADII, (62, 62, 31), 3), A)
    image.set_sform(A, code=1)
    nib.save(image, tmp_path / "ras.nii")
    stored = nib.orientations.io_orientation(A)
    order = nib.orientations.ornt_transform(stored, nib.orientations.axcodes2ornt("PIR"))
    turned = image.as_reoriented(order)
    nib.save(turned, tmp_path / "pir.nii")
    ras, pir = (label_surface(read_label_map(tmp_path / f"{n}.nii"), 3).mesh for n in ("ras", "pir"))
    assert nib.aff2axcodes(turned.affine) == ("P", "I", "R")
    assert np.abs(signed_distance(ras, pir.vertices)).max() * 1000 < 0.02


def test_units_in_the_header_are_kept_to(tmp_path: Path) -> None:
    A = affine((1.0, 1.0, 1.0), (0, 0, 0), False)
    labels = ellipsoid_labels(A, RADII, (62, 62, 62), 1)
    metres = np.diag([0.001, 0.001, 0.001, 1.0]) @ A
    a = label_surface(read_label_map(write_nifti(tmp_path / "mm.nii", labels, A)), 1).mesh
    b = label_surface(read_label_map(write_nifti(tmp_path / "m.nii", labels, metres, "meter")), 1).mesh
    np.testing.assert_allclose(a.vertices, b.vertices, atol=1e-6)


def test_the_largest_piece_is_taken_and_cavities_are_closed(tmp_path: Path) -> None:
    A = affine((1.0, 1.0, 1.0), (0, 0, 0), False)
    labels = ellipsoid_labels(A, RADII, (62, 62, 62), 22)
    labels[29:34, 29:33, 28:32] = 0
    labels[1:4, 1:4, 1:4] = 22
    surface = label_surface(read_label_map(write_nifti(tmp_path / "a.nii", labels, A)), 22)
    assert inspect(surface.mesh).components == 1
    assert surface.dropped_share == pytest.approx(27 / (labels == 22).sum())
    assert np.abs(surface.mesh.vertices).min(axis=0).max() * 1000 < 1.0  # nothing near (-30, -30, -30)
    assert (np.linalg.norm(surface.mesh.vertices / RADII, axis=1) * 1000).min() > 0.9


def test_a_label_at_the_edge_is_called_cut(tmp_path: Path) -> None:
    A = affine((1.0, 1.0, 1.0), (0, 0, 0), False)
    labels = ellipsoid_labels(A, RADII, (62, 62, 62), 22)[:, :, 30:]
    surface = label_surface(read_label_map(write_nifti(tmp_path / "a.nii", labels, A)), 22)
    assert surface.cut and inspect(surface.mesh).watertight


def test_decimation_keeps_the_surface(tmp_path: Path) -> None:
    A = affine((1.0, 1.0, 1.0), (0, 0, 0), False)
    A[2, 3] -= 1000.0
    fine = SurfaceSettings(spacing_mm=0.5)
    labels = ellipsoid_labels(A + np.outer([0, 0, 1000.0, 0], [0, 0, 0, 1]), RADII, (62, 62, 62), 1)
    mesh = label_surface(read_label_map(write_nifti(tmp_path / "a.nii", labels, A)), 1, fine).mesh
    small = decimate(mesh, 10_000)
    assert len(mesh.triangles) > 20_000 and 9_000 < len(small.triangles) <= 10_000
    assert inspect(small).watertight
    off_mm = np.abs(signed_distance(mesh, face_geometry(small)[0])) * 1000
    assert np.median(off_mm) < 0.03 and off_mm.max() < 0.3
    assert decimate(mesh, 10**6) is mesh


def test_numberings() -> None:
    assert [VERSE[f"L{i}"] for i in range(1, 6)] == [20, 21, 22, 23, 24]
    assert (VERSE["C1"], VERSE["C7"], VERSE["T1"], VERSE["T12"], VERSE["L6"], VERSE["T13"]) == (
        1,
        7,
        8,
        19,
        25,
        28,
    )
    assert [TOTALSEGMENTATOR[f"L{i}"] for i in range(1, 6)] == [31, 30, 29, 28, 27]
    assert [TOTALSEGMENTATOR[n] for n in ("S1", "T12", "T1", "C7", "C1")] == [26, 32, 43, 44, 50]
    assert [TOTALSEGMENTATOR_V1[f"L{i}"] for i in range(1, 6)] == [22, 21, 20, 19, 18]
    assert [TOTALSEGMENTATOR_V1[n] for n in ("T12", "T8", "T4", "T1", "C7", "C1")] == [23, 27, 31, 34, 35, 41]
    for numbering in NUMBERINGS.values():
        assert len(set(numbering.values())) == len(numbering)


def label_map(tmp_path: Path, *numbers: int) -> Path:
    values = np.zeros((8, 8, len(numbers) + 1), dtype=np.int16)
    for index, number in enumerate(numbers):
        values[2:6, 2:6, index] = number
    return write_nifti(tmp_path / "seg.nii.gz", values, np.eye(4))


def test_labels_are_chosen_by_numbering_or_by_hand(tmp_path: Path) -> None:
    verse = read_label_map(label_map(tmp_path, 18, 19, 20, 21, 24))
    assert choose_labels(verse) == {"L1": 20, "L2": 21, "L5": 24}
    assert choose_labels(verse, levels=("L2", "T12")) == {"T12": 19, "L2": 21}
    assert choose_labels(verse, numbers={"L4": 24, "L3": 21}) == {"L3": 21, "L4": 24}
    total = read_label_map(label_map(tmp_path, 5, 20, 21, 27, 28, 29, 30, 31, 32, 105))
    assert choose_labels(total) == {"L1": 31, "L2": 30, "L3": 29, "L4": 28, "L5": 27}
    assert choose_labels(total, "verse") == {"L1": 20, "L2": 21}  # as told, not as guessed


def test_the_numbering_is_guessed_only_where_the_numbers_are_clear(tmp_path: Path) -> None:
    def guess(*numbers: int) -> str:
        return guess_numbering(read_label_map(label_map(tmp_path, *numbers)))

    assert guess(8, 19, 20, 21, 22, 23, 24, 26) == "verse"
    assert guess(26, 27, 28, 29, 30, 31, 32) == "totalsegmentator"
    assert guess(*range(18, 32), 117) == "totalsegmentator"  # v1 ends at 104
    # A whole body without ribs: the lumbar levels of v1 are organs in v2, those of v2 thoracic levels in v1.
    for call in (guess, lambda *n: str(choose_labels(read_label_map(label_map(tmp_path, *n))))):
        with pytest.raises(CaseError) as error:
            call(5, 18, 20, 22, 27, 28, 31, 90)
        assert str(error.value) == (
            f"{tmp_path / 'seg.nii.gz'}: lumbar levels are 27, 28, 31 in totalsegmentator numbering, "
            "lumbar levels are 18, 20, 22 in totalsegmentator_v1 numbering: say which with --numbering"
        )
    with pytest.raises(CaseError) as error:
        guess(20, 21, 28)
    assert str(error.value) == (
        f"{tmp_path / 'seg.nii.gz'}: lumbar levels are 20, 21 in verse numbering, "
        "lumbar levels are 28 in totalsegmentator numbering: say which with --numbering"
    )
    whole = read_label_map(label_map(tmp_path, 5, 18, 20, 22, 27, 28, 31, 90))
    assert choose_labels(whole, "totalsegmentator_v1") == {"L1": 22, "L3": 20, "L5": 18}
    assert choose_labels(whole, "totalsegmentator") == {"L1": 31, "L4": 28, "L5": 27}


def test_absent_labels_name_what_there_is(tmp_path: Path) -> None:
    labels = read_label_map(label_map(tmp_path, 16, 20))
    where = str(labels.path)
    for call, text in (
        (lambda: choose_labels(labels, numbers={"L3": 22}), f"{where}: no label 22 for L3; it has 16, 20"),
        (
            lambda: choose_labels(labels, levels=("L3",)),
            f"{where}: no label for L3 in verse numbering; it has 16 (T9), 20 (L1)",
        ),
        (lambda: label_surface(labels, 22), f"{where}: no label 22; it has 16, 20"),
        (lambda: label_surface(labels, 20), f"{where}: label 20 has only 16 connected voxels: no vertebra"),
        (
            lambda: choose_labels(labels, "totalsegmentator"),
            f"{where}: no lumbar vertebra in totalsegmentator numbering; it has 16, 20; "
            "give numbers, as in --label-numbers L1=1 L2=2",
        ),
    ):
        with pytest.raises(CaseError) as error:
            call()
        assert str(error.value) == text


def bad_maps(folder: Path) -> list[tuple[Path, str]]:
    """Files that are no label map and what is said of them, after the path."""
    ones, eye = np.ones((4, 5, 6), dtype=np.int16), np.eye(4)
    shear = np.eye(4)
    shear[0, 2] = 0.3
    whole = write_nifti(
        folder / "whole.nii.gz", np.random.default_rng(0).integers(9, size=(40, 40, 40), dtype=np.int16), eye
    )
    (folder / "cut.nii.gz").write_bytes(whole.read_bytes()[:3000])
    (folder / "text.nii.gz").write_bytes(b"not a NIfTI file")
    lost = nib.Nifti1Image(ones, None)
    lost.set_sform(None, code=0)
    lost.set_qform(None, code=0)
    nib.save(lost, folder / "lost.nii")
    return [
        (folder / "absent.nii.gz", "no such file"),
        (folder / "text.nii.gz", "not a readable NIfTI file"),
        (folder / "cut.nii.gz", "not a readable NIfTI file (EOFError)"),
        (folder / "lost.nii", "no orientation (sform and qform codes are 0): left and right cannot be known"),
        (
            write_nifti(folder / "4d.nii", np.ones((4, 5, 6, 2), dtype=np.int16), eye),
            "4-D (4 x 5 x 6 x 2); a label map",
        ),
        (write_nifti(folder / "2d.nii", np.ones((4, 5), dtype=np.int16), eye), "2-D (4 x 5); a label map"),
        (write_nifti(folder / "empty.nii", ones * 0, eye), "the label map is empty (all voxels are 0)"),
        (
            write_nifti(folder / "ct.nii", ones * -1000, eye),
            "not a label map: it has values below zero (a CT goes to --ct)",
        ),
        (
            write_nifti(folder / "half.nii", ones * 0.5, eye),
            "not a label map: its values are not whole numbers",
        ),
        (
            write_nifti(folder / "nan.nii", ones * np.nan, eye),
            "not a label map: its values are not whole numbers",
        ),
        (
            write_nifti(folder / "big.nii", ones.astype(np.float64) * 1e9, eye),
            "not a label map: it has values up to 1000000000",
        ),
        (
            write_nifti(folder / "rgb.nii", np.ones((4, 5, 6), dtype=[(c, "u1") for c in "RGB"]), eye),
            "its voxels are not single numbers (a colour image?)",
        ),
        (
            write_nifti(folder / "zero.nii", np.ones((4, 0, 6), dtype=np.int16), eye),
            "has no voxels (4 x 0 x 6)",
        ),
        (write_nifti(folder / "shear.nii", ones, shear), "sheared voxels (a tilted gantry); resample it"),
    ]


def test_bad_label_maps_give_one_clear_line(tmp_path: Path) -> None:
    for path, text in bad_maps(tmp_path):
        with pytest.raises(CaseError) as error:
            read_label_map(path)
        assert str(error.value).startswith(f"{path}: {text}"), path
        assert "\n" not in str(error.value)
    flat = write_nifti(tmp_path / "flat4d.nii", np.ones((4, 5, 6, 1), dtype=np.int16), np.eye(4))
    assert read_label_map(flat).values.shape == (4, 5, 6)


def test_a_ct_must_fit_its_label_map(tmp_path: Path) -> None:
    A = affine((1.0, 1.0, 1.0), (0, 0, 0), False)
    values = ellipsoid_labels(A, RADII, (62, 62, 62), 22)
    labels = read_label_map(write_nifti(tmp_path / "seg.nii", values, A))
    bone = np.where(values == 22, 250, 40).astype(np.int16)
    check_ct(write_nifti(tmp_path / "ct.nii", bone, A), labels, {"L3": 22})
    moved = write_nifti(tmp_path / "moved.nii", bone, A + np.outer([5, 0, 0, 0], [0, 0, 0, 1]))
    with pytest.raises(
        CaseError, match=r"moved\.nii: its grid differs from that of seg\.nii \(shape or affine\)$"
    ):
        check_ct(moved, labels, {"L3": 22})
    other = write_nifti(tmp_path / "other.nii", np.roll(bone, 31, axis=0), A)
    text = r"other\.nii: no bone where seg\.nii has L3: median \d+ HU inside, \d+ around$"
    with pytest.raises(CaseError, match=text):
        check_ct(other, labels, {"L3": 22})


@pytest.mark.slow
@pytest.mark.shared
def test_real_label_map_against_its_surfaces(shared_data: Path) -> None:
    folder = shared_data / "anatomy" / "verse004"
    labels = read_label_map(folder / "label_map.nii.gz")
    chosen = choose_labels(labels)
    assert chosen == {"L1": 20, "L2": 21, "L3": 22, "L4": 23, "L5": 24}
    for level, number in chosen.items():
        mine, theirs = label_surface(labels, number).mesh, read_mesh(folder / f"{level}.stl")
        assert inspect(mine).watertight
        for a, b in ((mine, theirs), (theirs, mine)):
            off_mm = np.abs(signed_distance(b, face_geometry(a)[0][::5])) * 1000
            assert np.median(off_mm) < 0.05 and np.quantile(off_mm, 0.95) < 0.1 and off_mm.max() < 0.8


@pytest.mark.shared
def test_real_ct_crop(shared_data: Path) -> None:
    folder = shared_data / "anatomy" / "tptbox_L3"
    labels = read_label_map(folder / "sub-ct_seg-vert_label-22_msk.nii.gz")
    check_ct(folder / "sub-ct_label-22_ct.nii.gz", labels, {"L3": 22})
    surface = label_surface(labels, 22)
    assert not surface.cut and label_surface(labels, 21).cut and label_surface(labels, 23).cut
    np.testing.assert_allclose(surface.mesh.vertices.min(axis=0) * 1000, [-70.51, -235.57, -95.47], atol=0.3)
    np.testing.assert_allclose(surface.mesh.vertices.max(axis=0) * 1000, [23.09, -141.75, -41.44], atol=0.3)
    assert signed_volume(surface.mesh) * 1e6 == pytest.approx(58.75, rel=0.01)
