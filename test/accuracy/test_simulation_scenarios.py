"""What the camera sees in the scenarios of the tracking runs, and the cover of the occlusion sweep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.tracking_study.cover import TOLERANCE, steady_cover
from end2reg_ros.case.model import Case
from end2reg_ros.errors import End2RegError
from end2reg_ros.simulation.camera.sensor import SENSORS, CameraPlacement
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence

TINY = replace(SENSORS["ideal"], width=160, height=120)
SMALL = replace(SENSORS["ideal"], width=320, height=240)


def shares(case: Case, scenario: str, seed: int, times: np.ndarray) -> np.ndarray:
    sequence = SimulatedSequence(case, SequenceSettings(seed, scenario, TINY))
    return np.array([sequence.frame(t).visible_fraction for t in times])


def longest(wanted: np.ndarray, step: float) -> float:
    """Seconds of the longest run of True."""
    run = best = 0
    for each in wanted:
        run = run + 1 if each else 0
        best = max(best, run)
    return best * step


def test_theatre_shows_the_spine_most_of_the_time_and_hides_it_twice(case: Case) -> None:
    step = 0.5
    times = np.arange(0.0, 60.0, step)
    seen = shares(case, "theatre", 0, times)
    assert seen[times < 2.5].min() > 0.9
    assert 0.8 < np.mean(seen >= 0.2) < 0.9
    assert longest((seen == 0) & (times < 30), step) >= 2.0  # the towel
    assert longest((seen == 0) & (times > 45), step) >= 2.5  # the camera looks away
    assert seen[times < 20.5].min() > 0.2 and seen[(times > 26) & (times < 46)].min() > 0.2
    hand = seen[(times > 15.6) & (times < 18)]
    assert 0.35 < hand.min() <= hand.max() < 0.7


def test_theatre_goes_on_after_its_minute(case: Case) -> None:
    times = np.arange(60.25, 120.0, 1.5)
    seen = shares(case, "theatre", 1, times)
    assert 0.8 < np.mean(seen >= 0.2) < 0.93
    assert shares(case, "theatre", 1, np.array([3590.0]))[0] > 0.8


def test_occlude_hides_all_for_two_seconds_of_five_and_nothing_else(case: Case) -> None:
    step = 0.1
    seen = shares(case, "occlude", 2, np.arange(0.0, 10.0, step))
    for half in (seen[:50], seen[50:]):
        assert longest(half == 0, step) == pytest.approx(2.1, abs=0.15)
    assert np.mean((seen > 0) & (seen < 0.9)) < 0.05  # it comes and goes quickly


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_cover_hides_its_share_and_stays(case: Case, share: float) -> None:
    open_view = SimulatedSequence(case, SequenceSettings(3, "demo", SMALL))
    cover = steady_cover(open_view, share, seed=5)
    assert cover == steady_cover(open_view, share, seed=5)
    covered = open_view.seen_from(open_view.placement, cover)
    first, later, next_period = (covered.frame(t) for t in (0.0, 6.9, 39.9))
    assert first.visible_fraction == pytest.approx(1.0 - share, abs=TOLERANCE)
    assert later.visible_fraction == pytest.approx(1.0 - share, abs=0.04)
    assert next_period.visible_fraction == pytest.approx(1.0 - share, abs=0.04)
    assert first.tags["occluders"] == ["sheet"]


def test_cover_comes_from_any_side(case: Case) -> None:
    view = SimulatedSequence(case, SequenceSettings(3, "still", SMALL))
    turns = [steady_cover(view, 0.5, seed)[0].turn_deg for seed in range(4)]
    assert max(turns) - min(turns) > 90.0


def test_cover_says_what_it_cannot_do(case: Case) -> None:
    view = SimulatedSequence(case, SequenceSettings(0, "still", TINY))
    assert steady_cover(view, 0.0, 1) == ()
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(End2RegError, match=rf"^the share to cover is {share:g}, must be 0 to below 1$"):
            steady_cover(view, share, 1)
    away = view.seen_from(CameraPlacement(aim_m=(0.0, 3.0), tilt_deg=0.0))
    with pytest.raises(
        End2RegError, match=r"^nothing of the spine is in view: there is no share of it to cover$"
    ):
        steady_cover(away, 0.5, 1)


def test_each_level_is_seen_as_far_as_it_is_not_covered(case: Case) -> None:
    view = SimulatedSequence(case, SequenceSettings(1, "demo", SMALL))
    free = view.frame(0.0)
    assert free.visible_levels == dict.fromkeys(case.levels, 1.0)
    half = view.seen_from(view.placement, steady_cover(view, 0.5, 1)).frame(0.0)
    assert set(half.visible_levels) == set(case.levels)
    assert min(half.visible_levels.values()) < 0.4 and max(half.visible_levels.values()) > 0.6
    towel = view.frame(9.5)
    assert max(towel.visible_levels.values()) < 0.05


def test_a_scene_without_a_spine_has_no_visible_levels(case: Case) -> None:
    frame = SimulatedSequence(case, SequenceSettings(0, "empty", TINY)).frame(0.0)
    assert frame.visible_levels == {}
