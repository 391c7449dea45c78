"""A parametric lumbar spine of our own: L1-L5 from a seed, so that demo and tests need nobody's data."""

from __future__ import annotations

from end2reg_ros.simulation.anatomy.settings import AnatomySettings
from end2reg_ros.simulation.anatomy.spine import make_spine, write_procedural_case

__all__ = ["AnatomySettings", "make_spine", "write_procedural_case"]
