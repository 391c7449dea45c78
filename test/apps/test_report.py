"""The report: the figures of a run, and the page that shows them."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from row_logs import read_rows, write_rows

from end2reg_ros.apps.demo.plots import error_over_time
from end2reg_ros.apps.demo.record import DemoRun, Picture, TrackerFacts, Usage
from end2reg_ros.apps.demo.report import write_report
from end2reg_ros.apps.demo.summary import intervals, summarise
from end2reg_ros.evaluation.rows import CloudRow, latest, to_line
from end2reg_ros.evaluation.tables import finite

LEVELS = ("L1", "L2", "L3")
START = 1_700_000_000_000_000_000


def pose(x_mm: float, level: int = 0) -> list[float]:
    T = np.eye(4)
    T[:3, 3] = [x_mm / 1000, 0.036 * level, 0.5]
    return [float(v) for v in T.ravel()]


def row(
    t: float, state: str = "TRACKING", error: float | None = 1.0, visible: float = 0.9, judged: bool = True
) -> CloudRow:
    published = error is not None and state in ("TRACKING", "DEGRADED") and judged
    errors = {level: [float(error or 0)] * 3 for level in LEVELS} if published else {}
    true = {level: pose(0, k) for k, level in enumerate(LEVELS)}
    return CloudRow(
        t, START + int(t * 1e9), state, "ok" if published else "low_overlap", "because", judged, published,
        40.0 + 10 * t if published else None, visible, errors,
        {level: pose(error or 0, k) for k, level in enumerate(LEVELS)} if published else {}, true,
        latency_ms=30.0 if judged else None, stages_ms={"decode": 4.0, "register": 20.0} if judged else {},
    )  # fmt: skip


def a_run() -> list[CloudRow]:
    """10 Hz: 0-1 s searching, to 4 s tracking, to 6 s lost (hidden from 4.2 to 5.5 s), to 8 s tracking."""
    rows = []
    for i in range(80):
        t = i / 10
        state = "SEARCHING" if t < 1 else "LOST" if 4 <= t < 6 else "TRACKING"
        rows.append(row(t, state, 1.0 + 0.5 * (i % 2), 0.0 if 4.2 <= t < 5.5 else 0.9, judged=i % 5 != 3))
    return rows


def test_figures_of_a_run() -> None:
    s = summarise(a_run())
    assert (s.frames, s.judged, s.published) == (80, 64, 40)
    assert s.tre_mm.median == pytest.approx(1.25)
    assert s.tre_mm.p95 == pytest.approx(1.5)
    assert s.level_tre_median_mm == {level: pytest.approx(1.25) for level in LEVELS}
    assert s.time_to_first_pose_s == pytest.approx(1.0)
    # visible from 1.0 on: 70 clouds, less 13 hidden ones; 40 with poses
    assert s.availability == pytest.approx(40 / 57)
    assert s.availability < s.availability_judged < 1.0
    assert [(round(i.start, 2), round(i.end, 2)) for i in s.lost] == [(4.0, 6.0)]
    assert s.reacquisition_s == (pytest.approx(0.5),)
    assert (s.false_tracking, s.false_degraded, s.blind_poses, s.level_slips) == (0, 0, 0, 0)
    assert 50 < s.pose_age_ms[0] < 120
    assert s.camera_hz == pytest.approx(10.0)
    assert s.rate_hz == pytest.approx(8.0, rel=0.05)
    assert s.stages_ms == {"decode": 4.0, "register": 20.0}
    assert s.stages_p95_ms == {"decode": 4.0, "register": 20.0}
    # by stamps, and as heard: the first pose was 50 ms old then
    assert s.first_pose_heard_s == pytest.approx(1.05)
    assert (s.compared_twice, s.network_tre_mm.count, s.refined_tre_mm.count) == (0, 0, 0)
    assert s.state_share == {"SEARCHING": 0.125, "TRACKING": 0.625, "DEGRADED": 0.0, "LOST": 0.25}


def test_false_and_blind_poses_and_slips_are_counted() -> None:
    rows = [
        row(0.0),
        row(0.1, error=10.5),
        row(0.2, "DEGRADED", 11.0),
        row(0.3, error=9.9),
        row(0.4, visible=0.0),
    ]
    s = summarise(rows)
    assert (s.false_tracking, s.false_degraded, s.blind_poses) == (1, 1, 1)
    assert s.outliers == pytest.approx(2 / 5)
    one_level_off = {level: pose(0, k + 1) for k, level in enumerate(LEVELS)}
    assert summarise([replace(rows[0], T_camera_levels=one_level_off)]).level_slips == 1
    assert s.level_slips == 0


def with_network(rows: list[CloudRow], *errors: float) -> list[CloudRow]:
    """The first rows with poses of the network's own, as far off as told."""
    alone = [{level: [error] * 3 for level in LEVELS} for error in errors]
    return [replace(r, network_errors_mm=e) for r, e in zip(rows, alone, strict=False)] + rows[len(errors) :]


def test_before_and_after_refinement_are_told_of_the_same_poses() -> None:
    rows = [row(k / 10, error=0.2 + 0.1 * k) for k in range(6)]
    s = summarise(with_network(rows, 1.0, 2.0, 3.0))
    assert s.compared_twice == 3
    assert (s.network_tre_mm.median, s.network_tre_mm.maximum) == (pytest.approx(2.0), pytest.approx(3.0))
    assert (s.refined_tre_mm.median, s.refined_tre_mm.maximum) == (pytest.approx(0.3), pytest.approx(0.4))
    before = np.repeat([1.0, 2.0, 3.0], 9)
    assert s.network_tre_mm.p95 == pytest.approx(np.percentile(before, 95))
    assert s.refined_tre_mm.p95 == pytest.approx(np.percentile(np.repeat([0.2, 0.3, 0.4], 9), 95))
    assert s.tre_mm.maximum == pytest.approx(0.7)  # of all poses
    # a pose that was not published, or one of other levels, is in neither
    silent = replace(row(1.0, "LOST"), network_errors_mm={level: [50.0] * 3 for level in LEVELS})
    other = replace(row(1.1), network_errors_mm={"L1": [50.0] * 3})
    assert summarise(
        [*with_network(rows, 1.0, 2.0, 3.0), silent, other]
    ).network_tre_mm.maximum == pytest.approx(3.0)


def test_late_and_strange_poses_are_in_the_figures() -> None:
    rows = [
        row(0.0),
        replace(row(0.1, error=11.0), late=True),
        replace(row(0.2), late=True),
        replace(row(5.0), unknown=True, repeats=2, errors_mm={}),
    ]
    s = summarise(rows)
    assert (s.frames, s.published, s.late_poses, s.late_wrong, s.false_tracking) == (3, 3, 2, 1, 1)
    assert (s.unknown_poses, s.repeated_poses, s.uncompared_poses) == (1, 2, 0)
    assert s.duration_s == pytest.approx(0.2)


def test_the_last_row_of_a_cloud_holds() -> None:
    first, corrected = row(0.0), replace(row(0.0), repeats=1)
    strange = replace(row(0.0), unknown=True)
    assert latest([row(0.1), first, corrected]) == [corrected, row(0.1)]
    assert latest([strange, first]) == [first]
    assert latest([first, strange]) == [first, strange]


def test_jitter_is_told_at_rest_only() -> None:
    rows = [row(t / 10, error=1.0 + 0.2 * (-1) ** t) for t in range(6)]
    assert summarise(rows).jitter_mm == pytest.approx(0.2)
    moving = [
        replace(r, T_camera_levels_true={n: pose(k, i) for i, n in enumerate(LEVELS)})
        for k, r in enumerate(rows)
    ]
    assert np.isnan(summarise(moving).jitter_mm)


def test_one_wrong_vertebra_makes_a_false_pose() -> None:
    good = row(0.0)
    errors = {**good.errors_mm, "L3": [25.0, 25.0, 25.0]}
    assert summarise([CloudRow(0.0, START, "TRACKING", published=True, errors_mm=errors)]).false_tracking == 1


def test_an_empty_run_has_no_figures() -> None:
    s = summarise([])
    assert (s.frames, s.published, s.tre_mm.count, s.lost, s.state_share) == (0, 0, 0, [], {})
    unknown = (s.availability, s.rate_hz, s.camera_hz, s.first_pose_heard_s, *s.pose_age_ms, *s.latency_ms)
    assert np.isnan(unknown).all()


def test_intervals_and_reacquisition() -> None:
    rows = [
        row(0, "SEARCHING"),
        row(1),
        row(2, "LOST"),
        row(3, "LOST", visible=0.0),
        row(4, "LOST"),
        row(5),
        row(6),
    ]
    assert [(i.state, i.start, i.end) for i in intervals(rows)] == [
        ("SEARCHING", 0, 1), ("TRACKING", 1, 2), ("LOST", 2, 5), ("TRACKING", 5, 6)]  # fmt: skip
    assert summarise(rows).reacquisition_s == (1,)


def test_the_log_keeps_every_row(tmp_path: Path) -> None:
    rows = a_run()
    path = tmp_path / "poses.jsonl"
    write_rows(path, reversed(rows))
    with path.open("a") as log:
        log.write(to_line(rows[0])[:50])  # cut off by a kill
    again = read_rows(path)
    assert len(again) == len(rows)
    kept = summarise([CloudRow(**{**r.__dict__, "t": round(r.t, 9)}) for r in rows])
    assert finite(asdict(summarise(again))) == finite(asdict(kept))


def a_report(folder: Path, problems: tuple[str, ...] = ()) -> tuple[str, dict[str, object]]:
    rows = a_run()
    run = DemoRun(
        "Spine <tracking>", "boxes", rows, summarise(rows), problems, {"tracker": Usage(81.0, 120.0, 400.0)},
        {"superseded": 16}, {"case hash": "ab" * 32}, [("L1", (200, 80, 90))],
    )  # fmt: skip
    page = write_report(folder, run, [[Picture("scene", b"a jpeg", "the scene", "nothing")]])
    return page.read_text(), json.loads((folder / "summary.json").read_text())


def test_the_page_shows_the_figures_of_the_json(tmp_path: Path) -> None:
    text, data = a_report(tmp_path / "report")
    summary = data["summary"]
    assert isinstance(summary, dict)
    plain = " ".join(re.sub(r"<[^>]+>", " ", text).split())
    assert f"median error (TRE) {summary['tre_mm']['median']:.2f} mm" in plain
    assert f"availability {100 * summary['availability']:.1f} %" in plain
    tre = {name: f"{value:.2f}" for name, value in summary["tre_mm"].items()}
    assert f"TRE, median [Q1, Q3] {tre['median']} [{tre['q1']}, {tre['q3']}] mm" in plain
    ages = " / ".join(f"{age:.1f}" for age in summary["pose_age_ms"])
    assert f"pose age p50 / p95 / p99 {ages} ms" in plain
    assert (
        f"clouds sent / judged / with poses {summary['frames']} / {summary['judged']} / {summary['published']}"
        in plain
    )
    assert "LOST 4.0-6.0 s" in plain
    assert "superseded 16" in plain and "tracker: CPU, memory 81 % (highest 120 %), 400 MB" in plain
    assert "Good run" in plain and "Not good" not in plain
    assert "network alone" not in plain and "engine" not in plain
    assert "Research software, not a medical device" in plain


def test_the_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    text, _ = a_report(tmp_path / "report")
    assert "<script" not in text
    outside = [u for u in re.findall(r"(?:src|href)=\"([^\"]+)\"", text) if not u.startswith(("data:", "#"))]
    assert outside == []
    assert text.count("<svg") == 3
    assert "Spine &lt;tracking&gt;" in text
    assert (tmp_path / "report" / "scene.jpg").is_file()


def test_a_bad_run_says_why(tmp_path: Path) -> None:
    text, data = a_report(tmp_path, ("no pose was published",))
    assert data["good"] is False and data["problems"] == ["no pose was published"]
    assert "Not good" in text and "no pose was published" in text


def test_the_page_of_a_learned_run_tells_start_engine_and_both_errors(tmp_path: Path) -> None:
    rows = with_network([row(k / 10, error=0.25) for k in range(12)], *(2.0 + 0.1 * k for k in range(10)))
    told = TrackerFacts("end2reg", "onnxruntime", "0123456789abcdef", "none", 0, 7)
    run = DemoRun("learned", "boxes", rows, summarise(rows), tracker=told)
    text = write_report(tmp_path, run).read_text()
    data = json.loads((tmp_path / "summary.json").read_text())
    plain = " ".join(re.sub(r"<[^>]+>", " ", text).split())
    s = data["summary"]
    both = [
        " / ".join(f"{s[f'{which}_tre_mm'][q]:.2f}" for q in ("median", "p95", "maximum"))
        for which in ("network", "refined")
    ]
    assert f"TRE, median / p95 / highest, network alone {both[0]} mm (10 poses)" in plain
    assert f"TRE, median / p95 / highest, refined {both[1]} mm (10 poses) over the same clouds" in plain
    assert f"p95 0.25 mm, network alone {s['network_tre_mm']['median']:.2f} mm" in plain
    assert "engine onnxruntime, hash 0123456789abcdef" in plain
    assert "points / cells left out 0 / 7" in plain
    assert f"first pose after {s['first_pose_heard_s']:.2f} s from nothing, never LOST" in plain
    assert "since the first cloud that shows the spine, from nothing: no start was given" in plain
    assert "and it was given no start. Crosses: the network's own pose" in text
    assert data["tracker"] == {
        "method": "end2reg",
        "engine": "onnxruntime",
        "engine_hash": "0123456789abcdef",
        "start": "none",
        "points_truncated": 0,
        "cells_truncated": 7,
    }


def test_the_plot_shows_the_networks_poses_within_its_frame() -> None:
    rows = [row(k / 10, error=0.25) for k in range(10)]
    without, alone = error_over_time(rows), error_over_time(with_network(rows, *[4.0] * 10))
    assert "network alone" not in without and "network alone" in alone
    # the axis reaches beyond them
    assert ">4</text>" in alone and ">4</text>" not in without
