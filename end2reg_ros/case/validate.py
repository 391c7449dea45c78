"""Validation of a case folder: every fault that can be found, named."""

from __future__ import annotations

import hashlib
from pathlib import Path

from end2reg_ros.case.checks import Fault, check_levels
from end2reg_ros.case.levels import level_rank
from end2reg_ros.case.meshes import read_bytes, read_mesh
from end2reg_ros.case.store import LevelSpec, read_document
from end2reg_ros.errors import CaseError

__all__ = ["Fault", "has_errors", "validate_case"]


def validate_case(path: str | Path) -> list[Fault]:
    """Faults of a case folder, in the order of the levels; empty for a sound case. Never raises for a bad case.

    Files first (missing, unreadable, changed), then every surface (closed, in millimetres), its landmarks and screws,
    then the levels together (directions, order, overlaps). ``checks`` says what cannot be seen.
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
        if level_rank(entry.level) is None:
            text = f"{entry.level}: not an anatomical level (C1-C7, T1-T13, L1-L6, S1)"
            faults.append(Fault("level_name", entry.level, text, "warning"))
        levels.append(LevelSpec(entry.level, mesh, entry.colour, entry.landmarks, entry.screws))
    return faults + check_levels(levels)


def has_errors(faults: list[Fault]) -> bool:
    """Whether any of the faults forbids the use of the case."""
    return any(fault.severity == "error" for fault in faults)
