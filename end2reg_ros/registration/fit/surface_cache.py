"""The visible surface of a case, kept between starts: ``build_model_surface`` takes seconds, and Open3D 200 MB of memory."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import numpy as np

from end2reg_ros.cache import Arrays, CaseEntry, Key, digest_of, digest_of_code
from end2reg_ros.case.model import Case
from end2reg_ros.registration.fit import grids, surface
from end2reg_ros.registration.fit.grids import DistanceGrid, Lattice, NearestGrid
from end2reg_ros.registration.fit.surface import ModelSurface, build_model_surface

FILE_NAME = "surface.bin"


def model_surface(case: Case, spacing: float = 0.001, coarse_spacing: float = 0.003) -> ModelSurface:
    """``build_model_surface``, bit by bit, from the cache where it is there.

    Args:
        case: the case.
        spacing: mean distance of samples, metres.
        coarse_spacing: mean distance of the thin subset, metres.
    """
    entry = CaseEntry(case.hash, FILE_NAME, surface_key(case, spacing, coarse_spacing))
    return surface_of(entry.arrays(lambda: arrays_of(build_model_surface(case, spacing, coarse_spacing))))


def surface_key(case: Case, spacing: float, coarse_spacing: float) -> Key:
    """All that the samples follow from: the meshes themselves, for a case may have been changed in memory."""
    return {
        "meshes": mesh_digest(case),
        "spacing": spacing,
        "coarse_spacing": coarse_spacing,
        "code": digest_of_code(surface.__file__, grids.__file__),
        # Random numbers and the last bit of a ray's hit may differ from release to release.
        **{f"{name} version": installed_version(name) for name in ("numpy", "scipy", "open3d")},
    }


def mesh_digest(case: Case) -> str:
    """sha256 of the meshes of a case in their order."""
    meshes = [v.mesh for v in case.vertebrae]
    return digest_of(*(a for m in meshes for a in (m.vertices, m.triangles)))


def installed_version(package: str) -> str:
    """Version of a package without importing it; empty when it is not known."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def arrays_of(made: ModelSurface) -> Arrays:
    """What is kept of a surface; the search tree is not: it is made again in 15 ms."""
    arrays: Arrays = {
        "points": made.points,
        "normals": made.normals,
        "level_index": made.level_index,
        "coarse": made.coarse,
        "coarse_seen_from": made.coarse_seen_from,
        "near": made.near.distance,
        "grid": made.grid.sample,
    }
    for name, lattice in (("near", made.near.lattice), ("grid", made.grid.lattice)):
        arrays[f"{name} origin"] = lattice.origin
        arrays[f"{name} cell"] = np.array(lattice.cell)
        arrays[f"{name} shape"] = np.array(lattice.shape)
    return arrays


def surface_of(arrays: Arrays) -> ModelSurface:
    """The surface that ``arrays_of`` was given."""
    from scipy.spatial import cKDTree

    def lattice(name: str) -> Lattice:
        nx, ny, nz = (int(n) for n in arrays[f"{name} shape"])
        return Lattice(arrays[f"{name} origin"], float(arrays[f"{name} cell"]), (nx, ny, nz))

    return ModelSurface(
        points=arrays["points"],
        normals=arrays["normals"],
        tree=cKDTree(arrays["points"]),
        level_index=arrays["level_index"],
        near=DistanceGrid(lattice("near"), arrays["near"]),
        grid=NearestGrid(lattice("grid"), arrays["grid"]),
        coarse=arrays["coarse"],
        coarse_seen_from=arrays["coarse_seen_from"],
    )
