"""Scenes that engines are held against each other on, the figures of a comparison, and what they are judged by."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from engine_setup import LARGE, PROFILE, SMALL, WEIGHTS, scenes, surface

from end2reg_ros.apps.engine import parity
from end2reg_ros.apps.engine.parity import compare, correspondences, load_reference, verify_engine
from end2reg_ros.apps.engine.parity_report import TOLERANCES, SceneComparison, VerifyReport, worst
from end2reg_ros.apps.engine.parity_scenes import VerifyScene, scene_of, verify_scenes
from end2reg_ros.cloud.pyramid import UNIT_M, Pyramid, PyramidSpec, build_pyramid
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.engine.types import (
    Arrays,
    EngineInfo,
    Floats,
    MaskChoice,
    NetworkMatches,
    NetworkOutput,
    ScenePyramids,
)
from end2reg_ros.errors import EngineError
from end2reg_ros.se3 import rotation_from_vector

FP32 = TOLERANCES["fp32"]
INFO = EngineInfo("made_up", "cpu", "realtime", "ab" * 8, 0, {"note": "long"})


# --- scenes ---------------------------------------------------------------------------------------------------------


def test_scenes_use_both_paddings_and_end_with_the_degenerate() -> None:
    made = scenes()
    assert [s.name for s in made] == [
        "spine",
        "part",
        "spine",
        "part",
        "empty",
        "60 points",
        "one cell",
        "too many",
    ]
    for scene in made[:4]:
        assert scene.padding == (LARGE if scene.cells > SMALL or scene.truncated else SMALL)
        assert 300 < scene.cells <= LARGE and scene.truncated < 0.3 * LARGE
    assert {s.padding for s in made[:4]} == {SMALL, LARGE}
    empty, few, one, many = made[4:]
    assert (empty.cells, empty.padding) == (0, SMALL)
    assert (one.cells, few.padding) == (1, SMALL) and 40 < few.cells <= 60
    assert (many.cells, many.padding) == (LARGE, LARGE) and many.truncated > LARGE


def test_a_seed_makes_the_same_scenes() -> None:
    def bytes_of(scene: VerifyScene) -> bytes:
        pyramid = scene.pyramids.registration
        return pyramid.levels[0].points.tobytes() + pyramid.attributes.tobytes()

    one, same, other = (verify_scenes(surface(), PROFILE, 2, seed) for seed in (3, 3, 4))
    assert [bytes_of(s) for s in one] == [bytes_of(s) for s in same]
    assert bytes_of(one[0]) != bytes_of(other[0]) != bytes_of(one[1])
    assert len(verify_scenes(surface(), PROFILE, 0, 3)) == 4


def test_a_scene_is_what_the_network_is_shown() -> None:
    """Unit normals, colours from 0 to 1, lengths in network units, all of it near the model."""
    for scene in scenes()[:4]:
        pyramid, used = scene.pyramids.registration, slice(0, scene.cells)
        assert np.allclose(np.linalg.norm(pyramid.attributes[used, 3:], axis=1), 1.0, atol=1e-3)
        assert pyramid.attributes[used, :3].min() >= 0.0 and pyramid.attributes[used, :3].max() <= 1.0
        assert np.abs(pyramid.levels[0].points).max() < 2.5


def test_a_profile_with_a_segmentation_of_its_own() -> None:
    own = PyramidSpec((0.06, 0.12), 2.5, (1400, 500), (24, 24))
    made = scene_of("x", np.zeros((1, 3)), np.zeros((1, 6), np.float32), replace(PROFILE, segmentation=own))
    assert made.pyramids.segmentation is not None and made.pyramids.segmentation.levels[0].count == 1
    assert scenes()[0].pyramids.segmentation is None


# --- figures --------------------------------------------------------------------------------------------------------


def output(count: int = 1000, **changes: Any) -> NetworkOutput:
    """A result with 200 correspondences, all inliers."""
    rng = np.random.default_rng(0)
    weight = np.zeros((4, 60), np.float32)
    weight[:, :50] = 0.5
    clouds = (rng.uniform(-1, 1, (4, 60, 3)).astype(np.float32) for _ in range(2))
    matches = NetworkMatches(*clouds, weight, np.zeros((4, 3, 3), np.float32), np.zeros((4, 3), np.float32))
    logits = rng.normal(size=count).astype(np.float32)
    made = NetworkOutput(
        np.eye(3), np.zeros(3), 200, 200, np.zeros(4, np.float32), (logits > 0).astype(np.float32), logits, matches
    )  # fmt: skip
    return replace(made, **changes)


POINTS = np.array([[0, 0, 1], [0, 0, -1], [0.5, 0, 0]], np.float32)


def compared(
    found: NetworkOutput, expected: NetworkOutput | None = None, guided: NetworkOutput | None = None
) -> SceneComparison:
    expected = expected or output()
    return compare(scenes()[0], expected, guided or expected, found, POINTS)


def test_equal_results() -> None:
    same = compared(output())
    assert (same.mask, same.overlap, same.distance_mm, same.angle_deg, same.logits) == (
        1.0,
        1.0,
        0.0,
        0.0,
        0.0,
    )
    assert same.same_decisions and list(same.faults(FP32)) == []
    assert (same.correspondences, same.inliers, same.inliers_found) == (200, 200, 200)
    assert (same.scene, same.padding, same.cells) == ("spine", LARGE, scenes()[0].cells)


def test_the_poses_difference() -> None:
    moved = compared(output(translation=np.array([0.0, 0.001, 0.0])))
    assert moved.distance_mm == pytest.approx(0.095) and moved.angle_deg == pytest.approx(0.0, abs=1e-6)
    turned = compared(output(rotation=rotation_from_vector(np.array([np.radians(0.2), 0.0, 0.0]))))
    assert turned.angle_deg == pytest.approx(0.2, rel=1e-6)
    assert turned.distance_mm == pytest.approx(
        1e3 * UNIT_M * np.radians(0.2), rel=1e-3
    )  # at one unit from the axis
    assert pytest.approx(95.0) == 1e3 * UNIT_M


def test_no_pose_is_none_compared() -> None:
    few = compared(output(translation=np.ones(3)), output(inliers=99))
    assert (few.distance_mm, few.angle_deg) == (None, None)
    # An engine that finds one has found other inliers.
    assert not few.same_decisions


def test_labels_and_logits() -> None:
    logits = output().logits.copy()
    logits[:3] *= -1.0
    found = compared(output(mask=(logits > 0).astype(np.float32), logits=logits))
    assert found.mask == pytest.approx(0.997)
    assert found.logits == pytest.approx(2 * np.abs(logits[:3]).max())
    assert not found.same_decisions


def test_labels_are_judged_by_themselves() -> None:
    """All else is held against the reference with the engine's labels; the pose of its own labels is told."""
    labels = output().mask.copy()
    labels[0] = 1.0 - labels[0]
    moved = np.array([0.0, 0.01, 0.0])
    other = output(mask=labels, translation=moved, inliers=190)
    found = compared(other, guided=other)
    assert found.mask == pytest.approx(0.999) and found.overlap == 1.0
    assert (found.distance_mm, found.inliers, found.inliers_found) == (0.0, 190, 190)
    assert found.own_distance_mm == pytest.approx(0.95)
    assert found.same_matches and not found.same_decisions and list(found.faults(FP32)) == []


def test_the_overlap_of_correspondences() -> None:
    matches = output().matches
    assert matches is not None and len(correspondences(matches)) == 200
    weight = matches.weight.copy()
    weight[0, :50] = 0.0
    assert compared(output(matches=replace(matches, weight=weight))).overlap == pytest.approx(150 / 200)
    scene = matches.scene.copy()
    scene[:, :5] += np.float32(0.01)  # other partners for 20 of 200
    assert compared(output(matches=replace(matches, scene=scene))).overlap == pytest.approx(180 / 220)
    order = matches.model[::-1], matches.scene[::-1], matches.weight[::-1]
    turned = replace(matches, model=order[0], scene=order[1], weight=order[2])
    assert compared(output(matches=turned)).overlap == 1.0
    assert compared(output(matches=None)).overlap == 0.0


def test_two_empty_results_are_equal() -> None:
    matches = output().matches
    assert matches is not None
    nothing = output(0, inliers=0, matches=replace(matches, weight=np.zeros_like(matches.weight)))
    both = compared(nothing, nothing)
    assert (both.mask, both.overlap, both.logits, both.correspondences) == (1.0, 1.0, 0.0, 0)
    assert both.same_decisions


# --- verdicts -------------------------------------------------------------------------------------------------------

GOOD = SceneComparison("spine", 3072, 2900, 0, 1.0, 1.0, 0.001, 0.001, 1e-5, 1500, 700, 700, 0.001)


def report(
    *comparisons: SceneComparison, region: float | None = 1e-6, info: EngineInfo = INFO
) -> VerifyReport:
    return VerifyReport(info, replace(INFO, name="torch"), TOLERANCES[info.precision], comparisons, region)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"mask": 0.998}, "99.80 % of the mask's labels are equal, at least 99.9 % needed"),
        ({"overlap": 0.98}, "correspondences overlap by 0.980, at least 0.99 needed"),
        ({"distance_mm": 0.06}, "pose 0.060 mm off, at most 0.05 mm allowed"),
        ({"angle_deg": 0.07}, "pose 0.070 deg off, at most 0.05 deg allowed"),
        ({"logits": 0.002}, "logits differ by 0.002, at most 0.001 allowed"),
        ({"logits": float("nan")}, "logits differ by nan, at most 0.001 allowed"),
        ({"distance_mm": float("nan")}, "pose nan mm off, at most 0.05 mm allowed"),
        ({"distance_mm": 0.6, "inliers_found": 699}, "pose 0.600 mm off, at most 0.5 mm allowed"),
        ({"angle_deg": 0.6, "overlap": 0.995}, "pose 0.600 deg off, at most 0.5 deg allowed"),
    ],
)
def test_a_figure_outside_its_tolerance(changes: dict[str, Any], text: str) -> None:
    found = report(GOOD, GOOD, GOOD, GOOD, replace(GOOD, **changes))
    assert found.faults == [f"scene 5 (spine, padding 3072): {text}"]
    assert found.fault == f"engine 'made_up' (cpu, fp32) is not the torch reference: {found.faults[0]}"


def test_several_figures_outside() -> None:
    found = report(GOOD, replace(GOOD, mask=0.5, overlap=0.1), region=0.5)
    assert found.fault.endswith("99.9 % needed (and 3 more)") and "\n" not in found.fault
    assert found.faults[-1] == "region finder: maps differ by 0.5, at most 0.001 allowed"
    assert report(GOOD, region=None).faults == [] and report(GOOD, region=float("nan")).faults != []


def test_decisions_on_the_edge() -> None:
    """One inlier more or less may move a pose further than all rounding; only a share of the scenes may be so."""
    edge = replace(GOOD, distance_mm=0.2, angle_deg=0.1, inliers_found=702)
    assert report(*[GOOD] * 4, edge).faults == []
    assert report(*[GOOD] * 4, replace(edge, inliers_found=700)).faults != []
    assert report(*[GOOD] * 3, edge, edge).faults == [
        "labels, correspondences or inliers are not the same in 2 of 5 scenes, at most 20 % allowed"
    ]


def test_half_precision_is_judged_by_its_own() -> None:
    coarse = replace(GOOD, mask=0.985, overlap=0.92, distance_mm=0.8, logits=0.02, inliers_found=690)
    half = replace(INFO, precision="fp16 backbone")
    assert report(coarse, coarse, info=half).faults == [] and len(report(coarse, info=INFO).faults) == 5
    for name, value in vars(TOLERANCES["fp16 backbone"]).items():
        looser = value <= getattr(FP32, name) if name in ("mask", "overlap") else value >= getattr(FP32, name)
        assert looser, name


def test_the_worst_of_all_scenes() -> None:
    found = worst(
        [GOOD, replace(GOOD, mask=0.9, distance_mm=None, angle_deg=0.2), replace(GOOD, overlap=0.5)]
    )
    assert found == {"mask": 0.9, "overlap": 0.5, "distance_mm": 0.001, "angle_deg": 0.2, "logits": 1e-5,
                     "own_distance_mm": 0.001}  # fmt: skip
    assert np.isnan(worst([replace(GOOD, logits=float("nan")), GOOD])["logits"] or 0.0)
    assert worst([replace(GOOD, distance_mm=None)])["distance_mm"] is None and worst([])["mask"] is None


def test_the_document() -> None:
    document = json.loads(json.dumps(report(GOOD, replace(GOOD, mask=0.5)).document()))
    assert document["passed"] is False and len(document["faults"]) == 2
    assert document["engine"]["name"] == "made_up" and "record" not in document["engine"]
    assert document["worst"]["mask"] == 0.5 and len(document["scenes"]) == 2
    assert document["scenes"][0]["same_decisions"] and not document["scenes"][1]["same_decisions"]
    assert document["tolerances"]["distance_mm"] == 0.05


# --- running --------------------------------------------------------------------------------------------------------


@dataclass
class MadeUp:
    """An engine that says what it is told to say."""

    change: Callable[[NetworkOutput], NetworkOutput] = lambda found: found
    info: EngineInfo = INFO
    region: float | None = 0.0
    profile = PROFILE
    models: int = 0

    def encode_model(self, model: Pyramid) -> Arrays:
        return {}

    def set_model(self, model: Pyramid | Arrays) -> None:
        self.models += 1

    def warm_up(self) -> None:
        pass

    def run(self, scene: ScenePyramids, mask: MaskChoice | None = None) -> NetworkOutput:
        assert self.models == 1
        return self.change(output(scene.registration.levels[0].count))

    def region_map(self, grid: Floats) -> Floats:
        if self.region is None:
            raise EngineError("these weights hold no region finder: a start is needed")
        return grid + np.float32(self.region)

    def close(self) -> None:
        pass


def model() -> Pyramid:
    return build_pyramid(np.random.default_rng(0).uniform(-0.5, 0.5, (300, 3)), None, PROFILE.model)


def test_all_scenes_are_run() -> None:
    found = verify_engine(MadeUp(), MadeUp(), model(), scenes())
    assert found.faults == [] and found.region == 0.0
    assert [c.scene for c in found.comparisons] == [s.name for s in scenes()]
    assert found.tolerances == FP32


def test_an_engine_that_is_off() -> None:
    off = MadeUp(lambda found: replace(found, translation=found.translation + 0.01))
    found = verify_engine(off, MadeUp(), model(), scenes()[:1])
    assert found.fault.startswith(
        f"engine 'made_up' (cpu, fp32) is not the torch reference: scene 1 (spine, padding {LARGE}): pose 1.645 mm off"
    )
    assert verify_engine(MadeUp(region=0.1), MadeUp(), model(), []).fault.endswith(
        "region finder: maps differ by 0.1, at most 0.001 allowed"
    )
    assert verify_engine(MadeUp(region=None), MadeUp(region=None), model(), []).region is None


def test_where_labels_differ_the_reference_takes_the_engines() -> None:
    asked: list[MaskChoice | None] = []

    @dataclass
    class Reference(MadeUp):
        """Its pose follows from the first label."""

        def run(self, scene: ScenePyramids, mask: MaskChoice | None = None) -> NetworkOutput:
            asked.append(mask)
            found = super().run(scene)
            labels = found.mask if mask is None or mask.labels is None else mask.labels
            return replace(found, mask=labels, translation=np.array([0.0, 0.0, labels[0]]))

    def flipped(found: NetworkOutput) -> NetworkOutput:
        labels = found.mask.copy()
        labels[0] = 1.0 - labels[0]
        return replace(found, mask=labels, translation=np.array([0.0, 0.0, labels[0]]))

    scene = scenes()[:1]
    same = verify_engine(
        MadeUp(lambda f: replace(f, translation=np.array([0, 0, f.mask[0]]))), Reference(), model(), scene
    )
    assert asked == [None] and same.comparisons[0].own_distance_mm == 0.0
    other = verify_engine(MadeUp(flipped), Reference(), model(), scene)
    assert other.faults == [
        "labels, correspondences or inliers are not the same in 1 of 1 scenes, at most 20 % allowed"
    ]
    assert asked[1] is None and asked[2] is not None and asked[2].mode == "given"
    figures = other.comparisons[0]
    assert (
        figures.distance_mm == 0.0 and figures.own_distance_mm == pytest.approx(95.0) and figures.mask < 1.0
    )


def test_engines_of_different_weights() -> None:
    other = MadeUp(info=replace(INFO, weights_hash="cd" * 8, name="torch"))
    with pytest.raises(EngineError) as caught:
        verify_engine(MadeUp(), other, model(), scenes())
    assert str(caught.value) == (
        "engine 'made_up' holds weights abababababababab (realtime), the reference cdcdcdcdcdcdcdcd (realtime): "
        "give the weights file that it was exported from"
    )


def test_a_precision_without_tolerances() -> None:
    with pytest.raises(EngineError) as caught:
        verify_engine(MadeUp(info=replace(INFO, precision="int8")), MadeUp(), model(), scenes())
    assert str(caught.value) == "there are no tolerances for precision 'int8'"


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "find_spec", lambda name: None)
    with pytest.raises(EngineError) as caught:
        load_reference(EngineOptions(weights=WEIGHTS))
    assert str(caught.value) == (
        "engines are held against torch, which is not installed: `make setup-train` installs it"
    )


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("graph", "tensor"),
    [("scene", "network.segmentation.logits.bias"), ("model", "network.encoder"), ("region", "region.")],
)
def test_a_number_that_was_changed_is_found(graph: str, tensor: str) -> None:
    """One tensor of one graph a little off: this is what a graph that is no longer the code's looks like."""
    pytest.importorskip("torch", reason="torch: torch is absent: run 'make setup-train'")
    onnx = pytest.importorskip("onnx", reason="onnx is absent: run 'make setup'")
    pytest.importorskip("onnxruntime", reason="onnxruntime is absent: run 'make setup'")
    from engine_setup import engine, with_graph
    from engine_setup import model as spine
    from onnx import numpy_helper

    from end2reg_ros.engine.onnx_engine import OnnxEngine
    from end2reg_ros.engine.onnx_files import OnnxGraph

    def altered(given: OnnxGraph) -> OnnxGraph:
        proto = onnx.load_model_from_string(given.data)
        index, old = next((i, t) for i, t in enumerate(proto.graph.initializer) if t.name.startswith(tensor))
        values = 1.05 * numpy_helper.to_array(old) + np.float32(0.01)
        proto.graph.initializer[index].CopyFrom(numpy_helper.from_array(values.astype(np.float32), old.name))
        return OnnxGraph(proto.SerializeToString(), given.metadata)

    reference = engine("torch")
    scene = [s for s in scenes() if s.name == "spine"][:1]
    assert scene[0].padding == LARGE
    found = verify_engine(OnnxEngine(with_graph(graph, altered), threads=1), reference, spine(), scene)
    assert found.fault.startswith("engine 'onnxruntime' (cpu, fp32) is not the torch reference: ")
