"""CUDA's runtime as ``cuda.bindings.runtime`` offers it, in this process's memory: a stream runs at once, or records.

Strict where a GPU would fail or lie: copies must lie within one allocation and go the way they say, memory on the "GPU" begins
as noise, and what a stream records does not run until it is launched.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from types import SimpleNamespace
from typing import Any


class Error(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorStreamCaptureUnsupported = 900


class Kind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class Mode(IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


TEXTS = {
    Error.cudaErrorInvalidValue: b"invalid argument",
    Error.cudaErrorMemoryAllocation: b"out of memory",
    Error.cudaErrorInsufficientDriver: b"CUDA driver version is insufficient for CUDA runtime version",
    Error.cudaErrorStreamCaptureUnsupported: b"operation not permitted when stream is capturing",
}
OK = (Error.cudaSuccess,)
Work = Callable[[], None]


@dataclass(eq=False)
class Stream:
    number: int
    recording: list[Work] | None = None

    def __int__(self) -> int:
        return self.number


@dataclass
class FakeRuntime:
    """A module's worth of functions; every one returns its error first, as the package's do."""

    total: int = 8_000_000_000
    free: int = 6_000_000_000
    devices: int = 1
    name: bytes = b"NVIDIA Test 4000\0\0"
    compute: tuple[int, int] = (8, 9)
    no_driver: bool = False
    refuses_to_record: bool = False
    device_memory: dict[int, Any] = field(default_factory=dict)
    host_memory: dict[int, Any] = field(default_factory=dict)
    streams: dict[int, Stream] = field(default_factory=dict)
    graphs: int = 0
    used: list[int] = field(default_factory=list)
    launches: int = 0
    copies: int = 0

    cudaError_t = Error
    cudaMemcpyKind = Kind
    cudaStreamCaptureMode = Mode
    cudaStreamNonBlocking = 1

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return (Error.cudaErrorInsufficientDriver, None) if self.no_driver else (*OK, self.devices)

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        self.used.append(device)
        return OK

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        return *OK, SimpleNamespace(name=self.name, major=self.compute[0], minor=self.compute[1])

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        return *OK, self.free, self.total

    def cudaGetErrorString(self, error: Error) -> tuple[Any, ...]:
        return *OK, TEXTS[error]

    def cudaGetLastError(self) -> tuple[Any, ...]:
        return OK

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if size > self.free:
            return Error.cudaErrorMemoryAllocation, None
        self.free -= size
        return *OK, self._allocate(self.device_memory, size)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        return *OK, self._allocate(self.host_memory, size)

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        self.free += len(self.device_memory.pop(address))
        return OK

    def cudaFreeHost(self, address: int) -> tuple[Any, ...]:
        del self.host_memory[address]
        return OK

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: Kind, stream: Stream) -> tuple[Any, ...]:
        up = kind == Kind.cudaMemcpyHostToDevice
        there, here = (self.device_memory, self.host_memory)[:: 1 if up else -1]
        if not (within(there, to, size) and within(here, source, size)):
            return (Error.cudaErrorInvalidValue,)

        def copy() -> None:
            self.copies += 1
            ctypes.memmove(to, source, size)

        self.enqueue(stream, copy)
        return OK

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        stream = Stream(7000 + len(self.streams))
        self.streams[int(stream)] = stream
        return *OK, stream

    def cudaStreamDestroy(self, stream: Stream) -> tuple[Any, ...]:
        del self.streams[int(stream)]
        return OK

    def cudaStreamSynchronize(self, stream: Stream) -> tuple[Any, ...]:
        return OK if stream.recording is None else (Error.cudaErrorStreamCaptureUnsupported,)

    def cudaStreamBeginCapture(self, stream: Stream, mode: Mode) -> tuple[Any, ...]:
        stream.recording = []
        return OK

    def cudaStreamEndCapture(self, stream: Stream) -> tuple[Any, ...]:
        work, stream.recording = stream.recording, None
        if self.refuses_to_record:
            return Error.cudaErrorStreamCaptureUnsupported, None
        self.graphs += 1
        return *OK, work

    def cudaGraphInstantiate(self, graph: list[Work], flags: int) -> tuple[Any, ...]:
        self.graphs += 1
        return *OK, list(graph)

    def cudaGraphLaunch(self, graph: list[Work], stream: Stream) -> tuple[Any, ...]:
        self.launches += 1
        for work in graph:
            work()
        return OK

    def cudaGraphDestroy(self, graph: list[Work]) -> tuple[Any, ...]:
        self.graphs -= 1
        return OK

    cudaGraphExecDestroy = cudaGraphDestroy

    def enqueue(self, stream: Stream, work: Work) -> None:
        if stream.recording is None:
            work()
        else:
            stream.recording.append(work)

    def held(self) -> int:
        """Things that nobody let go of yet."""
        return len(self.device_memory) + len(self.host_memory) + len(self.streams) + self.graphs

    @staticmethod
    def _allocate(memory: dict[int, Any], size: int) -> int:
        buffer = (ctypes.c_ubyte * size)(*b"\xfb" * min(size, 64))
        ctypes.memset(buffer, 0xFB, size)
        memory[ctypes.addressof(buffer)] = buffer
        return ctypes.addressof(buffer)


def within(memory: dict[int, Any], address: int, size: int) -> bool:
    """Whether a piece lies within one allocation."""
    return any(start <= address and address + size <= start + len(b) for start, b in memory.items())
