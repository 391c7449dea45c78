"""The one-hour run in small: the node's runtime with a stand-in for the registration."""

from __future__ import annotations

import json
import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from boxes_case import boxes_case
from playbacks import T_TRUE, made_up
from stand_in import StandInRegistrar

from benchmarks.camera_rate.stream import Playback
from benchmarks.soak_study.feed import EVENTS, Course, event_at, walk
from benchmarks.soak_study.record import Sample, SoakRecord, figures, memory_figures, problems
from benchmarks.soak_study.run import Soak
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.names import CAMERA_FRAME
from end2reg_ros.registration.types import Prior, Quality, Registration
from end2reg_ros.ros.settings import TrackerParameters


@pytest.fixture
def case() -> Case:
    return boxes_case()


@pytest.fixture
def playback(case: Case, tmp_path: Path) -> Playback:
    return made_up(case, tmp_path)


class StandIn(StandInRegistrar):
    """A registration that finds the prior, or what it is told to do."""

    method, engine, engine_hash, engine_text, needs_prior = "icp", "", "", "", True

    def __init__(self, shift_m: float = 0.0, fault_at: int = 0, threads_from: int = 0) -> None:
        self.calls = 0
        self.shift_m, self.fault_at, self.threads_from = shift_m, fault_at, threads_from
        self.stop = threading.Event()

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        """The truth, ``shift_m`` off."""
        self.calls += 1
        if self.calls == self.fault_at:
            raise RuntimeError("out of order")
        if self.threads_from and self.calls == self.threads_from:
            threading.Thread(target=self.stop.wait, daemon=True).start()
        T = T_TRUE.copy()
        T[1, 3] += self.shift_m
        quality = Quality(1.0, 0.0003, 0.9, 0.2, 0.0, 2000, normal_agreement=1.0)
        return Registration(
            T, True, "ok", "registered", quality, 1e-8 * np.eye(6), "icp", "", {"refine": 1.0}
        )


COURSE = Course(clouds=120, event_every=100, full_every=2)
PARAMETERS = TrackerParameters(method="icp", expected_frame=CAMERA_FRAME)


def soaked(case: Case, playback: Playback, registrar: StandIn, course: Course = COURSE) -> SoakRecord:
    soak = Soak(case, playback, PARAMETERS, course, registrar)
    return soak.run(sample_every=40, warm=30, on_sample=lambda sample: None)


def test_an_hour_in_small(case: Case, playback: Playback) -> None:
    record = soaked(case, playback, StandIn())
    assert problems(record, 30) == []
    assert record.events == dict.fromkeys(EVENTS, 1) | {"frozen": 2}
    told = figures(record, 30)
    clouds = told["clouds"]
    assert clouds["sent"] == clouds["received"] >= 120
    assert clouds["received"] == clouds["processed"] + sum(clouds["dropped"].values())
    assert clouds["dropped"].pop("superseded") == 2
    assert clouds["dropped"] == {
        "all_invalid": 1, "empty_cloud": 1, "frozen": 2, "stamp_backwards": 1, "wrong_frame": 1,
    }  # fmt: skip
    assert told["poses"] > 60 and told["pose_error_mm"]["max"] < 1e-6
    assert (told["silences_noticed"], told["good"], told["interrupted"]) == (1, True, False)
    assert told["state_changes"]["TRACKING->LOST"] >= 1
    assert [s["clouds"] for s in told["samples"]] == sorted(s["clouds"] for s in told["samples"])
    assert told["samples"][0]["clouds"] >= 30 and len(told["samples"]) >= 4
    json.dumps(told)


def test_wrong_poses_are_told(case: Case, playback: Playback) -> None:
    record = soaked(case, playback, StandIn(shift_m=0.011), Course(30, event_every=100))
    assert record.output.poses > 10
    assert problems(record, 30) == [f"{record.output.poses} poses are off by more than 10 mm"]


def test_an_internal_error_is_told(case: Case, playback: Playback) -> None:
    record = soaked(case, playback, StandIn(fault_at=8), Course(12, event_every=100))
    found = problems(record, 30)
    assert found == ["1 clouds were dropped as internal_error, expected 0", "2 warnings of an internal error"]


def test_a_thread_that_stays_is_told(case: Case, playback: Playback) -> None:
    registrar = StandIn(threads_from=60)
    record = soaked(case, playback, registrar, Course(90, event_every=1000))
    registrar.stop.set()
    (found,) = problems(record, 30)
    assert found.startswith("the number of threads changed: ")


def test_poses_without_a_view_are_told(case: Case, tmp_path: Path) -> None:
    blind = made_up(case, tmp_path, visible=(1.0, 1.0, 1.0, 0.0))
    record = soaked(case, blind, StandIn(), Course(30, event_every=100, full_every=1))
    # Five times nothing is in view; a busy machine may lose the track meanwhile.
    assert 1 <= record.output.blind <= 5
    text = f"{record.output.blind} poses were published while nothing of the spine was in view"
    assert problems(record, 30) == [text]


def test_an_hour_can_be_ended_early(case: Case, playback: Playback) -> None:
    soak = Soak(case, playback, PARAMETERS, Course(100_000, event_every=1000), StandIn())
    record = soak.run(20, 10, lambda sample: soak.stop() if sample.clouds >= 40 else None)
    told = figures(record, 10)
    assert (told["interrupted"], told["good"]) == (True, True)
    assert 40 <= told["clouds"]["sent"] < 100


def test_growing_memory_is_told() -> None:
    samples = [Sample(1000 * k, 1.0 * k, 500.0 + 5.0 * k, 3, 9, 0, "TRACKING") for k in range(8)]
    told = memory_figures(samples, 2000)
    assert (told["warm_mb"], told["end_mb"], told["growth_mb"]) == (510.0, 535.0, 25.0)
    assert told["slope_mb_per_hour"] == pytest.approx(5.0 * 108)
    assert memory_figures(samples[:2], 2000)["growth_mb"] is None


def test_events_are_spread_evenly() -> None:
    happening = [(k, event) for k in range(1000) if (event := event_at(k, 1000)) is not None]
    assert happening == [(125 * (k + 1), event) for k, event in enumerate(EVENTS)]
    assert event_at(1000, 1000) is None and event_at(1125, 1000) == EVENTS[0]
    with pytest.raises(ValueError, match=r"^event_every is 40, must be 48 or more$"):
        event_at(0, 40)


def test_most_rounds_stay_where_the_view_is_clear(case: Case, tmp_path: Path) -> None:
    hidden = made_up(case, tmp_path, frames=6, visible=(1.0, 1.0, 1.0, 0.3, 0.0, 0.0))
    rounds = list(islice(walk(hidden, 3), 4 + 4 + 10 + 1))
    assert rounds == [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0]
