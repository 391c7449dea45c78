"""``end2reg bench``: turns, figures, tables and pictures of a measurement; a measurement of a made-up method as a whole."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
from stand_in import StandInRegistrar
from views import bundled_case

from end2reg_ros import se3
from end2reg_ros.apps.bench import plots as speed_plots
from end2reg_ros.apps.bench import process as bench_process
from end2reg_ros.apps.bench import runner as speed_runner
from end2reg_ros.apps.bench import speed
from end2reg_ros.apps.bench import worker as bench_worker
from end2reg_ros.apps.bench.figures import (
    cost,
    percentiles,
    stage_percentiles,
    stages_of,
    starts_document,
    stream_document,
)
from end2reg_ros.apps.bench.input import StoredFrame, StoredStream, StreamPlan, render_stream, sensor_of
from end2reg_ros.apps.bench.methods import MethodSpec, engine_options, parse_method
from end2reg_ros.apps.bench.network import part_of, profile_parts
from end2reg_ros.apps.bench.plots import write_speed_plots
from end2reg_ros.apps.bench.process import MethodProcess
from end2reg_ros.apps.bench.runner import MethodRunner, TimedFrame, TimedRegistration, memory, settle
from end2reg_ros.apps.bench.scaling import ScalingPlan
from end2reg_ros.apps.bench.speed import SpeedSettings, is_good, run_speed
from end2reg_ros.apps.bench.tables import markdown, thread_table
from end2reg_ros.apps.bench.turns import follow_in_turns, rotated, start_in_turns, stream_in_turns
from end2reg_ros.cli import bench as cli
from end2reg_ros.cli.bench import BenchMethods
from end2reg_ros.errors import End2RegError, RegistrationError
from end2reg_ros.evaluation import host
from end2reg_ros.evaluation.metrics import targets_from_case
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.registration.types import LevelResult, Prior, Quality, Registration
from end2reg_ros.simulation.camera.sensor import SENSORS
from end2reg_ros.simulation.motion import SCENARIOS
from end2reg_ros.tracking import State


def made_up_set_up(spec: MethodSpec, case: Any) -> Believer:
    if spec.method == "kiss_matcher_icp":
        raise RegistrationError("the package is missing")
    if spec.method == "ransac_icp":
        print("it ends here", flush=True)
        os._exit(3)
    return Believer()


def made_up_work(pipe: Any, cores: int, log: Path) -> None:
    """A method's process with a made-up method in place of the real ones."""
    bench_worker.prepare(cores, log)
    bench_process.set_up = made_up_set_up  # type: ignore[assignment]
    bench_process.serve(pipe)


SMALL = replace(SENSORS["d435"], width=96, height=72)
PLAN = StreamPlan(frames=6, views=1, sensor=SMALL)


class Believer(StandInRegistrar):
    """Takes every prior for the truth; without one it finds nothing."""

    method, engine, engine_hash, engine_text, needs_prior = "icp", "", "", "", False

    def register(self, cloud: Any, prior: Prior | None) -> Registration:
        if prior is None:
            return Registration(
                np.full((4, 4), np.nan), False, "no_region", "", Quality(), np.eye(6), "icp", ""
            )
        good = Quality(1.0, 0.001, 1.0, 1.0, 0.0, 1000, 1.0)
        T = prior.T_camera_model
        levels = tuple(
            LevelResult(v.level, T @ v.T_model_level, np.eye(6), good, False)
            for v in bundled_case().vertebrae
        )
        timings = {"crop": 1.0, "thin": 2.0, "quality": 4.0}
        return Registration(T, True, "ok", "", good, 1e-9 * np.eye(6), "icp", "", timings, levels)


def frame_of(path: Path, stamp: int = 1, T: Any = None) -> StoredFrame:
    """A cloud of four points."""
    data = np.zeros((4, 5), np.float32)
    data[:, :3] = np.random.default_rng(stamp).uniform(0.3, 0.6, (4, 3))
    path.write_bytes(data.tobytes())
    return StoredFrame(path, 4, stamp, np.eye(4) if T is None else T, {}, 1.0)


def spec(name: str = "icp", threads: int = 1) -> MethodSpec:
    return parse_method(name, threads)


# Input.


def test_a_rendered_stream_is_what_the_simulator_shows(tmp_path: Path) -> None:
    from end2reg_ros.cloud.pointcloud2 import decode
    from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence

    plan = replace(PLAN, frames=2)
    stream = render_stream(bundled_case(), plan, tmp_path)
    sequence = SimulatedSequence(bundled_case(), SequenceSettings(seed=0, scenario="demo", sensor=SMALL))
    for number, stored in enumerate(stream.frames):
        seen = sequence.frame(number / plan.rate_hz)
        cloud = decode(stored.message())
        valid = np.isfinite(seen.points[..., 2])
        np.testing.assert_array_equal(cloud.points, seen.points[valid])
        assert cloud.colours is not None
        np.testing.assert_array_equal(cloud.colours, seen.colours[valid])
        np.testing.assert_array_equal(stored.T_camera_model, seen.T_camera_model)
        assert stored.points == len(cloud.points)
    assert stream.frames[1].stamp_ns - stream.frames[0].stamp_ns == round(1e9 / 15.0)
    assert not np.allclose(stream.views[0].T_camera_model, stream.frames[0].T_camera_model)
    assert np.linalg.norm(stream.prior.T_camera_model - stream.frames[0].T_camera_model) < 0.1
    stored = [frame.path.read_bytes() for frame in (*stream.frames, *stream.views)]
    assert stream.sha256 == hashlib.sha256(b"".join(stored)).hexdigest()
    sensor = sensor_of(4 * stream.points, stream)
    assert (sensor.width, sensor.height, sensor.smooth_px) == (192, 144, 2 * SMALL.smooth_px)
    assert sensor.hfov_deg == SMALL.hfov_deg
    odd = sensor_of(int(1.7 * stream.points), stream)
    assert (odd.width % 2, odd.height % 2) == (0, 0)


# Methods.


def test_methods_are_named_with_their_engines() -> None:
    found = parse_method("end2reg:torch", 2, "cuda")
    assert (found.method, found.engine, found.label) == ("end2reg", "torch", "end2reg (torch, cuda)")
    assert parse_method("end2reg", 1).engine == "auto"
    assert parse_method("icp", 1, "cuda").label == "icp"
    apart = parse_method("end2reg:onnxruntime:background", 1)
    assert (apart.label, apart.passes) == ("end2reg (onnxruntime, background)", "background")
    assert (apart.settings().network_passes, apart.settings().threads) == ("background", 1)
    assert parse_method("end2reg", 1).settings().network_passes == RegistrationSettings().network_passes
    options = engine_options(parse_method("end2reg:onnxruntime", 3), bundled_case())
    assert (options.engine, options.threads, options.device) == ("onnxruntime", 3, "cpu")
    assert options.weights is not None and options.weights.name == "realtime.safetensors"
    for name, text in (
        (
            "xyz",
            "unknown method 'xyz': choose one of icp, ransac_icp, kiss_matcher_icp, end2reg, end2reg_alone",
        ),
        ("icp:torch", "method icp runs no network, so it has no engine 'torch'"),
        ("end2reg:x", "unknown engine 'x' in 'end2reg:x': choose one of auto, onnxruntime, tensorrt, torch"),
        (
            "end2reg:torch:x",
            "unknown kind of passes 'x' in 'end2reg:torch:x': choose one of auto, every_frame, background",
        ),
        (
            "end2reg:torch:",
            "unknown kind of passes '' in 'end2reg:torch:': choose one of auto, every_frame, background",
        ),
    ):
        with pytest.raises(End2RegError) as caught:
            parse_method(name, 1)
        assert str(caught.value) == text


# One method over a stream.


def test_a_stream_is_the_nodes_path_with_a_clock(tmp_path: Path) -> None:
    runner = MethodRunner(bundled_case(), Believer())
    T = se3.from_rotation_translation(np.eye(3), np.array([0.0, 0.0, 0.5]))
    frames = [frame_of(tmp_path / f"{n}.bin", 10**9 + n * 10**7, T) for n in range(4)]
    runner.begin(Prior(T, "test"))
    rows = runner.run(frames[:2]) + runner.run(frames[2:])
    assert [(r.state, r.reason_code, r.published, r.followed) for r in rows] == [
        (State.SEARCHING, "confirming", False, False),
        (State.TRACKING, "ok", True, False),
        (State.TRACKING, "ok", True, True),
        (State.TRACKING, "ok", True, True),
    ]
    assert all(set(r.timings_ms) == {"decode", "crop", "thin", "quality"} for r in rows)
    assert all(0.0 < r.timings_ms["decode"] < r.total_ms for r in rows)
    assert all(r.cpu_ms > 0.0 for r in rows)
    (repeated,) = runner.run(frames[3:])
    assert (repeated.published, repeated.reason_code) == (False, "frozen")
    runner.begin(Prior(T, "test"))
    assert (
        runner.run(frames[:1])[0].reason_code == "confirming"
    )  # neither the track nor the stamps before are known
    followed = runner.follow(frames[0], T)
    assert followed.success and followed.T_camera_model is not None and "decode" in followed.timings_ms
    assert runner.from_nothing(frames[0]).T_camera_model is None


def test_frames_come_when_their_stamps_say_so(tmp_path: Path) -> None:
    runner, prior = MethodRunner(bundled_case(), Believer()), Prior(np.eye(4), "test")
    frames = [frame_of(tmp_path / f"{n}.bin", 10**9 + n * 10**8) for n in range(4)]
    runner.begin(prior, paced=True)
    began = time.monotonic()
    rows = runner.run(frames)
    assert time.monotonic() - began > 0.3
    assert all(r.total_ms < 100.0 for r in rows)  # waiting is no part of it


def test_what_runs_in_the_background_is_waited_for_and_counted(tmp_path: Path) -> None:
    class Busy(Believer):
        def __init__(self) -> None:
            self.threads: list[threading.Thread] = []

        def register(self, cloud: Any, prior: Prior | None) -> Registration:
            self.threads.append(threading.Thread(target=self.work))
            self.threads[-1].start()
            return super().register(cloud, prior)

        def work(self) -> None:
            spent = time.thread_time()
            while time.thread_time() - spent < 0.1:
                pass

    method = Busy()
    runner = MethodRunner(bundled_case(), method)
    runner.begin(Prior(np.eye(4), "test"))
    (found,) = runner.run([frame_of(tmp_path / "x.bin", 10**9)])
    assert not method.threads[0].is_alive() and found.cpu_ms >= 100.0
    assert runner.from_nothing(frame_of(tmp_path / "y.bin", 2)).cpu_ms >= 100.0
    began = time.monotonic()
    busy = threading.Thread(target=method.work)
    busy.start()
    settle(0.02)
    assert time.monotonic() - began < 0.08  # it does not wait for ever
    busy.join()


def test_memory_is_this_processes_own() -> None:
    before = memory()
    with mmap.mmap(-1, 40_000_000) as block:  # fresh from the kernel, whatever else was freed before
        block.write(b"x" * 40_000_000)
        now = memory()
    assert now.rss_mb - before.rss_mb > 35 and now.peak_mb >= now.rss_mb
    assert memory().peak_mb > now.rss_mb - 1  # the kernel sums what each core counted: not to the page


def test_memory_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    true = memory().rss_mb
    monkeypatch.setattr(speed_runner, "Path", lambda name: tmp_path / "none")
    assert memory().rss_mb == pytest.approx(true, rel=0.2)


# Turns.


class Recorder:
    """A method that writes down when it was asked for what."""

    def __init__(self, name: str, journal: list[tuple[str, Any]]) -> None:
        self.spec, self._journal = spec(name), journal

    def begin(self, prior: Prior, paced: bool = False) -> None:
        self._journal.append((self.spec.name, f"begin {paced}"))

    def run(self, frames: Sequence[StoredFrame]) -> list[TimedFrame]:
        self._journal.append((self.spec.name, [f.stamp_ns for f in frames]))
        return [row(float(f.stamp_ns)) for f in frames]

    def from_nothing(self, view: StoredFrame) -> TimedRegistration:
        self._journal.append((self.spec.name, view.stamp_ns))
        return TimedRegistration(float(view.stamp_ns), 1.0, {}, True, "ok", None)

    def follow(self, frame: StoredFrame, T_camera_model: Any) -> TimedRegistration:
        return TimedRegistration(frame.stamp_ns + T_camera_model[0, 3], 1.0, {}, True, "ok", None)


def test_methods_take_turns_on_the_same_frames(tmp_path: Path) -> None:
    journal: list[tuple[str, Any]] = []
    methods = [Recorder(name, journal) for name in ("icp", "ransac_icp")]
    T = np.eye(4)
    frames = []
    for number in range(1, 6):
        T = T.copy()
        T[0, 3] = number / 10
        frames.append(frame_of(tmp_path / "x.bin", number, T))

    class Stream:
        prior = Prior(np.eye(4), "test")

    Stream.frames = tuple(frames)  # type: ignore[attr-defined]
    rows = stream_in_turns(methods, Stream, 2, paced=True)  # type: ignore[arg-type]
    assert journal == [
        ("icp", "begin True"), ("ransac_icp", "begin True"),
        ("icp", [1, 2]), ("ransac_icp", [1, 2]),
        ("ransac_icp", [3, 4]), ("icp", [3, 4]),
        ("icp", [5]), ("ransac_icp", [5]),
    ]  # fmt: skip
    assert [r.total_ms for r in rows[methods[1].spec]] == [1.0, 2.0, 3.0, 4.0, 5.0]
    journal.clear()
    start_in_turns(methods, frames[:2])
    assert journal == [("icp", 1), ("ransac_icp", 1), ("ransac_icp", 2), ("icp", 2)]
    followed = follow_in_turns(methods, frames[:3])  # each from where the frame before truly was
    assert [r.total_ms for r in followed[methods[0].spec]] == pytest.approx([2.1, 3.2])
    assert rotated([1, 2, 3], 4) == [2, 3, 1] and rotated([], 1) == []


# Figures.


def row(total_ms: float, followed: bool = True, published: bool = True, **more: Any) -> TimedFrame:
    timings = more.get("timings", {"decode": 1.0})
    code = "ok" if published else "low_quality"
    state = State.TRACKING if published else State.LOST
    return TimedFrame(
        total_ms, 2 * total_ms, timings, followed, state, code, published, more.get("T"), more.get("levels", {}),
        more.get("T_network"), more.get("network_stamp_ns", 0),
    )  # fmt: skip


def test_stages_add_up_to_the_total() -> None:
    timings = {"decode": 1.0, "crop": 2.0, "thin": 3.0, "quality": 4.0, "rivals": 5.0, "brand new": 6.0}
    stages = stages_of(timings, 30.0)
    assert stages == {"decode": 1.0, "crop": 5.0, "judge": 9.0, "brand new": 6.0, "other": 9.0}
    assert stages_of({"decode": 2.0}, 1.5)["other"] == 0.0
    rows = [row(10.0, timings=timings), row(10.0), row(10.0), row(10.0)]
    found = stage_percentiles(rows)
    assert list(found) == ["decode", "crop", "judge", "brand new", "other"]
    assert (found["judge"]["p50"], found["judge"]["frames"]) == (0.0, 1.0)
    assert found["judge"]["p99"] == pytest.approx(np.percentile([9, 0, 0, 0], 99))


def test_stages_side_by_side_take_no_time_of_their_own() -> None:
    beside = {
        "crop and tables": 20.0,
        "network": 60.0,
        "refine and judge": 45.0,
        "waiting for the network": 15.0,
    }
    assert stages_of(beside, 85.0)["other"] == 5.0
    passed = {"refine and judge": 45.0, "network (background)": 60.0}
    assert stages_of(passed, 50.0)["other"] == 5.0
    found = cost(
        [row(50.0, timings=passed), *(row(50.0, timings={"refine and judge": 45.0}) for _ in range(3))]
    )
    assert found["side_by_side"] == ["network (background)"]
    assert found["stages_ms"]["network (background)"] == {
        "p50": 60.0,
        "p95": 60.0,
        "p99": 60.0,
        "frames": 1.0,
    }
    in_turn = {"crop and tables": 20.0, "network": 40.0, "refine and judge": 45.0}
    assert stages_of(in_turn, 110.0)["other"] == 5.0
    assert cost([row(85.0, timings=beside)])["side_by_side"] == ["network"]
    assert cost([row(110.0, timings=in_turn)])["side_by_side"] == []


def test_percentiles_and_cost() -> None:
    values = np.random.default_rng(0).uniform(size=101)
    ordered = np.sort(values)
    assert percentiles(values) == {"p50": ordered[50], "p95": ordered[95], "p99": ordered[99]}
    assert np.isnan(percentiles([])["p95"])
    found = cost([row(10.0), row(30.0)])
    assert (found["frames"], found["frames_per_s"], found["cores_used"]) == (2, 50.0, 2.0)
    nothing = cost([])
    assert (nothing["frames"], nothing["frames_per_s"], nothing["cores_used"]) == (0, None, None)


def test_a_streams_figures(tmp_path: Path) -> None:
    case, T = bundled_case(), se3.from_rotation_translation(np.eye(3), np.array([0.0, 0.0, 0.5]))
    targets = targets_from_case(case)
    off = [
        se3.from_rotation_translation(np.eye(3), np.array([mm / 1000, 0.0, 0.5])) for mm in (0, 1, 2, 3, 12)
    ]
    frames = [frame_of(tmp_path / "x.bin", 10**9 * n, T) for n in range(1, 7)]
    rows = [row(100.0, False, False), *(row(10.0 + n, T=T_off) for n, T_off in enumerate(off))]
    found = stream_document(rows, frames, targets)
    assert (found["frames"], found["poses"], found["failures"]) == (6, 5, {"low_quality": 1})
    assert (found["followed"]["frames"], found["searched"]["frames"]) == (5, 1)
    assert found["followed"]["total_ms"]["p50"] == 12.0 and found["searched"]["total_ms"]["p50"] == 100.0
    accuracy = found["accuracy"]
    assert accuracy["tre_median_mm"] == pytest.approx(2.0) and accuracy["tre_max_mm"] == pytest.approx(12.0)
    assert accuracy["over_10mm"] == pytest.approx(0.2)
    assert (accuracy["wrong_poses"], accuracy["wrong_in_tracking"], accuracy["blind_poses"]) == (1, 1, 0)
    assert found["network"]["poses"] == 0 and np.isnan(found["network"]["total_ms"]["p50"])
    timings = {"crop": 1.0, "tables": 2.0, "network": 4.0, "waiting for the network": 1.0}
    late = {f"{name} (background)": ms for name, ms in timings.items()}
    moved = replace(frames[1], T_camera_model=off[2])
    seen = [
        row(9.0, T=off[1], T_network=off[3], network_stamp_ns=frames[0].stamp_ns, timings=timings),
        row(9.0, T=off[2], T_network=off[3], network_stamp_ns=frames[0].stamp_ns, timings=late),
        row(9.0, T=off[4]),
        row(9.0, T=off[4], T_network=off[3], network_stamp_ns=5),  # of a cloud that is not known
    ]
    network = stream_document(seen, [frames[0], moved, *frames[2:4]], targets)["network"]
    assert (network["poses"], network["total_ms"]["p50"]) == (2, 7.0)
    assert network["accuracy"]["tre_max_mm"] == pytest.approx(3.0)  # held against the cloud that was seen
    assert network["accuracy_refined"]["tre_max_mm"] == pytest.approx(1.0)
    # The vertebrae's own poses count where they are given.
    levels = {v.level: off[3] @ v.T_model_level for v in case.vertebrae}
    (single,) = [stream_document([row(1.0, T=T, levels=levels)], frames[:1], targets)["accuracy"]]
    assert single["tre_median_mm"] == pytest.approx(3.0)


def test_starts_from_nothing(tmp_path: Path) -> None:
    T = se3.from_rotation_translation(np.eye(3), np.array([0.0, 0.0, 0.5]))
    far = se3.from_rotation_translation(np.eye(3), np.array([0.04, 0.0, 0.5]))
    views = [frame_of(tmp_path / "x.bin", n, T) for n in range(1, 5)]
    rows = [
        TimedRegistration(10.0, 5.0, {"network": 4.0}, True, "ok", T),
        TimedRegistration(20.0, 5.0, {}, True, "ok", far),
        TimedRegistration(30.0, 5.0, {}, False, "ambiguous_level", far),
        TimedRegistration(40.0, 5.0, {}, False, "no_region", None),
    ]
    found = starts_document(rows, views, targets_from_case(bundled_case()))
    assert (found["frames"], found["reported"], found["right"]) == (4, 2, 1)
    assert found["reasons"] == {"ok": 2, "ambiguous_level": 1, "no_region": 1}
    assert found["accuracy"]["tre_median_mm"] == pytest.approx(40.0)
    assert found["accuracy_reported"]["tre_median_mm"] == pytest.approx(20.0)


def test_parts_of_a_profile(tmp_path: Path) -> None:
    def node(name: str, *spent_us: int) -> list[dict[str, Any]]:
        return [{"cat": "Node", "name": f"{name}_kernel_time", "dur": us} for us in spent_us]

    events = [
        {"cat": "Session", "name": "model_run", "dur": 9999},
        {"cat": "Node", "name": "relate/transformer/MatMul_1_fence_before", "dur": 9999},
        *node("relate/transformer/MatMul_1", 9000, 1000, 2000),  # the first run is slow
        *node("fused match/relate/transformer/MatMul_2", 500, 500, 500),
        *node("match/assign/sinkhorn/Clip_3", 100, 100, 100),
        *node("/Cast_4", 10, 10, 10),
    ]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(events))
    assert profile_parts(path) == pytest.approx(
        {"network: transformer": 2.5, "network: matching": 0.1, "network: other": 0.01}
    )
    for name, part in (
        ("segment/segmentation/backbone/blocks/norms/Sqrt_1", "segmentation"),
        ("encode_masked/transformer.begin/Add_1", "backbone"),
        ("encode_masked/backbone/blocks/kpconv/MatMul_1", "backbone"),
        ("match/local_to_global.kabsch/pose/Mul_1", "pose"),
        ("match/matching.correspondences/TopK_1", "matching"),
        ("match/Gather_1", "matching"),
        ("kpconv/Sub_1", "geometry"),
        ("MatMul_1/MatmulTransposeFusion/", "other"),
    ):
        assert part_of(name) == part


# A whole measurement, of a made-up method.


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    settings = SpeedSettings(
        (spec("icp"), spec("kiss_matcher_icp")), PLAN, ScalingPlan((2000,), frames=3, views=1), (1,), block=2,
        paced=False, repeats=2, work=made_up_work,
    )  # fmt: skip
    told: list[str] = []
    found = run_speed(bundled_case(), settings, told.append)
    assert told[:2] == ["setting up icp", "setting up kiss_matcher_icp"] and "threads" in told
    return {"command": "end2reg bench", **found}


def test_a_measurement(document: dict[str, Any]) -> None:
    assert document["absent"] == [{"label": "kiss_matcher_icp", "why": "the package is missing"}]
    (method,) = document["methods"]
    assert (method["label"], method["frames"], method["poses"]) == ("icp", 6, 5)
    assert method["failures"] == {"confirming": 1}
    assert list(method["followed"]["stages_ms"]) == ["decode", "crop", "judge", "other"]
    assert method["followed"]["stages_ms"]["judge"]["p50"] == 4.0
    assert method["from_nothing"]["reasons"] == {"no_region": 1}
    assert (
        10
        < method["memory"]["packages_mb"]
        <= method["memory"]["rss_mb"]
        <= method["memory"]["peak_mb"]
        < 2000
    )
    assert method["network_parts_ms"] == {} and method["engine"] == {}
    (sized,) = document["scaling"]["cloud"]
    assert 0.8 * 2000 < sized["points"] < 1.2 * 2000
    assert (sized["passed"], sized["followed"]["frames"], sized["from_nothing"]["frames"]) == (3, 3, 1)
    (threads,) = document["scaling"]["threads"]
    assert (threads["threads"], threads["cores"], threads["frames"]) == (1, 1, 3)
    assert document["case"]["hash"] == bundled_case().hash
    assert document["input"]["image"] == "96x72" and re.fullmatch("[0-9a-f]{64}", document["input"]["sha256"])
    assert document["publish"]["ms"] == 0.0 and "without ROS" in document["publish"]["why"]
    assert len(document["environment"]["load_average"]) == 2
    json.dumps(document, allow_nan=False)


def test_tables_tell_every_method_and_stage(document: dict[str, Any]) -> None:
    text = markdown(document)
    assert "Not measured: kiss_matcher_icp: the package is missing." in text
    assert re.search(r"^\| icp \| 6 \| 5 \| confirming 1 \| ", text, re.MULTILINE)
    assert re.search(r"^\| judge \| 4\.0 / 4\.0 / 4\.0 \|$", text, re.MULTILINE)
    assert re.search(r"^\| publish \| 0 \|$", text, re.MULTILINE)
    for lines in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in lines.splitlines()}) == 1
    learned = {**document["methods"][0], "label": "end2reg (torch)", "network_parts_ms": {"tables": 7.123}}
    spread = {"tre_median_mm": 1.5, "tre_p95_mm": 2.5, "tre_q1_mm": 1.0, "tre_q3_mm": 2.0}
    three = {"p50": 30.0, "p95": 31.0, "p99": 32.0}
    learned["network"] = {"poses": 4, "total_ms": three, "accuracy": spread, "accuracy_refined": spread}
    both = markdown({**document, "methods": [document["methods"][0], learned]})
    assert "| end2reg (torch) | 4 | 1.50 | 2.50 | 1.50 | 2.50 | 30.0 / 31.0 / 32.0 |" in both.splitlines()
    dots = speed_plots.dots_of([learned])
    assert [(dot.label, dot.ms, dot.tre_mm) for dot in dots[1:]] == [
        ("end2reg (torch), network alone", 30.0, 1.5)
    ]
    assert re.search(r"^\| tables \| 7\.12 \|$", both, re.MULTILINE)


def test_threads_are_compared_on_as_many_cores_or_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, int, int]] = []

    def start(run: Any, specs: Sequence[MethodSpec]) -> tuple[list[Any], list[Any]]:
        asked.extend((one.method, one.threads, one.cores) for one in specs)
        ready = [SimpleNamespace(process=Recorder("icp", [])) for _ in specs]
        for one, wanted in zip(ready, specs, strict=True):
            one.process.spec = wanted
        return ready, []

    monkeypatch.setattr(speed.SpeedRun, "start", start)
    stream: Any = StoredStream(PLAN, (frame_of(tmp_path / "x.bin"),), (), Prior(np.eye(4), "test"), "")
    ready: Any = [SimpleNamespace(process=SimpleNamespace(spec=spec("ransac_icp")))]
    with speed.SpeedRun(bundled_case(), SpeedSettings((), threads=(1, 2)), print) as run:
        rows = run.threads(ready, stream)
    assert not run.folder.exists()
    assert asked == [("ransac_icp", 1, 1), ("ransac_icp", 1, 2), ("ransac_icp", 2, 2)]
    assert [(row["threads"], row["cores"]) for row in rows] == [(1, 1), (1, 2), (2, 2)]
    lines = thread_table(rows)
    assert lines[0] == "| method | threads 1, cores 1 | threads 1, cores 2 | threads 2, cores 2 |"
    assert lines[2] == "| ransac_icp | 1.0 / 1.0 | 1.0 / 1.0 | 1.0 / 1.0 |"


def test_pictures(document: dict[str, Any], tmp_path: Path) -> None:
    written = write_speed_plots(tmp_path, document)
    assert [path.name for path in written] == ["stages.png", "cloud_size.png", "accuracy_speed.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    method = document["methods"][0]
    silent = {**method, "accuracy": {**method["accuracy"], "tre_median_mm": None}}
    empty = {**document, "methods": [silent], "scaling": {"cloud": [], "threads": []}}
    assert [path.name for path in write_speed_plots(tmp_path, empty)] == ["stages.png"]


def test_a_method_that_cannot_be_run_and_one_that_dies(tmp_path: Path) -> None:
    settings = SpeedSettings((spec("kiss_matcher_icp"),), replace(PLAN, frames=1, views=0), work=made_up_work)
    with pytest.raises(End2RegError) as caught:
        run_speed(bundled_case(), settings, lambda text: None)
    assert str(caught.value) == "none of the methods can be run: kiss_matcher_icp: the package is missing"
    process = MethodProcess(spec("ransac_icp"), tmp_path / "log", made_up_work)
    with pytest.raises(End2RegError) as caught:
        process.begin(Prior(np.eye(4), "test"))
    assert str(caught.value) == "no method is set up"
    with pytest.raises(End2RegError) as caught:
        process.set_up(bundled_case().path)
    assert str(caught.value) == "the process of ransac_icp ended (3): it ends here"
    process.close()


def test_a_process_ends_with_its_pipe_and_with_a_fault_of_ours() -> None:
    near, far = Pipe()
    near.close()
    bench_process.serve(far)
    near, far = Pipe()
    near.send(("set_up", ("one argument too few",)))
    with pytest.raises(TypeError):
        bench_process.serve(far)


def test_cores_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[list[int]] = []
    monkeypatch.setattr(bench_worker.os, "sched_getaffinity", lambda pid: {0, 3, 5})
    monkeypatch.setattr(bench_worker.os, "sched_setaffinity", lambda pid, cores: taken.append(cores))
    for count in (1, 2, 3, 4):
        bench_worker.limit_cores(count)
    assert taken == [[5], [3, 5]]


def test_gpu_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\ncase $1 in *memory*) echo 100; echo 28;; *) echo 'A GPU';; esac\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert host.gpu_memory_mb() == pytest.approx(128 * 1.048576) and host.gpu_name() == "A GPU"
    program.write_text("#!/bin/sh\nexit 9\n")
    assert host.gpu_memory_mb() is None and host.gpu_name() is None


# The command.


def test_options_out_of_range_are_named() -> None:
    for options, text in (
        ({"frames": 2}, "--frames is 2, must be at least 4"),
        ({"threads": 0}, "--threads is 0, must be at least 1"),
        ({"cores": 0}, "--cores is 0, must be at least 1"),
        ({"points": (20_000, 10)}, "--points is 10, must be at least 1000"),
        ({"points": (3_000_000,)}, "--points is 3000000, must be at most 2000000: larger clouds are thinned"),
        ({"thread_counts": (0,)}, "--thread-counts is 0, must be at least 1"),
        ({"rate": 0.0}, "--rate is 0, must lie in 0.1 .. 1000"),
        ({"methods": ()}, "--methods needs at least one name"),
        ({"seed": -1}, "--seed is -1, must be at least 0"),
    ):
        with pytest.raises(End2RegError) as caught:
            BenchMethods(**options).settings()  # type: ignore[arg-type]
        assert str(caught.value) == text


def test_quick_measures_little() -> None:
    whole, quick = BenchMethods().settings(), BenchMethods(quick=True).settings()
    assert whole.plan.frames == 150 and whole.scaling == ScalingPlan() and whole.threads == (1, 2)
    assert (whole.plan.sensor.width, whole.plan.sensor.height) == (640, 480)
    assert [s.name for s in whole.methods] == [
        "end2reg:onnxruntime", "end2reg:torch", "icp", "ransac_icp", "kiss_matcher_icp"
    ]  # fmt: skip
    assert (quick.plan.frames, quick.plan.views, quick.threads) == (6, 1, ())
    assert quick.scaling is not None and quick.scaling.points == (20_000,)
    assert BenchMethods(points=(), thread_counts=()).settings().scaling is None
    assert {(s.threads, s.cores) for s in BenchMethods(threads=1, cores=3).settings().methods} == {(1, 3)}


def test_the_command_prints_and_writes(
    document: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = {name: value for name, value in document.items() if name != "command"}
    monkeypatch.setattr(speed, "run_speed", lambda case, settings, tell: tell("hello") or found)
    monkeypatch.setattr(speed_plots, "write_speed_plots", lambda folder, shown: (folder / "x.png").touch())
    monkeypatch.setattr(sys, "argv", ["/somewhere/end2reg", "bench", "--json"])
    assert BenchMethods(json=True, out=tmp_path / "out").run() == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"command": "end2reg bench --json", **found}
    assert printed.err.strip() == "bench, 0 s: hello"
    assert (tmp_path / "out" / "bench.json").read_text() == printed.out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"bench.json", "bench.md", "x.png"}
    assert BenchMethods().run() == 0
    assert capsys.readouterr().out == (tmp_path / "out" / "bench.md").read_text()
    found["methods"] = [{**document["methods"][0], "poses": 0}]
    assert BenchMethods().run() == 1


def test_a_wrong_pose_in_tracking_is_not_good(document: dict[str, Any]) -> None:
    method = document["methods"][0]
    assert is_good(document)
    wrong = {**method, "accuracy": {**method["accuracy"], "wrong_in_tracking": 1}}
    assert not is_good({**document, "methods": [method, wrong]})


def test_the_scenarios_are_those_with_a_spine() -> None:
    assert set(get_args(cli.Scenario)) == {name for name, scenario in SCENARIOS.items() if scenario.spine}
