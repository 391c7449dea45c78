"""Depth image + camera_info (+ colour image) -> ``Cloud``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.camera import camera_from_info, image_camera, pixel_rays
from end2reg_ros.cloud.limits import CloudLimits, grid_stride, select_points
from end2reg_ros.cloud.messages import CameraInfoLike, ImageLike, as_bytes, stamp_ns
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CloudError
from end2reg_ros.reasons import Reason

_DEFAULT = CloudLimits()
# Encoding -> numpy type and metres per unit (REP-118; mono16 is what some SDK recordings call 16UC1).
_DEPTH = {"16UC1": ("u2", 0.001), "mono16": ("u2", 0.001), "32FC1": ("f4", 1.0)}
# Encoding -> bytes per pixel and where red, green and blue are.
_COLOUR = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
}


def decode_depth(
    depth: ImageLike, info: CameraInfoLike, colour: ImageLike | None = None, limits: CloudLimits = _DEFAULT
) -> Cloud:
    """Decode one depth image.

    Args:
        depth: 16UC1 or mono16 in mm (0 invalid), 32FC1 in m (NaN or 0 invalid); its header is the cloud's.
        info: calibration of the depth image; non-zero plumb_bob or rational_polynomial distortion is undone. Where the
            image has not its size, its ROI and binning are looked at.
        colour: image registered to the depth image, of the same size; None for a cloud without colours.
        limits: range, crop box, largest number of points, expected frame.

    Returns:
        Cloud with (N, 3) points in metres, N >= 1.

    Raises:
        CloudError: ``empty_cloud``, ``encoding``,
            ``size_mismatch``, ``bad_camera_info``, ``short_data``, ``all_invalid``, ``out_of_range``.
    """
    if depth.encoding not in _DEPTH:
        raise CloudError(
            Reason.ENCODING, f"depth image has encoding '{depth.encoding}', known are {', '.join(_DEPTH)}"
        )
    code, metres_per_unit = _DEPTH[depth.encoding]
    pixels = _pixels("depth", depth, np.dtype((">" if depth.is_bigendian else "<") + code))
    height, width = pixels.shape
    camera = camera_from_info(info)
    if (camera.height, camera.width) != (height, width):
        camera = image_camera(camera, info)
    if (camera.height, camera.width) != (height, width):
        text = f"depth image is {width}x{height}, but its camera_info is for {camera.width}x{camera.height}"
        raise CloudError(Reason.SIZE_MISMATCH, text)
    if colour is not None and (colour.height, colour.width) != (height, width):
        text = f"colour image is {colour.width}x{colour.height}, but depth is {width}x{height}; align it"
        raise CloudError(Reason.SIZE_MISMATCH, text)
    rows_step, columns_step = grid_stride(height, width, limits.max_points)
    kept = np.s_[::rows_step, ::columns_step]
    z = pixels[kept].astype(np.float32) * np.float32(metres_per_unit)
    rays_x, rays_y = pixel_rays(camera, rows_step, columns_step)
    with np.errstate(invalid="ignore", over="ignore"):
        columns = np.stack([rays_x * z, rays_y * z, z])
    points, keep = select_points(columns.reshape(3, -1), limits)
    return Cloud(
        points=points,
        colours=None if colour is None else _colours(colour, kept, keep),
        frame_id=depth.header.frame_id,
        stamp_ns=stamp_ns(depth),
        received=pixels.size,
        truncated=pixels.size - z.size,
    )


def _pixels(name: str, image: ImageLike, dtype: np.dtype) -> NDArray:
    """(height, width) pixels in place: no copy."""
    height, width, step, data = int(image.height), int(image.width), int(image.step), as_bytes(image.data)
    if height * width == 0:
        raise CloudError(Reason.EMPTY_CLOUD, f"{name} image has no pixels (width {width}, height {height})")
    if step < width * dtype.itemsize:
        text = f"{name} image has a step of {step} bytes, but {width} pixels take {width * dtype.itemsize}"
        raise CloudError(Reason.SHORT_DATA, text)
    if data.size < step * height:
        text = f"{name} image has {data.size} bytes of data, but step * height is {step * height}"
        raise CloudError(Reason.SHORT_DATA, text)
    return np.ndarray((height, width), dtype, buffer=data, strides=(step, dtype.itemsize))


def _colours(image: ImageLike, kept: tuple[slice, slice], keep: NDArray[np.intp] | None) -> NDArray[np.uint8]:
    if image.encoding not in _COLOUR:
        raise CloudError(
            Reason.ENCODING, f"colour image has encoding '{image.encoding}', known are {', '.join(_COLOUR)}"
        )
    size, channels = _COLOUR[image.encoding]
    pixels = _pixels("colour", image, np.dtype([("channels", "u1", (size,))]))["channels"][kept]
    flat = pixels.reshape(-1, size)
    if keep is not None:
        flat = flat[keep]
    return np.ascontiguousarray(flat[:, list(channels)])
