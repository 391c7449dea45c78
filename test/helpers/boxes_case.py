"""A case of three boxes, for tests that need a case but no anatomy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from end2reg_ros import se3
from end2reg_ros.case.model import Case, Landmarks, Mesh, Vertebra

LEVELS = ("L1", "L2", "L3")


def box(centre: np.ndarray, half: float = 0.012) -> Mesh:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
    triangles = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
                 [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]  # fmt: skip
    return Mesh(centre + half * corners, np.array(triangles, dtype=np.int32))


def boxes_case() -> Case:
    """Levels 36 mm apart along z, landmarks behind (-y) and beside them."""
    vertebrae = []
    for k, level in enumerate(LEVELS):
        origin = np.array([0.001 * k, 0.002, 0.1 - 0.036 * k])
        T = se3.from_rotation_translation(se3.rotation_from_vector(np.array([0.1 * k, 0.2, -0.3])), origin)
        spinous, left, right = origin + np.array([[0, -0.05, 0], [-0.04, -0.02, 0], [0.04, -0.02, 0]])
        marks = Landmarks(spinous, left, right)
        vertebrae.append(Vertebra(level, box(origin), T, (200 - 60 * k, 80 + 60 * k, 90), marks))
    return Case("boxes", Path("/boxes"), tuple(vertebrae), "made up", "ab" * 32)
