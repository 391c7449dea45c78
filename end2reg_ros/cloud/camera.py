"""Pinhole camera with lens distortion: the rays of its pixels, worked out once per calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.messages import CameraInfoLike
from end2reg_ros.errors import CloudError
from end2reg_ros.reasons import Reason

# Of sensor_msgs/distortion_models. Both give OpenCV's coefficients in one order, and drivers name one with the length of
# the other: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4 [tx ty]]]], of which the last two groups are read only as zeros.
_MODELS = ("plumb_bob", "rational_polynomial")
_COEFFICIENTS = 8
_BLOCK = 1 << 16  # pixels undistorted at a time: their arrays stay within the processor's cache
_CONVERGED = 1e-6  # in units of the normalised image plane: far below a thousandth of a pixel
_EXACT = 1e-12  # far below what float32 tells apart
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
    known = info.distortion_model in _MODELS and len(coefficients) >= 4
    if any(coefficients) and (not known or any(coefficients[_COEFFICIENTS:])):
        text = (
            f"camera_info: distortion '{info.distortion_model}' with {len(coefficients)} coefficients"
            " is not supported; publish a rectified depth image, or plumb_bob or rational_polynomial"
        )
        raise CloudError(Reason.BAD_CAMERA_INFO, text)
    distortion = tuple((coefficients + [0.0] * _COEFFICIENTS)[:_COEFFICIENTS])
    return Camera(int(info.height), int(info.width), k[0], k[4], k[2], k[5], distortion)


def image_camera(camera: Camera, info: CameraInfoLike) -> Camera:
    """The camera of the images that a sensor sends after cropping to the ROI and binning that its CameraInfo tells.

    Args:
        camera: of the whole sensor, which K of a CameraInfo is for.
        info: binning of 0 and a ROI of no size stand for none.
    """
    x_step, y_step, roi = max(int(info.binning_x), 1), max(int(info.binning_y), 1), info.roi
    height, width = int(roi.height) or camera.height, int(roi.width) or camera.width
    return replace(
        camera,
        height=height // y_step,
        width=width // x_step,
        fx=camera.fx / x_step,
        fy=camera.fy / y_step,
        cx=(camera.cx - int(roi.x_offset)) / x_step,
        cy=(camera.cy - int(roi.y_offset)) / y_step,
    )


@lru_cache(maxsize=8)
def pixel_rays(camera: Camera, rows_step: int = 1, columns_step: int = 1) -> _Rays:
    """x/z and y/z of every ``rows_step``-th row's every ``columns_step``-th pixel; NaN where none can be told.

    The distortion model is OpenCV's (k1..k6, p1, p2); it is undone by Newton's method on x and y together.

    Returns:
        Two (ceil(height / rows_step), ceil(width / columns_step)) float32 arrays.

    Raises:
        CloudError: ``bad_camera_info`` (no pixel has a ray).
    """
    u = (np.arange(0, camera.width, columns_step) - camera.cx) / camera.fx
    v = (np.arange(0, camera.height, rows_step) - camera.cy) / camera.fy
    x, y = np.empty((2, v.size, u.size), np.float32)
    rows = max(_BLOCK // u.size, 1)
    for first in range(0, v.size, rows):
        block = np.s_[first : first + rows]
        seen_x, seen_y = np.meshgrid(u, v[block])
        if any(camera.distortion):
            seen_x, seen_y = _undistort(seen_x, seen_y, camera.distortion)
        x[block], y[block] = seen_x, seen_y
    if np.isnan(x).all():
        raise CloudError(
            Reason.BAD_CAMERA_INFO, "camera_info: the distortion coefficients leave no pixel with a ray"
        )
    return x, y


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
            if max(np.abs(error_x).max(), np.abs(error_y).max()) < _EXACT:
                break
            x -= (d * error_x - b * error_y) / determinant
            y -= (a * error_y - c * error_x) / determinant
        at_x, at_y = distort(x, y, distortion)
        # A fold of the polynomial is found too: the lens's own answer is where the map keeps its orientation.
        good = (np.hypot(at_x - seen_x, at_y - seen_y) < _CONVERGED) & (determinant > 0)
    x[~good] = np.nan
    y[~good] = np.nan
    return x, y
