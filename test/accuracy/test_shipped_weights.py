"""The weights in the repository, from a whole view to a pose, on twenty fixed scenes of a spine they never saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: make setup-train")

from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.engine.load import load_engine
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.engine.torch_weights import load_weights
from end2reg_ros.registration import create_registrar
from end2reg_ros.registration.end2reg import End2RegRegistrar
from end2reg_ros.registration.types import Stopwatch
from end2reg_ros.registration.weights_path import packaged_weights
from end2reg_ros.se3 import apply
from end2reg_ros.simulation.random_scenes import SceneSettings, scene_of_frame, simulate_scene

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(400)]

SEEDS = range(900_000, 900_020)  # below the training's (1 000 000 and up), beside the benchmarks'


@dataclass(frozen=True)
class Outcome:
    alone_mm: float
    refined_mm: float
    success: bool
    mask_precision_lift: float


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    case = load_case(bundled_case_path())
    registrar = End2RegRegistrar(case, load_engine(EngineOptions(weights=packaged_weights())))
    landmarks = case.landmark_array()
    result = []
    for seed in SEEDS:
        simulated = simulate_scene(case, SceneSettings("standard", seed))
        scene = scene_of_frame(f"s{seed}", simulated.frame, simulated.tags, None)
        assert scene.bone is not None
        truth = apply(scene.T_camera_model, landmarks)

        def tre_mm(T: np.ndarray, truth: np.ndarray = truth) -> float:
            return 1e3 * float(np.linalg.norm(apply(T, landmarks) - truth, axis=1).mean())

        poses = registrar.network.find(scene.cloud, None, Stopwatch())
        found = registrar.register(scene.cloud, None)
        bone = np.asarray(scene.bone) > 0
        relevant = poses[0].relevant()
        lift = bone[relevant].mean() / bone[poses[0].shown.scene.index].mean()
        result.append(
            Outcome(tre_mm(poses[0].T_camera_model), tre_mm(found.T_camera_model), found.success, float(lift))
        )
    return result


def test_twenty_scenes_from_nothing(outcomes: list[Outcome]) -> None:
    """Any roll, the whole view, no start: the network alone, and refined."""
    alone, refined = np.array([o.alone_mm for o in outcomes]), np.array([o.refined_mm for o in outcomes])
    assert np.median(alone) < 1.8 and np.mean(alone > 10.0) <= 0.05
    assert np.median(refined) < 0.6
    assert sum(o.success for o in outcomes) >= 17
    assert not any(o.success and o.refined_mm > 3.0 for o in outcomes)


def test_the_mask_prefers_bone(outcomes: list[Outcome]) -> None:
    """Never told what bone is: among label 1 there is at least half as much again as among all points it saw."""
    assert np.median([o.mask_precision_lift for o in outcomes]) > 1.5


def test_the_weights_tell_what_they_are() -> None:
    weights = load_weights(packaged_weights())
    assert weights.profile == "realtime" and weights.region
    assert weights.record["iteration"] == 7000 and weights.record["ended"] is True
    assert packaged_weights().stat().st_size <= 25_000_000


def test_a_view_without_spine_gives_no_pose() -> None:
    case = load_case(bundled_case_path())
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-0.3, 0.3, (2, 60_000))
    z = 0.5 + 0.01 * np.sin(20 * x) + rng.normal(0, 4e-4, len(x))
    points = np.stack([x, y, z], axis=1).astype(np.float32)
    colours = np.full((len(x), 3), (40, 90, 120), np.uint8)
    found = create_registrar("end2reg", case).register(Cloud(points, colours, "camera", 1), None)
    assert not found.success and found.reason_code in ("no_region", "few_correspondences", "few_inliers")
