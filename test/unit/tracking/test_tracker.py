"""The tracker's decisions, with registrations scripted one by one: every refusal, every search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_in import StandInRegistrar

from end2reg_ros.case.model import Case, Mesh, Vertebra
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.frame import Tracker
from end2reg_ros.registration.fit.posture import Posture, straight
from end2reg_ros.registration.types import Prior, Quality, Registration
from end2reg_ros.se3 import apply, from_rotation_translation, rotation_from_vector
from end2reg_ros.tracking import State, TrackerSettings
from end2reg_ros.tracking.motion import MotionMemory
from end2reg_ros.tracking.types import TrackingUpdate

GOOD = Quality(1.0, 0.0008, 0.5, 0.3, 0.0, 2000, 0.8)
FAIR = Quality(0.95, 0.0008, 0.5, 0.3, 0.0, 2000, 0.8)


def two_level_case() -> Case:
    mesh = Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]], dtype=np.int32))
    vertebrae = []
    for level, z in (("L1", 0.02), ("L2", -0.02)):
        T = np.eye(4)
        T[2, 3] = z
        vertebrae.append(Vertebra(level, mesh, T, (1, 2, 3)))
    return Case("two", Path("two"), tuple(vertebrae), "", "")


def at(x_mm: float = 0.0, y_mm: float = 0.0, z_mm: float = 0.0, turn_deg: float = 0.0) -> np.ndarray:
    R = rotation_from_vector(np.array([0.0, 0.0, np.radians(turn_deg)]))
    return from_rotation_translation(R, np.array([x_mm, y_mm, 500 + z_mm]) / 1000)


DT = 1 / 15  # seconds between two clouds


class Scripted(StandInRegistrar):
    """A registrar that answers what it is told, and remembers what it was asked."""

    def __init__(self, needs_prior: bool = True) -> None:
        self.needs_prior = needs_prior
        self.answers: list[Registration] = []
        self.priors: list[Prior | None] = []
        self.verbs: list[str] = []  # one for each of these: follow or register

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        return self._answer("register", prior)

    def follow(self, scene: Any, expected: Prior, seen: Any = None) -> Registration:
        return self._answer("follow", expected)

    def _answer(self, verb: str, prior: Prior | None) -> Registration:
        self.verbs.append(verb)
        self.priors.append(prior)
        return self.answers.pop(0)

    def asked(self) -> list[tuple[str, str]]:
        """(source of the prior, verb), of those that had a prior."""
        return [(p.source, verb) for p, verb in zip(self.priors, self.verbs, strict=True) if p is not None]


def answer(
    T: np.ndarray, quality: Quality = GOOD, success: bool = True, posture: Posture | None = None
) -> Registration:
    code, reason = ("ok", "registered") if success else ("few_inliers", "12 points on the model, 250 needed")
    return Registration(
        T, success, code, reason, quality, 1e-8 * np.eye(6), "scripted", "none", posture=posture,
        position_stddev_m=1e-4,
    )  # fmt: skip


class Stream:
    """A tracker fed at 15 Hz with scripted answers."""

    def __init__(self, settings: TrackerSettings | None = None, needs_prior: bool = True) -> None:
        self.registrar = Scripted(needs_prior)
        self.tracker = Tracker(self.registrar, two_level_case(), settings)
        self.time_ns = 1_000_000_000

    def feed(
        self,
        T: np.ndarray,
        quality: Quality = GOOD,
        success: bool = True,
        dt: float = DT,
        posture: Posture | None = None,
    ) -> TrackingUpdate:
        self.registrar.answers = [answer(T, quality, success, posture)] * 2  # a failed frame is tried twice
        self.time_ns += int(dt * 1e9)
        return self.tracker.update(Cloud(np.ones((9, 3), np.float32), None, "camera", self.time_ns))

    def to_tracking(self) -> Stream:
        self.tracker.set_prior(Prior(at(), "landmarks"))
        self.feed(at())
        assert self.feed(at()).state is State.TRACKING
        return self


def test_without_a_prior_nothing_is_tried_and_the_reason_says_what_to_do() -> None:
    stream = Stream()
    update = stream.tracker.update(Cloud(np.ones((9, 3), np.float32), None, "camera", 5))
    assert (update.state, update.reason_code, update.published) == (State.SEARCHING, "no_prior", False)
    assert update.reason == "waiting for a start: pick landmarks or send initial_pose"
    assert stream.registrar.priors == []


def test_a_method_that_needs_no_prior_starts_by_itself() -> None:
    stream = Stream(needs_prior=False)
    stream.feed(at())
    assert stream.feed(at()).state is State.TRACKING
    assert stream.registrar.priors[0] is None


def degraded() -> Stream:
    stream = Stream().to_tracking()
    stream.feed(at(), FAIR), stream.feed(at(), FAIR)
    assert stream.tracker.state is State.DEGRADED
    return stream


def searches(stream: Stream, frames: int, dt: float = DT) -> list[str]:
    """Where each of so many failing frames was searched: ``last_pose``, ``view``."""
    stream.registrar.priors.clear(), stream.registrar.verbs.clear()
    for _ in range(frames):
        stream.feed(at(), success=False, dt=dt)
    return [p.source if p else "view" for p in stream.registrar.priors]


def test_a_method_that_needs_no_prior_looks_near_for_three_seconds_then_in_the_whole_view_as_well() -> None:
    stream = Stream(needs_prior=False).to_tracking()
    stream.feed(at(), success=False)
    assert set(searches(stream, round(2.9 / DT))) == {"last_pose"}
    shared = searches(stream, round(4.8 / DT))
    assert (
        0.28 < shared.count("view") / len(shared) < 0.36
    )  # a third of the time, from 3 to 8 s after the last pose
    assert "view view" not in " ".join(shared)
    assert set(searches(stream, round(3.0 / DT))[-15:]) == {"view"}  # more than eight seconds after it
    # What it finds there is confirmed from itself before it goes out, and may lie anywhere.
    far = at(x_mm=90)
    first, second = stream.feed(far), stream.feed(far)
    assert (first.published, first.reason_code) == (False, "confirming")
    assert (second.state, second.published) == (State.TRACKING, True)


def test_a_slow_search_of_the_whole_view_gets_a_third_of_the_time_too() -> None:
    """A search of the whole view keeps the next cloud waiting for 0.9 s, one around the last pose for 0.1 s."""
    stream = Stream(needs_prior=False).to_tracking()
    stream.feed(at(), success=False)
    spent = {"view": 0.0, "last_pose": 0.0}
    source = "last_pose"
    while sum(spent.values()) < 4.0:
        took = 0.9 if source == "view" else 0.1
        [source] = searches(stream, 1, took)
        spent[source] += 0.9 if source == "view" else 0.1
    assert 0.2 < spent["view"] / sum(spent.values()) < 0.5


def test_a_spine_covered_for_two_seconds_is_found_with_two_fits_where_it_was() -> None:
    stream = Stream(needs_prior=False).to_tracking()
    for _ in range(30):
        stream.feed(at(), success=False)
    asked = searches(stream, 3)
    assert "last_pose" in asked
    while stream.registrar.priors[-1] is None:
        stream.feed(at(), success=False)
    first, second = stream.feed(at(x_mm=1)), stream.feed(at(x_mm=1))
    assert (first.reason_code, second.state, second.published) == ("confirming", State.TRACKING, True)
    assert stream.registrar.asked()[-1] == ("candidate", "follow")


def test_a_start_that_leads_nowhere_gives_way_to_a_search() -> None:
    stream = Stream(needs_prior=False)
    stream.tracker.set_prior(Prior(at(), "landmarks"))
    for _ in range(20):
        update = stream.feed(at(), success=False)
    sources = [p.source if p else None for p in stream.registrar.priors]
    assert sources[0] == "landmarks" and sources[-1] is None
    assert update.reason_code == "few_inliers"


def test_a_spine_that_moved_during_a_long_search_is_confirmed_where_it_is_now() -> None:
    stream = Stream(needs_prior=False)
    stream.feed(at())
    moved = stream.feed(at(x_mm=5))
    assert (moved.published, moved.reason) == (False, "two fits in a row lie 5.0 mm apart")
    assert stream.feed(at(x_mm=5.5)).state is State.TRACKING
    assert stream.registrar.priors[0] is None
    assert stream.registrar.asked() == [("candidate", "follow")] * 2


def test_a_candidate_of_a_search_does_not_walk_either() -> None:
    stream = Stream(needs_prior=False)
    for x_mm in (0, 5, 10):
        assert not stream.feed(at(x_mm=x_mm)).published
    stream.feed(at(x_mm=15))  # 15 mm from the first: dropped
    stream.feed(at(x_mm=20))
    assert stream.registrar.priors[-1] is None


def test_the_first_pose_goes_out_after_two_agreeing_fits() -> None:
    stream = Stream()
    stream.tracker.set_prior(Prior(at(), "landmarks"))
    first, second = stream.feed(at(x_mm=1)), stream.feed(at(x_mm=1.5))
    assert (first.state, first.published, first.reason_code) == (State.SEARCHING, False, "confirming")
    assert first.reason == "good fit 1 of 2"
    assert (second.state, second.published, second.changed) == (State.TRACKING, True, True)


def test_fits_that_disagree_never_confirm() -> None:
    stream = Stream()
    stream.tracker.set_prior(Prior(at(), "landmarks"))
    updates = [stream.feed(at(x_mm=5 * (k % 2))) for k in range(6)]
    assert not any(u.published for u in updates)
    assert (updates[1].reason_code, updates[1].reason) == (
        "unconfirmed",
        "two fits in a row lie 5.0 mm apart",
    )


def test_a_candidate_does_not_walk_to_the_next_level() -> None:
    """Fits that creep along the axis, 8 mm each: after every disagreement the search begins at the start again."""
    stream = Stream()
    stream.tracker.set_prior(Prior(at(), "landmarks"))
    for z_mm in (0, 8, 16, 24, 32, 36, 36, 36):
        assert not stream.feed(at(z_mm=z_mm)).published
    sources = [p.source for p in stream.registrar.priors if p is not None]
    assert sources == ["landmarks", "candidate"] + ["landmarks"] * 6


def test_a_fair_fit_does_not_start_a_track() -> None:
    stream = Stream()
    stream.tracker.set_prior(Prior(at(), "landmarks"))
    update = stream.feed(at(), FAIR)
    assert (update.state, update.reason_code) == (State.SEARCHING, "low_quality")
    assert update.reason.startswith("not good enough to start: inlier ratio 0.95 below 0.96")


def test_degraded_and_back_with_hysteresis() -> None:
    stream = Stream().to_tracking()
    weak, down = stream.feed(at(), FAIR), stream.feed(at(), FAIR)
    assert (weak.state, weak.published, weak.reason_code) == (State.TRACKING, True, "weakening")
    assert weak.reason == "inlier ratio 0.95 below 0.96 (fit 1 of 2)"
    assert (down.state, down.published, down.reason_code) == (State.DEGRADED, True, "low_quality")
    states = [stream.feed(at()) for _ in range(3)]
    assert [u.state for u in states] == [State.DEGRADED, State.DEGRADED, State.TRACKING]
    assert all(u.published for u in states)
    assert states[0].reason_code == "recovering"


def test_one_bad_fit_silences_and_one_good_fit_nearby_resumes_within_half_a_second() -> None:
    stream = Stream().to_tracking()
    lost = stream.feed(at(), success=False)
    assert (lost.state, lost.published, lost.reason) == (
        State.LOST,
        False,
        "12 points on the model, 250 needed",
    )
    assert stream.feed(at(x_mm=2)).state is State.TRACKING


def test_after_half_a_second_two_fits_must_agree_again() -> None:
    stream = Stream().to_tracking()
    stream.feed(at(), success=False)
    assert stream.feed(at(), dt=1.0).state is State.LOST
    assert stream.feed(at()).state is State.TRACKING


def test_one_fit_far_away_does_not_resume_a_track() -> None:
    stream = Stream().to_tracking()
    stream.feed(at(), success=False)
    update = stream.feed(at(x_mm=40, turn_deg=30))
    assert (update.state, update.published, update.reason_code) == (State.LOST, False, "confirming")


def test_a_slow_frame_costs_nothing_but_itself() -> None:
    """A second after the last pose nothing is followed, but one good fit where the spine was expected goes on."""
    stream = Stream().to_tracking()
    changes = stream.tracker.history.total
    update = stream.feed(at(x_mm=3), dt=1.0)
    assert (update.state, update.published, update.changed) == (State.TRACKING, True, False)
    assert stream.registrar.asked()[-1] == ("last_pose", "register")
    assert stream.tracker.history.total == changes
    assert stream.feed(at(x_mm=3)).published


@pytest.mark.parametrize("fit", ["far", "fair", "turned"])
def test_after_a_slow_frame_another_fit_must_be_confirmed(fit: str) -> None:
    stream = Stream().to_tracking()
    T = {"far": at(x_mm=25), "fair": at(), "turned": at(turn_deg=15)}[fit]
    update = stream.feed(T, FAIR if fit == "fair" else GOOD, dt=1.0)
    assert (update.state, update.published) == (State.LOST, False)
    assert update.reason_code == ("low_quality" if fit == "fair" else "confirming")
    last = stream.tracker.history.last
    assert last is not None and (last.name, last.reason_code, last.reason) == (
        "TRACKING->LOST",
        "gap",
        "no pose for 1.0 s",
    )


def test_a_failed_fit_after_a_slow_frame_is_lost_for_its_own_reason() -> None:
    stream = Stream().to_tracking()
    assert stream.feed(at(), success=False, dt=1.0).state is State.LOST
    last = stream.tracker.history.last
    assert last is not None and (last.reason_code, last.event.name) == ("few_inliers", "FAILED")


def test_after_two_seconds_without_a_pose_the_track_is_lost_before_it_goes_on() -> None:
    stream = Stream().to_tracking()
    update = stream.feed(at(), dt=2.5)
    assert (update.state, update.published, update.reason_code) == (State.LOST, False, "confirming")
    assert stream.registrar.verbs[-1] == "register"
    assert stream.feed(at()).published


def test_stamps_that_went_back_end_the_track() -> None:
    stream = Stream().to_tracking()
    assert stream.feed(at(), dt=-1.0).state is State.LOST
    last = stream.tracker.history.last
    assert last is not None and last.reason == "the stamps went back"


def test_a_fit_found_again_is_confirmed_by_following_it() -> None:
    """With icp, too: the search has held the fit against the neighbouring levels; a start is searched twice."""
    stream = Stream().to_tracking()
    stream.feed(at(), success=False)
    stream.feed(at(), success=False, dt=0.6)
    assert stream.feed(at(x_mm=1)).reason_code == "confirming"
    assert stream.feed(at(x_mm=1)).state is State.TRACKING
    assert stream.registrar.asked()[-2:] == [("last_pose", "register"), ("candidate", "follow")]
    start = Stream()
    start.tracker.set_prior(Prior(at(), "landmarks"))
    start.feed(at()), start.feed(at())
    assert start.registrar.verbs == ["register", "register"]


def test_a_lost_track_does_not_walk_to_the_next_level_in_short_steps() -> None:
    """Each fit 4 mm along the spine from the one before: beyond 12 mm from where the search began there is no pose."""
    stream = Stream().to_tracking()
    stream.feed(at(), success=False)
    stream.feed(at(), success=False, dt=0.6)
    codes = [stream.feed(at(z_mm=z_mm)).reason_code for z_mm in (7, 11, 15, 19, 19)]
    assert codes[:3] == ["confirming", "unconfirmed", "ambiguous_level"]
    assert stream.tracker.state is State.LOST


def test_a_track_lost_for_long_needs_a_new_start() -> None:
    stream = Stream().to_tracking()
    stream.feed(at(), success=False)
    update = stream.feed(at(), dt=16.0)
    assert (update.state, update.reason_code) == (State.LOST, "lost_too_long")
    assert update.reason == "lost for more than 15 s, the camera may have moved: send initial_pose"
    asked = len(stream.registrar.priors)
    assert stream.feed(at()).reason_code == "lost_too_long"
    assert len(stream.registrar.priors) == asked
    stream.tracker.set_prior(Prior(at(), "initial_pose"))
    stream.feed(at())
    assert stream.feed(at()).state is State.TRACKING


def test_a_start_that_leads_nowhere_expires() -> None:
    stream = Stream()
    stream.tracker.set_prior(Prior(at(), "landmarks"))
    stream.feed(at(), success=False)
    assert stream.feed(at(), success=False, dt=29.0).reason_code == "few_inliers"
    update = stream.feed(at(), dt=2.0)
    assert (update.state, update.reason_code) == (State.SEARCHING, "prior_expired")
    assert update.reason == "no fit within 30 s of the start: send initial_pose again"


def test_degraded_is_lost_by_a_bad_fit() -> None:
    stream = degraded()
    assert stream.feed(at(), success=False).state is State.LOST


def test_a_jump_is_not_believed() -> None:
    stream = Stream().to_tracking()
    update = stream.feed(at(x_mm=20))
    assert (update.state, update.published, update.reason_code) == (State.LOST, False, "jump")
    assert update.reason == "20.0 mm and 0.0 deg from where it was expected"
    turned = Stream().to_tracking().feed(at(turn_deg=8))
    assert (turned.state, turned.reason_code) == (State.LOST, "jump")


def test_a_motion_as_fast_as_a_spine_moves_is_followed() -> None:
    stream = Stream().to_tracking()
    for k in range(30):
        assert stream.feed(at(x_mm=5 * k)).published


def test_each_frame_starts_where_constant_velocity_leads() -> None:
    stream = Stream().to_tracking()
    stream.feed(at(x_mm=3))
    stream.feed(at(x_mm=6))
    prior = stream.registrar.priors[-1]
    assert prior is not None and prior.source == "last_frame"
    assert 1000 * prior.T_camera_model[0, 3] == pytest.approx(6.0, abs=0.01)


def test_a_failed_frame_is_searched_more_widely_once() -> None:
    """A knocked camera: the first fit of the frame fails, the wider one succeeds, and the pose goes out."""
    stream = Stream().to_tracking()
    stream.registrar.answers = [answer(at(), success=False), answer(at(x_mm=8))]
    stream.time_ns += 66_000_000
    update = stream.tracker.update(Cloud(np.ones((9, 3), np.float32), None, "camera", stream.time_ns))
    assert update.published
    assert [p.stddev_m for p in stream.registrar.priors[-2:] if p] == [0.001, 0.004]
    assert stream.registrar.verbs[-2:] == ["follow", "register"]


def test_a_track_found_again_one_level_off_is_refused() -> None:
    """The spine's axis is the model's z; at 30 mm along it stands the next level."""
    stream = Stream().to_tracking()
    stream.feed(at(), success=False)
    for _ in range(5):
        update = stream.feed(at(z_mm=30))
        assert (update.state, update.reason_code) == (State.LOST, "ambiguous_level")
    assert update.reason == "30 mm along the spine from where it was looked for: this may be another level"
    assert stream.feed(at(x_mm=8)).reason_code != "ambiguous_level"


def test_a_lost_track_is_searched_wider_and_wider_around_the_last_pose() -> None:
    stream = Stream().to_tracking()
    stream.feed(at(), success=False)
    for _ in range(4):
        stream.feed(at(), success=False)
    reaches = [p.stddev_m for p in stream.registrar.priors[-4:] if p is not None]
    assert reaches == [0.002, 0.004, 0.008, 0.016]


def test_silence_loses_the_track_and_never_publishes() -> None:
    stream = Stream().to_tracking()
    update = stream.tracker.silence(7, "camera", "no cloud for 0.5 s")
    assert (update.state, update.published, update.reason_code) == (State.LOST, False, "no_cloud")
    assert update.registration is None
    assert Stream().tracker.silence(7, "camera", "no cloud for 2 s").state is State.SEARCHING
    assert degraded().tracker.silence(7, "camera", "").state is State.LOST
    frozen = Stream().to_tracking().tracker.silence(7, "camera", "the picture is frozen", "frozen")
    assert (frozen.state, frozen.reason_code, frozen.reason) == (
        State.LOST,
        "frozen",
        "the picture is frozen",
    )


@pytest.mark.parametrize("spoil", ["none", "fair", "bad"])
@pytest.mark.parametrize("request_name", ["relocalize", "reset"])
def test_relocalize_and_reset_forget_the_start_and_the_track(spoil: str, request_name: str) -> None:
    stream = Stream().to_tracking()
    if spoil == "fair":
        stream.feed(at(), FAIR), stream.feed(at(), FAIR)
    if spoil == "bad":
        stream.feed(at(), success=False)
    getattr(stream.tracker, request_name)()
    assert stream.tracker.state is State.SEARCHING
    update = stream.feed(at())
    assert (update.state, update.reason_code) == (State.SEARCHING, "no_prior")


def test_a_new_prior_drops_the_track() -> None:
    stream = Stream().to_tracking()
    stream.tracker.set_prior(Prior(at(x_mm=100), "initial_pose"))
    assert stream.tracker.state is State.SEARCHING
    update = stream.feed(at(x_mm=100))
    assert update.reason_code == "confirming"


def test_an_uncertain_pose_is_degraded() -> None:
    stream = Stream().to_tracking()
    stream.registrar.answers = [replace(answer(at()), position_stddev_m=0.0015)]
    stream.time_ns += 66_000_000
    update = stream.tracker.update(Cloud(np.ones((9, 3), np.float32), None, "camera", stream.time_ns))
    assert (update.state, update.reason) == (
        State.TRACKING,
        "position uncertain by 1.5 mm (limit 1.2 mm) (fit 1 of 2)",
    )
    stream.registrar.answers = [replace(answer(at()), position_stddev_m=0.0015)]
    stream.time_ns += 66_000_000
    update = stream.tracker.update(Cloud(np.ones((9, 3), np.float32), None, "camera", stream.time_ns))
    assert (update.state, update.reason) == (State.DEGRADED, "position uncertain by 1.5 mm (limit 1.2 mm)")


def test_motion_memory_predicts_shift_and_turn() -> None:
    """5 mm and 2 degrees a frame: the next frame is predicted to 0.01 mm at a point 90 mm from the centre."""
    memory = MotionMemory(np.array([0.0, 0.0, 0.3]), horizon_s=0.5)

    def pose(k: int) -> np.ndarray:
        R = rotation_from_vector(np.array([0.0, np.radians(2.0 * k), 0.0]))
        centre = np.array([0.005 * k, 0.0, 0.5])
        return from_rotation_translation(R, centre - R @ memory.centre)

    for k in range(3):
        memory.remember(pose(k), int(k * 66e6))
    far = np.array([0.0, 0.0, 0.39])
    error = apply(memory.predicted(int(3 * 66e6)), far) - apply(pose(3), far)
    assert 1000 * np.linalg.norm(error) < 0.01
    np.testing.assert_array_equal(memory.predicted(int(5e9)), pose(2))  # too old a velocity says nothing


def test_a_track_lost_in_motion_is_also_searched_where_it_last_stood_still() -> None:
    memory = MotionMemory(np.zeros(3), horizon_s=0.5)
    for k, x_mm in enumerate((0, 0, 0, 6, 12)):
        memory.remember(at(x_mm=x_mm), int(k * 66e6))
    anchors = memory.anchors(int(2e9))
    assert [round(1000 * T[0, 3]) for T in anchors] == [12, 0]
    memory.forget()
    with pytest.raises(LookupError, match="no pose to predict from"):
        memory.predicted(0)


def bent_stream(needs_prior: bool = True) -> tuple[Stream, Posture]:
    """A track whose last published pose came with a posture."""
    stream, posture = Stream(needs_prior=needs_prior).to_tracking(), straight(2)
    stream.feed(at(), posture=posture)
    return stream, posture


def asked_postures(stream: Stream, frames: int = 1, dt: float = 1 / 15) -> list[tuple[str, Posture | None]]:
    """Source and posture of every start that so many failing frames were tried from."""
    stream.registrar.priors.clear(), stream.registrar.verbs.clear()
    for _ in range(frames):
        stream.feed(at(), success=False, dt=dt)
    return [(p.source, p.posture) for p in stream.registrar.priors if p is not None]


def test_a_track_is_followed_from_the_posture_last_published() -> None:
    stream, before = bent_stream()
    for _ in range(3):
        posture = straight(2)
        stream.feed(at(), posture=posture)
        prior = stream.registrar.priors[-1]
        assert prior is not None and prior.posture is before and stream.registrar.verbs[-1] == "follow"
        before = posture


def test_a_failed_frame_is_retried_and_a_lost_track_searched_in_the_posture_last_published() -> None:
    stream, posture = bent_stream()
    asked = asked_postures(stream, 8)
    assert [source for source, _ in asked[:3]] == ["last_frame", "last_frame", "last_pose"]
    assert len(asked) == 9 and all(known is posture for _, known in asked)
    # A fit that did not count leaves no trace.
    stream.feed(at(), FAIR, posture=straight(2))
    assert all(known is posture for _, known in asked_postures(stream, 2))


def test_a_slow_frame_is_searched_in_the_posture_last_published() -> None:
    stream, posture = bent_stream()
    [(source, known)] = asked_postures(stream, 1, dt=1.0)
    assert source == "last_pose" and known is posture


def test_the_whole_view_is_searched_without_a_posture() -> None:
    stream, _ = bent_stream(needs_prior=False)
    stream.registrar.priors.clear(), stream.registrar.verbs.clear()
    for _ in range(round(9.0 / DT)):
        stream.feed(at(), success=False)
    assert stream.registrar.priors[-1] is None


def test_a_candidate_is_confirmed_in_its_own_posture() -> None:
    stream, found = Stream(needs_prior=False), straight(2)
    stream.feed(at(), posture=found)
    newer = straight(2)
    stream.feed(at(x_mm=5), posture=newer)  # too far from the first, takes its place
    stream.feed(at(x_mm=5), posture=straight(2))
    asked = [(p.source, p.posture) for p in stream.registrar.priors if p is not None]
    assert [source for source, _ in asked] == ["candidate", "candidate"]
    assert asked[0][1] is found and asked[1][1] is newer
    assert stream.tracker.state is State.TRACKING


@pytest.mark.parametrize("request_name", ["relocalize", "reset", "new start"])
def test_the_posture_is_forgotten_with_the_track(request_name: str) -> None:
    stream, _ = bent_stream()
    if request_name != "new start":
        getattr(stream.tracker, request_name)()
    stream.tracker.set_prior(Prior(at(), "landmarks"))
    asked = asked_postures(stream, 3)
    assert asked == [("landmarks", None)] * 3


def test_motion_memory_keeps_the_newest_posture_and_forgets_it() -> None:
    memory, posture = MotionMemory(np.zeros(3), horizon_s=0.5), straight(2)
    assert memory.posture is None
    memory.remember(at(), 0, posture)
    assert memory.posture is posture
    memory.remember(at(), 66_000_000)
    assert memory.posture is None
    memory.remember(at(), 132_000_000, posture)
    memory.forget()
    assert memory.posture is None and memory.last is None
