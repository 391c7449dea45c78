"""Pinhole camera with lens distortion: the ray of every pixel, worked out once per calibration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.messages import CameraInfoLike
from end2reg_ros.errors import CloudError
from end2reg_ros.reasons import Reason

# Number of coefficients that each model of sensor_msgs/distortion_models takes.
_MODELS = {"plumb_bob": 5, "rational_polynomial": 8}
_CONVERGED = 1e-6  # in units of the normalised image plane: far below a thousandth of a pixel
_Rays = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Camera:
    """Intrinsics in pixels; ``distortion`` holds k1 k2 p1 p2 k3 k4 k5 k6, all zero for an ideal pinhole."""

    height: int
    width: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = (0.0,) * 8


def camera_from_info(info: CameraInfoLike) -> Camera:
    """Intrinsics of a CameraInfo; its header is not looked at (real recordings leave it empty).

    Raises:
        CloudError: ``bad_camera_info`` (no size, no focal length, a distortion model that is not known here).
    """
    k = [float(v) for v in info.k]
    coefficients = [float(v) for v in info.d]
    if len(k) != 9 or not np.isfinite([*k, *coefficients]).all() or k[0] <= 0.0 or k[4] <= 0.0:
        raise CloudError(
            Reason.BAD_CAMERA_INFO, "camera_info: fx and fy of K must be above 0 (not calibrated?)"
        )
    if info.height <= 0 or info.width <= 0:
        raise CloudError(Reason.BAD_CAMERA_INFO, f"camera_info gives a size of {info.width}x{info.height}")
    if any(coefficients):
        count = _MODELS.get(info.distortion_model, 0)
        # plumb_bob may come with four coefficients (k3 left out).
        if count == 0 or len(coefficients) > count or len(coefficients) < 4:
            text = (
                f"camera_info: distortion '{info.distortion_model}' with {len(coefficients)} coefficients"
                " is not supported; publish a rectified depth image, or plumb_bob or rational_polynomial"
            )
            raise CloudError(Reason.BAD_CAMERA_INFO, text)
    distortion = tuple((coefficients + [0.0] * 8)[:8])
    return Camera(int(info.height), int(info.width), k[0], k[4], k[2], k[5], distortion)


@lru_cache(maxsize=8)
def pixel_rays(camera: Camera) -> _Rays:
    """x/z and y/z of every pixel, each (height, width) float32; NaN where the distortion cannot be undone.

    The distortion model is OpenCV's (k1..k6, p1, p2); it is undone by Newton's method on x and y together.
    """
    u = (np.arange(camera.width) - camera.cx) / camera.fx
    v = (np.arange(camera.height) - camera.cy) / camera.fy
    x, y = np.meshgrid(u, v)
    if any(camera.distortion):
        x, y = _undistort(x, y, camera.distortion)
    return x.astype(np.float32), y.astype(np.float32)


def distort(
    x: NDArray[np.float64], y: NDArray[np.float64], distortion: tuple[float, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where an ideal pinhole's point (x, y) of the plane z = 1 is seen, in the same units."""
    k1, k2, p1, p2, k3, k4, k5, k6 = distortion
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    seen_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    seen_y = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return seen_x, seen_y


def _undistort(
    seen_x: NDArray[np.float64], seen_y: NDArray[np.float64], distortion: tuple[float, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = seen_x.copy(), seen_y.copy()
    step = 1e-6
    with np.errstate(all="ignore"):  # pixels beyond the model's reach run away: told below
        for _ in range(12):
            at_x, at_y = distort(x, y, distortion)
            xx, yx = distort(x + step, y, distortion)
            xy, yy = distort(x, y + step, distortion)
            a, b, c, d = (xx - at_x) / step, (xy - at_x) / step, (yx - at_y) / step, (yy - at_y) / step
            error_x, error_y, determinant = at_x - seen_x, at_y - seen_y, a * d - b * c
            x -= (d * error_x - b * error_y) / determinant
            y -= (a * error_y - c * error_x) / determinant
        at_x, at_y = distort(x, y, distortion)
        # A fold of the polynomial is found too: the lens's own answer is where the map keeps its orientation.
        good = (np.hypot(at_x - seen_x, at_y - seen_y) < _CONVERGED) & (determinant > 0)
    if not good.any():
        raise CloudError(
            Reason.BAD_CAMERA_INFO, "camera_info: the distortion coefficients leave no pixel with a ray"
        )
    x[~good] = np.nan
    y[~good] = np.nan
    return x, y
