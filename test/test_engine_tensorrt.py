"""The TensorRT engine against stand-ins of ``tensorrt`` and CUDA: everything but the library and the GPU themselves.

The stand-ins calculate with ONNX Runtime at the addresses that they are given (see ``fake_tensorrt`` and ``fake_cuda``), so that
what comes out is right only if every buffer, copy, name and recorded step is.
"""

from __future__ import annotations

import builtins
import logging
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is absent")
pytest.importorskip("onnxruntime", reason="onnxruntime is absent")

from fake_cuda import Error, FakeRuntime  # noqa: E402
from fake_tensorrt import BuilderFlag, FakeTensorrt, Severity  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from end2reg_ros.engine.cuda_buffers import Block, Cuda, Tensor, load_cuda, plan_layout  # noqa: E402
from end2reg_ros.engine.onnx_files import OnnxGraph  # noqa: E402
from end2reg_ros.engine.options import EngineOptions  # noqa: E402
from end2reg_ros.engine.plan_cache import plan_path  # noqa: E402
from end2reg_ros.engine.tensorrt_build import (  # noqa: E402
    BuildSettings,
    Messages,
    Progress,
    build_plan,
    make_logger,
    make_monitor,
)
from end2reg_ros.engine.tensorrt_library import (  # noqa: E402
    gpu_number,
    load_library,
    missing_packages,
    precision_named,
)
from end2reg_ros.engine.tensorrt_plans import obtain_plan, plan_key, ready_graph  # noqa: E402
from end2reg_ros.engine.tensorrt_session import PlanRefused, TensorrtSession  # noqa: E402
from end2reg_ros.errors import EngineError, WeightsError  # noqa: E402

F32, I32 = np.dtype(np.float32), np.dtype(np.int32)
INSTALL = "pip install -r requirements/tensorrt.txt"
GOOD = {"profile": "realtime", "sizes": '{"scene": [4]}'}
SETTINGS = BuildSettings()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("END2REG_CACHE", str(tmp_path / "kept"))


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def cuda(runtime: FakeRuntime) -> Cuda:
    return Cuda(runtime)


@pytest.fixture
def trt(runtime: FakeRuntime) -> FakeTensorrt:
    return FakeTensorrt(runtime)


def node(kind: str, inputs: str, outputs: str, name: str) -> Any:
    return helper.make_node(kind, inputs.split(), outputs.split(), name=name)


def small(kind: str = "Relu", scale: float = 2.0) -> OnnxGraph:
    """y = relu(x rows(table) W) + model.side, in the names and types of the real graphs."""
    nodes = [
        node("Gather", "x table", "near", "encode/backbone/Gather_0"),
        node("MatMul", "near network.w", "h", "encode/backbone/MatMul_1"),
        node(kind, "h", "r", "encode/backbone/act/Act_2"),
        node("Add", "r model.side", "y", "match/Add_3"),
        node("ReduceSum", "y", "total", "pose/ReduceSum_4"),
    ]
    nodes[-1].attribute.append(helper.make_attribute("keepdims", 0))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [
            value("x", TensorProto.FLOAT, [5, 3]),
            value("table", TensorProto.INT32, [4]),
            value("model.side", TensorProto.FLOAT, [4, 3]),
        ],
        [value("y", TensorProto.FLOAT, [4, 3]), value("total", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(np.eye(3, dtype=np.float32) * scale, "network.w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return OnnxGraph(model.SerializeToString(), dict(GOOD))


X = np.arange(15, dtype=np.float32).reshape(5, 3) - 7.0
TABLE = np.array([0, 4, 4, 2], np.int32)
SIDE = np.arange(12, dtype=np.float32).reshape(4, 3)
FEED = {"x": X, "table": TABLE, "unused": np.zeros(3)}


def expected(x: Any = X, side: Any = SIDE) -> Any:
    return np.maximum(2.0 * x[TABLE], 0.0) + side


def plan(
    trt: FakeTensorrt, cuda: Cuda, graph: OnnxGraph | None = None, precision: str = "fp32", **more: Any
) -> Any:
    return obtain_plan(trt, cuda, "scene", graph or small(), precision, SETTINGS, **more)


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
    from end2reg_ros.engine.tensorrt_engine import build_plans, load_tensorrt

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
    assert (Path(__file__).parents[1] / "requirements" / "tensorrt.txt").is_file()


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
    from end2reg_ros.engine import tensorrt_library

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


# CUDA and its memory


def test_a_gpu_is_named(cuda: Cuda) -> None:
    assert (cuda.gpu.name, cuda.gpu.compute) == ("NVIDIA Test 4000", "8.9")


@pytest.mark.parametrize(
    ("change", "device", "line"),
    [
        (
            {"no_driver": True},
            0,
            "no NVIDIA GPU can be used: CUDA driver version is insufficient for CUDA runtime version",
        ),
        ({"devices": 0}, 0, "no NVIDIA GPU can be used: none is there"),
        ({}, 2, "there is no GPU 2: this computer has 1, numbered from 0"),
    ],
)
def test_no_gpu_is_one_line(change: dict[str, Any], device: int, line: str) -> None:
    with pytest.raises(EngineError) as fault:
        Cuda(FakeRuntime(**change), device)
    assert str(fault.value) == line


def test_tensors_lie_apart_and_aligned() -> None:
    tensors = [
        Tensor("a", (3,), F32),
        Tensor("b", (), F32),
        Tensor("c", (65,), F32),
        Tensor("d", (0, 3), I32),
    ]
    layout = plan_layout(tensors)
    assert layout.offsets == {"a": 0, "b": 256, "c": 512, "d": 1024}
    assert layout.size == 1280
    assert plan_layout([]).size == 0
    # Against the obvious: no two pieces overlap, whatever the sizes.
    rng = np.random.default_rng(0)
    many = [Tensor(str(i), tuple(rng.integers(1, 40, 2)), F32) for i in range(50)]
    placed = plan_layout(many)
    pieces = sorted((placed.offsets[t.name], placed.offsets[t.name] + t.nbytes) for t in many)
    assert all(end <= start for (_, end), (start, _) in pairwise(pieces))
    assert all(start % 256 == 0 for start, _ in pieces) and pieces[-1][1] <= placed.size


def test_a_block_goes_up_and_down_in_one_copy(cuda: Cuda, runtime: FakeRuntime) -> None:
    block = Block(cuda, [Tensor("x", (5, 3), F32), Tensor("table", (4,), I32)], "a test")
    assert not block.host["x"].any() and block.address("table") - block.address("x") == 256
    stream = cuda.call("cudaStreamCreateWithFlags", 1)
    block.fill(FEED)
    block.upload(stream)
    block.host["x"][:] = 0.0
    block.download(stream)
    np.testing.assert_array_equal(block.host["x"], X)
    np.testing.assert_array_equal(block.host["table"], TABLE)
    assert runtime.copies == 2
    cuda.call("cudaStreamDestroy", stream)
    block.close()
    block.close()
    assert runtime.held() == 0


@pytest.mark.parametrize(
    ("feed", "line"),
    [
        ({"x": X}, "input table of the graph is not given"),
        ({"x": X[:4], "table": TABLE}, "input x is float32 [4, 3], the graph takes float32 [5, 3]"),
        ({"x": X.astype(float), "table": TABLE}, "input x is float64 [5, 3], the graph takes float32 [5, 3]"),
        ({"x": X, "table": TABLE.astype(np.int64)}, "input table is int64 [4], the graph takes int32 [4]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(cuda: Cuda, feed: dict[str, Any], line: str) -> None:
    block = Block(cuda, [Tensor("x", (5, 3), F32), Tensor("table", (4,), I32)], "a test")
    with pytest.raises(EngineError) as fault:
        block.fill(feed)
    assert str(fault.value) == line


def test_too_little_memory_is_one_line_with_figures(cuda: Cuda, runtime: FakeRuntime) -> None:
    runtime.free = 3_000_000
    with pytest.raises(EngineError) as fault:
        Block(cuda, [Tensor("x", (1000, 1000), F32)], "the scene graph's inputs")
    assert str(fault.value) == (
        "not enough GPU memory for the scene graph's inputs: 4 MB needed, 3 MB of 8000 MB free; "
        "close other programs on the GPU, or choose engine 'onnxruntime'"
    )
    assert runtime.held() == 0


def test_other_faults_of_cuda_are_one_line(cuda: Cuda) -> None:
    stream = cuda.call("cudaStreamCreateWithFlags", 1)
    with pytest.raises(EngineError) as fault:
        cuda.call("cudaMemcpyAsync", 1, 2, 3, 1, stream)
    assert str(fault.value) == "CUDA's cudaMemcpyAsync failed: invalid argument"


# Building


def built(
    trt: FakeTensorrt, cuda: Cuda, graph: OnnxGraph | None = None, precision: str = "fp32", **more: Any
) -> Any:
    data = ready_graph((graph or small()).data, "scene", precision)
    options = {"settings": SETTINGS, "timings": b"", "show": lambda share, phase: None} | more
    return build_plan(trt, cuda, data, precision, **options)


@pytest.mark.parametrize("version", ["10.3.0", "10.16.1.11", "11.4.0.106"])
def test_a_build_is_strongly_typed_without_tf32(runtime: FakeRuntime, cuda: Cuda, version: str) -> None:
    trt = FakeTensorrt(runtime, version)  # it refuses a network that is not strongly typed
    result = built(trt, cuda, settings=BuildSettings(1 << 40, 2), timings=b"old")
    assert result.plan and result.timings == b"oldt"
    (config,) = trt.builds
    assert BuilderFlag.TF32 not in config.flags
    assert config.builder_optimization_level == 2
    assert list(config.pools.values()) == [runtime.free // 2]  # never more than half of what is free


def test_timings_of_another_version_are_left_behind(trt: FakeTensorrt, cuda: Cuda) -> None:
    trt.refuses_timings = True
    assert built(trt, cuda, timings=b"old").timings == b"t"
    assert trt.timings == [b""]


def test_what_the_parser_says_is_one_line(trt: FakeTensorrt, cuda: Cuda) -> None:
    model = onnx.load_model_from_string(small("Erf").data)
    model.graph.node.append(node("Erf", "y", "z", "match/Erf_5"))
    with pytest.raises(EngineError) as fault:
        build_plan(trt, cuda, model.SerializeToString(), "fp32", SETTINGS, b"", lambda share, phase: None)
    assert str(fault.value) == (
        "TensorRT's parser refuses the graph: Erf 'encode/backbone/act/Act_2': no importer registered for op (and 1 more)"
    )


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            "Error Code 2: OutOfMemory (Requested size was 4000000000 bytes)",
            "not enough GPU memory for building the plan: 1074 MB needed, 6000 MB of 8000 MB free; "
            "close other programs on the GPU, or choose engine 'onnxruntime'",
        ),
        (
            "Error Code 10: Internal Error\n (Could not find any implementation for node)",
            "TensorRT cannot build the graph: Error Code 10: Internal Error (Could not find any implementation for node)",
        ),
    ],
)
def test_a_build_that_fails_is_one_line(trt: FakeTensorrt, cuda: Cuda, said: str, line: str) -> None:
    trt.build_error = said
    with pytest.raises(EngineError) as fault:
        built(trt, cuda)
    assert str(fault.value) == line


def test_a_gpu_that_tensorrt_does_not_take_is_one_line(trt: FakeTensorrt, cuda: Cuda) -> None:
    trt.no_builder = "CUDA initialization failure with error: 35"
    with pytest.raises(EngineError) as fault:
        built(trt, cuda)
    assert str(fault.value) == "TensorRT cannot use this GPU: CUDA initialization failure with error: 35"


def test_the_parsed_network_is_held_against_the_precision(trt: FakeTensorrt, cuda: Cuda) -> None:
    assert built(trt, cuda, precision="fp16 backbone").plan
    trt.half_layer = "pose/ReduceSum_4"
    with pytest.raises(EngineError) as fault:
        built(trt, cuda)
    assert str(fault.value) == (
        "TensorRT parsed an fp32 graph with layers in fp16: pose/ReduceSum_4 and 0 more"
    )
    with pytest.raises(EngineError) as fault:
        built(trt, cuda, precision="fp16 backbone")
    assert str(fault.value) == "TensorRT parsed layers in fp16 that must be fp32: pose/ReduceSum_4 and 0 more"
    trt.half_layer = None
    with pytest.raises(EngineError) as fault:
        build_plan(trt, cuda, small().data, "fp16 backbone", SETTINGS, b"", lambda share, phase: None)
    assert str(fault.value) == "the graph says 'fp16 backbone', but TensorRT parsed no layer of it in fp16"


def test_progress_grows_to_the_end_and_names_the_phase(trt: FakeTensorrt, cuda: Cuda) -> None:
    seen: list[tuple[float, str]] = []
    built(trt, cuda, show=lambda share, phase: seen.append((share, phase)))
    shares = [share for share, _ in seen]
    assert shares == sorted(shares) and shares[0] == 0.0 and shares[-1] == 1.0
    assert len(shares) > 30 and {p for _, p in seen} == {"Building Engine", "Timing Graph Nodes"}
    # Half of the second of four steps: three eighths.
    assert any(abs(share - 0.375) < 1e-9 for share in shares)


def test_progress_is_told_at_most_a_hundred_times() -> None:
    told: list[float] = []
    progress = Progress(lambda share, phase: told.append(share))
    progress.start("a", None, 100_000)
    for i in range(100_000):
        progress.step("a", i)
    progress.finish("a")
    progress.step("never started", 3)
    assert 99 <= len(told) <= 102 and told[-1] == 1.0


def test_ctrl_c_ends_a_build(trt: FakeTensorrt, cuda: Cuda) -> None:
    def interrupted(share: float, phase: str) -> None:
        if share > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        built(trt, cuda, show=interrupted)
    assert 10 < trt.steps < 20


def test_a_fault_while_showing_does_not_end_a_build(
    trt: FakeTensorrt, cuda: Cuda, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(share: float, phase: str) -> None:
        raise ValueError("no terminal")

    assert built(trt, cuda, show=broken).plan
    assert "the progress of a build cannot be shown" in caplog.text


def test_messages_go_where_they_belong(caplog: pytest.LogCaptureFixture, trt: FakeTensorrt) -> None:
    messages = Messages()
    logger = make_logger(trt, messages)
    with caplog.at_level(logging.INFO):
        for severity in Severity:
            logger.log(severity, f"some\n {severity.name}")
    assert messages.errors == ["some INTERNAL_ERROR", "some ERROR"]
    assert caplog.messages == ["TensorRT: some WARNING"]
    assert messages.cause() == "some INTERNAL_ERROR"
    assert Messages().cause() == "it gives no reason" and Messages().cause(ValueError("a")) == "a"
    assert make_monitor(trt, Progress(lambda share, phase: None)).ready


# Plans


def test_a_plan_is_built_once_and_kept(
    trt: FakeTensorrt, cuda: Cuda, caplog: pytest.LogCaptureFixture
) -> None:
    first = plan(trt, cuda)
    assert first.why == "no plan of the scene graph is kept for NVIDIA Test 4000 and TensorRT 11.4.0.106"
    assert caplog.messages == [f"{first.why}; building it takes minutes, once"]
    caplog.clear()
    second = plan(trt, cuda)
    assert (second.content, second.why, second.seconds) == (first.content, "", 0.0)
    assert caplog.messages == [] and len(trt.builds) == 1
    # The next build begins with the timings of this one.
    plan(trt, cuda, precision="fp16 backbone")
    assert trt.timings == [b"", b"t"]


def test_what_makes_a_plan_stale_is_said_in_one_line(
    runtime: FakeRuntime, cuda: Cuda, caplog: pytest.LogCaptureFixture
) -> None:
    plan(FakeTensorrt(runtime, "10.16.1.11"), cuda)
    caplog.clear()
    trt = FakeTensorrt(runtime)
    line = "the plan kept for the scene graph is of no use, a new one is made: made for TensorRT 10.16.1.11, now 11.4.0.106"
    assert plan(trt, cuda).why == line
    assert caplog.messages == [
        f"{line}; building it takes minutes, once",
        "the kept timing cache is of no use, a new one is made: made for TensorRT 10.16.1.11, now 11.4.0.106",
    ]
    other = Cuda(FakeRuntime(name=b"NVIDIA Test 4000", compute=(9, 0)))
    kept = plan_path(plan_key("scene", small(), "fp32", trt.__version__, cuda.gpu, SETTINGS))
    moved = plan_path(plan_key("scene", small(), "fp32", trt.__version__, other.gpu, SETTINGS))
    moved.parent.mkdir()
    kept.rename(moved)
    assert plan(trt, other).why.endswith("made for compute capability 8.9, now 9.0")
    assert "made for graph " in plan(trt, other, small(scale=3.0)).why


def test_a_plan_that_was_cut_is_built_anew(trt: FakeTensorrt, cuda: Cuda) -> None:
    first = plan(trt, cuda)
    path = plan_path(first.key)
    path.write_bytes(path.read_bytes()[:-10])
    again = plan(trt, cuda)
    assert again.why.endswith("a new one is made: damaged or cut short") and again.content == first.content
    assert plan(trt, cuda).why == ""


def test_a_graph_that_tensorrt_does_not_list_is_not_built(trt: FakeTensorrt, cuda: Cuda) -> None:
    model = onnx.load_model_from_string(small().data)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    with pytest.raises(EngineError) as fault:
        plan(trt, cuda, OnnxGraph(model.SerializeToString(), GOOD))
    assert str(fault.value) == (
        "the scene graph is none that TensorRT can run: input without a fixed shape: x"
    )
    assert trt.builds == []
    with pytest.raises(EngineError, match=r"^unknown precision 'fp8': it is one of fp32, fp16 backbone$"):
        ready_graph(small().data, "scene", "fp8")


def test_mixed_precision_is_in_the_graph_that_is_built(trt: FakeTensorrt, cuda: Cuda) -> None:
    content = plan(trt, cuda, precision="fp16 backbone").content
    model = onnx.load_model_from_string(content.partition(b"\n")[2])
    assert {p.key: p.value for p in model.metadata_props}["precision"] == "fp16 backbone"
    assert {c.name: c.data_type for c in model.graph.initializer} == {"network.w/fp16": TensorProto.FLOAT16}


def test_a_cache_that_cannot_be_written_costs_one_line_each(
    trt: FakeTensorrt,
    cuda: Cuda,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("END2REG_CACHE", str(tmp_path / "file"))
    assert plan(trt, cuda).content
    assert len(caplog.messages) == 3
    assert caplog.messages[1].startswith(
        "the plan of the scene graph cannot be kept, every start makes it anew: "
    )
    assert caplog.messages[2].startswith("the timing cache cannot be kept, every start makes it anew: ")


# Running


def session(
    trt: FakeTensorrt, cuda: Cuda, graph: OnnxGraph | None = None, precision: str = "fp32"
) -> tuple[Any, Block]:
    made = TensorrtSession(trt, cuda, plan(trt, cuda, graph, precision).content, "scene", "model.")
    side = Block(cuda, made.shared, "the model's side")
    made.attach(side)
    side.fill({"model.side": SIDE})
    made.upload(side)
    return made, side


def test_a_pass_gives_what_the_graph_gives(trt: FakeTensorrt, cuda: Cuda) -> None:
    made, _ = session(trt, cuda)
    assert [t.name for t in made.inputs] == ["x", "table"] and [t.name for t in made.shared] == ["model.side"]
    found = made.run(FEED)
    np.testing.assert_array_equal(found["y"], expected())
    assert found["total"].shape == () and found["total"] == expected().sum()
    # What was handed out stays as it is when the next pass comes.
    again = made.run(FEED | {"x": -X})
    np.testing.assert_array_equal(again["y"], expected(-X))
    np.testing.assert_array_equal(found["y"], expected())


def test_a_recorded_pass_is_launched_as_one_and_gives_the_same(
    trt: FakeTensorrt, cuda: Cuda, runtime: FakeRuntime
) -> None:
    made, side = session(trt, cuda)
    assert made.unrecorded == "no pass was made yet"
    made.record()
    assert made.unrecorded == "" and runtime.launches == 0
    for x in (X, -X, X * 0.5):
        np.testing.assert_array_equal(made.run(FEED | {"x": x})["y"], expected(x))
    assert runtime.launches == 3
    # Another case: its side is uploaded to the same place, the recording holds.
    side.fill({"model.side": SIDE + 5.0})
    made.upload(side)
    np.testing.assert_array_equal(made.run(FEED)["y"], expected(side=SIDE + 5.0))


def test_what_cannot_be_recorded_still_runs(trt: FakeTensorrt, cuda: Cuda, runtime: FakeRuntime) -> None:
    runtime.refuses_to_record = True
    made, _ = session(trt, cuda)
    made.record()
    assert made.unrecorded == (
        "CUDA's cudaStreamEndCapture failed: operation not permitted when stream is capturing"
    )
    np.testing.assert_array_equal(made.run(FEED)["y"], expected())
    assert runtime.launches == 0


def test_everything_is_let_go(trt: FakeTensorrt, cuda: Cuda, runtime: FakeRuntime) -> None:
    made, side = session(trt, cuda)
    made.record()
    made.record()
    assert runtime.held() > 0
    made.close()
    side.close()
    assert runtime.held() == 0 and runtime.free == 6_000_000_000


def test_memory_that_runs_out_between_two_blocks_is_let_go(
    trt: FakeTensorrt, cuda: Cuda, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = plan(trt, cuda).content
    monkeypatch.setattr(cuda, "demand", lambda needed, purpose: None)  # another program is faster than we are
    runtime.free = 600
    with pytest.raises(
        EngineError, match=r"^not enough GPU memory for the scene graph's outputs: 1 MB needed"
    ):
        TensorrtSession(trt, cuda, content, "scene", "model.")
    assert runtime.held() == 0


def test_closing_goes_on_when_the_gpu_has_failed(trt: FakeTensorrt, cuda: Cuda, runtime: FakeRuntime) -> None:
    made, side = session(trt, cuda)
    made.record()
    for name in ("cudaStreamSynchronize", "cudaGraphExecDestroy", "cudaStreamDestroy", "cudaFreeHost"):
        setattr(runtime, name, lambda *arguments: (Error.cudaErrorInvalidValue,))
    made.close()
    side.close()
    assert not runtime.device_memory


def test_every_call_is_on_the_sessions_gpu() -> None:
    runtime = FakeRuntime(devices=2)
    cuda = Cuda(runtime, 1)
    made, _ = session(FakeTensorrt(runtime), cuda)
    runtime.used.clear()
    made.run(FEED)
    assert runtime.used == [1]


def test_too_little_memory_for_a_plan_is_one_line(
    trt: FakeTensorrt, cuda: Cuda, runtime: FakeRuntime
) -> None:
    content = plan(trt, cuda).content
    runtime.free = 20_000_000
    with pytest.raises(EngineError) as fault:
        TensorrtSession(trt, cuda, content, "scene", "model.")
    assert str(fault.value) == (
        "not enough GPU memory for the scene graph: 50 MB needed, 20 MB of 8000 MB free; "
        "close other programs on the GPU, or choose engine 'onnxruntime'"
    )
    assert runtime.held() == 0


def test_what_tensorrt_says_of_a_plan_is_one_line(trt: FakeTensorrt, cuda: Cuda) -> None:
    content = plan(trt, cuda).content
    trt.refuses = "Serialization assertion failed.\nVersion tag does not match"
    with pytest.raises(PlanRefused) as refused:
        TensorrtSession(trt, cuda, content, "scene", "model.")
    assert str(refused.value) == (
        "TensorRT refuses the plan of the scene graph: Serialization assertion failed. Version tag does not match"
    )
    trt.no_context = True
    with pytest.raises(EngineError) as fault:
        TensorrtSession(trt, cuda, content, "scene", "model.")
    assert str(fault.value) == "TensorRT cannot prepare the scene graph: no kernel image is available"
    trt.no_context = False
    made, _ = session(trt, cuda)
    trt.no_execution = True
    with pytest.raises(EngineError) as fault:
        made.run(FEED)
    assert str(fault.value) == (
        "TensorRT cannot run the scene graph: Error Code 1: Cask (Cask convolution execution)"
    )


def test_a_shared_tensor_that_does_not_fit_is_refused(trt: FakeTensorrt, cuda: Cuda) -> None:
    made = TensorrtSession(trt, cuda, plan(trt, cuda).content, "scene", "model.")
    for tensors in ([], [Tensor("model.side", (5, 3), F32)]):
        with pytest.raises(EngineError) as fault:
            made.attach(Block(cuda, tensors, "the model's side"))
        assert str(fault.value) == "the scene graph takes model.side [4, 3], it is not there"


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
    from end2reg_ros.engine.tensorrt_engine import TensorrtEngine

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("END2REG_CACHE", str(tmp_path_factory.mktemp("kept")))
        runtime = FakeRuntime()
        trt = FakeTensorrt(runtime)
        engine = TensorrtEngine(trt, Cuda(runtime), bundle, threads=1)
        yield SimpleNamespace(engine=engine, trt=trt, runtime=runtime, other=OnnxEngine(bundle, threads=1))
        engine.close()
        assert runtime.held() == 0
        engine.close()


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
    from end2reg_ros.engine.tensorrt_engine import TensorrtEngine

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


def test_plans_are_built_without_running_and_then_used(
    bundle: Any, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import posed_spine

    from end2reg_ros.engine import bundle_store, tensorrt_engine
    from end2reg_ros.engine.onnx_files import OnnxBundle

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
    from end2reg_ros.engine.tensorrt_engine import TensorrtEngine

    runtime.free = 50_600_000  # enough for the first plan
    with pytest.raises(EngineError, match=r"^not enough GPU memory for "):
        TensorrtEngine(trt, Cuda(runtime), bundle, threads=1)
    assert runtime.held() == 0
