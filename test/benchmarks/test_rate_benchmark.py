"""The rate benchmark: sequences on disk, and figures of made-up runs."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from boxes_case import boxes_case
from playbacks import made_up

from benchmarks.camera_rate import figures as rate_figures
from benchmarks.camera_rate import render as rate_render
from benchmarks.camera_rate.log import RateRun, SentCloud
from benchmarks.camera_rate.run import RateSettings, node_specs
from benchmarks.camera_rate.stream import (
    Playback,
    PlaybackError,
    bounce,
    read_playback,
)
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.case.model import Case
from end2reg_ros.case.store import load_case
from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.messages import same_bytes
from end2reg_ros.cloud.pointcloud2 import decode
from end2reg_ros.evaluation.rows import LevelTargets
from end2reg_ros.names import CAMERA_FRAME

SECOND, MS = 1_000_000_000, 1_000_000
START = 1_700_000_000 * SECOND
STEP = 33_333_333


@pytest.fixture
def case() -> Case:
    return boxes_case()


@pytest.fixture
def playback(case: Case, tmp_path: Path) -> Playback:
    return made_up(case, tmp_path)


# Sequences on disk.


def test_a_sequence_goes_to_and_fro_without_a_repeat() -> None:
    assert [bounce(k, 4) for k in range(9)] == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    with pytest.raises(ValueError, match=r"^a sequence of 1 frames cannot be played to and fro$"):
        bounce(0, 1)


def test_another_rate_keeps_the_motion_s_speed(playback: Playback) -> None:
    assert [playback.number_at(k / 15.0) for k in range(5)] == [0, 2, 2, 0, 2]


def test_a_sequence_survives_the_disk(playback: Playback, tmp_path: Path) -> None:
    again = read_playback(tmp_path, playback.recipe)
    assert (again.recipe, again.sha256) == (playback.recipe, playback.sha256)
    for ours, theirs in zip(playback.frames, again.frames, strict=True):
        assert (ours.path, ours.points, ours.visible_fraction) == (
            theirs.path,
            theirs.points,
            theirs.visible_fraction,
        )
        np.testing.assert_array_equal(ours.T_camera_levels["L2"], theirs.T_camera_levels["L2"])
    message = again.frames[1].message(START)
    assert (message.width, message.header.frame_id, len(message.data)) == (301, CAMERA_FRAME, 6020)


def test_a_frame_seen_again_is_no_frozen_one(playback: Playback) -> None:
    frame = playback.frames[0]
    first, again = frame.message(START, mark=7), frame.message(START, mark=1 + 2**32)
    assert not same_bytes(first.data, again.data)
    for a, b in zip(*(decode(m, CloudLimits()).points for m in (first, again)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_sequence_is_refused(playback: Playback, tmp_path: Path) -> None:
    with pytest.raises(
        PlaybackError, match=r"holds another sequence: Recipe\(.*seed=0.*expected Recipe\(.*seed=1"
    ):
        read_playback(tmp_path, replace(playback.recipe, seed=1))
    document = json.loads((tmp_path / "stream.json").read_text())
    (tmp_path / "stream.json").write_text(json.dumps(document | {"format": 0}))
    with pytest.raises(PlaybackError, match=r"stream.json: format 0, expected 1$"):
        read_playback(tmp_path)


def test_a_sequence_is_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = load_case(bundled_case_path())
    recipe = rate_render.recipe_of(case, "calm", 60.0, 0, "d435", 2)
    assert (recipe.frames, recipe.rate_hz) == (165, 30.0)  # no longer than the calm
    recipe = replace(recipe, frames=2)
    told: list[tuple[int, int]] = []
    folder, first = rate_render.playback_of(case, recipe, tmp_path, lambda *t: told.append(t))
    assert told == [(1, 2), (2, 2)]
    assert folder.name == f"{case.hash[:8]}_calm_d435_2_s0_every2"
    assert 30_000 < first.frames[0].points <= 320 * 240
    assert first.frames[0].visible_fraction == 1.0
    moved = first.frames[1].T_camera_model - first.frames[0].T_camera_model
    assert 0 < np.linalg.norm(moved[:3, 3]) < 1e-3
    start = 1e3 * np.linalg.norm((first.T_start - first.frames[0].T_camera_model) @ [*case.centroid(), 1.0])
    assert 0 < start < 5.0

    def never(*arguments: Any) -> None:
        raise AssertionError("rendered again")

    monkeypatch.setattr(rate_render, "SimulatedSequence", never)
    assert rate_render.playback_of(case, recipe, tmp_path)[1].sha256 == first.sha256
    (folder / "stream.json").unlink()  # cut off half way
    with pytest.raises(AssertionError, match="rendered again"):
        rate_render.playback_of(case, recipe, tmp_path)


def test_unknown_events_and_sensors_are_told(case: Case) -> None:
    with pytest.raises(PlaybackError, match=r"^unknown events 'party': choose one of calm, still, demo"):
        rate_render.recipe_of(case, "party", 1.0, 0, "d435")
    with pytest.raises(PlaybackError, match=r"^unknown sensor 'eye': choose one of d435, d435_720p"):
        rate_render.recipe_of(case, "calm", 1.0, 0, "eye")


# Figures of a run.


def status(stamp_ns: int, received: int, drops: int, **changes: Any) -> dict[str, Any]:
    told = {
        "kind": "status", "heard_ns": stamp_ns + 42 * MS, "stamp_ns": stamp_ns, "state": "TRACKING",
        "reason_code": "ok", "pose_age_ms": 40.0, "latency_ms": 30.0, "stages_ms": {"refine": 12.0},
        "received": received, "processed": received - drops, "poses": received - drops,
        "drops": {"superseded": drops} if drops else {},
    }  # fmt: skip
    return told | changes


def made_run(playback: Playback, clouds: int, lost: set[int], shift_m: float = 0.001) -> RateRun:
    """``lost`` clouds are superseded; every other one has a pose 41 ms later, ``shift_m`` off."""
    sent, heard, drops = [], [], 0
    for k in range(clouds):
        stamp_ns, number = START + k * STEP, bounce(k, len(playback.frames))
        sent.append(SentCloud(number, stamp_ns, 4.0))
        if k in lost:
            drops += 1
            continue
        levels = {}
        for level, T in playback.frames[number].T_camera_levels.items():
            moved = T.copy()
            moved[0, 3] += shift_m
            levels[level] = moved.ravel().tolist()
        heard += [
            {"kind": "pose", "heard_ns": stamp_ns + 41 * MS, "stamp_ns": stamp_ns},
            {
                "kind": "vertebrae",
                "heard_ns": stamp_ns + 41 * MS,
                "stamp_ns": stamp_ns,
                "T_camera_levels": levels,
            },
            status(stamp_ns, k + 1, drops),
        ]
    return RateRun(sent, heard, settle_s=1.0)


def test_figures_of_a_run(case: Case, playback: Playback) -> None:
    run = made_run(playback, 330, lost={3, 5, 100, 200, 300})
    told = rate_figures.rate_figures(run, playback, LevelTargets.of(case))
    assert told["clouds"] == {
        "sent": 330, "skipped_by_camera": 0, "received": 330, "lost_before_node": 0, "processed": 325,
        "dropped": {"superseded": 5}, "poses": 325, "counters_add_up": True,
    }  # fmt: skip
    assert told["sent_hz"] == pytest.approx(30.0)
    assert told["seconds"] == pytest.approx(10.0, abs=0.05)
    assert told["pose_hz"] == pytest.approx(30.0 * 297 / 300, abs=0.05)
    assert told["drop_share"] == pytest.approx(3 / 300, abs=1e-3)
    assert told["dropped_by_reason"] == {"superseded": 3}  # those of the first second do not count
    assert told["pose_age_ms"] == {"p50": 41.0, "p95": 41.0, "p99": 41.0, "max": 41.0, "count": 296}
    assert told["transport_ms"]["p50"] == pytest.approx(10.0)
    assert (told["send_ms"]["p50"], told["send_ms"]["count"]) == (4.0, 299)
    assert told["stages_ms"]["refine"]["p50"] == 12.0
    assert told["tre_mm"] == {"median": 1.0, "p95": 1.0, "max": 1.0}
    assert told["availability"] == pytest.approx(296 / 299, abs=1e-3)
    assert rate_figures.problems(told) == []
    met = rate_figures.targets_met(told)
    assert met == {"drops": False, "pose_age_p50": False, "pose_age_p99": True}


def test_a_cloud_lost_on_the_way_is_no_drop_of_the_node(case: Case, playback: Playback) -> None:
    run = made_run(playback, 120, lost=set())
    unheard = START + 60 * STEP
    heard = [line for line in run.heard if line["stamp_ns"] != unheard]
    heard = [
        line | {"received": line["received"] - (line["stamp_ns"] > unheard)}
        if line["kind"] == "status"
        else line
        for line in heard
    ]
    told = rate_figures.rate_figures(replace(run, heard=heard), playback, LevelTargets.of(case))
    assert (told["clouds"]["lost_before_node"], told["dropped_by_reason"]) == (1, {})
    assert told["drop_share"] == pytest.approx(1 / 90, abs=1e-3)


def test_wrong_strange_and_repeated_poses_are_problems(case: Case, playback: Playback) -> None:
    run = made_run(playback, 90, lost=set(), shift_m=0.012)
    strange = {"kind": "pose", "heard_ns": START, "stamp_ns": START + 1}
    run = replace(run, heard=[*run.heard, strange, run.heard[0]])
    told = rate_figures.rate_figures(run, playback, LevelTargets.of(case))
    assert told["tre_mm"]["median"] == 12.0
    found = rate_figures.problems(told)
    assert found[0] == f"{told['false_poses']} poses are off by more than 10 mm"
    assert found[1:] == [
        "1 poses belong to no cloud that was sent",
        "1 poses were sent again under a stamp already published",
    ]


def test_counters_that_do_not_add_up_are_a_problem(case: Case, playback: Playback) -> None:
    run = made_run(playback, 60, lost=set())
    heard = [*run.heard[:-1], run.heard[-1] | {"processed": 59}]
    told = rate_figures.rate_figures(replace(run, heard=heard), playback, LevelTargets.of(case))
    assert rate_figures.problems(told) == ["the counters do not add up: received is not processed + dropped"]


def test_a_run_of_which_nothing_was_heard(case: Case, playback: Playback) -> None:
    run = RateRun([SentCloud(0, START, 4.0), SentCloud(1, START + STEP, 4.0)], [], settle_s=0.0)
    told = rate_figures.rate_figures(run, playback, LevelTargets.of(case))
    assert (told["drop_share"], told["pose_age_ms"]["p50"], told["clouds"]["lost_before_node"]) == (
        1.0,
        None,
        2,
    )
    assert rate_figures.problems(told) == ["no pose was published"]
    assert not any(rate_figures.targets_met(told).values())


def test_the_three_processes(tmp_path: Path) -> None:
    settings = RateSettings(tmp_path / "case", tmp_path / "stream", tmp_path, "icp", 15, 20, start=True)
    specs = node_specs(settings)
    assert list(specs) == ["recorder", "tracker", "camera"]
    assert specs["tracker"].remappings == {"points": "/camera/depth/color/points"}
    assert specs["tracker"].parameters["network_passes"] == "auto"
    camera = specs["camera"].parameters
    assert (camera["rate"], camera["duration"], camera["send_start"]) == (15.0, 20.0, True)


def script(name: str) -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_script", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_table_tells_runs_and_failures(case: Case, playback: Playback) -> None:
    told = rate_figures.rate_figures(made_run(playback, 90, {50}), playback, LevelTargets.of(case))
    usage = {name: {"cpu_percent": 40.4, "rss_mb": 501.0} for name in ("tracker", "camera", "recorder")}
    run = {
        "method": "icp", "size": "640x480", "rate_hz": 30.0, "problems": [], "usage": usage,
        "targets": rate_figures.targets_met(told), **told,
    }  # fmt: skip
    failed = {"method": "end2reg", "size": "640x480", "rate_hz": 30.0, "problems": ["no engine"]}
    lines = script("rate").table([run, failed]).splitlines()
    assert {line.count("|") for line in lines[:4]} == {14}
    assert lines[2].startswith(
        "| icp | 640x480 | 30 | 29.5 | 29.5 | 0.0 | 0 of 90 | 1.69 % | 41 / 41 / 41 / 41 |"
    )
    assert "| 40 / 40 / 40 | 501 | 1.00 / 1.00 / 1.00 | missed: drops, pose_age_p50 |" in lines[2]
    assert lines[-1] == "end2reg 640x480 30 Hz is not good: no engine"
