"""Procedural spines that several tests look at, each made once a session."""

from __future__ import annotations

from functools import lru_cache

from end2reg_ros.case.model import Vertebra
from end2reg_ros.simulation.anatomy import AnatomySettings, make_spine

COARSE = AnatomySettings(voxel_mm=1.3, triangles=3000)


@lru_cache
def coarse_spine(seed: int) -> tuple[Vertebra, ...]:
    """L1..L5 of a seed at low resolution; not to be changed."""
    return make_spine(seed, COARSE)
