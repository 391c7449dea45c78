"""sensor_msgs/PointCloud2 bytes -> ``Cloud``. Fields by name and offset; validity from x, y, z alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.limits import CloudLimits, grid_stride, select_points
from end2reg_ros.cloud.messages import POINT_FIELD_TYPES, PointCloud2Like, PointFieldLike, as_bytes, stamp_ns
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CloudError
from end2reg_ros.reasons import Reason

_DEFAULT = CloudLimits()
_MAX_POINT_STEP = 65535  # bytes of one point; real clouds have 12 to about 100
_PACKED = ("rgb", "rgba")
_SEPARATE = (("r", "g", "b"), ("red", "green", "blue"))


def decode(message: PointCloud2Like, limits: CloudLimits = _DEFAULT) -> Cloud:
    """Decode one PointCloud2.

    A point is valid when x, y and z are finite (as float32), not all zero, and within ``limits``; the other
    fields have no say: a packed rgb with alpha 0xFF is NaN as a float. Order of the points is kept. The header is judged by
    ``limits.check_header``.

    Args:
        message: of rclpy or of rosbags.
        limits: range, crop box, largest number of points, expected frame.

    Returns:
        Cloud with (N, 3) points in metres, N >= 1.

    Raises:
        CloudError: ``empty_cloud``, ``no_xyz_fields``,
            ``bad_point_step``, ``bad_row_step``, ``short_data``, ``all_invalid``, ``out_of_range``.
    """
    layout = point_layout(message.fields, message.point_step, message.is_bigendian)
    grid = _grid(message, layout)
    rows_step, columns_step = grid_stride(grid.shape[0], grid.shape[1], limits.max_points)
    records = grid[::rows_step, ::columns_step]
    with np.errstate(invalid="ignore", over="ignore"):  # signalling NaN, double beyond float32: dropped below
        columns = np.empty((3, *records.shape), np.float32)
        for column, axis in zip(columns, "xyz", strict=True):
            column[...] = records[axis]
    points, keep = select_points(columns.reshape(3, -1), limits)
    return Cloud(
        points=points,
        colours=_colours(records, keep),
        frame_id=message.header.frame_id,
        stamp_ns=stamp_ns(message),
        received=grid.size,
        truncated=grid.size - records.size,
    )


def point_layout(fields: Sequence[PointFieldLike], point_step: int, is_bigendian: bool) -> np.dtype[np.void]:
    """One structured dtype of itemsize ``point_step``: x, y, z, and rgb (as uint32) or r, g, b where given.

    Raises:
        CloudError: ``no_xyz_fields``, ``bad_point_step``.
    """
    by_name: dict[str, PointFieldLike] = {}
    for field in fields:
        by_name.setdefault(field.name, field)
    if any(axis not in by_name for axis in "xyz"):
        names = ", ".join(by_name) or "none"
        raise CloudError(Reason.NO_XYZ_FIELDS, f"the cloud has no x, y, z fields (its fields: {names})")
    wanted = {axis: by_name[axis] for axis in "xyz"}
    for axis, field in wanted.items():
        if field.datatype not in (7, 8):
            text = (
                f"field {axis} has datatype {field.datatype}, but x, y, z must be FLOAT32 (7) or FLOAT64 (8)"
            )
            raise CloudError(Reason.NO_XYZ_FIELDS, text)
    order = ">" if is_bigendian else "<"
    formats = {axis: order + POINT_FIELD_TYPES[field.datatype] for axis, field in wanted.items()}
    packed = next((by_name[name] for name in _PACKED if name in by_name), None)
    channels = next((names for names in _SEPARATE if all(name in by_name for name in names)), ())
    separate = [by_name[name] for name in channels]
    if packed is not None and packed.datatype in (5, 6, 7):  # INT32, UINT32, FLOAT32: the same four bytes
        wanted["rgb"], formats["rgb"] = packed, order + "u4"
    elif separate and all(field.datatype in POINT_FIELD_TYPES for field in separate):
        for channel, field in zip("rgb", separate, strict=True):
            wanted[channel], formats[channel] = field, order + POINT_FIELD_TYPES[field.datatype]
    if point_step > _MAX_POINT_STEP:
        raise CloudError(
            Reason.BAD_POINT_STEP, f"point_step is {point_step} bytes; at most {_MAX_POINT_STEP} are read"
        )
    for name, field in wanted.items():
        end = field.offset + np.dtype(formats[name]).itemsize
        if field.offset < 0 or end > point_step:
            text = f"point_step is {point_step} bytes, but field {field.name} ends at byte {end}"
            raise CloudError(Reason.BAD_POINT_STEP, text)
    return np.dtype(
        {
            "names": list(wanted),
            "formats": list(formats.values()),
            "offsets": [field.offset for field in wanted.values()],
            "itemsize": point_step,
        }
    )


def _grid(message: PointCloud2Like, layout: np.dtype[np.void]) -> NDArray[np.void]:
    """(height, width) records in place: no copy."""
    height, width, data = int(message.height), int(message.width), as_bytes(message.data)
    if height * width == 0:
        raise CloudError(Reason.EMPTY_CLOUD, f"the cloud has no points (width {width}, height {height})")
    row_bytes = width * layout.itemsize
    row_step = int(message.row_step)
    if height == 1 or data.size == height * row_bytes:
        # Of no use for a single row, or where the points fill the data without a gap: several drivers leave it unset,
        # and PointCloud2Modifier of ROS 2 Jazzy writes the size of the whole cloud there.
        row_step = row_bytes
    if row_step < row_bytes:
        text = f"row_step is {row_step} bytes, but {width} points of {layout.itemsize} bytes take {row_bytes}"
        raise CloudError(Reason.BAD_ROW_STEP, text)
    if data.size < row_step * height:
        text = f"the cloud's data has {data.size} bytes, but row_step * height is {row_step * height}"
        raise CloudError(Reason.SHORT_DATA, text)
    return np.ndarray((height, width), layout, buffer=data, strides=(row_step, layout.itemsize))


def _colours(records: NDArray[np.void], keep: NDArray[np.intp] | None) -> NDArray[np.uint8] | None:
    """(N, 3) red, green, blue of the kept points (all when None); None where the layout has no colour."""
    names = records.dtype.names or ()
    if "rgb" in names:
        # 0xAARRGGBB: bytes b, g, r, a of a little-endian machine.
        packed = np.ascontiguousarray(records["rgb"], dtype="<u4").ravel()
        bgra = (packed if keep is None else packed[keep]).view(np.uint8).reshape(-1, 4)
        return bgra[:, 2::-1]
    if "r" in names:
        channels = [records[name].ravel() if keep is None else records[name].ravel()[keep] for name in "rgb"]
        colours = np.empty((channels[0].size, 3), np.uint8)
        floats = any(channel.dtype.kind == "f" for channel in channels)
        # Floats come as 0..1 or as 0..255; one value above 1 tells.
        unit = floats and all(np.nanmax(channel, initial=0.0) <= 1.0 for channel in channels)
        for index, intensity in enumerate(channels):
            values = np.nan_to_num(intensity.astype(np.float64), nan=0.0) * (255.0 if unit else 1.0)
            colours[:, index] = np.clip(np.rint(values), 0, 255)
        return colours
    return None
