"""case.yaml: the text of a case folder, read and written. Millimetres in the file, metres in memory."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from end2reg_ros.case.levels import default_colour
from end2reg_ros.case.model import Landmarks, Screw
from end2reg_ros.case.plain_yaml import parse_yaml
from end2reg_ros.errors import CaseError
from end2reg_ros.names import SPINE, UNTRACKED

Array = NDArray[np.float64]

LANDMARK_NAMES = ("spinous", "transverse_left", "transverse_right")
SIDES = ("left", "right")

_CASE_KEYS = {"name", "units", "frame", "source", "levels", "notes"}
_LEVEL_KEYS = {"level", "mesh", "sha256", "colour", "landmarks", "screws", "notes"}
# A level names a TF frame, an MRML node, a file: letters, digits and underscores only.
_LONGEST_NAME, _LONGEST_PATH, _MOST_LEVELS = 32, 200, 40
_LEVEL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")


@dataclass(frozen=True)
class LevelDocument:
    """One level as case.yaml gives it; ``mesh`` is relative to the case folder, lengths in metres."""

    level: str
    mesh: str
    sha256: str
    colour: tuple[int, int, int]
    landmarks: Landmarks | None
    screws: tuple[Screw, ...]


@dataclass(frozen=True)
class CaseDocument:
    """A case.yaml in memory; ``levels`` in the order of the file."""

    name: str
    source: str
    levels: tuple[LevelDocument, ...]


def parse_document(text: bytes, where: str) -> CaseDocument:
    """Read a case.yaml; ``where`` begins every error text.

    Raises:
        CaseError: anything but a well-formed case.yaml in millimetres.
    """
    if len(text) > 1_000_000:
        raise CaseError(f"{where}: {len(text)} bytes are too many for a case.yaml")
    top = _mapping(parse_yaml(text, where), where, _CASE_KEYS)
    units = top.get("units")
    if units != "mm":
        raise CaseError(f"{where}: units must be mm, not {_short(units)}")
    if top.get("frame", "RAS") != "RAS":
        raise CaseError(f"{where}: frame must be RAS, not {_short(top['frame'])}")
    levels = top.get("levels")
    if not isinstance(levels, list) or not levels:
        raise CaseError(f"{where}: no levels")
    if len(levels) > _MOST_LEVELS:
        raise CaseError(f"{where}: {len(levels)} levels; at most {_MOST_LEVELS} are taken")
    parsed = tuple(_level(entry, index, where) for index, entry in enumerate(levels))
    names = [level.level for level in parsed]
    for name in names:
        if names.count(name) > 1:
            raise CaseError(f"{where}: level {name} is given twice")
    title = top.get("name")
    if not isinstance(title, str) or not title.strip():
        raise CaseError(f"{where}: no name")
    return CaseDocument(name=title, source=str(top.get("source") or ""), levels=parsed)


def dump_document(document: CaseDocument) -> str:
    """Text of a case.yaml; micrometre resolution, the same text for the same case."""
    levels = []
    for level in document.levels:
        entry: dict[str, Any] = {"level": level.level, "mesh": level.mesh, "sha256": level.sha256}
        entry["colour"] = [int(c) for c in level.colour]
        if level.landmarks is not None:
            entry["landmarks"] = {name: _mm(getattr(level.landmarks, name)) for name in LANDMARK_NAMES}
            entry["landmarks"]["proposed"] = level.landmarks.proposed
        if level.screws:
            entry["screws"] = {screw.side: _screw_entry(screw) for screw in level.screws}
        levels.append(entry)
    top = {"name": document.name, "units": "mm", "frame": "RAS", "source": document.source, "levels": levels}
    return yaml.safe_dump(top, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)


def parse_landmarks(value: object, where: str) -> Landmarks:
    """Landmarks of one level from ``{spinous: [x, y, z], transverse_left: ..., transverse_right: ...}`` in mm.

    Raises:
        CaseError: a missing point, or one that is not three finite numbers.
    """
    entry = _mapping(value, where, {*LANDMARK_NAMES, "proposed"})
    points = {}
    for name in LANDMARK_NAMES:
        if name not in entry:
            raise CaseError(f"{where}: landmark {name} is missing")
        points[name] = _point(entry[name], f"{where} {name}")
    return Landmarks(**points, proposed=bool(entry.get("proposed", False)))


def parse_screws(value: object, where: str) -> tuple[Screw, ...]:
    """Screws of one level from ``{left: {entry, tip, diameter, length}, right: ...}`` in mm.

    Raises:
        CaseError: an unknown side, a missing or non-finite number, entry and tip at the same point.
    """
    screws = []
    for side, entry in _mapping(value, where, set(SIDES)).items():
        here = f"{where} {side}"
        fields = _mapping(entry, here, {"entry", "tip", "diameter", "length"})
        for name in ("entry", "tip", "diameter"):
            if name not in fields:
                raise CaseError(f"{here}: {name} is missing")
        start, tip = _point(fields["entry"], f"{here} entry"), _point(fields["tip"], f"{here} tip")
        span = float(np.linalg.norm(tip - start))
        if span < 1e-4:
            raise CaseError(f"{here}: entry and tip are the same point")
        length = _length(fields["length"], f"{here} length") if "length" in fields else span
        screws.append(Screw(str(side), start, tip, _length(fields["diameter"], f"{here} diameter"), length))
    return tuple(screws)


def _level(value: object, index: int, where: str) -> LevelDocument:
    entry = _mapping(value, f"{where}: level {index + 1}", _LEVEL_KEYS)
    level = entry.get("level")
    if not isinstance(level, str) or not _LEVEL_NAME.match(level):
        raise CaseError(
            f"{where}: level {index + 1}: {_short(level)} is not a name of letters, digits and underscores"
        )
    if level.lower() in (SPINE, UNTRACKED) or len(level) > _LONGEST_NAME:
        why = (
            f"longer than {_LONGEST_NAME} letters" if len(level) > _LONGEST_NAME else "a frame of the tracker"
        )
        raise CaseError(f"{where}: level {index + 1}: {_short(level)} cannot name a level: it is {why}")
    here = f"{where}: {level}"
    mesh, sha256 = entry.get("mesh"), entry.get("sha256")
    if not isinstance(mesh, str) or not mesh:
        raise CaseError(f"{here}: no mesh file is named")
    if len(mesh) > _LONGEST_PATH:
        raise CaseError(f"{here}: the name of its mesh file has {len(mesh)} letters")
    # A case folder is whole: it can be copied, hashed and handed on.
    if PurePosixPath(mesh).is_absolute() or ".." in PurePosixPath(mesh).parts or "\\" in mesh:
        raise CaseError(f"{here}: mesh file {mesh} is outside the case folder")
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise CaseError(f"{here}: no sha256 of {mesh} (64 hexadecimal digits)")
    colour = entry.get("colour", list(default_colour(level, index)))
    if not (isinstance(colour, list) and len(colour) == 3 and all(_is_byte(c) for c in colour)):
        raise CaseError(f"{here}: colour must be three whole numbers from 0 to 255, not {_short(colour)}")
    landmarks, screws = entry.get("landmarks"), entry.get("screws")
    return LevelDocument(
        level=level,
        mesh=mesh,
        sha256=sha256.lower(),
        colour=(colour[0], colour[1], colour[2]),
        landmarks=None if landmarks is None else parse_landmarks(landmarks, f"{here} landmarks"),
        screws=() if screws is None else parse_screws(screws, f"{here} screws"),
    )


def _mapping(value: object, where: str, known: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CaseError(f"{where}: expected named entries ({', '.join(sorted(known))})")
    for key in value:
        if key not in known:
            raise CaseError(f"{where}: unknown entry {_short(key)} (known: {', '.join(sorted(known))})")
    return value


def _point(value: object, where: str) -> Array:
    numbers = value if isinstance(value, list | tuple) and len(value) == 3 else [None]
    if not all(_is_number(n) for n in numbers):
        raise CaseError(f"{where}: expected three finite numbers in mm, not {_short(value)}")
    return np.array(numbers, dtype=np.float64) / 1000.0


def _length(value: Any, where: str) -> float:
    if not _is_number(value) or value <= 0:
        raise CaseError(f"{where}: expected a number of mm above zero, not {_short(value)}")
    return float(value) / 1000.0


def _is_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _is_byte(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python prints no whole number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."


def _mm(point: Array) -> list[float]:
    return [round(float(c) * 1000.0, 3) + 0.0 for c in point]


def _screw_entry(screw: Screw) -> dict[str, Any]:
    return {
        "entry": _mm(screw.entry),
        "tip": _mm(screw.tip),
        "diameter": round(screw.diameter * 1000.0, 3),
        "length": round(screw.length * 1000.0, 3),
    }
