"""The TensorRT engine against stand-ins of ``tensorrt`` and CUDA: everything but the library and the GPU themselves.

The stand-ins calculate with ONNX Runtime at the addresses that they are given (see ``fake_tensorrt`` and ``fake_cuda``), so that
what comes out is right only if every buffer, copy, name and recorded step is.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is absent")
pytest.importorskip("onnxruntime", reason="onnxruntime is absent")

from fake_cuda import FakeRuntime  # noqa: E402
from fake_tensorrt import FakeTensorrt  # noqa: E402

from end2reg_ros.engine.onnx_files import OnnxGraph  # noqa: E402
from end2reg_ros.engine.options import EngineOptions  # noqa: E402
from end2reg_ros.engine.tensorrt.cuda_buffers import Cuda, load_cuda  # noqa: E402
from end2reg_ros.engine.tensorrt.library import (  # noqa: E402
    gpu_number,
    load_library,
    missing_packages,
    precision_named,
)
from end2reg_ros.errors import EngineError, WeightsError  # noqa: E402

INSTALL = "pip install -r requirements/tensorrt.txt"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("END2REG_CACHE", str(tmp_path / "kept"))


# What is there, and what is asked for


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Packages as if they were not installed."""
    real = builtins.__import__

    def refusing(name: str, *arguments: Any, **more: Any) -> Any:
        if name.split(".")[0] in names:
            raise ModuleNotFoundError(f"No module named '{name}'")
        return real(name, *arguments, **more)

    for name in [m for m in sys.modules if m.split(".")[0] in names]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refusing)


def test_a_missing_library_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from end2reg_ros.engine.tensorrt.engine import build_plans, load_tensorrt

    hide(monkeypatch, "tensorrt", "cuda")
    line = f"engine 'tensorrt' needs the package tensorrt (No module named 'tensorrt'): {INSTALL}"
    for call in (load_tensorrt, build_plans):
        with pytest.raises(EngineError) as fault:
            call(EngineOptions(weights=Path("/nowhere.safetensors")))
        assert str(fault.value) == line
    with pytest.raises(EngineError) as fault:
        load_cuda()
    assert str(fault.value) == (
        f"engine 'tensorrt' needs the package cuda-bindings (No module named 'cuda.bindings'): {INSTALL}"
    )
    assert (Path(__file__).parents[3] / "requirements" / "tensorrt.txt").is_file()


def test_a_library_without_its_shared_objects_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def broken(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "tensorrt":
            raise ImportError("libnvinfer.so.11: cannot open shared object file:\nNo such file or directory")
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(EngineError) as fault:
        load_library()
    assert str(fault.value) == (
        "engine 'tensorrt' needs the package tensorrt (libnvinfer.so.11: cannot open shared object file: "
        f"No such file or directory): {INSTALL}"
    )


@pytest.mark.parametrize(
    ("version", "fits"), [("10.3.0", True), ("11.4.0.106", True), ("8.6.1", False), ("110.0", False)]
)
def test_which_versions_are_taken(monkeypatch: pytest.MonkeyPatch, version: str, fits: bool) -> None:
    module = ModuleType("tensorrt")
    module.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    if fits:
        assert load_library() is module
        return
    with pytest.raises(EngineError) as fault:
        load_library()
    assert str(fault.value) == f"TensorRT {version} is not supported, 10.x or 11.x is: {INSTALL}"


def test_missing_packages_are_found_without_importing(monkeypatch: pytest.MonkeyPatch) -> None:
    from end2reg_ros.engine.tensorrt import library as tensorrt_library

    there: set[str] = set()

    def find(name: str) -> Any:
        if name == "cuda.bindings" and "cuda" not in there:
            raise ModuleNotFoundError("No module named 'cuda'")
        return SimpleNamespace() if name.split(".")[0] in there else None

    monkeypatch.setattr(tensorrt_library, "find_spec", find)
    assert missing_packages() == ["tensorrt", "cuda-bindings"]
    there |= {"cuda"}
    assert missing_packages() == ["tensorrt"]
    there |= {"tensorrt"}
    assert missing_packages() == []


@pytest.mark.parametrize(("name", "number"), [("", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:3", 3)])
def test_names_of_gpus(name: str, number: int) -> None:
    assert gpu_number(name) == number


@pytest.mark.parametrize("name", ["cpu", "cuda:", "cuda:x", "gpu", "cuda:1 "])
def test_other_devices_are_refused(name: str) -> None:
    with pytest.raises(EngineError) as fault:
        gpu_number(name)
    assert str(fault.value) == f"engine 'tensorrt' runs on an NVIDIA GPU (cuda, cuda:1), not on '{name}'"


def test_precisions_by_name() -> None:
    assert [precision_named(p) for p in ("fp32", "mixed")] == ["fp32", "fp16 backbone"]
    with pytest.raises(EngineError, match=r"^unknown precision 'int8': choose one of fp32, mixed$"):
        precision_named("int8")


# The engine on the network's own graphs


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The packaged weights' graphs."""
    pytest.importorskip("safetensors", reason="safetensors is absent")
    from end2reg_ros.engine.bundle_store import load_bundle
    from end2reg_ros.registration.weights_path import packaged_weights

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("END2REG_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_bundle(Path(packaged_weights()))


@pytest.fixture(scope="module")
def rig(bundle: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The engine, the stand-ins under it, and the default engine beside it."""
    from end2reg_ros.engine.onnx_engine import OnnxEngine
    from end2reg_ros.engine.tensorrt.engine import TensorrtEngine

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("END2REG_CACHE", str(tmp_path_factory.mktemp("kept")))
        runtime = FakeRuntime()
        trt = FakeTensorrt(runtime)
        engine = TensorrtEngine(trt, Cuda(runtime), bundle, threads=1)
        yield SimpleNamespace(engine=engine, trt=trt, runtime=runtime, other=OnnxEngine(bundle, threads=1))
        engine.close()
        assert runtime.held() == 0
        engine.close()


@pytest.mark.slow
def test_the_engine_gives_what_the_default_engine_gives(rig: Any) -> None:
    import posed_spine

    engine, other = rig.engine, rig.other
    with pytest.raises(EngineError, match=r"^the engine has no model side yet: set_model comes first$"):
        engine.run(posed_spine.scene())
    with pytest.raises(EngineError, match=r"^the engine has no model side yet: set_model comes first$"):
        engine.warm_up()
    side = other.encode_model(posed_spine.model())
    own = engine.encode_model(posed_spine.model())
    assert set(own) >= set(side)
    for name in side:
        np.testing.assert_array_equal(own[name], side[name])
    other.set_model(side)
    engine.set_model(side)
    for small in (True, False):
        scene = posed_spine.scene(small)
        expected, found = other.run(scene), engine.run(scene)
        assert found.inliers == expected.inliers > 100
        for field in ("rotation", "translation", "support", "mask", "logits"):
            np.testing.assert_allclose(getattr(found, field), getattr(expected, field), atol=1e-4)
    assert np.abs(found.rotation - posed_spine.ROTATION).max() < np.radians(1.5)

    launches = rig.runtime.launches
    assert engine.unrecorded == "no pass was made yet"
    engine.warm_up()
    assert engine.unrecorded == ""
    recorded = engine.run(posed_spine.scene())
    assert rig.runtime.launches == launches + 5  # twice two empty scenes, then this one
    np.testing.assert_array_equal(recorded.translation, found.translation)
    np.testing.assert_array_equal(recorded.mask, found.mask)


def test_the_engine_says_what_it_is(rig: Any, bundle: Any) -> None:
    info, other = rig.engine.info, rig.other.info
    assert (info.name, info.device, info.precision) == ("tensorrt", "cuda:0 (NVIDIA Test 4000)", "fp32")
    assert (
        info.version == "11.4.0.106" and len(info.engine_hash) == 16 and info.engine_hash != other.engine_hash
    )
    for field in ("profile", "weights_hash", "parameters", "record"):
        assert getattr(info, field) == getattr(other, field)
    assert rig.engine.profile == rig.other.profile


def test_the_engine_finds_regions_as_the_default_engine(rig: Any) -> None:
    from end2reg_ros.engine.warm_up import empty_grid

    np.testing.assert_allclose(
        rig.engine.region_map(empty_grid()), rig.other.region_map(empty_grid()), atol=1e-5
    )


def test_what_the_engine_refuses(rig: Any, bundle: Any) -> None:
    import posed_spine

    from end2reg_ros.cloud.pyramid import build_pyramid
    from end2reg_ros.engine.types import MaskChoice, ScenePyramids

    rig.engine.set_model(posed_spine.model())
    with pytest.raises(EngineError) as fault:
        rig.engine.run(posed_spine.scene(), MaskChoice("all_ones"))
    assert str(fault.value) == "mask 'all_ones' needs engine 'torch': an exported graph has the learned one"
    wide = ScenePyramids(build_pyramid(np.zeros((0, 3)), None, rig.engine.profile.model))
    with pytest.raises(EngineError) as fault:
        rig.engine.run(wide)
    small, large = (spec.capacities[0] for spec in rig.engine.profile.scene_specs())
    assert str(fault.value) == f"tables are padded to 3840 points, the network's graphs to {small}, {large}"
    with pytest.raises(EngineError, match=r"^input model\.\w+ of the graph is not given$"):
        rig.engine.set_model({})


def test_a_bundle_that_does_not_fit_is_refused(bundle: Any, trt: FakeTensorrt, cuda: Cuda) -> None:
    from end2reg_ros.engine.onnx_files import OnnxBundle
    from end2reg_ros.engine.tensorrt.engine import TensorrtEngine

    def line(**changed: OnnxGraph | None) -> str:
        graphs = {n: g for n, g in (bundle.graphs | changed).items() if g is not None}
        with pytest.raises(EngineError) as fault:
            TensorrtEngine(trt, cuda, OnnxBundle(graphs))
        return str(fault.value)

    scene = bundle.graphs["scene"]
    assert line(scene=None) == "the network's scene graph is missing: export it again"
    assert line(scene=bundle.graphs["model"]) == "the scene graph holds the model graph, not the scene graph"
    wrong = OnnxGraph(scene.data, scene.metadata | {"weights_hash": "0" * 16})
    assert "export them together" in line(
        scene_small=OnnxGraph(
            bundle.graphs["scene_small"].data,
            {**bundle.graphs["scene_small"].metadata, "weights_hash": "0" * 16},
        )
    )
    assert "export them together" in line(scene=wrong)
    with pytest.raises(EngineError, match="unknown precision"):
        TensorrtEngine(trt, cuda, bundle, precision="fp16")
    with pytest.raises(WeightsError, match="profile 'paper' was asked for"):
        TensorrtEngine(trt, cuda, bundle, "paper")
    assert cuda.runtime.held() == 0 and trt.builds == []


@pytest.mark.slow
def test_plans_are_built_without_running_and_then_used(
    bundle: Any, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import posed_spine

    from end2reg_ros.engine import bundle_store
    from end2reg_ros.engine.onnx_files import OnnxBundle
    from end2reg_ros.engine.tensorrt import engine as tensorrt_engine

    # Exported without its second padding and its region finder: both may be absent.
    part = OnnxBundle({name: bundle.graphs[name] for name in ("scene", "model")})
    trt = FakeTensorrt(runtime, "10.3.0")
    monkeypatch.setattr(tensorrt_engine, "load_library", lambda: trt)
    monkeypatch.setattr(tensorrt_engine, "load_cuda", lambda device: Cuda(runtime, device))
    monkeypatch.setattr(bundle_store, "load_bundle", lambda weights, profile: part)
    options = EngineOptions("tensorrt", tmp_path / "w.onnx", device="cuda:0", precision="mixed", threads=1)
    shown: list[float] = []
    plans = tensorrt_engine.build_plans(options, lambda share, phase: shown.append(share))
    assert [p.key.graph for p in plans] == ["scene"] and plans[0].why
    assert shown[-1] == 1.0 and len(trt.builds) == 1 and runtime.held() == 0

    # TensorRT may refuse a plan that looks right: it is built anew, once.
    trt.refuses = "the driver changed"
    engine = tensorrt_engine.load_tensorrt(options)
    assert len(trt.builds) == 2 and engine.info.precision == "fp16 backbone"
    engine.set_model(posed_spine.model())
    engine.warm_up()
    assert engine.unrecorded == ""
    found = engine.run(posed_spine.scene())
    assert found.inliers > 200 and np.abs(found.rotation - posed_spine.ROTATION).max() < np.radians(1.5)
    with pytest.raises(EngineError) as fault:
        engine.run(posed_spine.scene(small=True))
    small, large = (spec.capacities[0] for spec in engine.profile.scene_specs())
    assert str(fault.value) == f"tables are padded to {small} points, the network's graphs to {large}"
    with pytest.raises(EngineError, match=r"^these weights hold no region finder: a start is needed$"):
        engine.region_map(np.zeros((1, 1, 1), np.float32))
    engine.close()
    with pytest.raises(EngineError, match=r"^the engine is closed$"):
        engine.set_model(posed_spine.model())
    assert runtime.held() == 0


def test_memory_that_runs_out_while_loading_is_let_go(
    bundle: Any, runtime: FakeRuntime, trt: FakeTensorrt
) -> None:
    from end2reg_ros.engine.tensorrt.engine import TensorrtEngine

    runtime.free = 50_600_000  # enough for the first plan
    with pytest.raises(EngineError, match=r"^not enough GPU memory for "):
        TensorrtEngine(trt, Cuda(runtime), bundle, threads=1)
    assert runtime.held() == 0
