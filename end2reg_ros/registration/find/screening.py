"""A quick look at many poses of one view: which of them are worth a fit.

A fit costs 50 ms, and from nothing some thirty poses are held against the best one. A few steps on a coarse cloud that all
of them share tell most of them off: bone is turned another way than the model there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.fit.refine import refine
from end2reg_ros.registration.local import LocalRegistration
from end2reg_ros.registration.scene import crop
from end2reg_ros.se3 import apply, inverse

Array = NDArray[np.float64]

VOXEL_M = 0.0035
# As far as the furthest level or the other end may put the model beyond its bounds.
REACH_M = 0.15
NEAR_M = 0.012
STEPS = 3
# Fits that passed every check had 0.56 and more after as many steps, 95 of 100 had 0.66; of those that failed, three of
# four had less than 0.49 (766 fits from nothing, simulated views).
MIN_NORMAL_AGREEMENT = 0.5
MIN_POINTS = 60


class Screen:
    """The coarse cloud around a pose, (N, 3) points and normals, metres, camera frame."""

    def __init__(self, local: LocalRegistration, cloud: Cloud, T_camera_model: Array) -> None:
        self.local = local
        thin = crop(cloud, T_camera_model, local.box, REACH_M, VOXEL_M, local.settings.threads).thin
        self.points, self.normals = thin.points, thin.normals_at(np.arange(len(thin)))

    def may_fit(self, T_camera_model: Array) -> bool:
        """Whether a pose within reach may pass the checks after refinement."""
        near = (
            self.local.surface.near(apply(inverse(T_camera_model), self.points).astype(np.float32)) < NEAR_M
        )
        if int(near.sum()) < MIN_POINTS:
            return False
        short = replace(self.local.settings.refine, max_iterations=STEPS, outside_iterations=0)
        found = refine(self.points[near], self.normals[near], self.local.surface, T_camera_model, short)
        return found.normal_agreement >= MIN_NORMAL_AGREEMENT
