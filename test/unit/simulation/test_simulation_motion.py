"""Motions of the simulated scene: smooth, of the size they say, at the times they say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from end2reg_ros import se3
from end2reg_ros.simulation import motion

PIVOT = np.array([0.0, -0.1, 0.05])


def T_camera_patient(scenario: motion.Scenario, seed: int, t: float) -> np.ndarray:
    return se3.inverse(motion.T_rest_camera(scenario, t)) @ motion.T_world_patient(scenario, PIVOT, seed, t)


@pytest.mark.slow
@pytest.mark.parametrize("name", motion.SCENARIOS)
def test_motion_has_no_jumps_in_place_or_speed(name: str) -> None:
    scenario, step = motion.SCENARIOS[name], 0.01
    # Past the end of the second period: what repeats must join.
    times = np.arange(0.0, 2.05 * scenario.period_s, step)
    poses = np.array([T_camera_patient(scenario, 7, t) for t in times])
    place = np.array([se3.apply(T, PIVOT) for T in poses])
    speed = np.diff(place, axis=0) / step
    acceleration = np.abs(np.diff(speed, axis=0)).max() / step
    turns_away, hard_knock = name in ("leave", "theatre"), name == "theatre"
    assert np.linalg.norm(speed, axis=1).max() < (1.5 if turns_away else 0.35)
    assert acceleration < (12 if hard_knock else 8)
    turns = [se3.rotation_angle(a[:3, :3].T @ b[:3, :3]) for a, b in pairwise(poses)]
    assert np.degrees(max(turns)) / step < 120


def test_still_is_still() -> None:
    scenario = motion.SCENARIOS["still"]
    for t in (0.0, 3.3, 17.0, 55.0):
        np.testing.assert_array_equal(T_camera_patient(scenario, 1, t), np.eye(4))


def test_breathing_has_its_amplitude_and_rate() -> None:
    scenario = motion.Scenario("breath", breathing_m=0.0015, breathing_hz=0.25)
    times = np.arange(0, 40, 0.02)
    y = (
        np.array([se3.apply(motion.T_world_patient(scenario, PIVOT, 3, t), PIVOT)[1] for t in times])
        - PIVOT[1]
    )
    assert 1e3 * np.ptp(y) / 2 == pytest.approx(1.5, rel=0.1)
    spectrum = np.abs(np.fft.rfft(y - y.mean()))
    assert np.fft.rfftfreq(len(y), 0.02)[spectrum.argmax()] == pytest.approx(0.25)


def test_camera_nudge_happens_at_its_time_and_stays() -> None:
    demo = motion.SCENARIOS["demo"]
    before, after = motion.T_rest_camera(demo, 13.99), motion.T_rest_camera(demo, 14.51)
    np.testing.assert_array_equal(before, np.eye(4))
    assert 1e3 * np.linalg.norm(after[:3, 3]) == pytest.approx(1e3 * np.linalg.norm([0.012, -0.008, 0.006]))
    np.testing.assert_array_equal(motion.T_rest_camera(demo, 19.9), after)
    # The second period takes it back.
    np.testing.assert_allclose(motion.T_rest_camera(demo, 20.0 + 13.9), after, atol=1e-12)
    np.testing.assert_allclose(motion.T_rest_camera(demo, 20.0 + 14.6), np.eye(4), atol=1e-12)


def test_passes_come_and_go_smoothly_between_their_times() -> None:
    demo = motion.SCENARIOS["demo"]
    towel = demo.passes[1]
    assert (towel.kind, towel.start_s, towel.end_s) == ("towel", 8.0, 11.0)
    shares = [motion.pass_share(demo, towel, t) for t in (7.99, 8.0, 8.55, 9.1, 9.9, 10.45, 11.0, 11.01)]
    assert shares == pytest.approx([0, 0, 0.5, 1, 1, 0.5, 0, 0])
    times = np.arange(8.0, 11.0, 0.01)
    places = [
        motion.T_base_occluder(towel, motion.pass_share(demo, towel, t), PIVOT, t)[:3, 3] for t in times
    ]
    assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() / 0.01 < 1.6
    assert np.linalg.norm(places[0] - PIVOT) > 0.7


def test_drift_goes_there_and_back() -> None:
    scenario = motion.Scenario("drift", drift_m=(0.006, 0.0, -0.008), drift_deg=2.0)
    start, there, back = (motion.T_world_patient(scenario, PIVOT, 0, t) for t in (0.0, 20.0, 40.0))
    np.testing.assert_allclose(se3.apply(there, PIVOT) - PIVOT, [0.006, 0.0, -0.008], atol=1e-12)
    np.testing.assert_allclose(start, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(back, np.eye(4), atol=1e-12)


def view_at(scenario: motion.Scenario, t: float) -> np.ndarray:
    """The camera's pose among its own places."""
    return motion.T_rest_camera(scenario, t)


def moved(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Millimetres and degrees between two poses."""
    T = se3.inverse(a) @ b
    return 1e3 * float(np.linalg.norm(T[:3, 3])), float(np.degrees(se3.rotation_angle(T[:3, :3])))


def test_theatre_camera_is_knocked_gently_and_hard_and_comes_back_elsewhere() -> None:
    theatre = motion.SCENARIOS["theatre"]
    assert theatre.period_s == 60.0
    rest, gentle, hard, back = (view_at(theatre, t) for t in (12.9, 13.5, 32.3, 50.5))
    np.testing.assert_array_equal(rest, np.eye(4))
    assert moved(rest, gentle) == pytest.approx((12.0, 1.0), rel=1e-6)
    np.testing.assert_allclose(view_at(theatre, 31.9), gentle, atol=1e-12)
    assert moved(gentle, hard) == pytest.approx((60.0, 6.0), rel=0.02)
    np.testing.assert_allclose(view_at(theatre, 45.9), hard, atol=1e-12)
    assert moved(hard, view_at(theatre, 48.0))[1] > 60.0
    assert moved(hard, back) == pytest.approx((20.0, 5.0), rel=0.05)
    # The second minute takes it all back.
    np.testing.assert_allclose(view_at(theatre, 60.0), back, atol=1e-12)
    np.testing.assert_allclose(view_at(theatre, 119.9), np.eye(4), atol=1e-12)


def test_theatre_begins_with_two_calm_seconds() -> None:
    theatre = motion.SCENARIOS["theatre"]
    starts = [e.start_s for e in theatre.passes] + [
        m.at_s for m in theatre.camera_moves + theatre.table_moves
    ]
    assert min(starts) >= 2.0
    assert max(e.end_s for e in theatre.passes) < theatre.period_s
    at_rest, later = (motion.T_world_patient(theatre, PIVOT, 3, t) for t in (0.0, 2.0))
    assert moved(at_rest, later)[0] < 4.0  # breathing


def test_table_move_takes_the_patient_along_and_the_next_period_takes_it_back() -> None:
    move = motion.TableMove(3.0, 2.0, (0.0, -0.02, 0.015), (2.0, 0.0, 0.0))
    scenario = motion.Scenario("table", table_moves=(move,), period_s=10.0)
    before, after, returned = (motion.T_world_patient(scenario, PIVOT, 0, t) for t in (3.0, 5.0, 15.0))
    np.testing.assert_array_equal(before, np.eye(4))
    np.testing.assert_allclose(se3.apply(after, PIVOT) - PIVOT, [0.0, -0.02, 0.015], atol=1e-12)
    assert np.degrees(se3.rotation_angle(after[:3, :3])) == pytest.approx(2.0)
    np.testing.assert_allclose(returned, np.eye(4), atol=1e-12)


def test_what_lies_on_the_patient_does_not_tremble() -> None:
    lying = motion.Pass("sheet", -1.0, 30.0, on_patient=True)
    held = motion.Pass("sheet", -1.0, 30.0)
    a, b = (motion.T_base_occluder(lying, 1.0, PIVOT, t) for t in (1.0, 2.0))
    c, d = (motion.T_base_occluder(held, 1.0, PIVOT, t) for t in (1.0, 2.0))
    np.testing.assert_array_equal(a, b)
    assert 1e-4 < np.linalg.norm(c[:3, 3] - d[:3, 3]) < 5e-3
