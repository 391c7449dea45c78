"""The module ``tensorrt`` as far as this project calls it: plans are ONNX files that ONNX Runtime calculates.

Built like the real one where that matters: the bit of STRONGLY_TYPED differs between 10 and 11, what cannot be made is None
with the reason in the logger, a plan of another version is refused, contexts read and write at addresses.
"""

from __future__ import annotations

import ctypes
import json
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any

import numpy as np
import onnx
import onnxruntime
from fake_cuda import FakeRuntime, within
from onnx import TensorProto, shape_inference

NUMPY = {TensorProto.FLOAT: np.float32, TensorProto.INT32: np.int32, TensorProto.FLOAT16: np.float16}
NAMES = {TensorProto.FLOAT: "FLOAT", TensorProto.FLOAT16: "HALF", TensorProto.INT32: "INT32"}


class DataType(Enum):
    FLOAT = 0
    HALF = 1
    INT32 = 3
    INT64 = 8
    BOOL = 4


class TensorIOMode(Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class Severity(Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3


class MemoryPoolType(Enum):
    WORKSPACE = 0


class BuilderFlag(Enum):
    TF32 = 7


class ILogger:
    def __init__(self) -> None:
        self.ready = True

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def __init__(self) -> None:
        self.ready = True


@dataclass
class Layer:
    name: str
    types: list[DataType]

    @property
    def num_outputs(self) -> int:
        return len(self.types)

    def get_output(self, i: int) -> Any:
        return type("Tensor", (), {"dtype": self.types[i]})


@dataclass
class Network:
    flags: int
    layers: list[Layer] = field(default_factory=list)
    content: bytes = b""

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_layer(self, i: int) -> Layer:
        return self.layers[i]


@dataclass
class ParserError:
    operator: str
    name: str
    text: str

    def node_operator(self) -> str:
        return self.operator

    def node_name(self) -> str:
        return self.name

    def desc(self) -> str:
        return self.text


class TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytearray:
        return bytearray(self.content + b"t")


@dataclass
class Config:
    fake: FakeTensorrt
    flags: set[BuilderFlag] = field(default_factory=lambda: {BuilderFlag.TF32})
    pools: dict[Any, int] = field(default_factory=dict)
    builder_optimization_level: int = 3
    progress_monitor: Any = None
    cache: TimingCache | None = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        self.pools[pool] = size

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def create_timing_cache(self, content: bytes) -> TimingCache:
        return TimingCache(content)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        if not ignore_mismatch and self.fake.refuses_timings and cache.content:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> TimingCache | None:
        return self.cache


@dataclass
class FakeTensorrt:
    """The module of a version on a GPU.

    Attributes:
        build_error: what a build says before it gives nothing; None for a build that succeeds.
        refuses: what is said of every plan; None takes those of this version.
        no_context: no context can be made.
        no_execution: a context refuses to run.
        half_layer: a layer that the parser puts into fp16 whatever the graph says.
        context_bytes: what a context takes of the GPU.
        steps: of builds so far, forty a build.
    """

    cuda: FakeRuntime
    version: str = "11.4.0.106"
    build_error: str | None = None
    refuses: str | None = None
    no_builder: str | None = None
    no_context: bool = False
    no_execution: bool = False
    half_layer: str | None = None
    refuses_timings: bool = False
    context_bytes: int = 50_000_000
    steps: int = 0
    builds: list[Config] = field(default_factory=list)
    timings: list[bytes] = field(default_factory=list)

    ILogger = ILogger
    IProgressMonitor = IProgressMonitor
    DataType = DataType
    TensorIOMode = TensorIOMode
    MemoryPoolType = MemoryPoolType
    BuilderFlag = BuilderFlag

    def __post_init__(self) -> None:
        strongly_typed = 0 if self.version.startswith("11") else 1
        self.NetworkDefinitionCreationFlag = IntEnum("Flags", [("STRONGLY_TYPED", strongly_typed)])

    @property
    def __version__(self) -> str:
        return self.version

    def Builder(self, logger: Any) -> Builder:
        assert logger.ready
        if self.no_builder is not None:
            logger.log(Severity.ERROR, self.no_builder)
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return Builder(self, logger)

    def OnnxParser(self, network: Network, logger: Any) -> Parser:
        return Parser(self, network)

    def Runtime(self, logger: Any) -> Runtime:
        return Runtime(self, logger)


@dataclass
class Builder:
    fake: FakeTensorrt
    logger: Any

    def create_network(self, flags: int) -> Network:
        assert flags == 1 << int(self.fake.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        return Network(flags)

    def create_builder_config(self) -> Config:
        return Config(self.fake)

    def build_serialized_network(self, network: Network, config: Config) -> bytearray | None:
        self.fake.builds.append(config)
        self.fake.timings.append(config.cache.content if config.cache else b"")
        monitor = config.progress_monitor
        monitor.phase_start("Building Engine", None, 4)
        for step in range(4):
            monitor.phase_start("Timing Graph Nodes", "Building Engine", 10)
            for inner in range(10):
                self.fake.steps += 1
                if not monitor.step_complete("Timing Graph Nodes", inner):
                    return None
            monitor.phase_finish("Timing Graph Nodes")
            monitor.step_complete("Building Engine", step)
        monitor.phase_finish("Building Engine")
        if self.fake.build_error is not None:
            self.logger.log(Severity.WARNING, "a warning before")
            self.logger.log(Severity.ERROR, self.fake.build_error)
            self.logger.log(Severity.INTERNAL_ERROR, "Assertion engine failed")
            return None
        return bytearray(json.dumps({"version": self.fake.version}).encode() + b"\n" + network.content)


@dataclass
class Parser:
    fake: FakeTensorrt
    network: Network
    errors: list[ParserError] = field(default_factory=list)

    def parse(self, content: bytes) -> bool:
        model = onnx.load_model_from_string(content)
        graph = shape_inference.infer_shapes(model, strict_mode=True).graph
        types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
        for node in graph.node:
            if node.op_type == "Erf":  # supported by the real one; here it stands for what is not
                self.errors.append(ParserError("Erf", node.name, "no importer\nregistered for op"))
            kinds = [DataType[NAMES.get(types.get(o, 1), "INT64")] for o in node.output]
            half = [DataType.HALF] if node.name == self.fake.half_layer else kinds
            self.network.layers.append(Layer(node.name, half))
        self.network.content = content
        return not self.errors

    @property
    def num_errors(self) -> int:
        return len(self.errors)

    def get_error(self, i: int) -> ParserError:
        return self.errors[i]


@dataclass
class Runtime:
    fake: FakeTensorrt
    logger: Any

    def deserialize_cuda_engine(self, plan: bytes) -> CudaEngine | None:
        head, _, content = plan.partition(b"\n")
        if self.fake.refuses is not None:
            self.logger.log(Severity.ERROR, self.fake.refuses)
            self.fake.refuses = None
            return None
        if json.loads(head)["version"] != self.fake.version:
            self.logger.log(
                Severity.ERROR, "The engine plan file is not compatible with this version of TensorRT"
            )
            return None
        return CudaEngine(self.fake, self.logger, onnx.load_model_from_string(content))


@dataclass
class CudaEngine:
    fake: FakeTensorrt
    logger: Any
    model: Any

    def __post_init__(self) -> None:
        graph = self.model.graph
        sides = ((TensorIOMode.INPUT, graph.input), (TensorIOMode.OUTPUT, graph.output))
        self.tensors = {v.name: (mode, v.type.tensor_type) for mode, values in sides for v in values}

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    @property
    def device_memory_size_v2(self) -> int:
        return self.fake.context_bytes

    def get_tensor_name(self, i: int) -> str:
        return list(self.tensors)[i]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self.tensors[name][0]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in self.tensors[name][1].shape.dim)

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[NAMES[self.tensors[name][1].elem_type]]

    def create_execution_context(self) -> Context | None:
        if self.fake.no_context:
            self.logger.log(Severity.ERROR, "no kernel image is available")
            return None
        return Context(self)


class Context:
    def __init__(self, engine: CudaEngine) -> None:
        self.engine = engine
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        self.session = onnxruntime.InferenceSession(
            engine.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.addresses: dict[str, int] = {}
        self.executions = 0

    def set_tensor_address(self, name: str, address: int) -> bool:
        size = self._array(name, None).nbytes
        if not within(self.engine.fake.cuda.device_memory, address, size):
            return False
        self.addresses[name] = address
        return True

    def execute_async_v3(self, handle: int) -> bool:
        cuda = self.engine.fake.cuda
        if self.engine.fake.no_execution:
            self.engine.logger.log(Severity.ERROR, "Error Code 1: Cask (Cask convolution execution)")
            return False
        cuda.enqueue(cuda.streams[handle], self._execute)
        return True

    def _execute(self) -> None:
        self.executions += 1
        modes = {n: mode for n, (mode, _) in self.engine.tensors.items()}
        feed = {n: self._array(n, self.addresses[n]) for n in modes if modes[n] == TensorIOMode.INPUT}
        names = [n for n in modes if modes[n] == TensorIOMode.OUTPUT]
        for name, value in zip(names, self.session.run(names, feed), strict=True):
            np.copyto(self._array(name, self.addresses[name]), value)

    def _array(self, name: str, address: int | None) -> Any:
        shape = self.engine.get_tensor_shape(name)
        dtype = np.dtype(NUMPY[self.engine.tensors[name][1].elem_type])
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if address is None:
            return np.empty(shape, dtype)
        raw = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        return raw.view(dtype).reshape(shape)
