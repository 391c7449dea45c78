"""PLY point files: the ``cloud.ply`` of a scene folder, and a tolerant reader for those of others."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.errors import CloudError
from end2reg_ros.reasons import Reason

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_COLOUR_NAMES = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
_HEADER_LIMIT = 65536


@dataclass(frozen=True)
class PlyPoints:
    """Content of a point file.

    Attributes:
        points: (N, 3) float32, metres, as stored (invalid points included).
        colours: (N, 3) uint8 red, green, blue, or None.
        bone: (N,) truth label of a simulated scene, or None; never an input of a registration.
    """

    points: NDArray[np.float32]
    colours: NDArray[np.uint8] | None = None
    bone: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class _Header:
    order: str  # numpy byte order; empty for ascii
    count: int
    names: list[str]
    formats: list[str]
    size: int  # of the header in bytes


def write_ply(path: Path, content: PlyPoints) -> None:
    """Write a binary little-endian PLY: float x y z, uchar red green blue, optional uchar bone.

    Points without colours are written grey (128), because every reader of scene folders may count on colours.
    """
    count = len(content.points)
    dtype = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    if content.bone is not None:
        dtype.append(("bone", "u1"))
    table = np.empty(count, dtype)
    colours = np.full((count, 3), 128, np.uint8) if content.colours is None else content.colours
    for axis, name in enumerate("xyz"):
        table[name] = content.points[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        table[name] = colours[:, channel]
    if content.bone is not None:
        table["bone"] = content.bone
    names = {"<f4": "float", "u1": "uchar"}
    properties = "".join(f"property {names[code]} {name}\n" for name, code in dtype)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {count}\n{properties}end_header\n"
    path.write_bytes(header.encode("ascii") + table.tobytes())


def read_ply(path: Path) -> PlyPoints:
    """Read the vertices of a PLY file: ascii or binary, any order of properties, any number types.

    Raises:
        CloudError: ``unreadable`` (missing, not a PLY, broken header), ``truncated``, ``no_xyz_fields``,
            ``empty_cloud``.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CloudError(Reason.UNREADABLE, f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # a NUL or half a surrogate pair in the name
        raise CloudError(Reason.UNREADABLE, f"{str(path)!r}: no file can have this name") from error
    header = _parse_header(path, raw)
    if header.count == 0:
        raise CloudError(Reason.EMPTY_CLOUD, f"{path}: has no points")
    if any(axis not in header.names for axis in "xyz"):
        names = ", ".join(header.names) or "none"
        raise CloudError(Reason.NO_XYZ_FIELDS, f"{path}: has no x, y, z properties (its properties: {names})")
    table = _binary_table(path, raw, header) if header.order else _ascii_table(path, raw, header)
    with np.errstate(invalid="ignore", over="ignore"):
        points = np.stack([table[axis].astype(np.float32) for axis in "xyz"], axis=1)
    channels = next((names for names in _COLOUR_NAMES if all(n in header.names for n in names)), None)
    colours = None if channels is None else np.stack([_as_uint8(table[name]) for name in channels], axis=1)
    bone = table["bone"] != 0 if "bone" in header.names else None
    return PlyPoints(points, colours, bone)


def _parse_header(path: Path, raw: bytes) -> _Header:
    end = raw.find(b"end_header", 0, _HEADER_LIMIT)
    if not raw.startswith(b"ply") or end < 0:
        raise CloudError(Reason.UNREADABLE, f"{path}: is not a PLY file (no 'ply ... end_header')")
    size = raw.find(b"\n", end) + 1 or len(raw)
    order, count = "", -1
    names: list[str] = []
    formats: list[str] = []
    element = ""
    try:
        for line in raw[:end].decode("ascii", "replace").splitlines():
            words = line.split()
            if not words or words[0] in ("ply", "comment", "obj_info"):
                continue
            if words[0] == "format":
                order = _ORDERS[words[1]]
            elif words[0] == "element":
                if element not in ("", "vertex") and count < 0:
                    raise ValueError(f"element {element} comes before the vertices")
                element = words[1]
                count = int(words[2]) if element == "vertex" else count
            elif words[0] == "property" and element == "vertex":
                formats.append(_TYPES[words[1]])  # a list property is a KeyError: no point cloud has one
                if words[2] in names:
                    raise ValueError(f"property {words[2]} is given twice")
                names.append(words[2])
    except (KeyError, IndexError, ValueError) as error:
        raise CloudError(Reason.UNREADABLE, f"{path}: PLY header not understood ({error})") from error
    if count < 0:
        raise CloudError(Reason.UNREADABLE, f"{path}: PLY header not understood (no element vertex)")
    return _Header(order, count, names, formats, size)


def _binary_table(path: Path, raw: bytes, header: _Header) -> NDArray[np.void]:
    dtype = np.dtype([(n, header.order + f) for n, f in zip(header.names, header.formats, strict=True)])
    found = (len(raw) - header.size) // dtype.itemsize
    if found < header.count:
        raise CloudError(
            Reason.TRUNCATED, f"{path}: is truncated, {found} of {header.count} points are there"
        )
    return np.frombuffer(raw, dtype, header.count, header.size)


def _ascii_table(path: Path, raw: bytes, header: _Header) -> NDArray[np.void]:
    lines = raw[header.size :].decode("ascii", "replace").splitlines()
    lines = [line for line in lines if line.strip()][: header.count]
    if len(lines) < header.count:
        text = f"{path}: is truncated, {len(lines)} of {header.count} points are there"
        raise CloudError(Reason.TRUNCATED, text)
    try:
        numbers = BytesIO("\n".join(lines).encode("ascii", "replace"))
        columns = np.loadtxt(
            numbers, dtype=np.float64, comments=None, ndmin=2, usecols=range(len(header.names))
        )
    except ValueError as error:
        raise CloudError(
            Reason.UNREADABLE, f"{path}: not {len(header.names)} numbers on every line"
        ) from error
    table = np.empty(header.count, np.dtype(list(zip(header.names, header.formats, strict=True))))
    with np.errstate(invalid="ignore", over="ignore"):
        for index, name in enumerate(header.names):
            table[name] = columns[:, index]
    return table


def _as_uint8(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Colours as 0..255; floats are taken as 0..1 (the custom of point files)."""
    if values.dtype.kind == "f":
        values = np.rint(np.nan_to_num(values.astype(np.float64)) * 255.0)
    return np.clip(values.astype(np.int64), 0, 255).astype(np.uint8)
