"""The visible surface of a case: sampled once, which takes seconds and 200 MB for Open3D, and kept between starts."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from end2reg_ros.cache import Arrays, CaseEntry, Key, digest_of, digest_of_code
from end2reg_ros.case.model import Case, Mesh
from end2reg_ros.registration.fit import surface
from end2reg_ros.registration.fit.surface import (
    DistanceGrid,
    Lattice,
    ModelSurface,
    NearestGrid,
    lattice_around,
    view_directions,
)

Array = NDArray[np.float64]

CHUNK = 1 << 17  # cells looked up at a time
MIN_FACING = 0.15

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
        "code": digest_of_code(surface.__file__, __file__),
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


def sample_surface(mesh: Mesh, spacing: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Points (N, 3) drawn evenly over a mesh, one per ``spacing`` squared, with their outward normals (N, 3)."""
    corners = mesh.vertices[mesh.triangles]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double_area = np.linalg.norm(cross, axis=1)
    count = max(16, int(double_area.sum() / 2 / spacing**2))
    # Systematic sampling over the cumulative area: even coverage, and the same points for the same mesh.
    cumulative = np.cumsum(double_area)
    ticks = (np.arange(count) + rng.random()) / count * cumulative[-1]
    face = np.minimum(np.searchsorted(cumulative, ticks), len(cumulative) - 1)
    u, v = rng.random(count), rng.random(count)
    flip = u + v > 1
    u[flip], v[flip] = 1 - u[flip], 1 - v[flip]
    a, b, c = corners[face, 0], corners[face, 1], corners[face, 2]
    points = a + u[:, None] * (b - a) + v[:, None] * (c - a)
    normals = cross[face] / np.maximum(double_area[face], 1e-30)[:, None]
    return points, normals


def build_model_surface(case: Case, spacing: float = 0.001, coarse_spacing: float = 0.003) -> ModelSurface:
    """Sample the surface of all levels that at least one of the view directions sees.

    Args:
        case: the case.
        spacing: mean distance of samples, metres.
        coarse_spacing: mean distance of the thin subset, metres.
    """
    rng = np.random.default_rng(0)
    sampled = [sample_surface(v.mesh, spacing, rng) for v in case.vertebrae]
    points = np.concatenate([p for p, _ in sampled])
    normals = np.concatenate([n for _, n in sampled])
    level_index = np.repeat(np.arange(len(sampled), dtype=np.int32), [len(p) for p, _ in sampled])
    seen_from = visibility(case, points, normals, view_directions())
    seen = seen_from.any(axis=1)
    points, normals, level_index = points[seen], normals[seen], level_index[seen]
    coarse = thin(points, coarse_spacing)
    tree = cKDTree(points)
    near, grid = distance_grid(points), nearest_grid(points, tree)
    return ModelSurface(points, normals, tree, level_index, near, grid, coarse, seen_from[seen][coarse])


def visibility(case: Case, points: Array, normals: Array, directions: Array) -> NDArray[np.bool_]:
    """(N, K) whether each of the distant viewers in ``directions`` (K, 3) sees each surface point (parallel rays)."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    for vertebra in case.vertebrae:
        scene.add_triangles(
            o3d.core.Tensor(vertebra.mesh.vertices.astype(np.float32)),
            o3d.core.Tensor(vertebra.mesh.triangles.astype(np.uint32)),
        )
    seen = np.zeros((len(points), len(directions)), dtype=bool)
    start = points + 2e-4 * normals
    for k, direction in enumerate(directions):
        facing = np.flatnonzero(normals @ direction > MIN_FACING)
        rays = np.empty((len(facing), 6), dtype=np.float32)
        rays[:, :3], rays[:, 3:] = start[facing], direction
        blocked = scene.test_occlusions(o3d.core.Tensor(rays)).numpy()
        seen[facing[~blocked], k] = True
    return seen


def thin(points: Array, spacing: float) -> NDArray[np.int64]:
    """Indices of one point per cube of edge ``spacing`` (metres): the one nearest to the cube's mean."""
    cell = np.floor(points / spacing).astype(np.int64)
    _, inverse, counts = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
    inverse = inverse.ravel()
    mean = np.stack([np.bincount(inverse, points[:, k]) for k in range(3)], axis=1) / counts[:, None]
    distance = np.linalg.norm(points - mean[inverse], axis=1)
    order = np.lexsort((distance, inverse))
    first = np.concatenate([[True], np.diff(inverse[order]) > 0])
    return np.sort(order[first])


def distance_grid(points: Array, cell: float = 0.003, margin: float = 0.045) -> DistanceGrid:
    """Distance grid around surface samples (N, 3); ``cell`` and ``margin`` in metres."""
    lattice = lattice_around(points, cell, margin)
    empty = np.ones(lattice.count, dtype=bool)
    empty[lattice.cells(points)] = False
    distance = distance_transform_edt(empty.reshape(lattice.shape), sampling=cell)
    distance[lattice.border] = np.inf
    return DistanceGrid(lattice, np.asarray(distance, dtype=np.float32).ravel())


def nearest_grid(points: Array, tree: cKDTree, cell: float = 0.001, reach: float = 0.006) -> NearestGrid:
    """Nearest-sample grid around surface samples (N, 3); ``cell`` and ``reach`` in metres.

    Args:
        points: samples.
        tree: search tree over them.
        cell: edge of a cell.
        reach: largest distance looked up; bounds the largest gate of the refinement.
    """
    lattice = lattice_around(points, cell, reach)
    coarse = distance_grid(points, 3 * cell, reach)
    sample = np.full(lattice.count, -1, dtype=np.int32)
    for first in range(0, len(sample), CHUNK):  # all at once takes 200 MB
        flat = np.arange(first, min(first + CHUNK, len(sample)))
        rough = coarse(lattice.centres(flat).astype(np.float32))
        flat = flat[rough < reach + 3 * cell]
        distance, index = tree.query(lattice.centres(flat), distance_upper_bound=reach)
        found = np.isfinite(distance)
        sample[flat[found]] = index[found]
    return NearestGrid(lattice, sample)
