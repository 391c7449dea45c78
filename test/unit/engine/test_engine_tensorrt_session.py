"""Memory, copies, recorded passes and faults of a plan that runs, against stand-ins of CUDA and TensorRT (see ``fake_cuda``)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is absent")
pytest.importorskip("onnxruntime", reason="onnxruntime is absent")

from fake_cuda import Error, FakeRuntime  # noqa: E402
from fake_tensorrt import FakeTensorrt  # noqa: E402
from small_plans import FEED, SIDE, TABLE, X, expected, plan  # noqa: E402

from end2reg_ros.engine.onnx_files import OnnxGraph  # noqa: E402
from end2reg_ros.engine.tensorrt.cuda_buffers import Block, Cuda, Tensor, plan_layout  # noqa: E402
from end2reg_ros.engine.tensorrt.session import PlanRefused, TensorrtSession  # noqa: E402
from end2reg_ros.errors import EngineError  # noqa: E402

F32, I32 = np.dtype(np.float32), np.dtype(np.int32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("END2REG_CACHE", str(tmp_path / "kept"))


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
