"""Vertebra frames: where a level's own axes lie. REP-103 with the patient as the body: x anterior, y left, z superior."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.case.meshes import volume_centroid
from end2reg_ros.case.model import Landmarks, Mesh, Screw
from end2reg_ros.errors import CaseError

Array = NDArray[np.float64]

#: Columns: anterior, left and superior in CT RAS axes (x right, y anterior, z superior).
R_RAS_BODY: Array = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def vertebra_frame(mesh: Mesh, landmarks: Landmarks | None = None) -> Array:
    """T_model_level (4, 4), metres: origin at the mesh's volume centroid.

    With landmarks, y runs from the right to the left transverse tip and x from the spinous tip through the centroid,
    made square to y; without, the axes are those of the CT.

    Raises:
        CaseError: landmarks on one line with the centroid, which give no axes.
    """
    centroid = volume_centroid(mesh)
    if landmarks is None:
        return se3.from_rotation_translation(R_RAS_BODY, centroid)
    left = landmarks.transverse_left - landmarks.transverse_right
    forward = centroid - landmarks.spinous
    width = float(np.linalg.norm(left))
    up = np.cross(forward, left)
    # 1 mm between the tips or 1 mm off their line is no axis, it is a slip of the pen.
    if width < 1e-3 or float(np.linalg.norm(up)) / width < 1e-3:
        raise CaseError("the landmarks and the centroid lie on one line: they give no axes")
    y = left / width
    z = up / np.linalg.norm(up)
    return se3.from_rotation_translation(np.column_stack([np.cross(y, z), y, z]), centroid)


def screw_frame(screw: Screw, T_model_level: Array) -> Array:
    """T_model_screw (4, 4): origin at the entry point, z along the trajectory, x as close to cranial as it can be."""
    z = screw.tip - screw.entry
    z = z / np.linalg.norm(z)
    cranial, left = T_model_level[:3, 2], T_model_level[:3, 1]
    helper = cranial if abs(float(cranial @ z)) < 0.9 else left
    x = helper - (helper @ z) * z
    x = x / np.linalg.norm(x)
    return se3.from_rotation_translation(np.column_stack([x, np.cross(z, x), z]), screw.entry)
