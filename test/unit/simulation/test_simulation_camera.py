"""The simulated depth camera: where it looks, and whether its faults have the size that its settings say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from end2reg_ros import se3
from end2reg_ros.simulation.camera.noise import IdealView, SensorNoise, stereo_shadow
from end2reg_ros.simulation.camera.sensor import SENSORS, CameraPlacement, SensorSettings
from end2reg_ros.simulation.field.surfaces import MATTE, WET

IDEAL = replace(SENSORS["ideal"], width=320, height=240)


def wall(sensor: SensorSettings, depth_m: float, shine: int = MATTE, cosine: float = 1.0) -> IdealView:
    shape = (sensor.height, sensor.width)
    return IdealView(
        np.full(shape, depth_m, np.float32),
        np.full(shape, cosine, np.float32),
        np.full(shape, shine, np.uint8),
    )


def test_head_on_camera_has_the_head_at_the_top_and_the_right_side_at_the_right() -> None:
    target = np.array([0.1, -0.2, 0.3])
    T = CameraPlacement(distance_m=0.5, tilt_deg=0.0, roll_deg=0.0).T_camera_patient(target)
    np.testing.assert_allclose(se3.apply(T, target), [0.0, 0.0, 0.5], atol=1e-12)
    # 0.1 m to the patient's right, towards the head, towards the back.
    np.testing.assert_allclose(se3.apply(T, target + np.array([0.1, 0, 0])), [0.1, 0.0, 0.5], atol=1e-12)
    np.testing.assert_allclose(se3.apply(T, target + np.array([0, 0, 0.1])), [0.0, -0.1, 0.5], atol=1e-12)
    np.testing.assert_allclose(se3.apply(T, target + np.array([0, -0.1, 0])), [0.0, 0.0, 0.4], atol=1e-12)


@pytest.mark.parametrize(
    ("tilt", "azimuth", "roll"), [(30.0, 0.0, 0.0), (45.0, 90.0, 70.0), (10.0, 200.0, -180.0)]
)
def test_tilted_camera_stands_where_it_says(tilt: float, azimuth: float, roll: float) -> None:
    T = CameraPlacement(0.6, tilt, azimuth, roll).T_camera_patient(np.zeros(3))
    centre = se3.inverse(T)[:3, 3]
    assert np.linalg.norm(centre) == pytest.approx(0.6)
    assert np.degrees(np.arccos(-centre[1] / 0.6)) == pytest.approx(tilt)
    assert np.degrees(np.arctan2(centre[2], centre[0])) % 360 == pytest.approx(azimuth)
    np.testing.assert_allclose(se3.apply(T, np.zeros(3)), [0, 0, 0.6], atol=1e-12)
    assert se3.is_rigid(T)


def test_lens_has_the_field_of_view_of_its_settings() -> None:
    sensor = SENSORS["d435"]
    left, right = sensor.directions[0, 0, 0], sensor.directions[0, -1, 0]
    pixel = sensor.directions[0, 1, 0] - sensor.directions[0, 0, 0]
    assert np.degrees(2 * np.arctan(0.5 * (right - left + pixel))) == pytest.approx(69.0, abs=0.01)
    assert (sensor.directions[..., 2] == 1).all()


@pytest.mark.parametrize("depth_m", [0.4, 0.5, 0.8])
def test_axial_noise_has_its_size_and_grows_with_the_square_of_depth(depth_m: float) -> None:
    sensor = replace(IDEAL, axial_stddev_m=0.0004, smooth_share=0.7)
    noise = SensorNoise(sensor, seed=3)
    errors = np.stack([noise.measure(wall(sensor, depth_m), k) - depth_m for k in range(24)])
    expected = 0.0004 * (depth_m / 0.5) ** 2
    assert errors.std() == pytest.approx(expected, rel=0.1)
    assert abs(errors.mean()) < 0.05 * expected


def test_share_of_smooth_noise_is_what_neighbours_have_in_common() -> None:
    sensor = replace(IDEAL, axial_stddev_m=0.0004, smooth_share=0.7, smooth_px=2.0)
    error = SensorNoise(sensor, seed=3).measure(wall(sensor, 0.5), 0) - 0.5
    together = np.mean(error[:, :-1] * error[:, 1:]) / np.mean(error**2)
    far = np.mean(error[:, :-20] * error[:, 20:]) / np.mean(error**2)
    # A Gaussian of 2 px leaves exp(-1 / (4 * 2^2)) of the smooth part's variance between neighbours.
    assert together == pytest.approx(0.7 * np.exp(-1 / 16), rel=0.1)
    assert abs(far) < 0.1


def test_depth_steps_are_the_disparity_steps() -> None:
    sensor = replace(IDEAL, axial_stddev_m=0.0004, disparity_step_px=1 / 32, baseline_m=0.05)
    depth = SensorNoise(sensor, seed=1).measure(wall(sensor, 0.5), 0)
    disparity = sensor.focal_px * 0.05 / depth.astype(np.float64) * 32
    np.testing.assert_allclose(disparity, np.rint(disparity), atol=2e-3)
    # One step at 0.5 m: z^2 / (f B) / 32 = 0.671 mm.
    assert np.diff(np.unique(depth)).min() * 1e3 == pytest.approx(0.671, abs=0.01)


def test_depth_unit_rounds() -> None:
    sensor = replace(IDEAL, axial_stddev_m=0.0004, depth_unit_m=0.001)
    depth = SensorNoise(sensor, seed=1).measure(wall(sensor, 0.5), 0)
    np.testing.assert_allclose(depth * 1e3, np.rint(depth * 1e3), atol=1e-4)


def test_holes_grazing_range_and_mirrors_lose_what_they_say() -> None:
    def valid(sensor: SensorSettings, view: IdealView) -> float:
        noise = SensorNoise(sensor, 5)
        return float(np.mean([np.isfinite(noise.measure(view, k)).mean() for k in range(5)]))

    assert valid(IDEAL, wall(IDEAL, 0.5)) == 1.0
    assert valid(replace(IDEAL, hole_share=0.02), wall(IDEAL, 0.5)) == pytest.approx(0.98, abs=0.004)
    grazing = replace(IDEAL, grazing_deg=80.0)
    assert valid(grazing, wall(IDEAL, 0.5, cosine=float(np.cos(np.radians(79))))) == 1.0
    assert valid(grazing, wall(IDEAL, 0.5, cosine=float(np.cos(np.radians(81))))) == 0.0
    ranged = replace(IDEAL, min_range_m=0.2, max_range_m=2.0)
    assert [valid(ranged, wall(IDEAL, z)) for z in (0.19, 0.5, 2.1, np.inf)] == [0.0, 1.0, 0.0, 0.0]
    mirror = replace(IDEAL, specular_drop=0.5)
    assert valid(mirror, wall(IDEAL, 0.5, WET)) == pytest.approx(0.5, abs=0.05)
    assert valid(mirror, wall(IDEAL, 0.5, MATTE)) == 1.0


def test_pixels_beside_a_step_are_lost_and_others_are_not() -> None:
    sensor = replace(IDEAL, edge_drop=1.0, edge_step_m=0.006)
    view = wall(sensor, 0.5)
    view.depth_m[:, 160:] = 0.52
    lost = np.isnan(SensorNoise(sensor, 0).measure(view, 0))
    assert lost[:, 159:161].all() and not lost[:, :159].any() and not lost[:, 161:].any()
    view.depth_m[:, 160:] = 0.505
    assert not np.isnan(SensorNoise(sensor, 0).measure(view, 0)).any()


def test_stereo_shadow_is_what_the_second_eye_cannot_see() -> None:
    rng = np.random.default_rng(0)
    depth = np.repeat(rng.uniform(0.4, 0.6, size=(6, 12)), 5, axis=1).astype(np.float32)
    shadow = stereo_shadow(depth, 20.0)
    landing = np.arange(60) - 20.0 / depth
    for row in range(6):
        for u in range(60):
            hidden = any(landing[row, v] + 0.5 < landing[row, u] for v in range(u, 60))
            assert shadow[row, u] == hidden, (row, u)
    # A near body throws its shadow to its left, f B (1 / near - 1 / far) pixels wide.
    step = np.full((1, 100), 0.5, np.float32)
    step[:, 50:60] = 0.4
    columns = np.flatnonzero(stereo_shadow(step, 20.0)[0])
    assert columns.tolist() == list(range(41, 50))  # of 40-49; the first lands exactly on the body's edge


def test_equal_seed_and_frame_give_equal_faults_and_others_do_not() -> None:
    sensor = SENSORS["d435"]
    view = wall(sensor, 0.5, WET)
    first, again = (SensorNoise(sensor, 9).measure(view, 4) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other_frame, other_seed = (
        SensorNoise(sensor, 9).measure(view, 5),
        SensorNoise(sensor, 10).measure(view, 4),
    )
    assert np.nanstd(other_frame - first) > 0.0003
    assert np.nanstd(other_seed - first) > 0.0003
