"""Case folders on disk: load one into memory, write one.

case.yaml            name, units (mm), frame (RAS), source, levels from cranial to caudal
meshes/L1.stl ...    closed surfaces, mm, one common CT frame
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from end2reg_ros.case.document import (
    LANDMARK_NAMES,
    CaseDocument,
    LevelDocument,
    dump_document,
    parse_document,
)
from end2reg_ros.case.frames import vertebra_frame
from end2reg_ros.case.levels import default_colour
from end2reg_ros.case.meshes import oriented, read_bytes, read_mesh, stl_bytes
from end2reg_ros.case.model import Array, Case, Landmarks, Mesh, Screw, Vertebra
from end2reg_ros.errors import CaseError

DOCUMENT_NAME = "case.yaml"
MESH_FOLDER = "meshes"

#: Largest side of a vertebra's bounding box, mm: outside these the file is in another unit, or no vertebra.
SIZE_LIMITS_MM = (15.0, 250.0)
#: A landmark or screw so far outside its mesh's bounding box is in another unit or another frame, mm.
POINT_LIMIT_MM = 60.0


@dataclass(frozen=True)
class LevelSpec:
    """One level to be written: mesh, landmarks and screws in metres, model frame (CT RAS).

    ``colour`` is red, green, blue (0-255); None takes the level's usual colour.
    """

    level: str
    mesh: Mesh
    colour: tuple[int, int, int] | None = None
    landmarks: Landmarks | None = None
    screws: tuple[Screw, ...] = ()


@dataclass(frozen=True)
class CaseSpec:
    """A case to be written; ``levels`` from cranial to caudal, ``source`` says where the anatomy comes from."""

    name: str
    levels: tuple[LevelSpec, ...]
    source: str = ""


def load_case(path: str | Path) -> Case:
    """A case folder in memory, in metres.

    Every mesh is read, checked against its checksum and its size, and wound outwards. What would merely be wrong
    anatomy (holes, flips, overlaps) is for ``validate_case``.

    Raises:
        CaseError: no folder, no or a bad case.yaml, a missing, truncated or changed mesh, a mesh, landmark or screw
            that is not in millimetres.
    """
    folder = Path(path)
    document, text = read_document(folder)
    digest = hashlib.sha256(text)
    vertebrae = []
    for entry in document.levels:
        mesh, sha256 = read_level_mesh(folder, entry)
        digest.update(bytes.fromhex(sha256))
        check_size(mesh, f"{folder / entry.mesh}: {entry.level}")
        _check_points(mesh, entry, folder)
        try:
            T_model_level = vertebra_frame(mesh, entry.landmarks)
        except CaseError as error:
            raise CaseError(f"{folder / DOCUMENT_NAME}: {entry.level}: {error}") from None
        vertebrae.append(
            Vertebra(entry.level, mesh, T_model_level, entry.colour, entry.landmarks, entry.screws),
        )
    return Case(document.name, folder.resolve(), tuple(vertebrae), document.source, digest.hexdigest())


def write_case(path: str | Path, spec: CaseSpec, overwrite: bool = False) -> Path:
    """Write a case folder; case.yaml comes last, so that a folder with one is whole.

    Args:
        path: the folder; made with its parents when it is not there.

    Returns:
        The folder.

    Raises:
        CaseError: no levels, the folder is not empty, or it cannot be written.
    """
    folder = Path(path)
    if not spec.levels:
        raise CaseError(f"{folder}: a case needs at least one level")
    check_target(folder, overwrite)
    stale = _mesh_files(folder) if overwrite else []
    entries, files = [], {}
    for index, level in enumerate(spec.levels):
        content = stl_bytes(oriented(level.mesh))
        name = f"{MESH_FOLDER}/{level.level}.stl"
        files[name] = content
        entries.append(
            LevelDocument(
                level=level.level,
                mesh=name,
                sha256=hashlib.sha256(content).hexdigest(),
                colour=level.colour or default_colour(level.level, index),
                landmarks=level.landmarks,
                screws=level.screws,
            )
        )
    text = dump_document(CaseDocument(spec.name, spec.source, tuple(entries)))
    # What cannot be read back must not be written.
    parse_document(text.encode(), str(folder / DOCUMENT_NAME))
    try:
        (folder / MESH_FOLDER).mkdir(parents=True, exist_ok=True)
        for old in (folder / DOCUMENT_NAME, *stale):
            old.unlink(missing_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        (folder / DOCUMENT_NAME).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CaseError(f"{folder}: cannot be written ({error.strerror})") from None
    return folder


def check_target(folder: Path, overwrite: bool) -> None:
    """See that a case may be written to a folder: one that is new, empty, or holds a case to be replaced.

    Raises:
        CaseError: it may not.
    """
    if folder.exists() and not folder.is_dir():
        raise CaseError(f"{folder}: exists and is not a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (overwrite and (folder / DOCUMENT_NAME).is_file()):
        hint = (
            "overwrite it with --overwrite"
            if (folder / DOCUMENT_NAME).is_file()
            else "choose an empty folder"
        )
        raise CaseError(f"{folder}: is not empty; {hint}")


def read_document(folder: Path) -> tuple[CaseDocument, bytes]:
    """The parsed case.yaml of a folder and its bytes.

    Raises:
        CaseError: no folder, no case.yaml, or a bad one.
    """
    if not folder.exists():
        raise CaseError(f"{folder}: no such case folder")
    if not folder.is_dir():
        raise CaseError(f"{folder}: not a case folder")
    if not (folder / DOCUMENT_NAME).is_file():
        raise CaseError(f"{folder}: no case.yaml in this folder; make a case with `end2reg case create`")
    text = read_bytes(folder / DOCUMENT_NAME)
    return parse_document(text, str(folder / DOCUMENT_NAME)), text


def read_level_mesh(folder: Path, entry: LevelDocument) -> tuple[Mesh, str]:
    """The mesh of one level in metres and the sha256 of its file.

    Raises:
        CaseError: a missing, changed or unreadable file.
    """
    path = folder / entry.mesh
    content = read_bytes(path)
    sha256 = hashlib.sha256(content).hexdigest()
    # Read first: "truncated" says more than "changed".
    mesh = read_mesh(path, content)
    if sha256 != entry.sha256:
        raise CaseError(f"{path}: changed since the case was made (sha256 differs from case.yaml)")
    return mesh, sha256


def check_size(mesh: Mesh, where: str) -> None:
    """Refuse a mesh that cannot be a vertebra in millimetres.

    Raises:
        CaseError: its largest side is outside ``SIZE_LIMITS_MM``.
    """
    size_mm = extents_mm(mesh).max()
    low, high = SIZE_LIMITS_MM
    if low <= size_mm <= high:
        return
    for unit, factor in (("metres", 1000.0), ("centimetres", 10.0), ("micrometres", 0.001), ("inches", 25.4)):
        if 60.0 <= size_mm * factor <= 130.0:
            raise CaseError(f"{where} is {size_mm:.3g} mm large: the file is in {unit}, not in mm")
    raise CaseError(f"{where} is {size_mm:.3g} mm large: not a vertebra in mm")


def extents_mm(mesh: Mesh) -> Array:
    """(3,) sides of the bounding box in mm, model axes."""
    return np.asarray(np.ptp(mesh.vertices, axis=0)) * 1000.0


def _mesh_files(folder: Path) -> list[Path]:
    """Mesh files of the case in a folder; none when there is no readable case."""
    try:
        return [folder / entry.mesh for entry in read_document(folder)[0].levels]
    except CaseError:
        return []


def _check_points(mesh: Mesh, entry: LevelDocument, folder: Path) -> None:
    points: dict[str, Array] = {}
    if entry.landmarks is not None:
        points |= {f"landmark {name}": getattr(entry.landmarks, name) for name in LANDMARK_NAMES}
    for screw in entry.screws:
        points |= {f"screw {screw.side} entry": screw.entry, f"screw {screw.side} tip": screw.tip}
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    for name, point in points.items():
        outside_mm = float(np.linalg.norm(np.maximum(np.maximum(low - point, point - high), 0.0))) * 1000.0
        if outside_mm > POINT_LIMIT_MM:
            where = f"{folder / DOCUMENT_NAME}: {entry.level}: {name}"
            raise CaseError(
                f"{where} is {outside_mm:.0f} mm away from the mesh: another unit or another frame"
            )
