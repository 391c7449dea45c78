"""Depth images: back-projection by hand, distortion, colours, faults, a real recording; pairing by stamp."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from messages import camera_info

from end2reg_ros.cloud.camera import Camera, distort, pixel_rays
from end2reg_ros.cloud.depth import decode_depth
from end2reg_ros.cloud.limits import CloudLimits, grid_stride
from end2reg_ros.cloud.pairing import ImagePairer
from end2reg_ros.cloud.recording import IMAGE, Recording
from end2reg_ros.cloud.ros_messages import CameraInfo, Header, Image, RegionOfInterest, Time, header
from end2reg_ros.errors import CloudError

HEADER = Header(Time(7, 8), "depth_optical_frame")
INFO = camera_info(header("", 0), (3, 4), (100.0, 0, 1.5, 0, 200.0, 1.0, 0, 0, 1))
MM = np.array([[500, 0, 600, 700], [0, 0, 800, 0], [900, 1000, 0, 1100]])


def image(values: np.ndarray, encoding: str, big: bool = False, pad: int = 0) -> Image:
    code = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}.get(encoding, "u1")
    height, width = values.shape[:2]
    pixels = values.astype((">" if big else "<") + code).reshape(height, -1)
    rows = pixels.view(np.uint8).reshape(height, -1)
    data = np.pad(rows, ((0, 0), (0, pad)), constant_values=255)
    return Image(HEADER, height, width, encoding, int(big), data.shape[1], data.tobytes())


def expected_points() -> np.ndarray:
    points = []
    for v in range(3):
        for u in range(4):
            z = MM[v, u] / 1000.0
            if z > 0:
                points.append(((u - 1.5) / 100.0 * z, (v - 1.0) / 200.0 * z, z))
    return np.array(points)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pad", [0, 6])
@pytest.mark.parametrize("encoding", ["16UC1", "mono16", "32FC1"])
def test_back_projection(encoding: str, pad: int, big: bool) -> None:
    values = np.where(MM > 0, MM / 1000.0, np.nan) if encoding == "32FC1" else MM
    cloud = decode_depth(image(values, encoding, big, pad), INFO)
    np.testing.assert_allclose(cloud.points, expected_points(), atol=1e-7)
    assert (cloud.frame_id, cloud.stamp_ns, cloud.received) == ("depth_optical_frame", 7_000_000_008, 12)
    assert cloud.colours is None


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
def test_colours(encoding: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (3, 4, 3))
    if encoding == "mono8":
        rgb[...] = rgb[..., :1]
    channels = rgb[..., ::-1] if encoding.startswith("bgr") else rgb
    if encoding.endswith("a8"):
        channels = np.concatenate([channels, np.full((3, 4, 1), 9)], axis=2)
    colour = image(channels[..., :1] if encoding == "mono8" else channels, encoding, pad=5)
    cloud = decode_depth(image(MM, "16UC1"), INFO, colour)
    np.testing.assert_array_equal(cloud.colours, rgb[MM > 0])


@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial"])
@pytest.mark.parametrize("more", [(), (0.1, 0.02, 0.001), (0.1, 0.02, 0.001, *[0.0] * 4), (0.0,) * 9])
def test_distortion_is_undone(model: str, more: tuple[float, ...]) -> None:
    d = (-0.28, 0.09, 0.001, -0.0005, -0.012, *more)
    info = camera_info(header("", 0), (48, 64), (60.0, 0, 31.0, 0, 61.0, 23.5, 0, 0, 1), d, model)
    cloud = decode_depth(image(np.full((48, 64), 500), "16UC1"), info)
    assert len(cloud.points) == 48 * 64
    ideal = cloud.points[:, :2].astype(float) / 0.5
    x, y = distort(ideal[:, 0], ideal[:, 1], (d + (0.0,) * 8)[:8])
    pixels = np.stack([x * 60.0 + 31.0, y * 61.0 + 23.5], axis=1)
    v, u = np.mgrid[:48, :64]
    np.testing.assert_allclose(pixels, np.stack([u.ravel(), v.ravel()], axis=1), atol=1e-4)
    # It matters: the corner's ray without undoing it is off by far more than a pixel.
    assert np.abs(ideal[0] - [-31 / 60.0, -23.5 / 61.0]).max() > 0.03


def test_rays_are_worked_out_once_per_calibration() -> None:
    camera = Camera(5, 6, 10.0, 10.0, 2.0, 2.0)
    assert pixel_rays(camera)[0] is pixel_rays(replace(camera))[0]


def test_rays_of_kept_pixels_are_those_of_the_whole_image() -> None:
    camera = Camera(470, 630, 500.0, 510.0, 310.0, 240.0, (-0.28, 0.09, 0.001, -0.0005, 0.0, 0.0, 0.0, 0.0))
    for kept, whole in zip(pixel_rays(camera, 3, 7), pixel_rays(camera), strict=True):
        np.testing.assert_allclose(kept, whole[::3, ::7], rtol=0, atol=1e-7)


def test_a_large_distorted_image_in_bounded_memory() -> None:
    camera = Camera(3000, 4000, 2800.0, 2800.0, 2000.0, 1500.0, (0.1, -0.05, 0.001, -0.001, 0.01, 0, 0, 0))
    tracemalloc.start()
    try:
        x, _ = pixel_rays(camera, *grid_stride(3000, 4000, CloudLimits().max_points))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.isfinite(x).all()
    assert peak < 64e6


def test_binning_and_region_of_the_calibration() -> None:
    """A pixel of the image lies where the sensor's pixel lies that it comes from."""
    whole = camera_info(header("", 0), (48, 64), (60.0, 0, 31.0, 0, 61.0, 23.5, 0, 0, 1))
    full = decode_depth(image(np.full((48, 64), 500), "16UC1"), whole).points.reshape(48, 64, 3)
    info = replace(whole, binning_x=2, binning_y=4, roi=RegionOfInterest(6, 8, 20, 32, False))
    cloud = decode_depth(image(np.full((5, 16), 500), "16UC1"), info)
    np.testing.assert_allclose(cloud.points.reshape(5, 16, 3), full[8:28:4, 6:38:2], atol=1e-6)
    binned = replace(whole, binning_x=2, binning_y=2)
    cloud = decode_depth(image(np.full((24, 32), 500), "16UC1"), binned)
    np.testing.assert_allclose(cloud.points.reshape(24, 32, 3), full[::2, ::2], atol=1e-6)


def test_thinning() -> None:
    cloud = decode_depth(
        image(np.full((20, 30), 500), "16UC1"),
        replace(INFO, height=20, width=30),
        image(np.zeros((20, 30)), "mono8"),
        CloudLimits(max_points=50),
    )
    assert cloud.colours is not None
    assert len(cloud.points) == len(cloud.colours) <= 50
    assert cloud.received - cloud.truncated == len(cloud.points)


DEPTH = image(MM, "16UC1")
# ruff: noqa: E501 (one fault a line)
FAULTS = [
    ("encoding", image(MM, "8UC1"), INFO, None, "depth image has encoding '8UC1', known are 16UC1, mono16, 32FC1"),
    ("encoding", DEPTH, INFO, image(MM, "yuv422"), "colour image has encoding 'yuv422', known are rgb8, bgr8, rgba8, bgra8, mono8"),
    ("size_mismatch", DEPTH, replace(INFO, width=5), None, "depth image is 4x3, but its camera_info is for 5x3"),
    ("size_mismatch", DEPTH, INFO, image(MM[:2], "mono8"), "colour image is 4x2, but depth is 4x3; align it"),
    ("bad_camera_info", DEPTH, replace(INFO, k=[0.0] * 9), None, "camera_info: fx and fy of K must be above 0 (not calibrated?)"),
    ("bad_camera_info", DEPTH, replace(INFO, k=[]), None, "camera_info: fx and fy of K must be above 0 (not calibrated?)"),
    ("bad_camera_info", DEPTH, replace(INFO, d=(0.1, 0, 0, 0), distortion_model="equidistant"), None,
     "camera_info: distortion 'equidistant' with 4 coefficients is not supported; publish a rectified depth image, or plumb_bob or rational_polynomial"),
    ("size_mismatch", DEPTH, replace(INFO, height=6, binning_x=2, binning_y=2), None, "depth image is 4x3, but its camera_info is for 2x3"),
    ("bad_camera_info", DEPTH, replace(INFO, d=(0.1,) * 12, distortion_model="rational_polynomial"), None,
     "camera_info: distortion 'rational_polynomial' with 12 coefficients is not supported; publish a rectified depth image, or plumb_bob or rational_polynomial"),
    ("bad_camera_info", DEPTH, replace(INFO, height=0), None, "camera_info gives a size of 4x0"),
    ("short_data", replace(DEPTH, data=DEPTH.data[:-1]), INFO, None, "depth image has 23 bytes of data, but step * height is 24"),
    ("short_data", replace(DEPTH, step=7), INFO, None, "depth image has a step of 7 bytes, but 4 pixels take 8"),
    ("empty_cloud", replace(DEPTH, width=0), INFO, None, "depth image has no pixels (width 0, height 3)"),
    ("all_invalid", image(MM * 0, "16UC1"), INFO, None, "none of the 12 points is valid (all NaN, Inf or zero)"),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=[f"{i}-{f[0]}" for i, f in enumerate(FAULTS)])
def test_faults(fault: tuple[str, Image, CameraInfo, Image | None, str]) -> None:
    code, depth, info, colour, text = fault
    with pytest.raises(CloudError) as caught:
        decode_depth(depth, info, colour)
    assert (caught.value.code, str(caught.value)) == (code, text)


@pytest.mark.shared
def test_real_d435_recording(shared_data: Path) -> None:
    with Recording(shared_data / "sensors" / "realsense_d435_mcap") as recording:
        messages = list(recording.messages())
        with pytest.raises(
            CloudError, match="2 topics of type sensor_msgs/msg/Image, name one of them: /device_0"
        ):
            recording.choose_topic(IMAGE)
    info = next(m.message for m in messages if m.topic.endswith("Depth_0/info/camera_info"))
    colour = next(m.message for m in messages if m.topic.endswith("Color_0/image/data"))
    clouds = [
        decode_depth(m.message, info, colour) for m in messages if m.topic.endswith("Depth_0/image/data")
    ]
    assert [len(cloud.points) for cloud in clouds] == [286_520, 286_603]
    assert all(cloud.frame_id == "0" and cloud.received == 307_200 for cloud in clouds)
    assert round(float(clouds[0].points[:, 2].min()), 3) == 0.341
    assert round(float(clouds[0].points[:, 2].max()), 3) == 3.182
    # Field of view of fx = 390.43 at 640 pixels: half of it is 39 degrees.
    assert 0.75 < np.abs(clouds[0].points[:, 0] / clouds[0].points[:, 2]).max() < 0.86


def stamped(stamp_ns: int) -> Image:
    return replace(DEPTH, header=header("cam", stamp_ns))


def test_pairing_counts_what_finds_no_partner() -> None:
    pairer = ImagePairer(capacity=2)
    assert pairer.add_depth(stamped(1)) is None
    assert pairer.add_colour(stamped(2)) is None
    pair = pairer.add_depth(stamped(2))
    assert pair is not None and pair.depth.header.stamp == pair.colour.header.stamp == Time(0, 2)
    assert (pairer.paired, pairer.unpaired_depth, pairer.unpaired_colour) == (1, 1, 0)
    for stamp in (3, 4, 5):
        assert pairer.add_colour(stamped(stamp)) is None
    assert (pairer.paired, pairer.unpaired_depth, pairer.unpaired_colour) == (1, 1, 1)
    assert pairer.add_depth(stamped(5)) is not None
    assert (pairer.paired, pairer.unpaired_depth, pairer.unpaired_colour) == (2, 1, 2)
    pairer.add_depth(stamped(9))
    pairer.add_depth(stamped(9))  # the same stamp twice: the newer one stays
    assert (pairer.paired, pairer.unpaired_depth) == (2, 2)
