"""TensorRT's build against a stand-in of it: types, progress, timings, faults in one line, plans kept and built anew."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx", reason="onnx is absent")
pytest.importorskip("onnxruntime", reason="onnxruntime is absent")

from fake_cuda import FakeRuntime  # noqa: E402
from fake_tensorrt import BuilderFlag, FakeTensorrt, Severity  # noqa: E402
from onnx import TensorProto  # noqa: E402
from small_plans import GOOD, SETTINGS, node, plan, small  # noqa: E402

from end2reg_ros.engine.onnx_files import OnnxGraph  # noqa: E402
from end2reg_ros.engine.tensorrt.build import (  # noqa: E402
    BuildSettings,
    Messages,
    Progress,
    build_plan,
    make_logger,
    make_monitor,
)
from end2reg_ros.engine.tensorrt.cuda_buffers import Cuda  # noqa: E402
from end2reg_ros.engine.tensorrt.plan_cache import plan_path  # noqa: E402
from end2reg_ros.engine.tensorrt.plans import plan_key, ready_graph  # noqa: E402
from end2reg_ros.errors import EngineError  # noqa: E402


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("END2REG_CACHE", str(tmp_path / "kept"))


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
