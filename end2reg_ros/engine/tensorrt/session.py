"""One plan that runs: its context, the memory of its inputs and outputs, and the recorded sequence of a whole pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from end2reg_ros.engine.tensorrt.build import Messages, make_logger
from end2reg_ros.engine.tensorrt.cuda_buffers import Block, Cuda, Tensor, plan_layout
from end2reg_ros.engine.types import Arrays
from end2reg_ros.errors import EngineError

#: TensorRT's types of inputs and outputs by name.
DTYPES: dict[str, type[np.generic]] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}


class PlanRefused(EngineError):
    """TensorRT does not take a plan: it is to be built anew."""


class TensorrtSession:
    """A plan on a GPU.

    What it takes every time is uploaded with every pass; what it shares with other sessions (the model's side) lies in a
    ``Block`` that is filled elsewhere. The whole pass, from the upload to the download, is recorded once as a CUDA graph
    and then launched as one.

    Attributes:
        inputs, outputs: tensors of each pass; shared: those that lie elsewhere.
        unrecorded: why passes are not launched as one recorded sequence; empty where they are.
    """

    def __init__(self, trt: Any, cuda: Cuda, plan: bytes, graph: str, shared_prefix: str) -> None:
        """Load a plan and make room for it; ``attach`` comes next.

        Args:
            graph: what it is called in errors.
            shared_prefix: inputs of a name that begins so are shared.

        Raises:
            PlanRefused: TensorRT does not take the plan.
            EngineError: too little memory, with figures.
        """
        self._cuda, self._graph = cuda, graph
        self._messages = Messages()
        self._logger = make_logger(trt, self._messages)
        cuda.use()
        try:
            self._runtime = trt.Runtime(self._logger)
        except (TypeError, RuntimeError) as fault:
            raise EngineError(f"TensorRT cannot use this GPU: {self._messages.cause(fault)}") from None
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            if self._messages.lack_memory():
                cuda.demand(len(plan), f"the plan of the {graph} graph")
            raise PlanRefused(f"TensorRT refuses the plan of the {graph} graph: {self._messages.cause()}")
        inputs, self.outputs = self._tensors(trt)
        self.inputs = [t for t in inputs if not t.name.startswith(shared_prefix)]
        self.shared = [t for t in inputs if t.name.startswith(shared_prefix)]
        room = plan_layout(self.inputs).size + plan_layout(self.outputs).size
        cuda.demand(int(self._engine.device_memory_size_v2) + room, f"the {graph} graph")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            needed = int(self._engine.device_memory_size_v2)
            cuda.demand(needed, f"the {graph} graph")
            raise EngineError(f"TensorRT cannot prepare the {graph} graph: {self._messages.cause()}")
        self._stream = cuda.call("cudaStreamCreateWithFlags", int(cuda.runtime.cudaStreamNonBlocking))
        blocks: list[Block] = []
        try:
            for tensors, side in ((self.inputs, "inputs"), (self.outputs, "outputs")):
                blocks.append(Block(cuda, tensors, f"the {graph} graph's {side}"))
        except EngineError:
            for block in blocks:
                block.close()
            cuda.release("cudaStreamDestroy", self._stream)
            raise
        self._in, self._out = blocks
        self._recorded: Any = None
        self.unrecorded = "no pass was made yet"

    def attach(self, shared: Block) -> None:
        """Tell the plan where everything lies.

        Raises:
            EngineError: a tensor that is not there or of other sizes; TensorRT refuses an address.
        """
        for tensor in self.shared:
            if shared.tensors.get(tensor.name) != tensor:
                raise EngineError(
                    f"the {self._graph} graph takes {tensor.name} {list(tensor.shape)}, it is not there"
                )
        places = [(self._in, self.inputs), (self._out, self.outputs), (shared, self.shared)]
        for block, tensors in places:
            for tensor in tensors:
                if not self._context.set_tensor_address(tensor.name, block.address(tensor.name)):
                    raise EngineError(
                        f"TensorRT refuses the memory of {tensor.name}: {self._messages.cause()}"
                    )

    def record(self) -> None:
        """Run once, then record a pass; where CUDA cannot record it, passes go on one step after the other."""
        self._cuda.use()
        self._pass()
        self._wait()
        self._forget()
        self.unrecorded = ""
        try:
            self._recorded = self._captured()
        except EngineError as fault:
            # A failed recording leaves its error behind, for the next call to trip over.
            self._cuda.runtime.cudaGetLastError()
            self.unrecorded = str(fault)

    def run(self, feed: Mapping[str, Any]) -> Arrays:
        """One pass: outputs by name, copies of their own.

        Raises:
            EngineError: inputs that do not fit, or a failure of CUDA or TensorRT.
        """
        self._cuda.use()
        self._in.fill(feed)
        if self._recorded is not None:
            self._cuda.call("cudaGraphLaunch", self._recorded, self._stream)
        else:
            self._pass()
        self._wait()
        return {name: np.array(value) for name, value in self._out.host.items()}

    def upload(self, block: Block) -> None:
        """Bring what is shared to the GPU, and wait for it."""
        self._cuda.use()
        block.upload(self._stream)
        self._wait()

    def close(self) -> None:
        """Let go of everything, last made first."""
        release = self._cuda.release
        release("cudaSetDevice", self._cuda.device)
        release("cudaStreamSynchronize", self._stream)
        self._forget()
        release("cudaStreamDestroy", self._stream)
        self._in.close()
        self._out.close()
        self._context = self._engine = self._runtime = None

    def _pass(self) -> None:
        self._in.upload(self._stream)
        self._messages.errors.clear()
        if not self._context.execute_async_v3(int(self._stream)):
            raise EngineError(f"TensorRT cannot run the {self._graph} graph: {self._messages.cause()}")
        self._out.download(self._stream)

    def _captured(self) -> Any:
        """A pass that can be launched as one."""
        modes = self._cuda.runtime.cudaStreamCaptureMode
        self._cuda.call("cudaStreamBeginCapture", self._stream, modes.cudaStreamCaptureModeThreadLocal)
        try:
            self._pass()
        except EngineError:
            # The stream must leave the recording, whatever becomes of it.
            self._cuda.runtime.cudaStreamEndCapture(self._stream)
            raise
        graph = self._cuda.call("cudaStreamEndCapture", self._stream)
        try:
            return self._cuda.call("cudaGraphInstantiate", graph, 0)
        finally:
            self._cuda.release("cudaGraphDestroy", graph)

    def _wait(self) -> None:
        self._cuda.call("cudaStreamSynchronize", self._stream)

    def _forget(self) -> None:
        if self._recorded is not None:
            self._cuda.release("cudaGraphExecDestroy", self._recorded)
            self._recorded = None

    def _tensors(self, trt: Any) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs and outputs of the plan."""
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []
        for i in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(i)
            kind = self._engine.get_tensor_dtype(name).name
            shape = tuple(int(size) for size in self._engine.get_tensor_shape(name))
            if kind not in DTYPES or any(size < 0 for size in shape):
                raise EngineError(
                    f"{name} of the {self._graph} graph is {kind} {list(shape)}: no fixed tensor of ours"
                )
            side = inputs if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else outputs
            side.append(Tensor(name, shape, np.dtype(DTYPES[kind])))
        return inputs, outputs


def shared_tensors(sessions: Iterable[TensorrtSession]) -> list[Tensor]:
    """What sessions share, each once."""
    return list({t.name: t for session in sessions for t in session.shared}.values())
