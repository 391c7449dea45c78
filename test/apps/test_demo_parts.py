"""Parts of the demo and the bench: child processes, the verdict, the live table, the table over seeds."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from boxes_case import boxes_case
from rich.console import Console

from end2reg_ros.apps.demo import processes as demo_processes
from end2reg_ros.apps.demo import run as demo_run
from end2reg_ros.apps.demo.assess import assess, make_run
from end2reg_ros.apps.demo.figures import verdict
from end2reg_ros.apps.demo.processes import (
    Child,
    DemoError,
    JsonLines,
    NodeSpec,
    free_domain,
    nodes_environment,
    stop_all,
)
from end2reg_ros.apps.demo.record import DemoRun, TrackerFacts, Usage
from end2reg_ros.apps.demo.run import RunRecord, node_specs
from end2reg_ros.apps.demo.seeds import markdown, network_lines, overall, parse_seeds
from end2reg_ros.apps.demo.settings import DemoSettings, Method, Scenario, Start
from end2reg_ros.apps.demo.summary import summarise
from end2reg_ros.apps.demo.view import Now, PlainView, live_table
from end2reg_ros.cli import main as cli
from end2reg_ros.engine.options import EngineChoice
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation import host
from end2reg_ros.evaluation.host import environment
from end2reg_ros.evaluation.rows import CloudRow
from end2reg_ros.ros.camera_settings import CameraParameters
from end2reg_ros.ros.settings import TrackerParameters
from end2reg_ros.simulation.motion import SCENARIOS


def test_the_environment_of_the_nodes() -> None:
    environment = nodes_environment()
    assert environment["FASTDDS_DEFAULT_PROFILES_FILE"] == environment["FASTRTPS_DEFAULT_PROFILES_FILE"]
    assert "<segment_size>" in Path(environment["FASTDDS_DEFAULT_PROFILES_FILE"]).read_text()
    assert 1 <= int(environment["ROS_DOMAIN_ID"]) <= 101
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"


def test_a_domain_in_use_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_domain()
    other = next(d for d in range(1, 102) if d != first)
    monkeypatch.setattr(demo_processes.random, "SystemRandom", lambda: _InOrder(first, other))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 7400 + 250 * first + 10))
        assert free_domain() != first
    assert free_domain() == first


class _InOrder:
    def __init__(self, *first: int) -> None:
        self._first = first

    def shuffle(self, domains: list[int]) -> None:
        domains[:] = [*self._first, *(d for d in domains if d not in self._first)]


def test_a_missing_transport_profile_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_processes.end2reg_ros, "__file__", str(tmp_path / "end2reg_ros" / "__init__.py"))
    monkeypatch.setattr(demo_processes.sys, "prefix", str(tmp_path))
    monkeypatch.setenv("AMENT_PREFIX_PATH", "")
    with pytest.raises(DemoError, match=r"config/fastdds\.xml is missing: looked at "):
        demo_processes.transport_profile()
    installed = tmp_path / "ws" / "share" / "end2reg_ros" / "config" / "fastdds.xml"
    installed.parent.mkdir(parents=True)
    installed.touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "ws"))
    assert demo_processes.transport_profile() == installed


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Any]:
    """Makes a child out of Python source."""
    children: list[Child] = []

    def make(source: str) -> Child:
        (tmp_path / "node_under_test.py").write_text(source)
        spec = NodeSpec("tracker", "node_under_test", {"case": "a: b #c"}, tmp_path)
        children.append(Child(spec, {**os.environ, "PYTHONPATH": str(tmp_path)}))
        return children[-1]

    yield make
    for child in children:
        child.process.kill()
        child.process.wait()


def until(condition: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_child_that_ends_is_told_with_its_last_words(script: Any) -> None:
    child = script("import sys; print('warming up'); sys.exit('error: no such case')")
    child.process.wait(10)
    with pytest.raises(
        DemoError, match=r"^the tracker ended with exit code 1: error: no such case \(see .*tracker.log\)$"
    ):
        child.check()


def test_a_child_is_interrupted_and_then_killed(script: Any) -> None:
    child = script(
        "import signal, time; signal.signal(2, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    until(lambda: "deaf" in child.log.read_text())
    start = time.monotonic()
    assert child.stop(seconds=0.5) == -signal.SIGKILL
    assert 0.4 < time.monotonic() - start < 5
    assert demo_processes.exit_text(-9) == "signal SIGKILL"


def test_a_polite_child_ends_cleanly_and_its_cost_is_known(script: Any) -> None:
    child = script(
        "import time\nprint('up', flush=True)\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    pass"
    )
    until(lambda: "up" in child.log.read_text())
    child.sample()
    assert stop_all([child]) == {"tracker": 0}
    usage = child.usage()
    assert usage.cpu_percent is not None and usage.rss_mb is not None and usage.rss_mb > 3


def test_a_group_is_stopped_whatever_happens_and_says_what_it_was_waiting_for(tmp_path: Path) -> None:
    (tmp_path / "node_under_test.py").write_text(
        "import time\nprint('{\"kind\": \"up\"}', flush=True)\nprint('no JSON', flush=True)\n"
        "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    pass"
    )
    group = demo_processes.NodeGroup({**os.environ, "PYTHONPATH": str(tmp_path)})
    announced: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_processes, "NodeGroup", lambda environment: group)
        with pytest.raises(DemoError) as caught, demo_processes.node_group(lambda: announced.append("stop")):
            lines = JsonLines(group.start(NodeSpec("ear", "node_under_test", {}, tmp_path, pipe=True)))
            taken: list[Any] = []
            group.wait(lambda: bool(taken.extend(lines.take()) or taken), "the ear", 10.0)
            group.forget_samples()
            group.watch()
            group.wait(lambda: False, "the tracker", 0.1)
    assert str(caught.value) == (
        f"nothing was heard of the tracker in 0 s; what the nodes said is in {tmp_path}"
    )
    lines.join()
    assert [line for _, line in taken] == [{"kind": "up"}] and lines.take() == []
    assert announced == ["stop"] and group.codes == {"ear": 0} and group.faults() == []
    group.codes = {"ear": -9}
    assert group.faults() == ["the ear ended with signal SIGKILL"]


def test_a_signal_while_a_child_starts_interrupts_afterwards() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), demo_processes.interrupts_held_back():
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("started")
    assert done == ["started"]
    with demo_processes.interrupts_held_back():
        pass


def test_parameters_survive_yaml(script: Any, tmp_path: Path) -> None:
    script("pass").process.wait(10)
    text = (tmp_path / "tracker.yaml").read_text()
    assert yaml.safe_load(text) == {"/**": {"ros__parameters": {"case": "a: b #c"}}}


UNIT = [1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0]


def row(t: float, error: float = 0.5, state: str = "TRACKING", visible: float = 1.0) -> CloudRow:
    published = state == "TRACKING"
    return CloudRow(
        t, int(1e18 + t * 1e9), state, "ok", "tracking", True, published, 45.0 if published else None, visible,
        {"L1": [error] * 3, "L2": [error] * 3} if published else {}, T_camera_levels_true={"L1": UNIT, "L2": UNIT},
    )  # fmt: skip


def test_the_verdict_names_every_reason() -> None:
    good = summarise([row(t / 10) for t in range(20)])
    assert assess(good, [], "demo") == []
    assert assess(summarise([row(0, state="LOST")]), ["the camera ended with exit code 1"], "demo") == [
        "the camera ended with exit code 1",
        "no pose was published",
    ]
    bad = replace(
        good,
        false_tracking=2,
        false_degraded=1,
        blind_poses=3,
        repeated_poses=4,
        unknown_poses=5,
        uncompared_poses=6,
    )
    assert assess(bad, [], "demo") == [
        "2 poses published as TRACKING are off by more than 10 mm",
        "1 poses published as DEGRADED are off by more than 10 mm",
        "3 poses were published while nothing of the spine was in view",
        "4 poses were sent again under a stamp already published",
        "5 poses were published under a stamp at which the camera sent no cloud",
        "6 poses could not be compared with the truth",
    ]


def test_a_pose_without_a_truth_is_not_right() -> None:
    rows = [
        row(0.0),
        replace(row(0.1), errors_mm={}),
        replace(row(0.2), errors_mm={"L1": [float("nan")] * 3}),
    ]
    assert assess(summarise(rows), [], "demo") == ["2 poses could not be compared with the truth"]


def test_a_track_that_is_lost_for_good_is_not_good() -> None:
    def run(lost: int, visible: float = 0.6, judged: bool = True) -> list[str]:
        rows = [row(t / 10) for t in range(100)]
        silent = [
            replace(row(10 + t / 10, state="LOST", visible=visible), judged=judged) for t in range(lost)
        ]
        return assess(summarise([*rows, *silent]), [], "demo")

    text = "the track was lost for good: no pose came back although at least 50% of the spine stayed in view for {} s"
    assert run(41) == [text.format("4.0")]
    assert run(41, judged=False) == [text.format("4.0")]  # a tracker that fell silent
    assert run(30) == [] and run(41, visible=0.4) == [] and run(41, visible=0.0) == []
    assert summarise([row(0), row(1, state="LOST")]).never_reacquired == 1
    assert run(120)[1:] == ["poses for only 45 % of the judged clouds that show the spine, 50 % needed"]


def test_without_a_spine_a_good_run_has_no_pose() -> None:
    silent = [row(t / 10, state="SEARCHING", visible=0.0) for t in range(20)]
    assert assess(summarise(silent), [], "empty") == []
    assert assess(summarise([*silent, row(2.0, visible=0.0)]), ["x"], "empty") == [
        "x",
        "1 poses were published although there is no spine",
    ]
    assert verdict(summarise(silent)) == "No pose was published, and there was no spine to be seen."


def test_the_machine_is_told_without_its_kernel_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.platform, "system", lambda: "Linux")
    monkeypatch.setattr(host.platform, "release", lambda: "6.1.0-18-cloud-someone")
    assert host.system() == "Linux 6.1"
    assert host.machine() == f"{host.processor()}, {host.cores()} cores, Linux 6.1"
    about = environment()
    assert set(about) == {"system", "processor", "cpus", "versions"}
    assert about["system"] == "Linux 6.1"


def test_the_plain_view_writes_a_line_a_second() -> None:
    stream = io.StringIO()
    view = PlainView(stream, 20.0)
    record = RunRecord(rows=[row(t / 10) for t in range(31)])
    for elapsed in (0.0, 0.2, 0.9, 1.1, 1.3, 2.2):
        view.live(record, elapsed)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert (
        lines[1]
        == "  1.1 / 20 s  TRACKING   TRE  0.50 mm  10.0 Hz  age  45 ms  poses 31 of 31 clouds  tracking"
    )


def test_the_live_table_falls_silent_with_the_tracker() -> None:
    def text(rows: list[CloudRow]) -> str:
        console = Console(file=io.StringIO(), width=100, record=True)
        console.print(live_table(RunRecord(rows=rows), 3.0, 20.0))
        return console.export_text()

    rows = [row(t / 10, 0.5) for t in range(20)]
    shown = text(rows)
    assert re.search(r"L1 +0\.50 mm +0\.50 mm", shown) and "TRACKING" in shown and "45 ms" in shown
    lost = text([*rows, row(2.0, state="LOST", visible=0.0)])
    assert re.search(r"L1 +- +0\.50 mm", lost) and "LOST" in lost and re.search(r"pose age +-", lost)
    assert Now(RunRecord()).state == "SEARCHING"


def test_the_live_table_shows_the_network_beside_the_pose() -> None:
    def text(rows: list[CloudRow]) -> str:
        console = Console(file=io.StringIO(), width=100, record=True)
        console.print(live_table(RunRecord(rows=rows), 3.0, 20.0))
        return console.export_text()

    errors = {"L1": [2.25] * 3, "L2": [2.25] * 3}
    rows = [replace(row(t / 10, 0.5), network_errors_mm=errors) for t in range(20)]
    assert re.search(r"median error \(TRE\) +0\.50 mm", text(rows))
    assert re.search(r"network alone +2\.25 mm", text(rows))
    assert "network alone" not in text([row(t / 10, 0.5) for t in range(20)])


def test_the_scenarios_offered_are_those_there_are() -> None:
    assert get_args(Scenario) == tuple(SCENARIOS)


def test_the_methods_and_engines_offered_are_those_of_the_node() -> None:
    parameters = {f.name: f.metadata["ros"] for f in fields(TrackerParameters) if "ros" in f.metadata}
    assert set(get_args(Method)) <= set(parameters["method"].choices)
    assert set(get_args(EngineChoice)) == set(parameters["engine"].choices)
    # the demo's node runs as one that nobody has set anything of
    assert DemoSettings().threads == TrackerParameters().engine_threads


@pytest.mark.parametrize(
    ("method", "start", "picks"),
    [
        ("end2reg", "auto", False),
        ("end2reg", "landmarks", True),
        ("icp", "auto", True),
        ("ransac_icp", "auto", True),
        ("ransac_icp", "none", False),
    ],
)
def test_the_nodes_get_start_and_engine(method: Method, start: Start, picks: bool, tmp_path: Path) -> None:
    settings = DemoSettings(tmp_path, method=method, start=start, engine="torch", threads=1)
    camera, tracker, _ = node_specs(settings, tmp_path)
    assert camera.parameters["simulate_picks"] is picks
    assert tracker.parameters == {
        "case": str(tmp_path),
        "method": method,
        "engine": "torch",
        "engine_threads": 1,
    }
    known = {f.name for f in fields(TrackerParameters)}
    assert set(tracker.parameters) <= known
    assert set(camera.parameters) <= {f.name for f in fields(CameraParameters)}
    assert settings.start_given() == ("landmarks" if picks else "none")


def test_the_run_tells_what_the_tracker_said_of_itself(tmp_path: Path) -> None:
    case = replace(boxes_case(), path=tmp_path)
    heard = {
        "engine": "onnxruntime",
        "engine_hash": "ab12",
        "points_truncated": 3,
        "cells_truncated": 4,
        "drops": {},
    }
    settings = DemoSettings(tmp_path, method="end2reg", threads=3)
    learned = make_run(case, settings, RunRecord(status=heard))
    assert learned.tracker == TrackerFacts("end2reg", "onnxruntime", "ab12", "none", 3, 4)
    told = learned.configuration
    assert (told["method"], told["start"]) == ("end2reg", "from nothing: no start was given")
    assert (told["engine"], told["engine hash"], told["engine asked for"]) == (
        "onnxruntime",
        "ab12",
        "auto, 3 threads",
    )
    classical = make_run(case, DemoSettings(tmp_path, method="icp"), RunRecord())
    assert classical.configuration["engine"] == "none: classical method"
    assert classical.configuration["start"] == "from picked landmarks"
    assert not {"engine hash", "engine asked for"} & set(classical.configuration)


def test_seeds() -> None:
    assert parse_seeds("0-3") == [0, 1, 2, 3]
    assert parse_seeds("7, 2,4-5") == [7, 2, 4, 5]
    for text in ("", "a", "1-", "3-b", "5-2"):
        with pytest.raises(End2RegError, match="--seeds is"):
            parse_seeds(text)


def test_the_bench_table_and_its_totals() -> None:
    runs = {}
    for seed, error in ((0, 0.5), (1, 1.5), (2, 11.0)):
        rows = [row(t / 10, error) for t in range(21)]
        summary = summarise(rows)
        cost = {"tracker": Usage(80.0, 90.0, 400.0)}
        runs[seed] = DemoRun("", "", rows, summary, assess(summary, [], "demo"), cost, {"superseded": 3})
    total = overall(runs)
    assert (total["seeds"], total["good"], total["published"], total["false_tracking"]) == (3, 2, 63, 21)
    assert total["tre_median_mm"] == pytest.approx(1.5)
    assert total["registrations_per_s"] == pytest.approx(10.5)
    lines = markdown(runs, total).splitlines()
    assert lines[2] == (
        "| 0 | 0.50 [0.50, 0.50] | 0.50 | 0.50 | 100.0 % | 21 | 0 / 0 | 0 | 10.0 | 45 / 45 / 45 | 80 | 400 |"
    )
    assert lines[5].startswith(
        "| all (2 of 3 good) | 1.50 (worst 11.00) |  | 11.00 | 100.0 % | 63 | 21 / 0 | 0 | 10.0 |"
    )
    assert lines[-1] == "seed 2 is not good: 21 poses published as TRACKING are off by more than 10 mm"
    assert all(line.count("|") == lines[0].count("|") for line in lines[:6])


def test_the_nodes_table_tells_the_network_alone() -> None:
    total = {f"{side}_tre_{name}_mm": 1.0 for side in ("network", "refined") for name in ("median", "p95")}
    total |= {"network_tre_median_mm": 2.25, "first_pose_heard_s": 0.5}
    assert network_lines(total) == [
        "\nTRE of the same poses, median of the seeds: network alone 2.25 (p95 1.00) mm, refined 1.00 (p95 1.00) mm.",
        "First pose heard 0.50 s after the first cloud that shows the spine.",
    ]
    assert network_lines({**total, "network_tre_median_mm": float("nan")}) == []


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--duration", "0"], "--duration is 0 s, must lie in 1 .. 3600"),
        (["--rate", "200"], "--rate is 200 Hz, must lie in 0.5 .. 60"),
        (["--threads", "0"], "--threads is 0, must lie in 1 .. 64"),
        (
            ["--method", "icp", "--start", "none"],
            "--method icp needs a start: --start landmarks, or another method",
        ),
        (["--out", __file__], f"--out: {__file__} exists and is not a folder"),
    ],
)
def test_bad_options_are_one_line(args: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", *args]) == 1
    assert capsys.readouterr().err == f"end2reg: error: {text}\n"


def test_without_ros_the_demo_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(demo_run, "_importable", lambda name: name != "rclpy")
    assert cli.main(["demo", "--out", str(tmp_path / "report")]) == 1
    assert capsys.readouterr().err == (
        "end2reg: error: ROS 2 is not complete here: no rclpy; run `make setup` (or source your ROS 2 workspace)\n"
    )
    assert not (tmp_path / "report").exists()


def test_a_missing_case_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(demo_run, "_importable", lambda name: True)
    assert cli.main(["demo", "--case", "/no/such/case", "--out", str(tmp_path / "report")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("end2reg: error: /no/such/case") and err.count("\n") == 1
