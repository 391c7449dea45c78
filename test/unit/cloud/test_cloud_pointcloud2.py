"""PointCloud2 decoding: held against the slow reference over random layouts; real traps; error texts."""

from __future__ import annotations

import array
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cloud_reference import decode_reference
from messages import point_field

from end2reg_ros.cloud.limits import CloudLimits, check_header, grid_stride
from end2reg_ros.cloud.pointcloud2 import decode
from end2reg_ros.cloud.recording import POINT_CLOUD, Recording
from end2reg_ros.cloud.ros_messages import Header, PointCloud2, Time
from end2reg_ros.errors import CloudError

HEADER = Header(Time(12, 34), "camera_depth_optical_frame")
NUMPY = {2: "u1", 6: "u4", 7: "f4", 8: "f8"}


def make_message(
    columns: dict[str, tuple[int, np.ndarray]],
    height: int = 1,
    pad: int = 0,
    row_pad: int = 0,
    big: bool = False,
) -> PointCloud2:
    """A message with these columns (name -> datatype, values) in this order, every byte of padding random."""
    rng = np.random.default_rng(5)
    order = ">" if big else "<"
    count = len(next(iter(columns.values()))[1])
    width = count // height
    offset, fields = pad, []
    for name, (datatype, _) in columns.items():
        fields.append(point_field(name, offset, datatype))
        offset += np.dtype(NUMPY[datatype]).itemsize + pad
    point_step, row_step = offset, offset * width + row_pad
    data = rng.integers(0, 256, row_step * height, dtype=np.uint8)
    for field, (datatype, values) in zip(fields, columns.values(), strict=True):
        column = np.ndarray(
            (height, width), order + NUMPY[datatype], data, field.offset, strides=(row_step, point_step)
        )
        column[...] = values.reshape(height, width)
    return PointCloud2(HEADER, height, width, fields, big, point_step, row_step, data.tobytes(), False)


def xyz(count: int = 6, seed: int = 0) -> dict[str, tuple[int, np.ndarray]]:
    points = np.random.default_rng(seed).uniform(0.3, 0.9, (count, 3))
    return {axis: (7, points[:, i].astype(np.float32)) for i, axis in enumerate("xyz")}


@pytest.mark.parametrize("seed", range(60))
def test_equals_reference_over_random_layouts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(1, 6)), int(rng.integers(1, 40))
    count = height * width
    columns: dict[str, tuple[int, np.ndarray]] = {}
    for axis in "xyz":
        values = rng.uniform(-1.0, 2.0, count)
        for special in (np.nan, np.inf, -np.inf, 0.0, 1e300):
            values[rng.random(count) < 0.06] = special
        datatype = int(rng.choice([7, 8]))
        with np.errstate(over="ignore"):
            columns[axis] = (datatype, values.astype(NUMPY[datatype]))
    zero = rng.random(count) < 0.1
    for _, values in columns.values():
        values[zero] = 0.0
    if rng.random() < 0.7:
        columns[str(rng.choice(["rgb", "rgba"]))] = (6, rng.integers(0, 2**32, count, dtype=np.uint32))
    if rng.random() < 0.5:
        columns["label"] = (2, rng.integers(0, 255, count, dtype=np.uint8))
    names = rng.permutation(list(columns))
    message = make_message(
        {str(name): columns[str(name)] for name in names},
        height,
        pad=int(rng.integers(0, 5)),
        row_pad=int(rng.integers(0, 30)),
        big=bool(rng.random() < 0.4),
    )
    if "rgb" in columns and rng.random() < 0.5:  # the same four bytes, called a float
        fields = [replace(f, datatype=7) if f.name == "rgb" else f for f in message.fields]
        message = replace(message, fields=fields)
    crop = ((-0.5, -0.7, 0.0), (1.5, 1.0, 1.7)) if rng.random() < 0.4 else None
    limits = CloudLimits(z_min=float(rng.choice([-0.5, 0.0, 0.2])), z_max=1.5, crop=crop)
    points, colours = decode_reference(message, limits)
    if not points:
        with pytest.raises(CloudError):
            decode(message, limits)
        return
    cloud = decode(message, limits)
    np.testing.assert_array_equal(cloud.points, np.array(points, np.float32))
    assert cloud.points.dtype == np.float32
    assert cloud.received == count
    assert cloud.truncated == 0
    if colours:
        np.testing.assert_array_equal(cloud.colours, np.array(colours, np.uint8))
    else:
        assert cloud.colours is None


def test_realsense_layout_and_header() -> None:
    points = np.array([[0.1, -0.2, 0.5], [0.0, 0.0, 0.0], [np.nan, 0.1, 0.5], [0.3, 0.1, 0.75]], np.float32)
    table = np.zeros(
        4,
        {
            "names": ["xyz", "bgr", "pad"],
            "formats": [("<f4", 3), ("u1", 3), "u1"],
            "offsets": [0, 16, 19],
            "itemsize": 20,
        },
    )
    table["xyz"] = points
    table["bgr"] = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]]
    table["pad"] = 255  # the 4th byte is never written: here it makes the packed float NaN
    fields = [point_field("x", 0), point_field("y", 4), point_field("z", 8), point_field("rgb", 16)]
    message = PointCloud2(HEADER, 1, 4, fields, False, 20, 80, array.array("B", table.tobytes()), False)
    cloud = decode(message)
    np.testing.assert_array_equal(cloud.points, points[[0, 3]])
    np.testing.assert_array_equal(cloud.colours, [[3, 2, 1], [12, 11, 10]])
    assert (cloud.frame_id, cloud.stamp_ns) == ("camera_depth_optical_frame", 12_000_000_034)


@pytest.mark.parametrize(("datatype", "scale"), [(2, 1.0), (7, 1.0), (7, 1.0 / 255.0), (8, 1.0)])
def test_separate_colour_fields(datatype: int, scale: float) -> None:
    colours = np.array([[0, 128, 255], [7, 9, 11], [250, 1, 60]])
    columns = xyz(3)
    for channel, name in enumerate("rgb"):
        columns[name] = (datatype, (colours[:, channel] * scale).astype(NUMPY[datatype]))
    np.testing.assert_array_equal(decode(make_message(columns)).colours, colours)


def test_data_kinds_give_the_same() -> None:
    message = make_message(xyz())
    kinds = (message.data, bytearray(message.data), array.array("B", message.data), list(message.data))
    expected = decode(message).points
    for data in kinds:
        np.testing.assert_array_equal(decode(replace(message, data=data)).points, expected)


def test_thinning_is_bounded_counted_and_the_same_every_time() -> None:
    columns = xyz(1000)
    message = make_message(columns, height=20, row_pad=3)
    cloud = decode(message, CloudLimits(max_points=100))
    assert len(cloud.points) <= 100
    assert len(cloud.points) + cloud.truncated == cloud.received == 1000
    rows, step = grid_stride(20, 50, 100)
    grid = np.stack([columns[axis][1].reshape(20, 50) for axis in "xyz"], axis=-1)
    np.testing.assert_array_equal(cloud.points, grid[::rows, ::step].reshape(-1, 3))


@pytest.mark.parametrize("size", [(1, 1), (1, 10**7), (10**7, 1), (4000, 2500), (7, 7), (3, 1000)])
@pytest.mark.parametrize("most", [1, 2, 8, 1000, 2_097_152])
def test_grid_stride_keeps_the_limit(size: tuple[int, int], most: int) -> None:
    rows, columns = grid_stride(*size, most)
    left = -(-size[0] // rows) * -(-size[1] // columns)
    assert 1 <= left <= most
    assert (rows, columns) == (1, 1) or size[0] * size[1] > most
    # Not thinned to almost nothing either.
    if most >= 1000:
        assert left >= min(size[0] * size[1], most) / 4


def test_ten_million_points_in_bounded_time() -> None:
    count = 10_000_000
    table = np.zeros((count, 4), np.float32)
    table[:, 2] = 0.6
    fields = [point_field("x", 0), point_field("y", 4), point_field("z", 8)]
    message = PointCloud2(
        HEADER, 1, count, fields, False, 16, 16 * count, table.view(np.uint8).ravel(), False
    )
    start = time.process_time()  # not the clock on the wall: the machine may be busy
    cloud = decode(message)
    assert time.process_time() - start < 1.0
    assert (len(cloud.points), cloud.truncated) == (2_000_000, 8_000_000)


def good() -> PointCloud2:
    return make_message(xyz(6), height=2)


NAN = {axis: (7, np.full(4, np.nan, np.float32)) for axis in "xyz"}
# ruff: noqa: E501 (one fault a line)
FAULTS = [
    (replace(good(), width=0, data=b""), "empty_cloud", "the cloud has no points (width 0, height 2)"),
    (replace(good(), fields=[point_field("x", 0), point_field("intensity", 4)]), "no_xyz_fields", "the cloud has no x, y, z fields (its fields: x, intensity)"),
    (replace(good(), fields=[]), "no_xyz_fields", "the cloud has no x, y, z fields (its fields: none)"),
    (replace(good(), fields=[point_field("x", 0, 3), point_field("y", 4), point_field("z", 8)]), "no_xyz_fields", "field x has datatype 3, but x, y, z must be FLOAT32 (7) or FLOAT64 (8)"),
    (replace(good(), point_step=8), "bad_point_step", "point_step is 8 bytes, but field z ends at byte 12"),
    (replace(good(), point_step=0), "bad_point_step", "point_step is 0 bytes, but field x ends at byte 4"),
    (replace(good(), point_step=2**31), "bad_point_step", "point_step is 2147483648 bytes; at most 65535 are read"),
    (replace(good(), row_step=30, data=good().data + b"0"), "bad_row_step", "row_step is 30 bytes, but 3 points of 12 bytes take 36"),
    (replace(good(), data=good().data[:-1]), "short_data", "the cloud's data has 71 bytes, but row_step * height is 72"),
    (make_message(NAN), "all_invalid", "none of the 4 points is valid (all NaN, Inf or zero)"),
]  # fmt: skip


@pytest.mark.parametrize("row_step", [0, 3, 30, 72, 4096, 2**32 - 1])
@pytest.mark.parametrize("height", [1, 2])
def test_a_wrong_row_step_is_passed_over_where_the_data_is_complete(row_step: int, height: int) -> None:
    right = make_message(xyz(6), height=height)
    wrong = decode(replace(right, row_step=row_step))
    np.testing.assert_array_equal(wrong.points, decode(right).points)
    assert len(wrong.points) == 6


@pytest.mark.parametrize(
    ("message", "code", "text"), FAULTS, ids=[f"{i}-{f[1]}" for i, f in enumerate(FAULTS)]
)
def test_faults(message: PointCloud2, code: str, text: str) -> None:
    with pytest.raises(CloudError) as caught:
        decode(message)
    assert (caught.value.code, str(caught.value)) == (code, text)


@pytest.mark.parametrize(
    ("frame_id", "seconds", "code", "text"),
    [
        ("", 1, "empty_frame", "frame_id is empty: the camera's driver must name its optical frame"),
        ("cam", 0, "zero_stamp", "stamp is zero: a pose needs the time of the image"),
        ("dog", 1, "wrong_frame", "frame_id is 'dog', expected 'cam'"),
    ],
)
def test_headers(frame_id: str, seconds: int, code: str, text: str) -> None:
    message = replace(good(), header=Header(Time(seconds, 0), frame_id))
    with pytest.raises(CloudError) as caught:
        check_header(message, CloudLimits(expected_frame="cam" if frame_id else ""))
    assert (caught.value.code, str(caught.value)) == (code, text)
    check_header(message, CloudLimits(require_header=False))


def test_out_of_range() -> None:
    columns = xyz(2)
    columns["z"] = (7, np.array([400.0, 600.0], np.float32))
    with pytest.raises(CloudError) as caught:
        decode(make_message(columns))
    assert caught.value.code == "out_of_range"
    assert str(caught.value) == (
        "none of the 2 valid points is within z 0.05 to 10 m; their z is 400 to 600 (is this an optical frame, in metres?)"
    )


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match="z_min 2 m must be below z_max 1 m"):
        CloudLimits(z_min=2, z_max=1)
    with pytest.raises(ValueError, match="crop: minimum"):
        CloudLimits(crop=((0, 0, 0), (1, 0, 1)))


def test_equals_sensor_msgs_py_where_installed() -> None:
    point_cloud2 = pytest.importorskip("sensor_msgs_py.point_cloud2")
    messages = pytest.importorskip("sensor_msgs.msg")
    ours = good()
    theirs = messages.PointCloud2(height=2, width=3, point_step=12, row_step=36, is_bigendian=False)
    theirs.header.frame_id, theirs.header.stamp.sec = "cam", 1
    theirs.fields = [
        messages.PointField(name=f.name, offset=f.offset, datatype=7, count=1) for f in ours.fields
    ]
    theirs.data = array.array("B", ours.data)
    expected = point_cloud2.read_points_numpy(theirs, field_names=("x", "y", "z"))
    np.testing.assert_array_equal(decode(theirs).points, expected.reshape(-1, 3))


@pytest.mark.shared
def test_real_recording_keeps_points_whose_packed_colour_is_nan(shared_data: Path) -> None:
    with Recording(shared_data / "sensors" / "openni_640x480_mcap") as recording:
        (recorded,) = recording.messages(recording.choose_topic(POINT_CLOUD))
    cloud = decode(recorded.message)
    assert len(cloud.points) == 233_301
    assert cloud.received == 307_200
    assert cloud.frame_id == "camera_rgb_optical_frame"
    assert cloud.stamp_ns == 1_527_473_951_980_784_065
    assert (round(float(cloud.points[:, 2].min()), 2), round(float(cloud.points[:, 2].max()), 2)) == (
        0.70,
        1.65,
    )
    assert cloud.colours is not None and cloud.colours.std() > 10
