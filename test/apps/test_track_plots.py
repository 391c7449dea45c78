"""Errors of an offline track against a recorded truth, and its pictures. Records are made by hand."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from views import bundled_case

from end2reg_ros.apps.track.plots import draw_errors, draw_track, write_track_plots
from end2reg_ros.apps.track.run import FrameRecord
from end2reg_ros.apps.track.timeline import runs_of
from end2reg_ros.apps.track.truth import (
    TrackErrors,
    accuracy_summary,
    read_truth,
    track_errors,
    write_errors,
)
from end2reg_ros.cloud.recording import Recorded
from end2reg_ros.cloud.ros_messages import header
from end2reg_ros.errors import CloudError
from end2reg_ros.evaluation.rows import joined
from end2reg_ros.registration.types import LevelResult, NetworkEstimate, Quality, Registration
from end2reg_ros.se3 import from_rotation_translation, inverse, quaternion_from_rotation, rotation_from_vector
from end2reg_ros.tracking.types import State, TrackingUpdate

T_TRUE = from_rotation_translation(
    rotation_from_vector(np.array([0.3, -0.2, 2.0])), np.array([0.01, 0.02, 0.5])
)
LEVELS = bundled_case().levels


def stamp(k: int) -> int:
    return 10**18 + k * 10**8


def shifted(T: np.ndarray, mm: float) -> np.ndarray:
    return from_rotation_translation(np.eye(3), np.array([mm / 1000, 0.0, 0.0])) @ T


def fit(spine_mm: float = 0.0, held: str = "", **level_mm: float) -> Registration:
    """A registration that is off by so much, and single vertebrae by something else."""
    levels = tuple(
        LevelResult(
            v.level,
            shifted(T_TRUE, level_mm.get(v.level, spine_mm)) @ v.T_model_level,
            np.eye(6) * 1e-6,
            Quality(),
            v.level == held,
        )
        for v in bundled_case().vertebrae
    )
    return Registration(
        shifted(T_TRUE, spine_mm), True, "ok", "", Quality(0.97, 0.0009, 0.4, 0.3, 0.01, 900, 0.8), np.eye(6) * 1e-6,
        "end2reg", "", {"network": 20.0}, levels,
        network=NetworkEstimate(shifted(T_TRUE, spine_mm + 1.0), 400, 0, 0),
    )  # fmt: skip


def record(
    k: int, found: Registration | None, state: State = State.TRACKING, reason: str = "ok"
) -> FrameRecord:
    published = state in (State.TRACKING, State.DEGRADED)
    update = TrackingUpdate(stamp(k), "optical", state, False, reason, reason, found, published, {})
    return FrameRecord(stamp(k), update, None, 1000, None, (0.0005, 0.01))


class Bag:
    """Stands for a recording with one /tf topic; after ``good`` messages it is damaged."""

    def __init__(self, messages: list[Any], good: int = 99) -> None:
        self.topics = (SimpleNamespace(name="/tf", type="tf2_msgs/msg/TFMessage", count=len(messages)),)
        self._messages, self._good = messages, good

    def messages(self, *topics: str) -> Iterator[Recorded]:
        for k, message in enumerate(self._messages if "/tf" in topics else []):
            if k == self._good:
                raise CloudError("unreadable", "is damaged")
            yield Recorded("/tf", 0, message)


def transform(parent: str, child: str, T: np.ndarray, k: int) -> Any:
    (x, y, z), q = T[:3, 3], quaternion_from_rotation(T[:3, :3])
    return SimpleNamespace(
        header=header(parent, stamp(k)),
        child_frame_id=child,
        transform=SimpleNamespace(
            translation=SimpleNamespace(x=x, y=y, z=z),
            rotation=SimpleNamespace(x=q[0], y=q[1], z=q[2], w=q[3]),
        ),
    )


def true_tf(k: int, frame_id: str = "optical", **level_mm: float) -> Any:
    """The truth as the simulator records it, beside what a tracker said."""
    told = [
        transform("optical", "spine", np.eye(4), k),
        transform(frame_id, "ground_truth/spine", T_TRUE, k),
        transform("spine", "ground_truth/L1", np.eye(4), k),
    ]
    for v in bundled_case().vertebrae:
        T = inverse(T_TRUE) @ shifted(T_TRUE, level_mm.get(v.level, 0.0)) @ v.T_model_level
        told.append(transform("ground_truth/spine", f"ground_truth/{v.level}", T, k))
    return SimpleNamespace(transforms=told)


def errors_of(records: list[FrameRecord], bag: Bag) -> TrackErrors:
    return track_errors(records, read_truth(bag, LEVELS), bundled_case())  # type: ignore[arg-type]


def test_the_spines_error_is_that_of_the_rigid_pose_and_a_levels_that_of_its_own() -> None:
    records = [record(0, fit(1.0, L2=3.0)), record(1, fit())]
    found = errors_of(records, Bag([true_tf(0), true_tf(1, L4=2.0)]))
    (first, second) = found.frames
    np.testing.assert_allclose(joined([first.rigid_errors_mm]), 1.0, atol=1e-9)
    assert first.level_tre_mm() == {name: pytest.approx(3.0 if name == "L2" else 1.0) for name in LEVELS}
    # where a vertebra truly moved, the rigid pose is wrong at its landmarks alone
    assert max(second.errors_mm["L4"]) == pytest.approx(2.0)
    assert sorted(np.round(joined([second.rigid_errors_mm]), 6)) == [0.0] * 12 + [2.0] * 3
    told = accuracy_summary(found)["accuracy_against_recorded_truth"]
    assert (told["poses_compared"], told["poses_without_truth"]) == (2, 0)
    assert told["tre_at_landmarks_mm"]["L2"] == {"median": 1.5, "p95": 3.0, "max": 3.0}
    assert list(told["tre_at_landmarks_mm"]) == ["spine", *LEVELS]


def test_poses_without_a_truth_are_counted_never_guessed() -> None:
    records = [record(0, fit()), record(1, fit()), record(2, fit()), record(3, fit(), State.LOST, "jump")]
    found = errors_of(records, Bag([true_tf(0), true_tf(1, "another_camera"), true_tf(3)]))
    assert [frame.stamp_ns for frame in found.frames] == [stamp(0)]
    assert found.without_truth == (stamp(1), stamp(2))
    nothing = errors_of(records, Bag([SimpleNamespace(transforms=[])]))
    assert nothing.frames == () and len(nothing.without_truth) == 3
    assert accuracy_summary(nothing)["accuracy_against_recorded_truth"] == {
        "poses_compared": 0,
        "poses_without_truth": 3,
        "tre_at_landmarks_mm": {},
    }


def test_of_a_damaged_recording_the_truth_before_is_read() -> None:
    assert list(read_truth(Bag([true_tf(0), true_tf(1), true_tf(2)], good=2), LEVELS)) == [stamp(0), stamp(1)]  # type: ignore[arg-type]


def test_errors_are_written_one_line_a_pose(tmp_path: Path) -> None:
    found = errors_of([record(0, fit(1.0, L5=0.5))], Bag([true_tf(0)]))
    write_errors(tmp_path / "errors.csv", found)
    with (tmp_path / "errors.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["stamp_s"] == "1000000000.000000000"
    assert (row["spine_mm"], row["L1_mm"], row["L5_mm"]) == ("1.000", "1.000", "0.500")


def story() -> list[FrameRecord]:
    """Every state, a frame without a fit, a dropped cloud, and a pause."""
    failed = replace(fit(), success=False, quality=Quality())
    return [
        record(0, None, State.SEARCHING, "no_prior"),
        record(1, fit(), State.SEARCHING, "confirming"),
        record(2, fit(held="L5")),
        record(3, fit(0.5), State.DEGRADED, "low_quality"),
        FrameRecord(stamp(4), None, "frozen", 0),
        record(5, failed, State.LOST, "covered"),
        record(30, fit()),
        record(31, fit(1.0)),
    ]


def test_the_picture_tells_every_reason_with_its_count() -> None:
    panels = draw_track(story()).axes
    labels = [text.get_text() for text in panels[0].get_yticklabels()]
    assert labels == [
        "no_prior (1)",
        "confirming (1)",
        "ok (3)",
        "low_quality (1)",
        "dropped: frozen (1)",
        "covered (1)",
    ]
    legend = [text.get_text() for text in panels[0].get_legend().get_texts()]
    assert legend == ["SEARCHING", "TRACKING", "DEGRADED", "LOST", "dropped"]
    assert [axes.get_ylabel().split(",")[0] for axes in panels] == [
        "",
        "share",
        "residual",
        "stddev",
        "network",
        "",
    ]
    assert [text.get_text() for text in panels[-1].get_yticklabels()] == list(LEVELS)


def test_rare_reasons_share_a_row() -> None:
    records = [record(k, None, State.LOST, f"reason_{k % 20}") for k in range(40)]
    labels = [text.get_text() for text in draw_track(records).axes[0].get_yticklabels()]
    assert labels[-1] == "others (22)" and len(labels) == 10


def test_errors_are_drawn_where_poses_are() -> None:
    records = story()
    found = errors_of(records, Bag([true_tf(k) for k in (2, 3, 30)]))
    top, bottom = draw_errors(records, found).axes
    (line,) = [one for one in top.get_lines() if one.get_label().startswith("spine")]
    t, y = line.get_xdata(), line.get_ydata()
    np.testing.assert_allclose(t, [0.2, 0.3, np.nan, 3.0])
    np.testing.assert_allclose(y, [0.0, 0.5, np.nan, 0.0], atol=1e-9)
    assert "red: 1 poses without a truth" in top.get_title(loc="left")
    assert [one.get_label().split(":")[0] for one in bottom.get_lines()] == list(LEVELS)


def test_stretches_end_where_frames_are_missing() -> None:
    found = runs_of(story(), lambda r: r.update.state.name if r.update is not None else "")
    assert [name for _, _, name in found] == ["SEARCHING", "TRACKING", "DEGRADED", "LOST", "TRACKING"]
    np.testing.assert_allclose([began for began, _, _ in found], [0.0, 0.2, 0.3, 0.5, 3.0])
    np.testing.assert_allclose([width for _, width, _ in found], [0.2, 0.1, 0.1, 0.1, 0.2])


@pytest.mark.parametrize("count", [0, 1, 8])
def test_pictures_are_written_and_equal_for_equal_tracks(count: int, tmp_path: Path) -> None:
    records = story()[:count]
    found = errors_of(records, Bag([true_tf(2), true_tf(3)]))
    written = []
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        written = write_track_plots(tmp_path / run, records, found)
    names = {0: [], 1: ["track.png"], 8: ["track.png", "error.png"]}[count]
    assert [path.name for path in written] == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
