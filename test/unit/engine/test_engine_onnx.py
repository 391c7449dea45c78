"""The shipped graphs on ONNX Runtime: they are the torch network, and what does not fit is refused in one line."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime is absent: run 'make setup'")
pytest.importorskip("onnx", reason="onnx is absent: run 'make setup'")

from engine_setup import (
    LARGE,
    PROFILE,
    SMALL,
    WEIGHTS,
    assert_same,
    bundle,
    engine,
    model,
    refusal,
    saying,
    scenes,
    surface,
    with_graph,
)

from end2reg_ros.apps.engine.parity import compare, verify_engine
from end2reg_ros.apps.engine.parity_report import TOLERANCES
from end2reg_ros.apps.engine.parity_scenes import VerifyScene
from end2reg_ros.cache import arrays_from_bytes, arrays_to_bytes, seal
from end2reg_ros.cloud.pyramid import Pyramid, PyramidSpec, build_pyramid
from end2reg_ros.engine import load
from end2reg_ros.engine.bundle_store import load_bundle
from end2reg_ros.engine.graph_io import GRAPHS, template_path
from end2reg_ros.engine.load import choose_engine, load_engine
from end2reg_ros.engine.onnx_engine import OnnxEngine
from end2reg_ros.engine.onnx_files import OnnxGraph, check_metadata, make_bundle, sizes, write_bundle
from end2reg_ros.engine.onnx_session import make_session, providers
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.engine.types import Engine, MaskChoice, ScenePyramids
from end2reg_ros.engine.weights_file import read_weights
from end2reg_ros.errors import WeightsError

pytestmark = pytest.mark.timeout(400)

FASTEST = "ONNX Runtime is the fastest on the CPU"
TORCH = importlib.util.find_spec("torch") is not None
ENGINES = ["onnxruntime", pytest.param("torch", marks=pytest.mark.torch)]


def needs_torch(name: str) -> None:
    if name == "torch" and not TORCH:
        pytest.skip("torch: torch is absent: run 'make setup-train'")


# --- parity ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.torch
def test_onnx_runtime_is_torch() -> None:
    """All graphs against the network's own code, on scenes of both paddings and on degenerate ones.

    This is also what keeps the shipped graphs in step with the code: they were written from an earlier state of it, so a
    change of a number or an operation in ``network/`` shows here as a difference, until ``python -m
    end2reg_ros.engine.torch_export`` has been run again. (A change that gives the same results needs no new export.)
    """
    needs_torch("torch")
    report = verify_engine(engine("onnxruntime"), engine("torch"), model(), scenes())
    assert report.faults == []
    posed = [c for c in report.comparisons if c.distance_mm is not None]
    assert {c.padding for c in posed} == {SMALL, LARGE} and len(posed) >= 3
    assert min(c.correspondences for c in posed) > 300
    assert report.region is not None


@pytest.mark.parametrize("name", GRAPHS)
def test_every_shape_is_fixed(name: str) -> None:
    """What a GPU runs as it is: no size that depends on the data, no float64, operators of ONNX itself."""
    import onnx

    model = onnx.load_model(template_path("realtime", name))
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = {v.name: v.type.tensor_type for v in (*graph.input, *graph.output, *graph.value_info)}
    assert {output for node in graph.node for output in node.output if output} <= set(values)
    for value, tensor in values.items():
        assert tensor.HasField("shape") and all(d.dim_value > 0 for d in tensor.shape.dim), value
        assert tensor.elem_type != onnx.TensorProto.DOUBLE, value
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"} and not model.functions


@pytest.mark.parametrize("name", ENGINES)
def test_padding_changes_nothing(name: str) -> None:
    """The same cloud in the small and in the large padding: of the same network, and of torch as well."""
    needs_torch(name)
    small = next(s for s in scenes() if s.padding == SMALL and s.cells > 500)
    first = small.pyramids.registration.levels[0]
    attributes = small.pyramids.registration.attributes[: first.count]
    # Each cell is one point here: its mean is itself, its cell the same.
    pair = [
        VerifyScene("part", ScenePyramids(build_pyramid(first.points[: first.count], attributes, spec)))
        for spec in PROFILE.scene_specs
    ]
    assert [s.padding for s in pair] == [SMALL, LARGE] and pair[0].cells == pair[1].cells == small.cells
    made = engine(name)
    one, other = (made.run(s.pyramids) for s in pair)
    assert np.array_equal(one.mask, other.mask)
    found = compare(pair[1], one, one, other, model().levels[0].points)
    assert list(found.faults(TOLERANCES["fp32"])) == []
    assert found.distance_mm is not None and found.correspondences > 300


@pytest.mark.parametrize("name", ENGINES)
def test_a_kept_model_side_is_the_fresh_one(name: str) -> None:
    needs_torch(name)
    made = engine(name)
    fresh = [made.run(s.pyramids) for s in scenes()[:2]]
    kept = arrays_from_bytes(arrays_to_bytes(made.encode_model(model())))
    try:
        made.set_model(kept)
        again = [made.run(s.pyramids) for s in scenes()[:2]]
        # Another model gives another result: the model side is looked at.
        made.set_model({**kept, "model.fine_points": kept["model.fine_points"] * np.float32(0.9)})
        other = made.run(scenes()[0].pyramids)
    finally:
        made.set_model(model())
    for one, two in zip(fresh, again, strict=True):
        assert_same(one, two)
    assert not np.allclose(other.translation, fresh[0].translation, atol=1e-3)


def test_a_run_holds_no_state() -> None:
    made = engine("onnxruntime")
    first = made.run(scenes()[0].pyramids)
    for scene in scenes()[1:]:
        made.run(scene.pyramids)
    assert_same(made.run(scenes()[0].pyramids), first)


# --- sizes ----------------------------------------------------------------------------------------------------------


def test_more_points_than_the_padding() -> None:
    """They are cut off and counted, and the engine answers for the rest."""
    many = next(s for s in scenes() if s.name == "too many")
    cut = many.pyramids.registration.truncation
    assert many.padding == LARGE and many.cells == LARGE
    assert cut.points[0] > LARGE and cut.dropped_points == sum(cut.points) == many.truncated
    found = engine("onnxruntime").run(many.pyramids)
    assert found.mask.shape == found.logits.shape == (LARGE,)
    for value in (found.rotation, found.translation, found.support, found.logits):
        assert np.isfinite(value).all()
    assert np.allclose(found.rotation @ found.rotation.T, np.eye(3), atol=1e-4)


def test_an_empty_scene() -> None:
    found = engine("onnxruntime").run(next(s for s in scenes() if s.name == "empty").pyramids)
    assert (found.inliers, found.total, len(found.mask)) == (0, 0, 0)
    assert np.isfinite(found.rotation).all() and np.isfinite(found.translation).all()


def tables(spec: PyramidSpec) -> Pyramid:
    return build_pyramid(np.zeros((0, 3)), None, spec)


def test_tables_of_a_foreign_size() -> None:
    foreign = replace(PROFILE.scene, capacities=(3000, 896, 240))
    said = refusal(lambda: engine("onnxruntime").run(ScenePyramids(tables(foreign))))
    assert said == f"tables are padded to 3000 points, the network's graphs to {SMALL}, {LARGE}"


def test_the_paddings_have_graphs() -> None:
    assert [spec.capacities[0] for spec in PROFILE.scene_specs] == [SMALL, LARGE]
    for padding in PROFILE.scene_specs:
        assert len(engine("onnxruntime").run(ScenePyramids(tables(padding))).mask) == 0


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.onnx and its companions."""
    out = tmp_path_factory.mktemp("export") / "model.onnx"
    write_bundle(bundle(), out)
    return out


def loaded(weights: Path, **options: object) -> Engine:
    return load_engine(EngineOptions("onnxruntime", weights, threads=1, **options))  # type: ignore[arg-type]


def test_an_exported_file_is_the_weights_file(exported: Path) -> None:
    made = loaded(exported)
    made.set_model(model())
    mine, theirs = made.info, engine("onnxruntime").info
    assert mine == theirs and mine.engine_hash == bundle().hash
    assert (mine.name, mine.precision, mine.threads, mine.profile) == ("onnxruntime", "fp32", 1, "realtime")
    assert mine.weights_hash == read_weights(WEIGHTS).hash and mine.parameters > 1_000_000
    assert_same(made.run(scenes()[1].pyramids), engine("onnxruntime").run(scenes()[1].pyramids))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 0.99])
def test_a_file_cut_short(exported: Path, tmp_path: Path, share: float) -> None:
    content = exported.read_bytes()
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(content[: int(share * len(content))])
    said = refusal(lambda: loaded(cut))
    if share == 0.0:  # no bytes are an ONNX file that says nothing
        assert said == "the scene graph is no network of this program (format None)"
    else:
        assert said == f"{cut} is no ONNX file, or cut short"


def test_a_graph_cut_short() -> None:
    halved = with_graph("scene", lambda graph: OnnxGraph(graph.data[: len(graph.data) // 2], graph.metadata))
    said = refusal(lambda: OnnxEngine(halved))
    assert (
        said.startswith("the scene graph cannot be loaded, the file may be cut short: ") and len(said) < 250
    )


def test_files_that_are_missing(exported: Path, tmp_path: Path) -> None:
    absent = tmp_path / "none.onnx"
    assert refusal(lambda: loaded(absent)) == f"no network file {absent}"
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(exported.read_bytes())
    made = loaded(alone)
    assert refusal(lambda: made.set_model(model())) == "the network's model graph is missing: export it again"
    assert refusal(lambda: made.region_map(np.zeros((1, 1, 1), np.float32))) == (
        "these weights hold no region finder: a start is needed"
    )
    made.set_model(engine("onnxruntime").encode_model(model()))
    assert refusal(lambda: made.run(ScenePyramids(tables(PROFILE.scene_specs[0])))) == (
        f"tables are padded to {SMALL} points, the network's graphs to {LARGE}"
    )
    assert len(made.run(ScenePyramids(tables(PROFILE.scene))).mask) == 0


def test_weights_that_are_none(tmp_path: Path) -> None:
    assert refusal(lambda: load_engine(EngineOptions("onnxruntime"))) == "no weights were given"
    absent = tmp_path / "none.safetensors"
    assert refusal(lambda: loaded(absent), WeightsError) == f"no weights file {absent}"
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(WEIGHTS.read_bytes()[:100_000])
    said = refusal(lambda: loaded(cut), WeightsError)
    assert said.startswith(f"weights {cut} cannot be read, the file may be cut short: ")


def test_another_profile(exported: Path) -> None:
    expected = "weights are of profile 'realtime', profile 'paper' was asked for"
    for path in (WEIGHTS, exported):
        assert refusal(lambda path=path: loaded(path, profile="paper"), WeightsError) == expected  # type: ignore[misc]
    raw = replace(read_weights(WEIGHTS), profile_hash="0" * 16)
    said = refusal(lambda: make_bundle(raw), WeightsError)
    assert said.startswith(
        "weights were trained with other numbers of profile 'realtime' (0000000000000000, now "
    )


@pytest.mark.parametrize("graph", ["scene_small", "region"])
def test_companions_of_other_weights(graph: str) -> None:
    mixed = with_graph(graph, saying(weights_hash="ab" * 8))
    mine = read_weights(WEIGHTS).hash
    expected = (
        f"the {graph} graph holds weights abababababababab, the scene graph {mine}: export them together"
    )
    assert refusal(lambda: OnnxEngine(mixed)) == expected


def test_a_model_graph_of_other_weights() -> None:
    made = OnnxEngine(with_graph("model", saying(weights_hash="ab" * 8)), threads=1)
    said = refusal(lambda: made.set_model(model()))
    assert said.startswith("the model graph holds weights abababababababab, the scene graph ")


def test_what_a_file_says_of_itself() -> None:
    told = bundle().graphs["scene"].metadata
    check_metadata(told, "scene", "realtime")
    assert refusal(lambda: check_metadata({**told, "format": "x"}, "scene", what="a.onnx")) == (
        "a.onnx is no network of this program (format 'x')"
    )
    assert refusal(lambda: check_metadata(told, "model", what="a.onnx")) == (
        "a.onnx holds the scene graph, not the model graph"
    )
    old = '{"model": [3840, 1024, 256], "scene": [2560, 768, 240]}'
    said = refusal(lambda: check_metadata({**told, "sizes": old}, "scene", what="a.onnx"))
    assert said.startswith(f"a.onnx was made for paddings {old}, not {{") and said.endswith(
        ": export it again"
    )
    assert sizes(PROFILE, "scene")["scene"] == list(PROFILE.scene.capacities)


# --- what is installed ----------------------------------------------------------------------------------------------


def present(monkeypatch: pytest.MonkeyPatch, *packages: str, gpu: bool = False) -> None:
    """Have only these packages, and a GPU or none."""
    monkeypatch.setattr(load, "find_spec", lambda name: name if name in packages else None)
    monkeypatch.setattr(load, "missing_packages", lambda: [] if "tensorrt" in packages else ["tensorrt"])
    monkeypatch.setattr(load, "has_nvidia_gpu", lambda: gpu)


def test_without_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    present(monkeypatch, "torch")
    assert refusal(lambda: loaded(WEIGHTS)) == (
        "engine 'onnxruntime' needs a package that is missing: pip install onnxruntime"
    )


def test_onnx_runtime_sends_and_keeps_nothing_about_the_host(tmp_path: Path) -> None:
    """A process of its own: the switch is read when ONNX Runtime is first imported."""
    code = "import end2reg_ros.engine.onnx_session; import onnxruntime"
    home = tmp_path / "home"
    home.mkdir()
    unset = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    subprocess.run([sys.executable, "-c", code], env=environment | {"HOME": str(home)}, check=True)
    assert list(home.rglob("*")) == []


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(lambda: loaded(WEIGHTS, device="abacus")) == (
        "ONNX Runtime knows no device 'abacus': choose one of cpu, cuda, tensorrt"
    )
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    for device, provider in (("cuda", "CUDA"), ("tensorrt", "Tensorrt")):
        assert refusal(lambda device=device: loaded(WEIGHTS, device=device)) == (  # type: ignore[misc]
            f"this build of ONNX Runtime has no {provider}ExecutionProvider: "
            "pip install onnxruntime-gpu (in place of onnxruntime)"
        )
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert providers("cuda", both) == both and providers("cpu", both) == both[1:]


@pytest.mark.parametrize(
    ("packages", "gpu", "device", "expected", "why"),
    [
        ("onnxruntime torch", False, "", "onnxruntime", f"no NVIDIA GPU is there: {FASTEST}"),
        ("onnxruntime torch", False, "cpu", "onnxruntime", f"the CPU was asked for: {FASTEST}"),
        ("onnxruntime torch tensorrt", True, "", "tensorrt", "an NVIDIA GPU and TensorRT are there"),
        ("onnxruntime torch tensorrt", True, "cuda", "tensorrt", "an NVIDIA GPU and TensorRT are there"),
        ("onnxruntime torch tensorrt", True, "cpu", "onnxruntime", f"the CPU was asked for: {FASTEST}"),
        ("onnxruntime torch tensorrt", False, "", "onnxruntime", f"no NVIDIA GPU is there: {FASTEST}"),
        ("onnxruntime torch", True, "", "torch", "an NVIDIA GPU is there, TensorRT is not: torch runs it"),
        ("onnxruntime", True, "", "onnxruntime", f"neither TensorRT nor torch is there for the NVIDIA GPU: {FASTEST}"),
        ("torch", False, "", "torch", "ONNX Runtime is not installed: torch runs the network on the CPU"),
        ("torch", True, "cpu", "torch", "ONNX Runtime is not installed: torch runs the network on the CPU"),
    ],
)  # fmt: skip
def test_the_choice(
    monkeypatch: pytest.MonkeyPatch, packages: str, gpu: bool, device: str, expected: str, why: str
) -> None:
    present(monkeypatch, *packages.split(), gpu=gpu)
    assert choose_engine(device) == (expected, why)


def test_nothing_to_choose_from(monkeypatch: pytest.MonkeyPatch) -> None:
    present(monkeypatch)
    expected = "nothing is there to run the network: pip install onnxruntime"
    assert refusal(lambda: choose_engine("")) == expected
    assert refusal(lambda: load_engine(EngineOptions("auto", WEIGHTS))) == expected


def test_a_gpu_is_seen_by_its_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    driver = tmp_path / "version"
    monkeypatch.setattr(load, "NVIDIA", (tmp_path / "none", driver))
    assert not load.has_nvidia_gpu()
    driver.write_text("NVRM version")
    assert load.has_nvidia_gpu()


def test_the_choice_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "has_nvidia_gpu", lambda: False)
    chosen = load_engine(EngineOptions("auto", WEIGHTS, threads=1))
    assert chosen.info.name == "onnxruntime"
    assert chosen.info.why == "no NVIDIA GPU is there: ONNX Runtime is the fastest on the CPU"
    assert engine("onnxruntime").info.why == ""


# --- order of calls -------------------------------------------------------------------------------------------------


def test_a_model_side_comes_first() -> None:
    made = OnnxEngine(bundle(), threads=1)
    empty = ScenePyramids(tables(PROFILE.scene))
    expected = "the engine has no model side yet: set_model comes first"
    assert refusal(lambda: made.run(empty)) == expected
    assert refusal(made.warm_up) == expected
    made.set_model(model())
    made.warm_up()
    made.run(empty)
    made.close()
    assert refusal(lambda: made.run(empty)) == expected


def test_only_the_learned_mask() -> None:
    scene, made = scenes()[1].pyramids, engine("onnxruntime")
    said = refusal(lambda: made.run(scene, MaskChoice("all_ones")))
    assert said == "mask 'all_ones' needs engine 'torch': an exported graph has the learned one"
    assert_same(made.run(scene, MaskChoice("learned")), made.run(scene))


# --- the cache ------------------------------------------------------------------------------------------------------


def region_session() -> object:
    """The smallest session: it is kept as the others are."""
    return make_session(bundle().graphs["region"], "region", "cpu", 1)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with all graphs, and one that ONNX Runtime has optimised."""
    folder = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("END2REG_CACHE", str(folder))
        load_bundle(WEIGHTS)
        region_session()
    return folder


@pytest.fixture
def cache(filled: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of it that may be damaged."""
    copy = Path(shutil.copytree(filled, tmp_path / "cache"))
    monkeypatch.setenv("END2REG_CACHE", str(copy))
    return copy


def one_line(caplog: pytest.LogCaptureFixture, action: Callable[[], object]) -> str:
    """The only line that an action writes to the log; empty for none."""
    caplog.clear()
    action()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) <= 1 and not any("\n" in line for line in lines)
    return "".join(lines)


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    changed = {
        "cut": content[: len(content) // 2],
        "foreign": b"something else",
        "of another kind": seal({"weights": "cd" * 8}, b"{}\n"),
    }
    path.write_bytes(changed[how])


@pytest.mark.parametrize(
    ("part", "how", "why"),
    [
        ("networks", "cut", "damaged or cut short"),
        ("networks", "foreign", "no file of this cache"),
        ("networks", "of another kind", "made for weights cdcdcdcdcdcdcdcd, now "),
        ("onnxruntime", "cut", "damaged or cut short"),
        ("onnxruntime", "of another kind", "made for weights cdcdcdcdcdcdcdcd, now None"),
    ],
)
def test_a_kept_graph_that_is_damaged(
    cache: Path, caplog: pytest.LogCaptureFixture, part: str, how: str, why: str
) -> None:
    """It is made anew, with one line in the log, and is kept again."""
    path = next((cache / part).rglob("region.onnx" if part == "networks" else "*.onnx"))

    def load_it() -> None:
        if part == "networks":
            assert load_bundle(WEIGHTS).hash == bundle().hash
        else:
            region_session()

    assert one_line(caplog, load_it) == ""
    damage(path, how)
    assert "is not used, but made anew: " + why in one_line(caplog, load_it)
    assert one_line(caplog, load_it) == ""


def test_what_is_made_anew_is_the_same(cache: Path) -> None:
    damage(next((cache / "networks").rglob("scene_small.onnx")), "cut")
    for path in (cache / "onnxruntime").rglob("*.onnx"):
        damage(path, "cut")
    made = loaded(WEIGHTS)
    assert made.info == engine("onnxruntime").info
    made.set_model(model())
    for scene in scenes()[:2]:
        assert_same(made.run(scene.pyramids), engine("onnxruntime").run(scene.pyramids))


def test_kept_graphs_are_those_of_the_weights(cache: Path) -> None:
    raw = read_weights(WEIGHTS)
    kept, fresh = load_bundle(WEIGHTS), make_bundle(raw)
    assert kept == fresh and kept.hash == fresh.hash
    assert {p.name for p in (cache / "networks" / raw.hash).iterdir()} == {f"{n}.onnx" for n in fresh.graphs}


def test_a_cache_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("END2REG_CACHE", str(tmp_path / "file"))
    assert load_bundle(WEIGHTS).hash == bundle().hash
    assert region_session() is not None
    assert {r.getMessage().split(":")[0] for r in caplog.records} == {
        "the network's graphs are not kept between starts"
    }


def test_the_surface_is_one_that_the_network_knows() -> None:
    """Else the comparisons above would compare next to nothing."""
    assert len(surface().points) > 5_000 and model().levels[0].count > 1_000
    assert engine("onnxruntime").run(scenes()[0].pyramids).inliers > 200
