"""Slow, obvious twins of the fast paths, one point at a time; tests hold the two together."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.messages import PointCloud2Like, as_bytes

_STRUCT = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}
_Points = list[tuple[float, float, float]]
_Colours = list[tuple[int, int, int]]


def decode_reference(message: PointCloud2Like, limits: CloudLimits) -> tuple[_Points, _Colours]:
    """Valid points of a well-formed, not thinned message; their packed colours (empty without rgb, rgba)."""
    data = bytes(as_bytes(message.data))
    order = ">" if message.is_bigendian else "<"
    fields = {field.name: field for field in message.fields}
    packed = fields.get("rgb", fields.get("rgba"))
    points: _Points = []
    colours: _Colours = []
    for row in range(message.height):
        for column in range(message.width):
            start = row * message.row_step + column * message.point_step
            point = []
            for axis in "xyz":
                code = order + _STRUCT[fields[axis].datatype]
                (value,) = struct.unpack_from(code, data, start + fields[axis].offset)
                with np.errstate(over="ignore"):
                    point.append(float(np.float32(value)))
            if not _is_valid(point, limits):
                continue
            points.append((point[0], point[1], point[2]))
            if packed is not None:
                (value,) = struct.unpack_from(order + "I", data, start + packed.offset)
                colours.append(((value >> 16) & 255, (value >> 8) & 255, value & 255))
    return points, colours


def _is_valid(point: Sequence[float], limits: CloudLimits) -> bool:
    if not all(math.isfinite(value) for value in point) or all(value == 0.0 for value in point):
        return False
    if not np.float32(limits.z_min) <= point[2] <= np.float32(limits.z_max):
        return False
    if limits.crop is None:
        return True
    low, high = limits.crop
    return all(np.float32(low[axis]) <= point[axis] <= np.float32(high[axis]) for axis in range(3))


def voxel_reference(
    points: NDArray[np.float32], voxel: float
) -> dict[tuple[int, int, int], NDArray[np.float64]]:
    """Cell (ix, iy, iz) -> mean of its points."""
    cells: dict[tuple[int, int, int], list[NDArray[np.float64]]] = {}
    for point in points.astype(np.float64):
        ix, iy, iz = (math.floor(value / voxel) for value in point)
        cells.setdefault((ix, iy, iz), []).append(point)
    return {cell: np.mean(members, axis=0) for cell, members in cells.items()}
