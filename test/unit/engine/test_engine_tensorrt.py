"""The TensorRT engine: what it needs, plans kept and built anew, faults in one line; Polygraphy and the GPU are stand-ins.

What NVIDIA's own parser and builder make of the graphs is ``test_engine_parser``'s.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is absent: run 'make setup'")
pytest.importorskip("onnxruntime", reason="onnxruntime is absent: run 'make setup'")

import engine_setup
import posed_spine
from engine_setup import refusal
from fake_polygraphy import MARK, CudaError, fake_trt, install

from end2reg_ros.cache import seal
from end2reg_ros.cloud.pyramid import build_pyramid
from end2reg_ros.engine.load import load_engine
from end2reg_ros.engine.onnx_engine import OnnxEngine
from end2reg_ros.engine.onnx_files import OnnxBundle, OnnxGraph
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.engine.tensorrt import library as tensorrt_library
from end2reg_ros.engine.tensorrt.engine import TensorrtEngine
from end2reg_ros.engine.tensorrt.library import (
    PACKAGES,
    Gpu,
    Library,
    find_gpu,
    load_library,
    missing_packages,
    precision_named,
)
from end2reg_ros.engine.tensorrt.plans import Plan, PlanKey, build_plan, obtain_plan, read_plan
from end2reg_ros.engine.types import MaskChoice, ScenePyramids, empty_grid
from end2reg_ros.errors import EngineError, WeightsError

INSTALL = "pip install -r requirements/tensorrt.txt"
GPU = Gpu(0, "NVIDIA GeForce RTX 4090", "8.9")
SAID = {"profile": "realtime", "sizes": '{"model": [3840], "scene": [3072]}'}
KEY = PlanKey("scene", OnnxGraph(b"graph", SAID), "11.4.0.106", GPU, "fp32")
NO_MODEL = r"^the engine has no model side yet: set_model comes first$"


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("END2REG_CACHE", str(tmp_path / "kept"))
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    return tmp_path / "kept"


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    return install(monkeypatch)


# What is there, and what is asked for


@pytest.mark.parametrize("module", PACKAGES)
def test_a_missing_package_is_named_with_the_command(
    library: Library, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    for name in [name for name in sys.modules if name.startswith(module)]:
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    said = refusal(lambda: load_engine(EngineOptions("tensorrt", engine_setup.WEIGHTS)))
    assert said.startswith(f"engine 'tensorrt' needs the package {PACKAGES[module]} (")
    assert said.endswith(f"): {INSTALL}")
    assert (Path(__file__).parents[3] / "requirements" / "tensorrt.txt").is_file()


@pytest.mark.parametrize(
    ("version", "fits"), [("10.3.0", True), ("11.4.0.106", True), ("8.6.1", False), ("110.0", False)]
)
def test_which_versions_are_taken(
    library: Library, monkeypatch: pytest.MonkeyPatch, version: str, fits: bool
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_trt(version))
    if fits:
        assert load_library().version == version
    else:
        assert refusal(load_library) == f"TensorRT {version} is not supported, 10.x or 11.x is: {INSTALL}"


def test_missing_packages_are_found_without_importing(monkeypatch: pytest.MonkeyPatch) -> None:
    there: set[str] = set()

    def find(name: str) -> Any:
        if name == "cuda.bindings" and "cuda" not in there:
            raise ModuleNotFoundError("No module named 'cuda'")
        return SimpleNamespace() if name.split(".")[0] in there else None

    monkeypatch.setattr(tensorrt_library, "find_spec", find)
    assert missing_packages() == ["tensorrt", "polygraphy", "cuda-bindings"]
    there |= {"cuda", "polygraphy"}
    assert missing_packages() == ["tensorrt"]
    there |= {"tensorrt"}
    assert missing_packages() == []


def test_gpus_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, gpus=4)
    for name, number in {"": 0, "cuda": 0, "cuda:0": 0, "cuda:3": 3}.items():
        assert find_gpu(name) == Gpu(number, "NVIDIA Test 4000", "8.9")
    for name in ("cpu", "cuda:", "cuda:x", "gpu", "cuda:1 "):
        assert (
            refusal(lambda name=name: find_gpu(name))
            == f"engine 'tensorrt' runs on an NVIDIA GPU (cuda, cuda:1), not on '{name}'"
        )
    assert refusal(lambda: find_gpu("cuda:4")) == "there is no GPU 4: this computer has 4, numbered from 0"
    install(monkeypatch, error=CudaError.cudaErrorInsufficientDriver)
    assert refusal(lambda: find_gpu("")) == (
        "no NVIDIA GPU can be used: cudaGetDeviceCount gives cudaErrorInsufficientDriver"
    )


def test_precisions_by_name() -> None:
    assert [precision_named(p) for p in ("fp32", "mixed")] == ["fp32", "fp16 backbone"]
    assert refusal(lambda: precision_named("int8")) == "unknown precision 'int8': choose one of fp32, mixed"


def test_cudas_runtime_is_shown_to_polygraphy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "nvidia" / "cu13" / "lib"
    folder.mkdir(parents=True)
    (folder / "libcudart.so.13").touch()
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path / "nvidia")])
    monkeypatch.setattr(tensorrt_library, "find_spec", lambda name: spec)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/own")
    for _ in range(2):
        install(monkeypatch)
        assert tensorrt_library.os.environ["LD_LIBRARY_PATH"] == f"/own:{folder}"


# Plans


def test_a_plan_is_built_once_and_kept(
    library: Library, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = obtain_plan(library, KEY)
    line = "no plan of the scene graph is kept for NVIDIA GeForce RTX 4090 and TensorRT 11.4.0.106"
    assert first == Plan(MARK + b"graph", line)
    assert caplog.messages == [f"{line}; building it takes minutes, once"]
    folder = kept / "plans" / "nvidia-geforce-rtx-4090-8-9"
    assert [path.name for path in folder.iterdir()] == ["realtime-scene-fp32.plan"]
    assert obtain_plan(library, KEY) == Plan(MARK + b"graph")
    assert len(library.backend.builds) == 1
    [config] = library.backend.configs
    assert config.memory_pool_limits == {"workspace": 1 << 30} and config.builder_optimization_level == 3
    assert config.cleared == ["TF32"]


OTHERS = {
    "GPU": replace(KEY, gpu=Gpu(0, "NVIDIA GeForce RTX 4090 D", "8.9")),
    "compute capability": replace(KEY, gpu=Gpu(0, GPU.name, "12.0")),
    "TensorRT": replace(KEY, tensorrt="10.3.0"),
    "precision": replace(KEY, precision="fp16 backbone"),
    "graph": replace(KEY, onnx=OnnxGraph(b"another", SAID)),
    "shapes": replace(KEY, onnx=OnnxGraph(b"graph", SAID | {"sizes": '{"scene": [1792]}'})),
}


@pytest.mark.parametrize("part", OTHERS)
def test_a_plan_for_anything_else_is_built_anew_and_the_line_names_the_part(
    library: Library, part: str
) -> None:
    path = KEY.path()
    path.parent.mkdir(parents=True)
    path.write_bytes(seal(OTHERS[part].parts(), b"plan"))  # wherever it came from
    content, why = read_plan(KEY)
    assert content is None
    assert why.startswith(
        f"the plan kept for the scene graph is of no use, a new one is made: made for {part} "
    )
    if part == "GPU":
        assert why.endswith("made for GPU NVIDIA GeForce RTX 4090 D, now NVIDIA GeForce RTX 4090")
    assert obtain_plan(library, KEY).why == why
    assert obtain_plan(library, KEY).why == ""


def test_every_part_of_the_key_is_tried() -> None:
    assert set(KEY.parts()) == {*OTHERS, "settings"}


def test_a_plan_that_was_cut_or_cannot_be_read_is_built_anew(library: Library) -> None:
    obtain_plan(library, KEY)
    path = KEY.path()
    whole = path.read_bytes()
    for content in (b"", whole[:30], whole[:-1], whole[:-1] + b"x"):
        path.write_bytes(content)
        assert read_plan(KEY)[0] is None
        assert read_plan(KEY)[1].startswith(
            "the plan kept for the scene graph is of no use, a new one is made: "
        )
    path.unlink()
    path.mkdir()
    assert read_plan(KEY) == (
        None,
        "the plan kept for the scene graph cannot be read, a new one is made: Is a directory",
    )


def test_a_cache_that_cannot_be_written_costs_one_line(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("END2REG_CACHE", str(tmp_path / "file"))
    assert obtain_plan(library, KEY).content == MARK + b"graph"
    assert caplog.messages[1:] == [
        "the plan of the scene graph cannot be kept, every start makes it anew: Not a directory"
    ]


def test_what_tensorrt_says_is_one_line(library: Library, caplog: pytest.LogCaptureFixture) -> None:
    def said(step: str, message: str) -> str:
        library.backend.faults[step] = [message]
        return refusal(lambda: build_plan(library, b"graph", "scene"))

    assert said("parse", "In node 7 with name: a/Det_7:\n  no importer") == (
        "TensorRT's parser refuses the scene graph: In node 7 with name: a/Det_7: no importer"
    )
    assert said("build", "out of memory") == "TensorRT cannot build the scene graph: out of memory"
    assert said("build", "x" * 999).endswith(f": {'x' * 300}...")
    logger = logging.getLogger("Polygraphy")
    logger.warning("[W] slow")
    assert [r.getMessage() for r in caplog.records if r.name != "Polygraphy"] == ["TensorRT: slow"]
    with (
        pytest.raises(EngineError, match=r"^loading: libcudart.so: no such file$"),
        library.faults("loading"),
    ):
        raise OSError("libcudart.so: no such file")
    with pytest.raises(EngineError, match=r"^parsing: In node 1 "), library.faults("parsing"):
        logger.error("[E] first")
        logger.error("[E] In node 1 it is")
        logger.critical("[!] says no more")
        raise RuntimeError("refused")


# The engine on the network's own graphs


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The engine over the stand-ins, and the default engine beside it."""
    bundle = engine_setup.bundle()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("END2REG_CACHE", str(tmp_path_factory.mktemp("kept")))
        library = install(patch)
        engine = TensorrtEngine(library, find_gpu("cuda:0"), bundle, threads=1)
        yield SimpleNamespace(
            engine=engine, library=library, bundle=bundle, other=OnnxEngine(bundle, threads=1)
        )
        engine.close()
        assert library.backend.active == 0


@pytest.mark.slow
def test_the_engine_gives_what_the_default_engine_gives(rig: Any) -> None:
    engine, other = rig.engine, rig.other
    with pytest.raises(EngineError, match=NO_MODEL):
        engine.run(posed_spine.scene())
    with pytest.raises(EngineError, match=NO_MODEL):
        engine.warm_up()
    side = other.encode_model(posed_spine.model())
    own = engine.encode_model(posed_spine.model())
    for name in side:
        np.testing.assert_array_equal(own[name], side[name])
    other.set_model(side)
    engine.set_model(side)
    engine.warm_up()
    results = []
    for small in (True, False):
        scene = posed_spine.scene(small)
        expected, found = other.run(scene), engine.run(scene)
        assert found.inliers == expected.inliers > 100
        for field in ("rotation", "translation", "support", "mask", "logits"):
            np.testing.assert_allclose(getattr(found, field), getattr(expected, field), atol=1e-4)
        results.append(found)
    assert np.abs(results[1].rotation - posed_spine.ROTATION).max() < np.radians(1.5)
    # The runner's buffers are used again: a result is a copy.
    before = results[1].logits.copy()
    engine.run(engine_setup.scenes()[-1].pyramids)
    np.testing.assert_array_equal(results[1].logits, before)
    np.testing.assert_allclose(engine.region_map(empty_grid()), other.region_map(empty_grid()), atol=1e-5)


def test_the_engine_says_what_it_is(rig: Any) -> None:
    info, other = rig.engine.info, rig.other.info
    assert (info.name, info.device, info.precision) == ("tensorrt", "cuda:0 (NVIDIA Test 4000)", "fp32")
    assert info.version == "11.4.0.106"
    assert len(info.engine_hash) == 16 and info.engine_hash != other.engine_hash
    for field in ("profile", "weights_hash", "parameters", "record"):
        assert getattr(info, field) == getattr(other, field)
    assert rig.engine.profile == rig.other.profile


def test_what_the_engine_refuses(rig: Any) -> None:
    engine = rig.engine
    engine.set_model(posed_spine.model())
    assert refusal(lambda: engine.run(posed_spine.scene(), MaskChoice("all_ones"))) == (
        "mask 'all_ones' needs engine 'torch': an exported graph has the learned one"
    )
    wide = ScenePyramids(build_pyramid(np.zeros((0, 3)), None, engine.profile.model))
    small, large = (spec.capacities[0] for spec in engine.profile.scene_specs)
    assert refusal(lambda: engine.run(wide)) == (
        f"tables are padded to 3840 points, the network's graphs to {small}, {large}"
    )
    rig.library.backend.faults["run"] = ["illegal memory access"]
    assert refusal(lambda: engine.run(posed_spine.scene())) == (
        "TensorRT cannot run the scene graph: illegal memory access"
    )


def test_a_bundle_that_does_not_fit_is_refused_before_anything_is_built(library: Library) -> None:
    def line(kind: type[Exception] = EngineError, **options: Any) -> str:
        graphs = options.pop("graphs", engine_setup.bundle().graphs)
        return refusal(lambda: TensorrtEngine(library, GPU, OnnxBundle(graphs), **options), kind)

    graphs = engine_setup.bundle().graphs
    without = {name: graph for name, graph in graphs.items() if name != "scene"}
    assert line(graphs=without) == "the network's scene graph is missing: export it again"
    assert line(graphs=graphs | {"scene": graphs["model"]}) == (
        "the scene graph holds the model graph, not the scene graph"
    )
    other = engine_setup.with_graph("scene_small", engine_setup.saying(weights_hash="0" * 16))
    assert line(graphs=other.graphs).endswith(": export them together")
    assert line(precision="fp16") == "unknown precision 'fp16': choose one of fp32, mixed"
    assert "profile 'paper' was asked for" in line(WeightsError, profile="paper")
    assert library.backend.builds == []


@pytest.mark.slow
def test_a_plan_that_tensorrt_refuses_is_built_anew_once(library: Library) -> None:
    # Exported without its second padding and its region finder: both may be absent.
    part = OnnxBundle({name: engine_setup.bundle().graphs[name] for name in ("scene", "model")})
    backend = library.backend
    backend.faults["load"] = ["the driver changed"]
    said = refusal(lambda: TensorrtEngine(library, GPU, part, precision="mixed", threads=1))
    assert said == "TensorRT refuses the plan of the scene graph: the driver changed"  # it was just built
    backend.faults["load"] = ["CUDA: out of memory"]
    assert refusal(lambda: TensorrtEngine(library, GPU, part, precision="mixed", threads=1)).endswith(
        "memory"
    )
    assert len(backend.builds) == 1 and backend.active == 0

    backend.faults["load"] = ["the driver changed"]
    engine = TensorrtEngine(library, Gpu(1, GPU.name, GPU.compute), part, precision="mixed", threads=1)
    assert len(backend.builds) == 2 and engine.info.precision == "fp16 backbone"
    assert set(sys.modules["cuda.bindings.runtime"].used) == {0, 1}
    engine.set_model(posed_spine.model())
    engine.warm_up()
    found = engine.run(posed_spine.scene())
    assert found.inliers > 200 and np.abs(found.rotation - posed_spine.ROTATION).max() < np.radians(1.5)
    small, large = (spec.capacities[0] for spec in engine.profile.scene_specs)
    assert refusal(lambda: engine.run(posed_spine.scene(small=True))) == (
        f"tables are padded to {small} points, the network's graphs to {large}"
    )
    assert refusal(lambda: engine.region_map(empty_grid())) == (
        "these weights hold no region finder: a start is needed"
    )
    backend.faults["close"] = ["the GPU is lost"]  # closing goes on
    engine.close()
    assert backend.active == 0
    with pytest.raises(EngineError, match=NO_MODEL):
        engine.run(posed_spine.scene())
