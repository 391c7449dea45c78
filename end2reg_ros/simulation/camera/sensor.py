"""The depth camera: its lens, its faults, where it stands, and the sensors known by name.

Camera optical frame: x right, y down, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.simulation.field.surfaces import Array


@dataclass(frozen=True)
class SensorSettings:
    """A depth sensor: image, lens and faults.

    Attributes:
        name: shown in tags.
        width, height: pixels.
        hfov_deg: horizontal field of view.
        baseline_m: between the two eyes; sets disparity and the stereo shadow.
        axial_stddev_m: standard deviation of depth at 0.5 m; grows with the square of depth.
        smooth_share: share of that variance which is correlated between neighbours.
        smooth_px: radius of that correlation (standard deviation of a Gaussian), pixels.
        disparity_step_px: finest step of disparity, pixels; 0 for none.
        depth_unit_m: depth is rounded to this; 0 for none.
        edge_drop: share of pixels lost beside a depth step.
        edge_step_m: a step between neighbours that counts as one.
        grazing_deg: surfaces seen flatter than this (0 = head on) are lost.
        hole_share: share of pixels lost in random patches.
        specular_drop: share of the pixels lost where wet tissue or metal mirrors the projector.
        shadow: lose what only one eye sees (stereo).
        min_range_m, max_range_m: outside nothing is measured.
        colour_noise: standard deviation of the colour image's noise, of 255.
    """

    name: str = "d435"
    width: int = 640
    height: int = 480
    hfov_deg: float = 69.0
    baseline_m: float = 0.05
    axial_stddev_m: float = 0.0004
    smooth_share: float = 0.7
    smooth_px: float = 2.0
    disparity_step_px: float = 1.0 / 32.0
    depth_unit_m: float = 0.0
    edge_drop: float = 0.6
    edge_step_m: float = 0.006
    grazing_deg: float = 80.0
    hole_share: float = 0.006
    specular_drop: float = 0.5
    shadow: bool = True
    min_range_m: float = 0.18
    max_range_m: float = 3.0
    colour_noise: float = 3.0

    @property
    def focal_px(self) -> float:
        """Focal length in pixels, square pixels."""
        return float(0.5 * self.width / np.tan(np.radians(0.5 * self.hfov_deg)))

    def camera_matrix(self) -> Array:
        """(3, 3) K, principal point in the middle of the image (pixel centres at whole numbers)."""
        f = self.focal_px
        return np.array([[f, 0, 0.5 * (self.width - 1)], [0, f, 0.5 * (self.height - 1)], [0, 0, 1.0]])

    @cached_property
    def directions(self) -> NDArray[np.float32]:
        """(H, W, 3) ray through every pixel with z = 1, so that a ray's parameter is depth."""
        K = self.camera_matrix()
        u, v = np.meshgrid(np.arange(self.width), np.arange(self.height))
        x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
        return np.stack([x, y, np.ones_like(x)], axis=-1).astype(np.float32)


SENSORS: dict[str, SensorSettings] = {
    "d435": SensorSettings(),
    "d435_720p": SensorSettings(name="d435_720p", width=1280, height=720, smooth_px=3.0),
    "d405": SensorSettings(name="d405", hfov_deg=74.0, baseline_m=0.018, axial_stddev_m=0.0003, min_range_m=0.07),
    "structured_light": SensorSettings(
        name="structured_light", hfov_deg=48.0, baseline_m=0.12, axial_stddev_m=0.0001, smooth_share=0.3,
        disparity_step_px=0.0, hole_share=0.002, edge_drop=0.9,
    ),
    "ideal": SensorSettings(
        name="ideal", axial_stddev_m=0.0, disparity_step_px=0.0, edge_drop=0.0, grazing_deg=90.0, hole_share=0.0,
        specular_drop=0.0, shadow=False, min_range_m=0.0, max_range_m=10.0, colour_noise=0.0,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class CameraPlacement:
    """Where the camera stands over the wound, looking at it.

    Attributes:
        distance_m: from the aim point.
        tilt_deg: of the view from straight down on the back (0).
        azimuth_deg: to which side it tilts: 0 the patient's right, 90 the head.
        roll_deg: about the view's axis; 0 has the head at the top of the image.
        aim_m: (right, superior) offset of the aim point from the middle of the wound.
    """

    distance_m: float = 0.55
    tilt_deg: float = 10.0
    azimuth_deg: float = 30.0
    roll_deg: float = 0.0
    aim_m: tuple[float, float] = (0.0, 0.0)

    def T_camera_patient(self, target: Array) -> Array:
        """(4, 4) for a wound whose middle (3,) is at ``target`` in the patient frame."""
        tilt, azimuth = np.radians(self.tilt_deg), np.radians(self.azimuth_deg)
        # Head-on view: x to the patient's right, y to the feet, z into the body.
        head_on = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
        axis = np.array([-np.sin(azimuth), 0.0, np.cos(azimuth)])
        R_tilt = se3.rotation_from_vector(axis * tilt)
        R_roll = se3.rotation_from_vector(np.array([0.0, 0.0, np.radians(self.roll_deg)]))
        R = R_tilt @ head_on @ R_roll
        aim = target + np.array([self.aim_m[0], 0.0, self.aim_m[1]])
        T_patient_camera = se3.from_rotation_translation(R, aim - self.distance_m * R[:, 2])
        return se3.inverse(T_patient_camera)
