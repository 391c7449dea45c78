"""What can be wrong with a case: its files and its anatomy; every check names its fault in one line.

What geometry cannot show: a mesh mirrored left to right is a plausible vertebra, so a mirrored case is seen only by
landmarks or screws whose left lies on the right; a case one level off (L4 named L3) looks like any other.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cache import Arrays, CaseEntry, digest_of_code
from end2reg_ros.case.document import LANDMARK_NAMES
from end2reg_ros.case.frames import vertebra_frame
from end2reg_ros.case.levels import level_rank
from end2reg_ros.case.meshes import (
    end_widths,
    face_geometry,
    inspect,
    read_bytes,
    read_mesh,
    vertex_normals,
    volume_centroid,
)
from end2reg_ros.case.model import Case, Mesh
from end2reg_ros.case.raycast import signed_distance
from end2reg_ros.case.store import LevelSpec, check_size, extents_mm, load_case, read_document
from end2reg_ros.errors import CaseError

Array = NDArray[np.float64]
Severity = Literal["error", "warning"]

_log = logging.getLogger(__name__)

#: Width of a lumbar vertebra over its transverse processes, mm.
LUMBAR_WIDTH_MM = (60.0, 110.0)
#: Centroids of neighbouring lumbar levels are this far apart, mm.
SPACING_MM = (18.0, 60.0)
# Facets touch. Label maps share voxel faces (0.05 mm measured), a shrink-wrapped model runs 3.6 mm into its neighbour.
OVERLAP_WARNING_MM, OVERLAP_ERROR_MM = 1.0, 5.0
LANDMARK_WARNING_MM, LANDMARK_ERROR_MM = 2.0, 10.0
_BENEATH = 0.003
SCREW_ENTRY_MM, SCREW_TIP_MM = 5.0, 3.0
SCREW_DIAMETER_MM, SCREW_LENGTH_MM = (2.0, 12.0), (15.0, 90.0)


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a case.

    Attributes:
        code: stable machine-readable name.
        level: the level it concerns; empty for the case as a whole.
        text: one line for people.
        severity: ``error`` (do not use the case) or ``warning`` (look at it).
    """

    code: str
    level: str
    text: str
    severity: Severity = "error"


def validate_case(path: str | Path) -> list[Fault]:
    """Faults of a case folder, in the order of the levels; empty for a sound case. Never raises for a bad case.

    Files first (missing, unreadable, changed), then every surface (closed, in millimetres), its landmarks and screws,
    then the levels together (directions, order, overlaps). The module says what cannot be seen.
    """
    folder = Path(path)
    try:
        document, _ = read_document(folder)
    except CaseError as error:
        return [Fault("case", "", str(error))]
    faults, levels = [], []
    for entry in document.levels:
        file = folder / entry.mesh
        if not file.is_file():
            faults.append(Fault("missing_file", entry.level, f"{entry.level}: {entry.mesh} is missing"))
            continue
        try:
            content = read_bytes(file)
            mesh = read_mesh(file, content)
        except CaseError as error:
            faults.append(Fault("mesh", entry.level, str(error)))
            continue
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            text = (
                f"{entry.level}: {entry.mesh} changed since the case was made (sha256 differs from case.yaml)"
            )
            faults.append(Fault("checksum", entry.level, text))
        levels.append(LevelSpec(entry.level, mesh, entry.colour, entry.landmarks, entry.screws))
    return faults + _check_names(levels) + check_levels(levels)


def load_valid_case(path: str | Path) -> Case:
    """A case folder in memory, in metres, that ``validate_case`` finds no error in; its warnings go to the log.

    The faults of a case are kept by its hash: they cost a second once, not at every start.

    Raises:
        CaseError: the case cannot be loaded, or has errors; the text tells the first of them and their number.
    """
    case = load_case(path)

    def make() -> Arrays:
        levels = [LevelSpec(v.level, v.mesh, v.colour, v.landmarks, v.screws) for v in case.vertebrae]
        text = json.dumps([astuple(fault) for fault in _check_names(levels) + check_levels(levels)])
        return {"faults": np.frombuffer(text.encode(), np.uint8)}

    entry = CaseEntry(case.hash, "faults", {"code": digest_of_code(__file__)})
    faults = [Fault(*fields) for fields in json.loads(entry.arrays(make)["faults"].tobytes())]
    errors = [fault.text for fault in faults if fault.severity == "error"]
    if errors:
        more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
        raise CaseError(
            f"{path}: not a valid case: {errors[0]}{more}; `end2reg case validate {path}` tells all"
        )
    for fault in faults:
        _log.warning("%s: %s", path, fault.text)
    return case


def has_errors(faults: list[Fault]) -> bool:
    """Whether any of the faults forbids the use of the case."""
    return any(fault.severity == "error" for fault in faults)


def check_levels(levels: Sequence[LevelSpec]) -> list[Fault]:
    """All faults of the levels of a case (given from cranial to caudal, metres, CT RAS)."""
    faults: list[Fault] = []
    sized, closed = [], []
    for level in levels:
        try:
            check_size(level.mesh, level.level)
        except CaseError as error:
            faults.append(Fault("wrong_unit", level.level, str(error)))
            continue
        sized.append(level)
        surface = _check_surface(level)
        if not any(fault.severity == "error" for fault in surface):
            closed.append(level)
        faults += surface
        faults += _check_landmarks(level)
        faults += _check_screws(level)
    return faults + check_directions(sized) + _check_order(sized) + check_overlaps(closed)


def check_directions(levels: Sequence[LevelSpec]) -> list[Fault]:
    """Whether the levels lie as CT RAS axes say: anterior along +y, the spine along z.

    Anterior is seen by two cues that must agree: the spinous process reaches farther from the centroid than the body
    does, and it is narrower. Medians over the levels, so that one collapsed or tilted body does not decide.
    """
    if not levels:
        return []
    reach, width = [], []
    for level in levels:
        centres, _, areas = face_geometry(level.mesh)
        y = centres[:, 1]
        middle = volume_centroid(level.mesh)[1]
        reach.append((middle - y.min()) / max(y.max() - middle, 1e-6))
        front, back = end_widths(y, centres[:, 0], areas)
        width.append(front / max(back, 1e-6))
    if np.median(reach) < 1.0 and np.median(width) < 1.0:
        text = (
            "the spinous processes point to +y: the meshes are turned front to back; "
            "RAS has anterior at +y (files in LPS, as 3D Slicer writes them, have x and y negated: --axes lps)"
        )
        return [Fault("front_back_flip", "", text)]
    return []


def check_overlaps(levels: Sequence[LevelSpec]) -> list[Fault]:
    """Closed levels that run into each other deeper than touching facets do."""
    faults = []
    for index, first in enumerate(levels):
        for second in levels[index + 1 :]:
            depth_mm = penetration(first.mesh, second.mesh) * 1000.0
            if depth_mm <= OVERLAP_WARNING_MM:
                continue
            severity: Severity = "error" if depth_mm > OVERLAP_ERROR_MM else "warning"
            text = f"{first.level} and {second.level} overlap by {depth_mm:.1f} mm"
            faults.append(Fault("overlap", first.level, text, severity))
    return faults


def penetration(first: Mesh, second: Mesh) -> float:
    """How deep two closed meshes run into each other, metres; 0 when they do not.

    The depth of the deepest vertex of one inside the other. Surfaces that coincide have no such vertex, so points
    3 mm beneath either surface are looked at too: one that lies d inside both shows a depth of at least 2 d.
    """
    depth = 0.0
    for inner, outer in ((first, second), (second, first)):
        low, high = outer.vertices.min(axis=0), outer.vertices.max(axis=0)
        near = np.flatnonzero(((inner.vertices > low) & (inner.vertices < high)).all(axis=1))
        if not len(near):
            continue
        depth = max(depth, -float(signed_distance(outer, inner.vertices[near]).min()))
        # Coinciding surfaces do so at many vertices: every fourth is enough to see it.
        beneath = (inner.vertices - _BENEATH * vertex_normals(inner))[near[::4]]
        within = -signed_distance(outer, beneath)
        common = within > 0
        if common.any():
            shared = np.minimum(within[common], -signed_distance(inner, beneath[common]))
            depth = max(depth, 2.0 * float(shared.max()))
    return depth


def _check_names(levels: Sequence[LevelSpec]) -> list[Fault]:
    text = "not an anatomical level (C1-C7, T1-T13, L1-L6, S1)"
    return [
        Fault("level_name", level.level, f"{level.level}: {text}", "warning")
        for level in levels
        if level_rank(level.level) is None
    ]


def _check_surface(level: LevelSpec) -> list[Fault]:
    name, report, faults = level.level, inspect(level.mesh), []
    if report.open_edges:
        faults.append(
            Fault("not_watertight", name, f"{name} is not watertight: {report.open_edges} open edges")
        )
    if report.flipped_edges:
        text = f"{name} is not watertight: triangles are wound against each other at {report.flipped_edges} edges"
        faults.append(Fault("not_watertight", name, text))
    if report.shared_edges:
        text = f"{name} touches itself: {report.shared_edges} edges have more than two triangles"
        faults.append(Fault("touches_itself", name, text, "warning"))
    if report.components > 1:
        faults.append(Fault("pieces", name, f"{name} is in {report.components} separate pieces", "warning"))
    width_mm, (low, high) = extents_mm(level.mesh)[0], LUMBAR_WIDTH_MM
    if name.startswith("L") and not low <= width_mm <= high:
        text = f"{name} is {width_mm:.0f} mm wide; a lumbar vertebra is {low:.0f}-{high:.0f} mm wide"
        faults.append(Fault("size", name, text, "warning"))
    return faults


def _check_landmarks(level: LevelSpec) -> list[Fault]:
    if level.landmarks is None:
        return []
    name, marks, faults = level.level, level.landmarks, []
    try:
        vertebra_frame(level.mesh, marks)
    except CaseError as error:
        faults.append(Fault("landmarks", name, f"{name}: {error}"))
    if marks.transverse_left[0] >= marks.transverse_right[0]:
        text = f"{name} is flipped left to right: transverse_left lies right of transverse_right (RAS has right at +x)"
        faults.append(Fault("left_right_flip", name, text))
    if marks.spinous[1] >= volume_centroid(level.mesh)[1]:
        text = (
            f"{name} is flipped front to back: the spinous tip lies in front of the centroid (anterior is +y)"
        )
        faults.append(Fault("front_back_flip", name, text))
    off_mm = np.abs(signed_distance(level.mesh, marks.as_array())) * 1000.0
    for landmark, distance in zip(LANDMARK_NAMES, off_mm, strict=True):
        if distance > LANDMARK_WARNING_MM:
            severity: Severity = "error" if distance > LANDMARK_ERROR_MM else "warning"
            text = f"{name} landmark {landmark} is {distance:.1f} mm off the surface"
            faults.append(Fault("landmark_off_surface", name, text, severity))
    return faults


def _check_screws(level: LevelSpec) -> list[Fault]:
    faults: list[Fault] = []
    for screw in level.screws:
        name = f"{level.level} screw {screw.side}"
        middle = volume_centroid(level.mesh)[0]
        if (screw.entry[0] > middle) == (screw.side == "left"):
            other = "right" if screw.side == "left" else "left"
            text = f"{name} is flipped left to right: its entry lies on the {other} (RAS has right at +x)"
            faults.append(Fault("left_right_flip", level.level, text))
        entry_mm, tip_mm = signed_distance(level.mesh, np.stack([screw.entry, screw.tip])) * 1000.0
        if abs(entry_mm) > SCREW_ENTRY_MM:
            faults.append(
                Fault("screw_entry", level.level, f"{name}: the entry is {abs(entry_mm):.1f} mm off the bone")
            )
        if tip_mm > SCREW_TIP_MM:
            text = f"{name}: the tip is {tip_mm:.1f} mm outside the bone"
            faults.append(Fault("screw_tip", level.level, text))
        diameter_mm, length_mm = screw.diameter * 1000.0, screw.length * 1000.0
        if not SCREW_DIAMETER_MM[0] <= diameter_mm <= SCREW_DIAMETER_MM[1]:
            text = f"{name}: a diameter of {diameter_mm:.3g} mm; 2-12 mm expected"
            faults.append(Fault("screw_size", level.level, text))
        if not SCREW_LENGTH_MM[0] <= length_mm <= SCREW_LENGTH_MM[1]:
            text = f"{name}: a length of {length_mm:.3g} mm; 15-90 mm expected"
            faults.append(Fault("screw_size", level.level, text))
    return faults


def _check_order(levels: Sequence[LevelSpec]) -> list[Fault]:
    """Names from cranial to caudal, centroids from high to low, and the spine along z."""
    faults = []
    ranks = [level_rank(level.level) for level in levels]
    centroids = [volume_centroid(level.mesh) for level in levels]
    pairs = list(zip(levels, levels[1:], ranks, ranks[1:], centroids, centroids[1:], strict=False))
    rising = sum(bool(upper[2] <= lower[2]) for *_, upper, lower in pairs)
    if len(levels) > 1:
        along = np.abs(centroids[-1] - centroids[0])
        if along[2] < along.max():
            axis = "xyz"[int(along.argmax())]
            text = f"the levels lie along {axis}: the meshes are not in RAS axes (superior is +z)"
            return [Fault("not_ras", "", text)]
    if pairs and rising == len(pairs):
        text = "the levels run upside down: each lies below the next one (RAS has superior at +z; or wrong numbering)"
        return [Fault("upside_down", "", text)]
    for first, second, rank, next_rank, upper, lower in pairs:
        names = f"{first.level} and {second.level}"
        if rank is not None and next_rank is not None and rank >= next_rank:
            text = f"{names} are listed out of order; levels go from cranial to caudal"
            faults.append(Fault("order", first.level, text))
        elif upper[2] <= lower[2]:
            faults.append(Fault("order", first.level, f"{names} are out of order: {first.level} lies below"))
        elif rank is not None and next_rank == rank + 1:
            apart_mm = float(np.linalg.norm(upper - lower)) * 1000.0
            if not SPACING_MM[0] <= apart_mm <= SPACING_MM[1]:
                text = f"{names} are {apart_mm:.0f} mm apart; neighbours are {SPACING_MM[0]:.0f}-{SPACING_MM[1]:.0f} mm"
                faults.append(Fault("spacing", first.level, text, "warning"))
    return faults
