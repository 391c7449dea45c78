"""Whether two neighbouring vertebrae, moved against each other, would be in one another."""

from __future__ import annotations

from typing import Any

import numpy as np

from end2reg_ros import se3
from end2reg_ros.case.model import Mesh
from end2reg_ros.case.raycast import ray_scene, tensor
from end2reg_ros.simulation.field.surfaces import Array

TOLERANCE_M = 0.001  # deeper than in the CT: about the cartilage of a facet joint
SAMPLES = 3000  # vertices of each mesh that are looked at
NEAR_M = 0.02  # only those that can come near the other mesh


class ContactCheck:
    """How deep the vertices of two closed meshes lie in each other; ray structures are built once."""

    def __init__(self, fixed: Mesh, moving: Mesh) -> None:
        self._fixed, self._moving = ray_scene([fixed]), ray_scene([moving])
        self._of_fixed, self._of_moving = _near(fixed, moving), _near(moving, fixed)
        # Segmented meshes of neighbours touch or overlap here and there: that much is no fault of the motion.
        self.rest_m = self.depth(np.eye(4))

    def depth(self, T_fixed_moving: Array) -> float:
        """Greatest depth of a vertex in the other mesh, metres; 0 when they are apart."""
        into_fixed = se3.apply(T_fixed_moving, self._of_moving)
        into_moving = se3.apply(se3.inverse(T_fixed_moving), self._of_fixed)
        return max(_depth(self._fixed, into_fixed), _depth(self._moving, into_moving))

    def extra_depth(self, T_fixed_moving: Array) -> float:
        """Depth beyond that at rest, at least 0; metres."""
        return max(0.0, self.depth(T_fixed_moving) - self.rest_m)

    @staticmethod
    def allows(extra_depth_m: float) -> bool:
        """Whether bone could do that."""
        return extra_depth_m <= TOLERANCE_M


def _near(mesh: Mesh, other: Mesh) -> Array:
    """Evenly picked vertices of a mesh in the other's box and around it, (N, 3) metres."""
    low, high = other.vertices.min(axis=0) - NEAR_M, other.vertices.max(axis=0) + NEAR_M
    near = mesh.vertices[((mesh.vertices > low) & (mesh.vertices < high)).all(axis=1)]
    return near[:: max(1, -(-len(near) // SAMPLES))]


def _depth(scene: Any, points: Array) -> float:
    if len(points) == 0:
        return 0.0
    distance = scene.compute_signed_distance(tensor(points), nthreads=1)
    return max(0.0, -float(distance.numpy().min()))
