"""Mesh files to surfaces and back: STL, PLY, OBJ in millimetres; surfaces in metres, wound outwards."""

from __future__ import annotations

import codecs
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Mesh
from end2reg_ros.errors import CaseError

Array = NDArray[np.float64]
Triangles = NDArray[np.int32]

MESH_SUFFIXES = (".stl", ".ply", ".obj")
_STL_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


@dataclass(frozen=True)
class SurfaceReport:
    """What a surface is made of.

    Attributes:
        open_edges: edges with an odd number of triangles (a hole, or a sheet that hangs on the surface).
        shared_edges: edges with four or more triangles: two closed sheets that touch.
        flipped_edges: edges whose triangles run the same way: neighbours wound against each other.
        components: connected pieces.
    """

    open_edges: int
    shared_edges: int
    flipped_edges: int
    components: int

    @property
    def watertight(self) -> bool:
        """Whether the surface has no hole and one outside."""
        return self.open_edges == 0 and self.flipped_edges == 0


def read_mesh(path: Path, content: bytes | None = None) -> Mesh:
    """A mesh file in mm as a clean surface in metres, wound outwards as a whole.

    Equal vertices are merged, triangles without area and unused vertices dropped. Holes stay: ``inspect`` tells them.

    Args:
        path: ``.stl`` (binary or text), ``.ply`` or ``.obj``.
        content: the bytes of the file when they are already read.

    Raises:
        CaseError: a missing, truncated, empty or unknown file, or one with coordinates that are not finite.
    """
    suffix = path.suffix.lower()
    if suffix not in MESH_SUFFIXES:
        raise CaseError(f"{path}: not a mesh file ({', '.join(MESH_SUFFIXES)})")
    if content is None:
        content = read_bytes(path)
    if suffix == ".stl":
        vertices, triangles = _read_stl(content, path)
    else:
        vertices, triangles = _read_with_trimesh(content, suffix[1:], path)
    if not len(triangles):
        raise CaseError(f"{path}: no triangles")
    if not np.isfinite(vertices).all():
        raise CaseError(f"{path}: coordinates that are not finite numbers")
    mesh = Mesh(*clean(vertices / 1000.0, triangles))
    if not len(mesh.triangles):
        raise CaseError(f"{path}: no triangle has an area")
    return oriented(mesh)


def read_bytes(path: Path) -> bytes:
    """Content of a file.

    Raises:
        CaseError: it is not there or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CaseError(f"{path}: no such file") from None
    except OSError as error:
        raise CaseError(f"{path}: cannot be read ({error.strerror})") from None


def stl_bytes(mesh: Mesh) -> bytes:
    """Binary STL in mm; the same bytes for the same mesh."""
    corners = (mesh.vertices * 1000.0).astype("<f4")[mesh.triangles]
    records = np.zeros(len(corners), dtype=_STL_TRIANGLE)
    records["corners"] = corners
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    records["normal"] = normals / np.where(lengths > 0, lengths, 1.0)
    header = b"end2reg_ros surface in millimetres, CT RAS frame".ljust(80)
    return header + np.uint32(len(corners)).tobytes() + records.tobytes()


def clean(vertices: Array, triangles: NDArray[np.integer]) -> tuple[Array, Triangles]:
    """Merge equal vertices, drop triangles with two equal corners and vertices without a triangle."""
    unique, inverse = _unique_rows(vertices)
    merged = inverse[triangles]
    a, b, c = merged.T
    merged = merged[(a != b) & (b != c) & (c != a)]
    used = np.zeros(len(unique), dtype=bool)
    used[merged] = True
    new_index = np.cumsum(used) - 1
    return unique[used], new_index[merged].astype(np.int32)


def oriented(mesh: Mesh) -> Mesh:
    """The mesh with its triangles turned together so that its volume is positive (normals point out)."""
    if signed_volume(mesh) >= 0:
        return mesh
    return Mesh(mesh.vertices, np.ascontiguousarray(mesh.triangles[:, ::-1]))


def signed_volume(mesh: Mesh) -> float:
    """Enclosed volume in cubic metres; negative for a surface wound inwards."""
    return float(_tetrahedra(mesh)[0].sum())


def volume_centroid(mesh: Mesh) -> Array:
    """(3,) centroid of the enclosed volume, metres (of the surface where no volume is enclosed).

    Signed tetrahedra from the mean vertex: exact for a closed surface, close to it with small holes.
    """
    volumes, centres, origin = _tetrahedra(mesh)
    total = volumes.sum()
    if abs(total) < 1e-12:
        return np.asarray(mesh.vertices.mean(axis=0))
    return np.asarray(origin + (volumes[:, None] * centres).sum(axis=0) / total)


def inspect(mesh: Mesh) -> SurfaceReport:
    """Holes, windings and pieces of a surface."""
    a, b, c = mesh.triangles.T.astype(np.int64)
    start, end = np.concatenate([a, b, c]), np.concatenate([b, c, a])
    count = len(mesh.vertices)
    edge = np.minimum(start, end) * count + np.maximum(start, end)
    _, inverse, faces = np.unique(edge, return_inverse=True, return_counts=True)
    # Runs along an edge and against it cancel where neighbours are wound alike.
    balance = np.bincount(inverse, weights=np.where(start < end, 1.0, -1.0))
    odd = faces % 2 == 1
    return SurfaceReport(
        open_edges=int(odd.sum()),
        shared_edges=int(((faces > 2) & ~odd).sum()),
        flipped_edges=int(((balance != 0) & ~odd).sum()),
        components=pieces(mesh.triangles, count)[0],
    )


def pieces(triangles: Triangles, count: int) -> tuple[int, NDArray[np.int32]]:
    """How many connected pieces a surface of ``count`` vertices has, and (count,) the piece of each vertex."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b, c = triangles.T
    links = np.concatenate([a, b]), np.concatenate([b, c])
    graph = coo_array((np.ones(2 * len(triangles), dtype=np.int8), links), shape=(count, count))
    number, piece = connected_components(graph, directed=False)
    return int(number), piece


def face_geometry(mesh: Mesh) -> tuple[Array, Array, Array]:
    """Centres (F, 3) in metres, unit normals (F, 3) and areas (F,) in square metres of the triangles."""
    corners = mesh.vertices[mesh.triangles]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(cross, axis=1)
    normals = cross / np.where(length > 0, length, 1.0)[:, None]
    return corners.mean(axis=1), normals, length / 2.0


def end_widths(along: Array, across: Array, areas: Array) -> tuple[float, float]:
    """Half widths (standard deviations) of a surface in its last and its first 10 mm, metres.

    Args:
        along, across: (F,) coordinates of the triangles' centres, metres.
        areas: (F,) of the triangles.
    """

    def spread(part: NDArray[np.bool_]) -> float:
        mean = np.average(across[part], weights=areas[part])
        return float(np.sqrt(np.average((across[part] - mean) ** 2, weights=areas[part])))

    return spread(along > along.max() - 0.010), spread(along < along.min() + 0.010)


def vertex_normals(mesh: Mesh) -> Array:
    """(V, 3) unit normals of the vertices: means of their triangles' normals, weighted by area."""
    a, b, c = (mesh.vertices[mesh.triangles[:, k]] for k in range(3))
    area = np.cross(b - a, c - a)
    normals = np.zeros_like(mesh.vertices)
    for axis in range(3):
        for corner in range(3):
            normals[:, axis] += np.bincount(mesh.triangles[:, corner], area[:, axis], len(normals))
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-15))


def _tetrahedra(mesh: Mesh) -> tuple[Array, Array, Array]:
    """Signed volumes (F,) and centroids (F, 3) of the tetrahedra on every triangle, and their common apex (3,)."""
    origin = mesh.vertices.mean(axis=0)
    corners = (mesh.vertices - origin)[mesh.triangles]
    volumes = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6.0
    return volumes, corners.sum(axis=1) / 4.0, origin


def _read_stl(content: bytes, path: Path) -> tuple[Array, NDArray[np.int64]]:
    """Unmerged vertices and triangles of an STL file."""
    content = content.removeprefix(codecs.BOM_UTF8)  # some editors put it before the text
    announced = int.from_bytes(content[80:84], "little") if len(content) >= 84 else 0
    stored = (len(content) - 84) // _STL_TRIANGLE.itemsize
    # Many programs begin binary files with "solid" too.
    start = content[:2048].lower()
    is_text = start.lstrip().startswith(b"solid") and (b"facet" in start or b"endsolid" in start)
    if is_text and announced != stored:
        if b"endsolid" not in content[-512:].lower():
            raise CaseError(f"{path}: truncated STL: the text ends without endsolid")
        return _read_with_trimesh(content, "stl_ascii", path)
    if len(content) < 84:
        raise CaseError(f"{path}: truncated STL: {len(content)} bytes")
    if stored < announced:
        raise CaseError(f"{path}: truncated STL: {announced} triangles announced, {stored} stored")
    records = np.frombuffer(content, dtype=_STL_TRIANGLE, count=announced, offset=84)
    vertices = records["corners"].reshape(-1, 3).astype(np.float64)
    return vertices, np.arange(len(vertices)).reshape(-1, 3)


def _read_with_trimesh(content: bytes, file_type: str, path: Path) -> tuple[Array, NDArray[np.int64]]:
    """Vertices and triangles of a file that trimesh reads."""
    import trimesh

    try:
        loaded: Any = trimesh.load(
            io.BytesIO(content), file_type=file_type, process=False, force="mesh", skip_materials=True
        )
        vertices = np.asarray(loaded.vertices, dtype=np.float64)
        triangles = np.asarray(loaded.faces, dtype=np.int64)
    # trimesh raises whatever its parser meets (ValueError, IndexError, KeyError, struct.error ...).
    except Exception as error:
        raise CaseError(
            f"{path}: not a readable {path.suffix[1:].upper()} mesh ({type(error).__name__})"
        ) from None
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise CaseError(f"{path}: not a readable {path.suffix[1:].upper()} mesh")
    wrong = triangles[(triangles < 0) | (triangles >= len(vertices))]
    if wrong.size:
        raise CaseError(
            f"{path}: a triangle names vertex {wrong[0]}, but the file has 0 to {len(vertices) - 1}"
        )
    return vertices, triangles.reshape(-1, 3)


def _unique_rows(vertices: Array) -> tuple[Array, NDArray[np.int64]]:
    """Distinct rows in the order of their first use and, for every row, its index among them."""
    # Sorting one 64-bit mix of the three coordinates is several times faster than sorting rows; a mix that two
    # different rows share is seen below and handled by the plain way.
    bits = (vertices + 0.0).view(np.uint64)
    mix = bits[:, 0] * np.uint64(0x9E3779B97F4A7C15)
    for column in (1, 2):
        mix = ((mix ^ (mix >> np.uint64(29))) + bits[:, column]) * np.uint64(0xBF58476D1CE4E5B9)
    _, first, inverse = np.unique(mix, return_index=True, return_inverse=True)
    if not np.array_equal(vertices[first][inverse], vertices):
        _, first, inverse = np.unique(vertices, axis=0, return_index=True, return_inverse=True)
    # The file's order keeps neighbours near each other in memory.
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return vertices[first[order]], place[inverse.reshape(-1)]
