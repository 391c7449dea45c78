"""CUDA's runtime with every call checked, and the memory that a graph's tensors live in.

Tensors that travel together lie side by side, once in page-locked memory and once on the GPU: one copy moves them all.
The calls go to ``cuda.bindings.runtime`` of the package cuda-bindings; ``plan_layout`` needs none of it.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from end2reg_ros.engine.tensorrt.plan_cache import Gpu
from end2reg_ros.engine.types import Arrays
from end2reg_ros.errors import EngineError

INSTALL = "pip install -r requirements/tensorrt.txt"
#: Bytes: CUDA's own allocations begin at multiples of this, TensorRT wants no less of a tensor.
ALIGNMENT = 256


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True)
class Layout:
    """Where tensors lie in one piece of memory: offset of each by name, and the bytes of all."""

    offsets: dict[str, int]
    size: int


def plan_layout(tensors: Iterable[Tensor], alignment: int = ALIGNMENT) -> Layout:
    """One after the other, each at a multiple of ``alignment``."""
    offsets, end = {}, 0
    for tensor in tensors:
        offsets[tensor.name] = end
        end += -(-max(tensor.nbytes, 1) // alignment) * alignment
    return Layout(offsets, end)


def out_of_memory(purpose: str, needed: int, free: int, total: int) -> EngineError:
    """The one line about memory that is not there; all in bytes."""
    return EngineError(
        f"not enough GPU memory for {purpose}: {_mb(needed)} needed, {_mb(free)} of {_mb(total)} free; "
        "close other programs on the GPU, or choose engine 'onnxruntime'"
    )


def _mb(size: int) -> str:
    return f"{max(1, round(size / 1e6))} MB"


class Cuda:
    """CUDA's runtime on one device.

    Attributes:
        runtime: the module ``cuda.bindings.runtime``.
        device: number of the GPU.
        gpu: what it is.
    """

    def __init__(self, runtime: Any, device: int = 0) -> None:
        """Take a GPU.

        Raises:
            EngineError: no driver, no GPU, or none of that number.
        """
        self.runtime, self.device = runtime, device
        error, count = runtime.cudaGetDeviceCount()
        if int(error) != 0 or count < 1:
            raise EngineError(
                f"no NVIDIA GPU can be used: {self._text(error) if int(error) else 'none is there'}"
            )
        if device >= count:
            raise EngineError(f"there is no GPU {device}: this computer has {count}, numbered from 0")
        self.use()
        found = self.call("cudaGetDeviceProperties", device)
        name = found.name.decode(errors="replace") if isinstance(found.name, bytes) else str(found.name)
        self.gpu = Gpu(name.strip("\0 "), f"{found.major}.{found.minor}")

    def use(self) -> None:
        """Make it this thread's device: every thread that calls CUDA has its own."""
        self.call("cudaSetDevice", self.device)

    def call(self, name: str, *arguments: Any) -> Any:
        """A function of the runtime by name; returns what it gives besides its error code.

        Raises:
            EngineError: the code was none of success, in one line.
        """
        error, *results = getattr(self.runtime, name)(*arguments)
        if int(error) != 0:
            raise EngineError(f"CUDA's {name} failed: {self._text(error)}")
        return results[0] if len(results) == 1 else tuple(results) if results else None

    def release(self, name: str, *arguments: Any) -> None:
        """The same to let go of something: a GPU that failed before fails here again, which says nothing new."""
        with contextlib.suppress(EngineError):
            self.call(name, *arguments)

    def memory(self) -> tuple[int, int]:
        """Bytes that are free, and that the GPU has."""
        free, total = self.call("cudaMemGetInfo")
        return int(free), int(total)

    def demand(self, needed: int, purpose: str) -> None:
        """Refuse in one line what will not fit.

        Raises:
            EngineError: fewer bytes are free than are needed.
        """
        free, total = self.memory()
        if needed > free:
            raise out_of_memory(purpose, needed, free, total)

    def allocate(self, size: int, purpose: str) -> int:
        """Memory on the GPU; its address.

        Raises:
            EngineError: there is too little, with figures.
        """
        error, address = self.runtime.cudaMalloc(size)
        if int(error) == int(self.runtime.cudaError_t.cudaErrorMemoryAllocation):
            raise out_of_memory(purpose, size, *self.memory())
        if int(error) != 0:
            raise EngineError(f"CUDA's cudaMalloc failed: {self._text(error)}")
        return int(address)

    def _text(self, error: Any) -> str:
        _, text = self.runtime.cudaGetErrorString(error)
        return text.decode(errors="replace") if isinstance(text, bytes) else str(text)


def load_cuda(device: int = 0) -> Cuda:
    """CUDA on a GPU.

    Raises:
        EngineError: the package is missing, or there is no GPU to use.
    """
    try:
        from cuda.bindings import runtime
    except ImportError as fault:
        raise EngineError(f"engine 'tensorrt' needs the package cuda-bindings ({fault}): {INSTALL}") from None
    return Cuda(runtime, device)


class Block:
    """Tensors that travel together: views of page-locked memory by name, and their addresses on the GPU."""

    def __init__(self, cuda: Cuda, tensors: Iterable[Tensor], purpose: str) -> None:
        """Allocate both; the page-locked memory is filled with zeros.

        Raises:
            EngineError: there is too little memory.
        """
        self.tensors = {t.name: t for t in tensors}
        self._cuda, self._layout = cuda, plan_layout(self.tensors.values())
        size = max(self._layout.size, 1)
        self._device = cuda.allocate(size, purpose)
        try:
            self._pinned = int(cuda.call("cudaHostAlloc", size, 0))
        except EngineError:
            cuda.release("cudaFree", self._device)
            raise
        ctypes.memset(self._pinned, 0, size)
        raw = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self._pinned))
        self.host: Arrays = {}
        for name, tensor in self.tensors.items():
            start = self._layout.offsets[name]
            self.host[name] = raw[start : start + tensor.nbytes].view(tensor.dtype).reshape(tensor.shape)

    def address(self, name: str) -> int:
        """Address of a tensor on the GPU."""
        return self._device + self._layout.offsets[name]

    def fill(self, arrays: Mapping[str, Any]) -> None:
        """Copy arrays into the page-locked memory.

        Raises:
            EngineError: one is missing, or of other sizes or another type than the graph's.
        """
        for name, tensor in self.tensors.items():
            value = arrays.get(name)
            if value is None:
                raise EngineError(f"input {name} of the graph is not given")
            given = np.asarray(value)
            if given.shape != tensor.shape or given.dtype != tensor.dtype:
                raise EngineError(
                    f"input {name} is {given.dtype} {list(given.shape)}, "
                    f"the graph takes {tensor.dtype} {list(tensor.shape)}"
                )
            np.copyto(self.host[name], given)

    def upload(self, stream: Any) -> None:
        """To the GPU, in a stream's order."""
        kind = self._cuda.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._cuda.call("cudaMemcpyAsync", self._device, self._pinned, self._layout.size, kind, stream)

    def download(self, stream: Any) -> None:
        """From the GPU, in a stream's order."""
        kind = self._cuda.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._cuda.call("cudaMemcpyAsync", self._pinned, self._device, self._layout.size, kind, stream)

    def close(self) -> None:
        """Let go of the memory; the views are no more."""
        if self._device:
            self.host = {}
            self._cuda.release("cudaFree", self._device)
            self._cuda.release("cudaFreeHost", self._pinned)
            self._device = 0
