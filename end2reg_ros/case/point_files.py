"""Files of landmarks (JSON) and screws (YAML) that a case is made with; millimetres."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from end2reg_ros.case.document import parse_landmarks, parse_screws
from end2reg_ros.case.meshes import read_bytes
from end2reg_ros.case.model import Landmarks, Screw
from end2reg_ros.case.plain_yaml import parse_yaml
from end2reg_ros.errors import CaseError

Axes = Literal["ras", "lps"]

_TO_RAS = {"ras": np.ones(3), "lps": np.array([-1.0, -1.0, 1.0])}


def read_landmarks(path: Path, axes: Axes) -> dict[str, Landmarks]:
    """Level -> landmarks, metres, RAS, of ``{"L3": {"spinous": [x, y, z], ...}}``.

    Raises:
        CaseError: not JSON, or not landmarks.
    """
    try:
        content = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise CaseError(f"{path}: not valid JSON ({error})") from None
    found = {}
    for level, value in _by_level(content, path).items():
        marks = parse_landmarks(value, f"{path}: {level}")
        spinous, left, right = marks.as_array() * _TO_RAS[axes]
        found[str(level)] = Landmarks(spinous, left, right, proposed=marks.proposed)
    return found


def read_screws(path: Path, axes: Axes) -> dict[str, tuple[Screw, ...]]:
    """Level -> screws, metres, RAS, of ``{L3: {left: {entry, tip, diameter, length}, right: ...}}``.

    Raises:
        CaseError: not YAML, or not screws.
    """
    content = parse_yaml(read_bytes(path), str(path))
    turn = _TO_RAS[axes]
    found = {}
    for level, value in _by_level(content, path).items():
        screws = parse_screws(value, f"{path}: {level}")
        found[str(level)] = tuple(replace(s, entry=s.entry * turn, tip=s.tip * turn) for s in screws)
    return found


def _by_level(content: object, path: Path) -> dict[Any, Any]:
    if not isinstance(content, dict):
        raise CaseError(f"{path}: expected one entry per level (L3: ...)")
    return content
