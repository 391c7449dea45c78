"""The measuring of tracking: rows against the truth, the running clock, figures, calibration, units that are kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measured_tracks import T_TRUE, FakeTracker, StillCamera, fit, rows_of_run, shift
from stand_in import StandInRegistrar
from views import bundled_case

from benchmarks.tracking_study import run as tracking_run
from benchmarks.tracking_study.calibration import Calibrations
from benchmarks.tracking_study.figures import rigid_tre_mm, track_figures
from benchmarks.tracking_study.negatives import followed, judged, moved_view, read_clouds, start_on
from benchmarks.tracking_study.orientations import first_pose, placement_of, starts_of
from benchmarks.tracking_study.run import NodePath, RunSettings, cloud_of_frame, message_of, stamp_of
from benchmarks.tracking_study.runner import (
    Kept,
    Report,
    Study,
    Unit,
    made_with,
    page_lines,
    parse_seeds,
    ranges,
    run_study,
)
from benchmarks.tracking_study.sequences import Reacquisition, Sequences
from benchmarks.tracking_study.setup import MethodSettings, SequencePlan
from benchmarks.tracking_study.sweeps import ExposureSweep, exposed
from end2reg_ros import se3
from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation.figures import losses
from end2reg_ros.evaluation.plot_style import new_figure
from end2reg_ros.evaluation.rows import CloudRow, from_plain, mean_mm, to_plain
from end2reg_ros.registration.types import NetworkEstimate, Prior, Quality, Registration
from end2reg_ros.tracking.types import State

SENSORS_DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "sensors"


def test_the_spine_and_each_level_are_held_against_their_own_truth() -> None:
    [row] = rows_of_run([(State.TRACKING, fit(shift(2.0), shift(0, 3.0)))])
    assert mean_mm(row.spine_errors_mm) == pytest.approx(2.0)
    assert row.level_tre_mm() == pytest.approx(dict.fromkeys(bundled_case().levels, 3.0))
    assert row.rigid_errors_mm == {} and rigid_tre_mm(row)["L3"] == pytest.approx(2.0)
    assert row.held == ("L1",) and not row.false_pose and row.worst_level_mm() == pytest.approx(3.0)
    [row] = rows_of_run([(State.TRACKING, fit(shift(2.0), shift(0, 11.0)))])
    assert row.false_pose
    [row] = rows_of_run([(State.LOST, fit(shift(2.0)))])
    assert row.spine_errors_mm == {} and not row.published and not row.false_pose


def test_a_pose_without_a_spine_is_blind_and_has_no_truth() -> None:
    rows = rows_of_run([(State.TRACKING, fit(np.eye(4)))], StillCamera(spine=False))
    stream = track_figures(rows).stream
    assert (stream.uncompared_poses, stream.blind_poses, stream.in_view, stream.clean) == (1, 1, 0, False)


def test_a_slip_by_one_level_is_named() -> None:
    case = bundled_case()
    origins = [v.T_model_level[:3, 3] for v in case.vertebrae]
    up = T_TRUE[:3, :3] @ (origins[1] - origins[2])
    [row] = rows_of_run([(State.TRACKING, fit(se3.from_rotation_translation(np.eye(3), up)))])
    assert abs(row.level_slip) == 1 and row.false_pose


def test_a_network_in_the_background_is_told_at_the_cloud_that_it_saw() -> None:
    seen = stamp_of(0.0)
    heard = fit(np.eye(4), network=NetworkEstimate(shift(1.5) @ T_TRUE, 400, 0, seen))
    rows = rows_of_run([(State.TRACKING, fit(np.eye(4))), (State.TRACKING, heard)])
    assert mean_mm(rows[0].network_errors_mm) == pytest.approx(1.5) and rows[1].network_errors_mm == {}


def test_rows_survive_json() -> None:
    rows = rows_of_run([(State.TRACKING, fit(shift(2.0), shift(0, 3.0)))], with_uncertainty=True)
    plain = json.loads(json.dumps(to_plain(rows[0])))
    back = from_plain(plain)
    assert back.stamp_ns == rows[0].stamp_ns and back.held == rows[0].held
    assert mean_mm(back.spine_errors_mm) == pytest.approx(mean_mm(rows[0].spine_errors_mm), rel=1e-4)
    assert back.uncertain["spine"] == pytest.approx(rows[0].uncertain["spine"], rel=1e-4, abs=1e-12)
    assert "network_errors_mm" not in plain  # what is empty is not written
    assert from_plain(to_plain(replace(rows[0], published=False))).published is False
    with pytest.raises(End2RegError) as caught:
        from_plain({**plain, "network_mm": {}, "wrong": 1})
    assert str(caught.value) == "a row of another version, with network_mm, wrong: measure it again"


class FakeClock:
    """Each update takes ``seconds``: the clock is read before and after it."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self.readings = [value for k, s in enumerate(seconds) for value in (100.0 * k, 100.0 * k + s)]

    def __call__(self) -> float:
        return self.readings.pop(0)


def test_a_running_clock_takes_the_newest_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    # 10 Hz. Clouds 1 and 2 come while the first update takes 0.25 s: the newer is taken, until 0.28 s; then 3 is waited for.
    monkeypatch.setattr(tracking_run, "perf_counter", FakeClock([0.25, 0.03, 0.05, 0.05]))
    rows = rows_of_run([(State.SEARCHING, None)] * 5, settings=RunSettings(10.0, 0.5, live=True))
    assert [row.judged for row in rows] == [True, False, True, True, True]
    assert [row.age_ms and row.t + 1e-3 * row.age_ms for row in rows] == pytest.approx(
        [0.25, None, 0.28, 0.35, 0.45]
    )
    assert rows[1].state == "SEARCHING" and rows[1].visible_fraction == 1.0


def test_superseded_clouds_need_not_be_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_run, "perf_counter", FakeClock([0.25, 0.03]))
    camera = StillCamera()
    answers = [(State.SEARCHING, None), (State.TRACKING, fit(np.eye(4)))]
    settings = RunSettings(10.0, 5.0, live=True, superseded=False, until_pose=True)
    rows = rows_of_run(answers, camera, settings)
    assert camera.asked == pytest.approx([0.0, 0.2]) and len(rows) == 2
    found = first_pose(rows)
    assert (found["found"], found["looks"]) == (True, 2) and found["seconds"] == pytest.approx(0.28)


def row(k: int, published: bool, visible: float = 1.0, **more: Any) -> CloudRow:
    state = more.pop("state", "TRACKING" if published else "LOST")
    code = "ok" if published else "covered"
    reason = "text" if more.get("judged", True) else "superseded"
    errors = {"L1": [0.5], "L2": [0.7]} if published else {}
    return CloudRow(
        0.1 * k, stamp_of(0.1 * k), state, code, reason, published=published, age_ms=50.0, visible_fraction=visible,
        spine_errors_mm=errors, errors_mm=errors, **more,
    )  # fmt: skip


def test_figures_tell_availability_losses_and_gaps() -> None:
    run = [row(0, False, state="SEARCHING"), row(1, True), row(2, True), row(3, False), row(4, False, 0.0)]
    run += [row(5, False, 0.5), row(6, False, 0.6, judged=False), row(7, True)]
    figures = track_figures(run)
    assert (figures.stream.frames, figures.stream.in_view, figures.stream.published) == (8, 7, 3)
    assert figures.stream.availability == pytest.approx(3 / 6)
    assert figures.stream.availability_from_start == pytest.approx(3 / 7)
    assert figures.missed == {"covered": 3, "superseded": 1}
    assert figures.losses == {"covered": 1}
    assert [(gap.frames, round(gap.t, 3), gap.visible) for gap in figures.gaps] == [
        (2, 0.5, (0.5, 0.6)),
        (1, 0.0, (1.0, 1.0)),
        (1, 0.3, (1.0, 1.0)),
    ]
    assert figures.stream.reacquisition_s[0] == pytest.approx(0.2)
    assert figures.stream.reacquisition_heard_s[0] == pytest.approx(0.25)
    assert figures.state_s == pytest.approx({"SEARCHING": 0.1, "TRACKING": 0.3, "LOST": 0.4})
    assert figures.spine_tre_mm.median == pytest.approx(0.6) and figures.level_tre_mm["L2"].maximum == 0.7


def test_a_loss_that_the_end_cuts_off_is_told() -> None:
    run = [row(0, True), row(1, False), row(2, False)]
    [loss] = losses(run)
    assert loss.found is None and loss.wait_s == np.inf
    assert track_figures(run).stream.never_reacquired == 1


def test_figures_of_several_runs_do_not_run_into_each_other() -> None:
    figures = track_figures([row(0, True), row(1, False)], [row(0, False), row(1, True)])
    assert figures.losses == {"covered": 1} and figures.stream.never_reacquired == 1
    assert figures.stream.found == 1.0 and figures.stream.availability == pytest.approx(2 / 3)


def unit(k: int, made: list[int]) -> Unit:
    def work() -> dict[str, Any]:
        made.append(k)
        return {"note": f"unit {k}", "value": float("nan")}

    return {"kind": "test", "seed": k}, work


def test_finished_units_are_not_run_again(tmp_path: Path) -> None:
    made: list[int] = []
    path = tmp_path / "work" / "units.jsonl"
    Kept(path, "one").run([unit(k, made) for k in range(2)])
    assert made == [0, 1]
    with path.open("a") as file:
        file.write('{"key": {"kind": "te')  # killed while writing
    lines = Kept(path, "two").run([unit(k, made) for k in range(3)])
    assert made == [0, 1, 2] and [line["code"] for line in lines] == ["one", "one", "two"]
    assert lines[0]["result"]["value"] is None
    assert len(path.read_text().splitlines()) == 3
    assert [line["key"]["seed"] for line in Kept(path, "two").lines()] == [0, 1, 2]


def test_a_work_file_of_other_things_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "units.jsonl"
    path.write_text('{"other": 1}\n{"key": {}}\n')
    with pytest.raises(End2RegError, match="line 1 is no finished unit"):
        Kept(path, "one")


def test_seeds_are_read() -> None:
    assert parse_seeds("0-3") == (0, 1, 2, 3) and parse_seeds("0,2, 7-8,2") == (0, 2, 7, 8)
    for bad in ("", "a", "3-1", "1-", "-2"):
        with pytest.raises(End2RegError, match=f"seeds '{bad}': write them as in 0-3 or 0,2,7-9"):
            parse_seeds(bad)


class Registered(StandInRegistrar):
    """A registrar that says yes to everything."""

    method, engine, engine_hash, engine_text, needs_prior = "yes", "", "", "", False

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        good = Quality(1.0, 0.0005, 0.9, 0.5, 0.0, 3000, 0.9)
        return replace(fit(np.eye(4)), quality=good, covariance=1e-9 * np.eye(6))


def plane(count: int = 400, seed: int = 0) -> Cloud:
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.uniform(-0.2, 0.2, (count, 2)), np.full(count, 0.5)])
    return Cloud(points.astype(np.float32), None, "camera", 1)


def test_poses_without_a_spine_are_counted_and_told() -> None:
    from end2reg_ros.frame import Tracker

    clouds = [replace(plane(seed=1 + k), stamp_ns=stamp_of(0.1 * k)) for k in range(4)]
    told = judged(Tracker(Registered(), bundled_case()), iter(clouds), bundled_case(), (), starts=False)
    assert told["frames"] == 4 and len(told["false"]) == 3  # the first one waits for a second
    assert told["false"][0]["frame"] == 1 and told["false"][0]["inliers"] == 3000
    accepted = followed(Registered(), iter(clouds), bundled_case())
    assert len(accepted["false"]) == 4 and accepted["note"] == "4 fits accepted of 4 clouds without a spine"
    lead_in = ((plane(), T_TRUE),)  # one cloud makes no track
    unseen = judged(
        Tracker(Registered(), bundled_case()), iter(clouds), bundled_case(), lead_in, starts=False
    )
    assert unseen["frames"] == 0 and "not counted" in unseen["note"]


def test_clouds_go_the_nodes_way_to_the_tracker() -> None:
    """A frozen camera and a view of nothing reach no tracker; the message tells points and colours as the cloud had them."""
    from end2reg_ros.cloud.pointcloud2 import decode

    cloud = plane()
    assert np.array_equal(decode(message_of(cloud), CloudLimits()).points, cloud.points)
    assert decode(message_of(cloud), CloudLimits()).colours is None
    coloured = replace(cloud, colours=np.arange(1200).reshape(400, 3).astype(np.uint8))
    assert np.array_equal(decode(message_of(coloured), CloudLimits()).colours, coloured.colours)
    tracker = FakeTracker([(State.TRACKING, fit(np.eye(4)))])
    path = NodePath(tracker)
    clouds = [replace(cloud, stamp_ns=stamp_of(0.1 * k)) for k in range(2)]
    clouds.append(replace(clouds[1], points=cloud.points[:0], stamp_ns=stamp_of(0.3)))
    drops = [path.run(message_of(each), 0.0).drop for each in clouds]
    assert [drop and drop.code for drop in drops] == [None, "frozen", "empty_cloud"]
    assert tracker.stamps == [stamp_of(0.0)]


def test_wrong_starts_lie_on_what_is_there() -> None:
    case, cloud = bundled_case(), plane()
    poses = [start_on(cloud, case.centroid(), k) for k in range(6)]
    places = np.array([se3.apply(T, case.centroid()) for T in poses])
    nearest = np.linalg.norm(places[:, None] - cloud.points[None], axis=2).min(axis=1)
    assert nearest.max() < 1e-5 and len({tuple(p) for p in places.round(4)}) > 3
    assert all(T[2, 1] > 0.99 for T in poses)  # anterior points away from the camera
    assert start_on(Cloud(np.zeros((0, 3), np.float32), None, "camera", 1), case.centroid(), 0)[2, 3] > 0.3


def test_a_moved_view_is_another_one_of_the_same_surface() -> None:
    cloud = plane()
    assert np.array_equal(moved_view(cloud, 0, 5).points, cloud.points)
    one, two = moved_view(cloud, 1, 6), moved_view(cloud, 2, 7)
    assert one.stamp_ns == 6 and not np.allclose(one.points, two.points, atol=0.005)
    flat = one.points - one.points.mean(axis=0)
    assert np.linalg.svd(flat, compute_uv=False)[2] / np.sqrt(len(flat)) == pytest.approx(0.0005, rel=0.2)


@pytest.mark.shared
@pytest.mark.skipif(not SENSORS_DATA.is_dir(), reason="no ../shared/data/sensors")
def test_recordings_give_clouds() -> None:
    found = {path.name: read_clouds(path) for path in sorted(SENSORS_DATA.iterdir())}
    assert {name: len(clouds) for name, clouds in found.items()} == {
        "openni_640x480_mcap": 1,
        "realsense_d435_mcap": 2,
    }
    assert all(len(cloud.points) > 10_000 for clouds in found.values() for cloud in clouds)


def start(roll: int, found: bool, tre_mm: float = 0.3, worst_mm: float = 0.5) -> dict[str, Any]:
    key = {"case": "spine", "seed": 1, "tilt_deg": 20.0, "roll_deg": roll}
    result = {"found": found, "looks": 2, "said": [["confirming", 900.0]], "seconds": 1.2, "tre_mm": tre_mm}
    return {"key": key, "result": {**result, "worst_mm": worst_mm}}


def test_starts_from_nothing_are_told_by_success() -> None:
    figures = starts_of([start(0, True), start(30, True, 12.0, 36.0), start(60, False), start(90, True)])
    assert figures.success == 0.5 and figures.starts == 4 and figures.seconds.count == 3
    assert [(one["roll_deg"], one["worst_mm"]) for one in figures.wrong] == [(30, 36.0)]
    assert [(one["roll_deg"], one["said"]) for one in figures.missed] == [(60, ["confirming"])]


def test_placements_follow_from_the_seed() -> None:
    place = placement_of(3, 330, (40.0, 45.0))
    assert place == placement_of(3, 330, (40.0, 45.0)) and place != placement_of(4, 330, (40.0, 45.0))
    assert place.roll_deg == 330 and 40.0 <= place.tilt_deg <= 45.0
    levels = bundled_case().levels
    assert exposed(bundled_case(), 0, 5) == levels
    assert all(exposed(bundled_case(), seed, 2) in list(pairwise(levels)) for seed in range(9))


@dataclass(frozen=True)
class Told(Study):
    """A study of units that are done."""

    name = "told"

    def lines(self) -> list[Any]:
        return [
            {"key": {"case": "spine", "case_hash": "abc", "seed": s}, "code": "c", "engine": "", "seconds": 2.0, "load": 1.5}
            for s in (900_000, 900_001, 900_003)
        ]  # fmt: skip

    def report(self, lines: Any) -> Report:
        figure, _ = new_figure(2, 2)
        return Report(
            "A run", {"value": float("nan")}, ["| a |"], ["a note"], {"picture": figure}, good=False
        )


def test_a_summary_names_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["tracking.py", "sequences", "--cases", "/home/somebody/cases/spine"])
    assert run_study(Told(tmp_path, tmp_path, suffix="_2")) == 1
    told = json.loads((tmp_path / "told_2.json").read_text())
    assert told["command"] == "sequences --cases spine" and told["cases"] == {"spine": "abc"}
    assert told["value"] is None and told["code_sha256"] == {"c": 3}
    page = (tmp_path / "told_2.md").read_text()
    assert "seeds 900000-900001, 900003." in page and "![told_2_picture](told_2_picture.png)" in page
    assert "somebody" not in page + json.dumps(told) and (tmp_path / "told_2_picture.png").is_file()
    assert ranges([]) == "–"


def test_a_sweep_runs_from_scene_to_summary_and_goes_on(tmp_path: Path) -> None:
    """Classical, from picked landmarks: three clouds, two poses; a rerun makes nothing anew."""
    study = ExposureSweep(
        tmp_path, tmp_path / "out", seeds="0", method=MethodSettings("icp"), values=(5.0,), duration=0.3
    )
    assert run_study(study) == 0
    [point] = json.loads((tmp_path / "out" / "exposure.json").read_text())["points"]
    assert (point["frames"], point["published"]) == (3, 2)
    assert point["spine_tre_mm"]["max"] < 1.0 and (tmp_path / "out" / "exposure_curves.png").is_file()
    kept, page = (
        path.read_text() for path in (tmp_path / "exposure.jsonl", tmp_path / "out" / "exposure.md")
    )
    assert run_study(study) == 0
    assert (tmp_path / "exposure.jsonl").read_text() == kept
    assert (tmp_path / "out" / "exposure.md").read_text() == page


def test_tables_and_pictures_of_runs(tmp_path: Path) -> None:
    """Sequences, re-acquisition and calibration from two short runs that are there already."""
    run = [row(0, True), row(1, False), row(2, True)]
    told = rows_of_run([(State.TRACKING, fit(shift(0.5)))] * 3, with_uncertainty=True)
    kept = Kept(tmp_path / "sequences.jsonl", "code")
    case = bundled_case()
    for seed, rows in ((900_000, run), (900_001, told)):
        key = {"case": case.name, "case_hash": case.hash[:12], "seed": seed, "scenario": "theatre"}
        plain = {"rows": [to_plain(one) for one in rows]}
        kept.run([(key, lambda plain=plain: plain)])
    lines = kept.lines()
    for study in (
        Sequences(tmp_path, seeds="0-1"),
        Reacquisition(tmp_path),
        Calibrations(tmp_path, seeds="0-1"),
    ):
        report = study.report(lines)
        assert report.good and report.pictures
        page = "\n".join(page_lines(report, made_with(lines, []), []))
        assert "nan" not in page
    assert len(study.lines()) == 2
    with pytest.raises(End2RegError, match="no poses of these cases, seeds and scenario: run the sequences"):
        Calibrations(tmp_path, seeds="7").lines()


def test_plans_tell_articulation_exactly() -> None:
    plan = SequencePlan(900_000, "still", deg=4.0, shift_m=0.002)
    sequence = plan.sequence(bundled_case())
    assert sequence.settings.articulation is not None and sequence.settings.articulation.exact
    assert SequencePlan(900_000, "still").sequence(bundled_case()).settings.articulation is None
    frame_cloud = cloud_of_frame(StillCamera().frame(0.5))
    assert len(frame_cloud.points) == 1 and frame_cloud.stamp_ns == stamp_of(0.5)
