"""Making a case: from mesh files, or from a CT label map."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from end2reg_ros.case.checks import Fault, check_levels
from end2reg_ros.case.isosurface import SurfaceSettings, label_surface
from end2reg_ros.case.labels import check_ct, choose_labels, guess_numbering, read_label_map
from end2reg_ros.case.landmarks import propose_landmarks
from end2reg_ros.case.levels import level_of_file, sort_levels
from end2reg_ros.case.meshes import MESH_SUFFIXES, oriented, read_bytes, read_mesh
from end2reg_ros.case.model import Mesh
from end2reg_ros.case.point_files import Axes, read_landmarks, read_screws
from end2reg_ros.case.store import CaseSpec, LevelSpec, check_target, write_case
from end2reg_ros.errors import CaseError

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CreateRequest:
    """What to make a case from: ``meshes`` or ``labels``, never both. `end2reg case create` takes its options from here."""

    out: Path
    """Case folder to write."""
    meshes: tuple[Path, ...] = ()
    """Closed surfaces in mm (STL, PLY, OBJ), one a level, named after it (L3.stl), or a folder of them."""
    labels: Path | None = None
    """CT label map (NIfTI) to make the surfaces from."""
    ct: Path | None = None
    """CT of the label map: checked to lie on the same grid with bone under the labels, and named in the source."""
    numbering: Literal["auto", "verse", "totalsegmentator", "totalsegmentator_v1"] = "auto"
    """Meaning of the label numbers: VerSe (L1-L5 = 20-24), TotalSegmentator v2 (31-27), v1 (22-18); auto: VerSe up to
    number 28, else v2, and an error where the numbers fit another one too."""
    label_numbers: tuple[str, ...] = ()
    """Label numbers by hand, as in L1=20 L2=21; exactly these levels are made."""
    levels: tuple[str, ...] = ()
    """Only these levels, as in L2 L3 L4; default all (of a label map: L1-L6)."""
    landmarks: Path | None = None
    """JSON in mm: {"L3": {"spinous": [x, y, z], "transverse_left": ..., "transverse_right": ...}}; else proposed."""
    screws: Path | None = None
    """YAML in mm: {L3: {left: {entry: [x, y, z], tip: [x, y, z], diameter: 6.5, length: 45}, right: ...}}."""
    name: str = ""
    """Name of the case; default the folder's name."""
    axes: Axes = "ras"
    """Axes of meshes, landmarks and screws: ras (x right, y anterior), or lps as 3D Slicer and DICOM have them."""
    spacing: float = SurfaceSettings.spacing_mm
    """Grid of the surface made from a label map, mm."""
    smoothing: float = SurfaceSettings.sigma_mm
    """Gaussian that takes the voxel steps off a label map's surface, mm."""
    overwrite: bool = False
    """Replace the case that is in the folder."""
    allow_faults: bool = False
    """Write the case although validation finds errors in it."""


@dataclass(frozen=True)
class CreatedCase:
    """A case that was written: its folder, and what validation had to say."""

    path: Path
    faults: tuple[Fault, ...]


def create_case(request: CreateRequest, progress: Progress | None = None) -> CreatedCase:
    """Make a case folder.

    Args:
        progress: called with a text, the steps done and the steps in all.

    Raises:
        CaseError: inputs that cannot be used, or (unless ``allow_faults``) a case with errors; nothing is written then.
    """
    report = progress or (lambda text, done, total: None)
    numbers = dict(_label_number(text) for text in request.label_numbers)
    request = replace(request, levels=tuple(level.upper() for level in request.levels))
    if bool(request.meshes) == (request.labels is not None):
        raise CaseError("give either meshes (--meshes) or a label map (--labels)")
    _check_request(request)
    check_target(request.out, request.overwrite)
    # Small inputs first: a slip in them must not cost the minutes of the large ones.
    landmarks = read_landmarks(request.landmarks, request.axes) if request.landmarks else {}
    screws = read_screws(request.screws, request.axes) if request.screws else {}
    if request.labels is not None:
        meshes, notes, source = _from_labels(request, request.labels, numbers, report)
    else:
        meshes, notes, source = _from_files(request, report)
    for given, file in ((landmarks, request.landmarks), (screws, request.screws)):
        for level in given:
            if level not in meshes:
                raise CaseError(f"{file}: {level} is not in the case ({', '.join(meshes)})")
    levels, total = [], 2 * len(meshes) + 1
    for index, (level, mesh) in enumerate(meshes.items()):
        report(f"landmarks of {level}", len(meshes) + index, total)
        spec = LevelSpec(level, mesh, landmarks=landmarks.get(level), screws=screws.get(level, ()))
        levels.append(_with_landmarks(spec, notes))
    report("validation", total - 1, total)
    faults = [*notes, *check_levels(levels)]
    errors = [fault for fault in faults if fault.severity == "error"]
    if errors and not request.allow_faults:
        more = (
            f" (and {len(errors) - 1} more; --allow-faults writes it all the same)" if len(errors) > 1 else ""
        )
        raise CaseError(errors[0].text + more)
    name = request.name or request.out.resolve().name
    write_case(request.out, CaseSpec(name, tuple(levels), source), overwrite=request.overwrite)
    report("done", total, total)
    return CreatedCase(request.out, tuple(faults))


def _check_request(request: CreateRequest) -> None:
    """Refuse what is out of range or would be given in vain."""
    if not (0.2 <= request.spacing <= 3.0 and 0.0 <= request.smoothing <= 3.0):
        raise CaseError("--spacing must be 0.2-3 mm and --smoothing 0-3 mm")
    if request.labels is None:
        if request.ct is not None:
            raise CaseError("a CT (--ct) is only used together with its label map (--labels)")
        if request.label_numbers or request.numbering != "auto":
            raise CaseError("--numbering and --label-numbers are only used with a label map (--labels)")
        if (request.spacing, request.smoothing) != (CreateRequest.spacing, CreateRequest.smoothing):
            raise CaseError("--spacing and --smoothing are only used with a label map (--labels)")
    if request.label_numbers and request.numbering != "auto":
        raise CaseError("give --numbering or --label-numbers, not both")
    if request.label_numbers and request.levels:
        raise CaseError("give --levels or --label-numbers, not both: exactly the numbered levels are made")


def _label_number(text: str) -> tuple[str, int]:
    level, sign, number = text.partition("=")
    if not sign or not number.strip().isdigit():
        raise CaseError(f"--label-numbers: {text!r} is not of the form L3=22")
    return level.strip().upper(), int(number)


def _from_labels(
    request: CreateRequest, path: Path, numbers: dict[str, int], report: Progress
) -> tuple[dict[str, Mesh], list[Fault], str]:
    labels = read_label_map(path)
    numbering: str = request.numbering
    known = "by hand"
    if not numbers:
        guessed = numbering == "auto"
        numbering = guess_numbering(labels) if guessed else numbering
        known = f"{numbering} numbering" + (" (guessed)" if guessed else "")
    numbers = choose_labels(labels, numbering, numbers, request.levels)
    source = f"label map {path.name} (sha256 {_digest(path)}), {known}: "
    source += ", ".join(f"{level}={number}" for level, number in numbers.items())
    if request.ct is not None:
        check_ct(request.ct, labels, numbers)
        source += f"; CT {request.ct.name} (sha256 {_digest(request.ct)}, same grid)"
    settings = SurfaceSettings(spacing_mm=request.spacing, sigma_mm=request.smoothing)
    meshes: dict[str, Mesh] = {}
    notes = []
    for index, (level, number) in enumerate(numbers.items()):
        report(f"surface of {level}", index, 2 * len(numbers) + 1)
        surface = label_surface(labels, number, settings)
        meshes[level] = surface.mesh
        if surface.cut:
            text = (
                f"{level} is cut off by the edge of the label map: its surface ends there, the bone does not"
            )
            notes.append(Fault("cut", level, text, "warning"))
        if surface.dropped_share > 0.01:
            text = (
                f"{level}: {surface.dropped_share:.0%} of the label lies in separate pieces and was left out"
            )
            notes.append(Fault("pieces", level, text, "warning"))
    return meshes, notes, source


def _from_files(request: CreateRequest, report: Progress) -> tuple[dict[str, Mesh], list[Fault], str]:
    files = _mesh_files(request)
    meshes = {}
    for index, level in enumerate(sort_levels(files)):
        report(f"mesh of {level}", index, 2 * len(files) + 1)
        mesh = read_mesh(files[level])
        if request.axes == "lps":
            mesh = oriented(Mesh(mesh.vertices * np.array([-1.0, -1.0, 1.0]), mesh.triangles))
        meshes[level] = mesh
    source = "meshes " + ", ".join(files[level].name for level in meshes)
    return meshes, [], source + (" (LPS axes turned to RAS)" if request.axes == "lps" else "")


def _mesh_files(request: CreateRequest) -> dict[str, Path]:
    """Level -> file. In a folder, files that name no level (a pelvis) are passed over."""
    found: dict[str, Path] = {}
    for path in request.meshes:
        candidates = [path]
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in MESH_SUFFIXES)
            if not inside:
                raise CaseError(f"{path}: no mesh files ({', '.join(MESH_SUFFIXES)}) in this folder")
            candidates = [p for p in inside if level_of_file(p) is not None]
            if not candidates:
                raise CaseError(f"{path}: no mesh file in this folder is named after its level (L3.stl)")
        for file in candidates:
            level = level_of_file(file)
            if level is None:
                raise CaseError(f"{file}: the file name gives no level; name it after its level (L3.stl)")
            if request.levels and level not in request.levels:
                continue
            if level in found:
                raise CaseError(f"{file}: {level} is already given by {found[level]}")
            found[level] = file
    missing = [level for level in request.levels if level not in found]
    if missing:
        raise CaseError(f"no mesh for {', '.join(missing)} (--levels)")
    return found


def _with_landmarks(spec: LevelSpec, notes: list[Fault]) -> LevelSpec:
    """The level with proposed landmarks where none are given; a note where none can be proposed."""
    if spec.landmarks is not None:
        return spec
    try:
        return replace(spec, landmarks=propose_landmarks(spec.mesh))
    except CaseError as error:
        notes.append(Fault("no_landmarks", spec.level, f"{spec.level}: {error}", "warning"))
        return spec


def _digest(path: Path) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()[:16]
