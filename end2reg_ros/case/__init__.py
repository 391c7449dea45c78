"""Pre-operative side: what is tracked."""

from __future__ import annotations

from end2reg_ros.case.model import Case, Landmarks, Mesh, Screw, Vertebra
from end2reg_ros.case.store import CaseSpec, LevelSpec, load_case, write_case

__all__ = [
    "Case",
    "CaseSpec",
    "Landmarks",
    "LevelSpec",
    "Mesh",
    "Screw",
    "Vertebra",
    "load_case",
    "write_case",
]
