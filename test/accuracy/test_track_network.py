"""``end2reg track``: what an offline run tells of the network, without one: records are made by hand."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from end2reg_ros import se3
from end2reg_ros.apps.track.files import network_distances_mm, write_track
from end2reg_ros.apps.track.run import FrameRecord
from end2reg_ros.cli.track import TrackRecording
from end2reg_ros.registration.types import LevelResult, NetworkEstimate, Quality, Registration
from end2reg_ros.tracking.types import State, TrackingUpdate

T_REFINED = se3.from_rotation_translation(
    se3.rotation_from_vector(np.array([0.3, -0.2, 2.0])), np.array([0.01, 0.02, 0.5])
)
# Origins of three vertebrae in the model frame, metres.
ORIGINS = np.array([[0.0, 0.0, 0.06], [0.0, 0.005, 0.0], [0.0, 0.0, -0.07]])


def registration(T_network: np.ndarray | None, truncated: int = 0, seen: int = 0) -> Registration:
    levels = []
    for k, origin in enumerate(ORIGINS):
        T_model_level = se3.from_rotation_translation(np.eye(3), origin)
        levels.append(LevelResult(f"L{k + 1}", T_REFINED @ T_model_level, np.eye(6) * 1e-6, Quality(), False))
    network = None if T_network is None else NetworkEstimate(T_network, 400, truncated, seen)
    return Registration(
        T_REFINED, True, "ok", "", Quality(), np.eye(6) * 1e-6, "end2reg", "onnxruntime",
        {"network": 20.0}, tuple(levels), None, network,
    )  # fmt: skip


def stamp(k: int) -> int:
    return 10**18 + k * 10**8


def record(k: int, found: Registration, published: bool = True) -> FrameRecord:
    state = State.TRACKING if published else State.SEARCHING
    update = TrackingUpdate(
        stamp(k), "optical", state, False, "ok", "tracking", found, published, {"network": 20.0}
    )
    return FrameRecord(update.stamp_ns, update, None, 1000)


def test_the_distance_is_that_of_the_worst_vertebra() -> None:
    turn = se3.from_rotation_translation(
        se3.rotation_from_vector(np.array([0.05, 0.0, 0.0])), np.array([0.001, 0, 0])
    )
    T = T_REFINED @ turn
    slow = max(np.linalg.norm((T @ [*p, 1.0])[:3] - (T_REFINED @ [*p, 1.0])[:3]) for p in ORIGINS)
    assert network_distances_mm([record(0, registration(T))]) == {stamp(0): pytest.approx(1000 * slow)}
    same = network_distances_mm([record(0, registration(T_REFINED))])
    assert same == {stamp(0): pytest.approx(0.0, abs=1e-9)}
    assert network_distances_mm([record(0, registration(None))]) == {}
    assert network_distances_mm([record(0, replace(registration(T), levels=()))]) == {}


def test_a_network_in_the_background_is_held_against_the_cloud_that_it_saw() -> None:
    later = replace(registration(moved(2.0), seen=stamp(0)), T_camera_model=moved(25.0))
    records = [record(0, registration(None)), record(1, later)]
    assert network_distances_mm(records) == {stamp(0): pytest.approx(2.0)}
    # of a cloud without a published pose, or one that is not in the recording, nothing is told
    assert network_distances_mm([record(0, registration(None), published=False), record(1, later)]) == {}
    assert network_distances_mm([record(1, later)]) == {}


def moved(x_mm: float) -> np.ndarray:
    T = T_REFINED.copy()
    T[0, 3] += x_mm / 1000
    return T


def test_the_summary_tells_the_networks_distance_of_published_poses_only(tmp_path: Path) -> None:
    records = [record(k, registration(moved(1.0 + k), truncated=k)) for k in range(5)]
    records += [record(5, registration(moved(40.0)), published=False), record(6, registration(None))]
    summary = write_track(tmp_path, records, about={"method": "end2reg", "engine": "onnxruntime 1"})
    assert summary["network_distance_mm"] == {"p50": 3.0, "p95": 4.8, "p99": 4.96}
    assert summary["cells_truncated"] == 10
    assert list(summary)[:2] == ["method", "engine"]
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    with (tmp_path / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["network_distance_mm"] for row in rows] == [
        "1.000",
        "2.000",
        "3.000",
        "4.000",
        "5.000",
        "",
        "",
    ]


def test_a_classical_run_tells_nothing_of_a_network(tmp_path: Path) -> None:
    dropped = FrameRecord(10**18 + 10**9, None, "frozen", 0)
    summary = write_track(tmp_path, [record(0, registration(None)), dropped])
    assert "network_distance_mm" not in summary and summary["cells_truncated"] == 0
    lines = (tmp_path / "frames.csv").read_text().splitlines()
    assert {line.count(",") for line in lines} == {lines[0].count(",")}


def test_the_learned_method_is_the_default() -> None:
    assert (TrackRecording.method, TrackRecording.engine, TrackRecording.weights) == ("end2reg", "auto", None)
