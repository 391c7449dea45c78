"""One label of a label map -> a closed surface with sub-voxel accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.labels import LabelMap
from end2reg_ros.case.meshes import clean, inspect, oriented, pieces
from end2reg_ros.case.model import Mesh
from end2reg_ros.errors import CaseError

Array = NDArray[np.float64]

_MIN_VOXELS = 200


@dataclass(frozen=True)
class SurfaceSettings:
    """How a surface is drawn from a label.

    Attributes:
        spacing_mm: grid of the marching cubes.
        sigma_mm: Gaussian that takes the voxel steps away; rounds edges of a smaller radius.
        max_triangles: above it the surface is decimated to it (quadric errors).
    """

    spacing_mm: float = 0.7
    sigma_mm: float = 0.7
    max_triangles: int = 120_000


@dataclass(frozen=True)
class LabelSurface:
    """A surface and what was met on the way.

    Attributes:
        mesh: closed, metres, CT RAS.
        dropped_share: share of the label's voxels outside its largest piece.
        cut: the label touches the border of the volume: the bone goes on where the surface ends.
    """

    mesh: Mesh
    dropped_share: float
    cut: bool


def label_surface(labels: LabelMap, number: int, settings: SurfaceSettings | None = None) -> LabelSurface:
    """Surface of the largest connected piece of one label.

    The signed distance to the voxel faces in mm (exact Euclidean transform on the native, possibly anisotropic, grid)
    is resampled linearly to a fine isotropic grid, smoothed a little, and cut at zero (marching cubes, Lewiner et al.
    2003). The NIfTI affine takes it to RAS, whatever the storage order; a mirroring affine turns the winding.

    Raises:
        CaseError: the label is absent or has too few voxels to be a vertebra.
    """
    from scipy import ndimage
    from skimage.measure import marching_cubes

    settings = settings or SurfaceSettings()
    box = ndimage.find_objects((labels.values == number).astype(np.uint8))
    if not box:
        raise CaseError(
            f"{labels.path}: no label {number}; it has {', '.join(map(str, sorted(labels.counts)))}"
        )
    piece, voxels = _largest_piece(labels.values[box[0]] == number)
    kept = int(piece.sum())
    if kept < _MIN_VOXELS:
        raise CaseError(f"{labels.path}: label {number} has only {kept} connected voxels: no vertebra")
    start = np.array([s.start for s in box[0]])
    touched = np.argwhere(piece)
    ends = np.array(labels.values.shape) - 1
    cut = bool((touched.min(axis=0) + start == 0).any() or (touched.max(axis=0) + start == ends).any())

    spacing = np.linalg.norm(labels.affine[:3, :3], axis=0)
    # Room for the Gaussian's tail and for a closed surface where the volume ends.
    margin = np.ceil((3.0 * settings.sigma_mm + 2.0) / spacing).astype(int) + 1
    padded = np.pad(piece, [(m, m) for m in margin])
    distance = _signed_distance(padded, spacing)
    fine, step = _resample(distance, spacing, settings.spacing_mm)
    fine = ndimage.gaussian_filter(fine, settings.sigma_mm / (step * spacing))
    vertices, triangles, _, _ = marching_cubes(fine, level=0.0)
    index = vertices.astype(np.float64) * step + start - margin
    vertices_mm = index @ labels.affine[:3, :3].T + labels.affine[:3, 3]
    mesh = oriented(Mesh(*_largest_sheet(*clean(vertices_mm / 1000.0, triangles))))
    return LabelSurface(decimate(mesh, settings.max_triangles), 1.0 - kept / voxels, cut)


def decimate(mesh: Mesh, max_triangles: int) -> Mesh:
    """The mesh with at most about ``max_triangles``; unchanged when it has no more or would get holes."""
    if len(mesh.triangles) <= max_triangles:
        return mesh
    import open3d as o3d

    # Far from the origin single precision inside the library would bite.
    centre = mesh.vertices.mean(axis=0)
    legacy = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(mesh.vertices - centre), o3d.utility.Vector3iVector(mesh.triangles)
    )
    smaller = legacy.simplify_quadric_decimation(max_triangles)
    vertices, triangles = clean(np.asarray(smaller.vertices) + centre, np.asarray(smaller.triangles))
    result = oriented(Mesh(vertices, triangles))
    return result if inspect(result).watertight else mesh


def _largest_piece(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
    """The largest face-connected piece of a mask and the voxels of all pieces."""
    from scipy import ndimage

    pieces, count = ndimage.label(mask)
    if count <= 1:
        return mask, int(mask.sum())
    sizes = np.bincount(pieces.ravel())[1:]
    return pieces == 1 + int(np.argmax(sizes)), int(sizes.sum())


def _signed_distance(mask: NDArray[np.bool_], spacing: Array) -> NDArray[np.float32]:
    """Half the distance in mm to the nearest voxel centre of the other side, negative inside.

    Zero half-way between the two sides' centres, with the same slope on both: all that the zero level needs.
    """
    from scipy.ndimage import distance_transform_edt

    outside = distance_transform_edt(~mask, sampling=spacing)
    inside = distance_transform_edt(mask, sampling=spacing)
    return ((outside - inside) / 2.0).astype(np.float32)


def _resample(
    values: NDArray[np.float32], spacing: Array, target_mm: float
) -> tuple[NDArray[np.float32], Array]:
    """Values on a grid of about ``target_mm`` and its step in voxels, per axis; corner samples coincide."""
    from scipy.ndimage import zoom

    extent = np.array(values.shape) - 1
    samples = np.maximum(np.ceil(extent * spacing / target_mm).astype(int), extent) + 1
    fine = zoom(values, samples / np.array(values.shape), order=1, grid_mode=False)
    return fine, extent / (np.array(fine.shape) - 1)


def _largest_sheet(vertices: Array, triangles: NDArray[np.int32]) -> tuple[Array, NDArray[np.int32]]:
    """The connected sheet with the most triangles: closed cavities inside the bone are no surface that is seen."""
    count, sheet = pieces(triangles, len(vertices))
    if count == 1:
        return vertices, triangles
    largest = int(np.argmax(np.bincount(sheet[triangles[:, 0]])))
    return clean(vertices, triangles[sheet[triangles[:, 0]] == largest])
