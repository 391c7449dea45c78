"""Shapes and label maps that the case tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh

from end2reg_ros.case import Case, CaseSpec, LevelSpec, Mesh


def ball(
    radius_mm: float = 20.0, centre_mm: tuple[float, float, float] = (0, 0, 0), fineness: int = 3
) -> Mesh:
    """A closed sphere in metres."""
    sphere = trimesh.creation.icosphere(fineness, radius_mm)
    vertices = (sphere.vertices + np.array(centre_mm)) / 1000.0
    return Mesh(np.asarray(vertices), np.asarray(sphere.faces, dtype=np.int32))


def moved(mesh: Mesh, scale: float | tuple[float, float, float] = 1.0, shift_mm: tuple = (0, 0, 0)) -> Mesh:
    """A mesh scaled and shifted, with its triangles as they were."""
    return Mesh(mesh.vertices * np.array(scale) + np.array(shift_mm) / 1000.0, mesh.triangles)


def without_triangles(mesh: Mesh, count: int) -> Mesh:
    """A mesh with a hole."""
    return Mesh(mesh.vertices, mesh.triangles[count:])


def specs(case: Case) -> list[LevelSpec]:
    """A loaded case as levels to be written."""
    return [LevelSpec(v.level, v.mesh, v.colour, v.landmarks, v.screws) for v in case.vertebrae]


def spec(case: Case) -> CaseSpec:
    """A loaded case as a case to be written."""
    return CaseSpec(case.name, tuple(specs(case)), case.source)


def write_nifti(path: Path, values: np.ndarray, affine: np.ndarray, units: str = "mm") -> Path:
    """A NIfTI file with an orientation."""
    import nibabel as nib

    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units(units)
    image.set_sform(affine, code=1)
    nib.save(image, path)
    return path


def ellipsoid_labels(
    affine: np.ndarray, radii_mm: np.ndarray, shape: tuple[int, int, int], label: int
) -> np.ndarray:
    """Voxels whose centre lies in an ellipsoid about the origin (RAS mm)."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    points = index @ affine[:3, :3].T + affine[:3, 3]
    return (((points / radii_mm) ** 2).sum(axis=-1) <= 1.0).astype(np.int16) * label
