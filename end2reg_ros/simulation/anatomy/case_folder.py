"""A procedural spine as a case folder."""

from __future__ import annotations

from pathlib import Path

from end2reg_ros.case.store import CaseSpec, LevelSpec, write_case
from end2reg_ros.simulation.anatomy.settings import AnatomySettings
from end2reg_ros.simulation.anatomy.spine import make_spine


def write_procedural_case(
    path: str | Path, seed: int, settings: AnatomySettings | None = None, overwrite: bool = False
) -> Path:
    """Make the spine of ``seed`` and write it as a case folder (case.yaml, meshes/L1.stl ... L5.stl, mm).

    Raises:
        CaseError: the folder is not empty (unless ``overwrite``) or cannot be written.
    """
    vertebrae = make_spine(seed, settings)
    levels = tuple(LevelSpec(v.level, v.mesh, v.colour, v.landmarks, v.screws) for v in vertebrae)
    source = f"parametric anatomy of end2reg_ros, seed {seed}; no patient data (docs/anatomy.md)"
    return write_case(path, CaseSpec(f"procedural_{seed}", levels, source), overwrite)
