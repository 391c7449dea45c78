"""The few calls that engine 'tensorrt' makes of Polygraphy, TensorRT and CUDA, answered by ONNX Runtime and by made-up GPUs."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from end2reg_ros.engine.tensorrt.library import Library, library_of

MARK = b"plan of "


class PolygraphyException(Exception):
    """What Polygraphy raises; the cause is in its log."""


class CudaError(IntEnum):
    """Codes of CUDA's runtime."""

    cudaSuccess = 0
    cudaErrorInsufficientDriver = 35


@dataclass
class FakePolygraphy:
    """``polygraphy.backend.trt``: a plan is the graph behind a mark, and ONNX Runtime runs it.

    Attributes:
        faults: step (parse, build, load, run) -> what TensorRT says when it fails there; it fails once a message.
        configs: of every build; builds: graphs that were built.
        active: runners that hold memory.
    """

    faults: dict[str, list[str]] = field(default_factory=dict)
    configs: list[Any] = field(default_factory=list)
    builds: list[bytes] = field(default_factory=list)
    active: int = 0

    def at(self, step: str) -> None:
        if self.faults.get(step):
            logging.getLogger("Polygraphy").error(f"[E] {self.faults[step].pop(0)}")
            raise PolygraphyException("See log for details.")

    def NetworkFromOnnxBytes(self, onnx: bytes, strongly_typed: bool) -> Any:
        assert strongly_typed

        def parse() -> Any:
            self.at("parse")
            return SimpleNamespace(network=onnx)

        return parse

    def CreateConfig(self, **settings: Any) -> Any:
        cleared: list[str] = []
        return lambda builder, network: SimpleNamespace(
            **settings, clear_flag=cleared.append, cleared=cleared
        )

    def EngineBytesFromNetwork(self, parsed: Any, config: Any) -> Any:
        def build() -> bytes:
            self.configs.append(config("builder", parsed.network))
            self.at("build")
            self.builds.append(parsed.network)
            return MARK + bytes(parsed.network)

        return build

    def EngineFromBytes(self, plan: bytes) -> Any:
        def load() -> bytes:
            self.at("load")
            assert plan.startswith(MARK)
            return plan.removeprefix(MARK)

        return load

    def TrtRunner(self, engine: Any, name: str) -> Any:
        return FakeRunner(self, engine)


class FakeRunner:
    """``TrtRunner``: gives its own buffers, which the next pass fills again."""

    def __init__(self, library: FakePolygraphy, engine: Any) -> None:
        self.library, self.engine = library, engine
        self.buffers: dict[str, Any] = {}

    def activate(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.engine(), options, ["CPUExecutionProvider"])
        self.library.active += 1

    def infer(self, feed: dict[str, Any]) -> dict[str, Any]:
        self.library.at("run")
        names = [output.name for output in self.session.get_outputs()]
        for name, value in zip(names, self.session.run(None, feed), strict=True):
            np.copyto(self.buffers.setdefault(name, np.empty_like(value)), value)
        return self.buffers

    def deactivate(self) -> None:
        self.library.active -= 1
        self.library.at("close")


def fake_trt(version: str = "11.4.0.106") -> Any:
    """The module ``tensorrt``."""
    return SimpleNamespace(
        __version__=version,
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
        BuilderFlag=SimpleNamespace(TF32="TF32"),
    )


def install(
    monkeypatch: pytest.MonkeyPatch, gpus: int = 1, error: CudaError = CudaError.cudaSuccess
) -> Library:
    """Have the stand-ins imported in place of the packages; returns the library around them."""
    used: list[int] = []

    def properties(number: int) -> Any:
        return CudaError.cudaSuccess, SimpleNamespace(name=b"NVIDIA Test 4000\0\0", major=8, minor=9)

    def use(number: int) -> Any:
        used.append(number)
        return (CudaError.cudaSuccess,)

    runtime = SimpleNamespace(
        cudaGetDeviceCount=lambda: (error, gpus),
        cudaGetDeviceProperties=properties,
        cudaSetDevice=use,
        used=used,
    )
    trt = fake_trt()
    modules = {
        "tensorrt": trt,
        "cuda.bindings.runtime": runtime,
        "polygraphy.logger": SimpleNamespace(G_LOGGER=SimpleNamespace()),
        "polygraphy.exception": SimpleNamespace(PolygraphyException=PolygraphyException),
        "polygraphy.backend.trt": FakePolygraphy(),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)  # type: ignore[arg-type]
    return library_of(trt)
