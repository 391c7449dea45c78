"""The tracker's state machine: its table, every edge driven through the tracker, and those that must not exist."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_tracker import FAIR, Stream, at

from end2reg_ros.registration.types import Prior
from end2reg_ros.tracking import PUBLISHING_STATES, State
from end2reg_ros.tracking.transitions import (
    EDGES,
    TRANSITIONS,
    Event,
    History,
    edge_name,
    markdown,
    mermaid,
    next_state,
)

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "tracking.md"
ABSENT = ("SEARCHING->DEGRADED", "SEARCHING->LOST", "LOST->DEGRADED")


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", list(Event))
def test_every_pair_of_state_and_event_has_one_meaning(state: State, event: Event) -> None:
    after = next_state(state, event)
    assert (after is not state) == ((state, event) in TRANSITIONS)
    if event in (Event.FAILED, Event.SILENCE):
        assert after is (State.LOST if state in PUBLISHING_STATES else state)
    if event is Event.RESTART:
        assert after is State.SEARCHING
    if after is State.TRACKING and state not in PUBLISHING_STATES:
        assert event is Event.CONFIRMED


def searching() -> Stream:
    stream = Stream()
    stream.tracker.set_prior(Prior(at(), "landmarks"))
    return stream


def tracking() -> Stream:
    return Stream().to_tracking()


def degraded() -> Stream:
    stream = tracking()
    stream.feed(at(), FAIR)
    stream.feed(at(), FAIR)
    return stream


def lost() -> Stream:
    stream = tracking()
    stream.feed(at(), success=False)
    stream.feed(at(), success=False, dt=0.6)  # too long ago to resume with one fit
    return stream


def confirm(stream: Stream) -> None:
    for _ in range(stream.tracker.settings.confirm_frames):
        stream.feed(at())


def demote(stream: Stream) -> None:
    for _ in range(stream.tracker.settings.demote_frames):
        stream.feed(at(), FAIR)


def recover(stream: Stream) -> None:
    for _ in range(stream.tracker.settings.promote_frames):
        stream.feed(at())


def fail(stream: Stream) -> None:
    stream.feed(at(), success=False)


def fall_silent(stream: Stream) -> None:
    stream.tracker.silence(stream.time_ns, "camera", "nothing on points for 0.2 s")


def restart(stream: Stream) -> None:
    stream.tracker.relocalize()


Make = Callable[[], Stream]
Act = Callable[[Stream], None]
START: dict[State, Make] = {
    State.SEARCHING: searching,
    State.TRACKING: tracking,
    State.DEGRADED: degraded,
    State.LOST: lost,
}
ACT: dict[Event, tuple[Act, str, str]] = {
    Event.CONFIRMED: (confirm, "ok", "tracking"),
    Event.DEMOTED: (demote, "low_quality", "inlier ratio 0.95 below 0.96"),
    Event.RECOVERED: (recover, "ok", "tracking"),
    Event.FAILED: (fail, "few_inliers", "12 points on the model, 250 needed"),
    Event.SILENCE: (fall_silent, "no_cloud", "nothing on points for 0.2 s"),
    Event.RESTART: (restart, "relocalize", "track and start forgotten on request"),
}


@pytest.mark.parametrize(
    ("before", "event"),
    list(TRANSITIONS),
    ids=lambda value: value.name if value in list(Event) else str(value.name),
)
def test_each_edge_is_taken_counted_and_explained(before: State, event: Event) -> None:
    stream = START[before]()
    assert stream.tracker.state is before
    counts = dict(stream.tracker.history.counts)
    act, code, reason = ACT[event]
    act(stream)
    after = TRANSITIONS[before, event]
    assert stream.tracker.state is after
    name = edge_name(before, after)
    assert dict(stream.tracker.history.counts) == counts | {name: counts[name] + 1}
    last = stream.tracker.history.last
    assert last is not None
    assert (last.name, last.event, last.reason_code, last.reason) == (name, event, code, reason)
    assert last.stamp_ns == stream.time_ns


@pytest.mark.parametrize(
    ("before", "act"),
    [
        (State.SEARCHING, fail),
        (State.SEARCHING, fall_silent),
        (State.SEARCHING, demote),
        (State.SEARCHING, restart),
        (State.LOST, fail),
        (State.LOST, fall_silent),
        (State.LOST, demote),
    ],
)
def test_what_is_not_in_the_table_changes_nothing(before: State, act: Act) -> None:
    stream = START[before]()
    changes = stream.tracker.history
    act(stream)
    assert stream.tracker.state is before
    assert stream.tracker.history is changes


def test_single_fair_fits_do_not_degrade_a_track() -> None:
    stream = tracking()
    for _ in range(4):
        weak = stream.feed(at(), FAIR)
        assert (weak.state, weak.reason_code, weak.published) == (State.TRACKING, "weakening", True)
        assert stream.feed(at()).reason_code == "ok"


def test_two_good_fits_between_fair_ones_do_not_promote() -> None:
    stream = degraded()
    for _ in range(4):
        assert [stream.feed(at()).reason_code for _ in range(2)] == ["recovering", "recovering"]
        fair = stream.feed(at(), FAIR)
        assert (fair.state, fair.reason_code, fair.published) == (State.DEGRADED, "low_quality", True)


@pytest.mark.parametrize("needs_prior", [True, False])
def test_whatever_happens_only_edges_of_the_table_are_taken_and_counted(needs_prior: bool) -> None:
    """1500 random clouds and requests; a pose goes out exactly for a success in TRACKING and DEGRADED."""
    stream, random = Stream(needs_prior=needs_prior), np.random.default_rng(7)
    seen: Counter[str] = Counter()

    def note(before: State) -> None:
        if stream.tracker.state is not before:
            seen[edge_name(before, stream.tracker.state)] += 1

    for _ in range(1500):
        before, kind = stream.tracker.state, random.random()
        if kind < 0.02:
            stream.tracker.set_prior(Prior(at(), "landmarks"))
        elif kind < 0.03:
            fall_silent(stream)
        elif kind < 0.035:
            restart(stream)
        else:
            quality = {} if random.random() < 0.6 else {"quality": FAIR}
            update = stream.feed(
                at(x_mm=float(random.choice([0, 0, 0, 0, 2, 15]))),
                success=random.random() < 0.9,
                dt=float(random.choice([0.066, 0.066, 0.066, 0.7, 2.5], p=[0.4, 0.3, 0.2, 0.06, 0.04])),
                **quality,
            )
            assert update.state is stream.tracker.state
            if update.published:
                assert update.state in PUBLISHING_STATES
                assert update.registration is not None and update.registration.success
            else:
                assert update.state not in PUBLISHING_STATES
            assert update.reason
        note(before)
    assert set(seen) <= set(EDGES) and not set(seen) & set(ABSENT)
    assert set(seen) == set(EDGES)  # every edge occurred
    # A change and back within one cloud would be counted twice and seen never: there is none.
    assert dict(stream.tracker.history.counts) == dict(seen)
    assert stream.tracker.history.total == sum(seen.values())


def test_edges_that_must_not_exist_do_not() -> None:
    assert not set(EDGES) & set(ABSENT)
    assert len(EDGES) == len(set(EDGES)) == 9
    assert dict(History().counts) == dict.fromkeys(EDGES, 0)


def test_the_document_draws_this_table() -> None:
    text = DOCUMENT.read_text()
    assert f"```mermaid\n{mermaid()}\n```" in text
    assert markdown() in text
