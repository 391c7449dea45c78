"""TensorRT, Polygraphy (NVIDIA's own library around it) and the GPU; nothing is imported before it is asked for."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from end2reg_ros.engine.tensorrt.mixed_precision import FULL, MIXED
from end2reg_ros.errors import EngineError

INSTALL = "pip install -r requirements/tensorrt.txt"
#: What is imported, and the package that brings it.
PACKAGES = {"tensorrt": "tensorrt", "polygraphy": "polygraphy", "cuda.bindings": "cuda-bindings"}
#: Major versions of TensorRT that this is written for.
MAJORS = ("10", "11")
#: What ``EngineOptions.precision`` asks for, as a graph's metadata and an engine's information say it.
PRECISION_OF = {"fp32": FULL, "mixed": MIXED}
#: Of TensorRT's messages, which may fill a screen, this many characters are told.
_LONGEST = 300

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gpu:
    """A GPU: its number, name and compute capability (``8.9``)."""

    number: int
    name: str
    compute: str

    def use(self) -> None:
        """Make it the calling thread's device: every thread that calls CUDA has its own."""
        _cuda_call("cudaSetDevice", self.number)


@dataclass(frozen=True)
class Library:
    """What builds and runs plans.

    Attributes:
        version: of TensorRT.
        trt: the module ``tensorrt``.
        backend: Polygraphy's loaders and runner for it (``polygraphy.backend.trt``).
    """

    version: str
    trt: Any
    backend: Any

    @contextlib.contextmanager
    def faults(self, what: str) -> Iterator[None]:
        """Turn what goes wrong inside into one line: ``what``, then the first cause that TensorRT names.

        Raises:
            EngineError: instead of the exceptions of Polygraphy, of TensorRT's bindings and of a library that is missing.
        """
        from polygraphy.exception import PolygraphyException

        _messages.errors.clear()
        try:
            yield
        except (PolygraphyException, TypeError, RuntimeError, OSError) as fault:
            raise EngineError(f"{what}: {_messages.cause(fault)}") from None


class _Messages(logging.Handler):
    """What TensorRT says through Polygraphy: warnings go to the log, errors are kept for the one line that is raised."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = re.sub(r"^\[\w\] ", "", " ".join(record.getMessage().split()))
        if record.levelno < logging.ERROR:
            _log.warning("TensorRT: %s", line)
        elif record.levelno < logging.CRITICAL:  # those say no more than the exception
            self.errors.append(line)

    def cause(self, otherwise: object) -> str:
        """The error that names a node of the graph, else the first one: the later ones follow from it."""
        named = [line for line in self.errors if line.startswith("In node ")]
        line = (named or self.errors or [" ".join(str(otherwise).split())])[0]
        return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


_messages = _Messages()


def missing_packages() -> list[str]:
    """Packages that this engine needs and that are not installed; nothing of them is imported to find out."""
    return [package for module, package in PACKAGES.items() if not _is_there(module)]


def load_library() -> Library:
    """TensorRT and Polygraphy.

    Raises:
        EngineError: a package or its shared libraries are missing, or TensorRT is of a version that this is not written for.
    """
    trt = _imported("tensorrt", "tensorrt")
    if trt.__version__.partition(".")[0] not in MAJORS:
        known = " or ".join(f"{major}.x" for major in MAJORS)
        raise EngineError(f"TensorRT {trt.__version__} is not supported, {known} is: {INSTALL}")
    return library_of(trt)


def library_of(trt: Any) -> Library:
    """Polygraphy around a module ``tensorrt``, or ``tensorrt_rtx`` where ``POLYGRAPHY_USE_TENSORRT_RTX`` says so.

    Raises:
        EngineError: Polygraphy is missing.
    """
    _show_cuda_runtime()
    logger = _imported("polygraphy.logger", "polygraphy").G_LOGGER
    logger.use_python_logging_system, logger.colors = True, False
    backend = import_module("polygraphy.backend.trt")
    taken = logging.getLogger("Polygraphy")
    taken.propagate = False
    if _messages not in taken.handlers:
        taken.addHandler(_messages)
    return Library(str(trt.__version__), trt, backend)


def find_gpu(device: str) -> Gpu:
    """The GPU of a device's name: empty or cuda for the first, cuda:1 for the second.

    Raises:
        EngineError: another name, a missing package, no driver, no GPU, or none of that number.
    """
    match = re.fullmatch(r"(?:cuda(?::(\d+))?)?", device)
    if match is None:
        raise EngineError(f"engine 'tensorrt' runs on an NVIDIA GPU (cuda, cuda:1), not on '{device}'")
    number = int(match[1] or 0)
    try:
        count = int(_cuda_call("cudaGetDeviceCount"))
    except CudaFault as fault:
        raise EngineError(f"no NVIDIA GPU can be used: {fault}") from None
    if number >= count:
        raise EngineError(f"there is no GPU {number}: this computer has {count}, numbered from 0")
    found = _cuda_call("cudaGetDeviceProperties", number)
    return Gpu(number, found.name.decode(errors="replace").strip("\0 "), f"{found.major}.{found.minor}")


def precision_named(name: str) -> str:
    """A precision by the name that options give it, as graphs and engines tell it.

    Raises:
        EngineError: an unknown name.
    """
    if name not in PRECISION_OF:
        raise EngineError(f"unknown precision '{name}': choose one of {', '.join(PRECISION_OF)}")
    return PRECISION_OF[name]


class CudaFault(EngineError):
    """A call of CUDA's runtime that failed."""


def _cuda_call(name: str, *arguments: Any) -> Any:
    """A function of CUDA's runtime by name; returns what it gives besides its error code."""
    error, *results = getattr(_imported("cuda.bindings.runtime", "cuda-bindings"), name)(*arguments)
    if int(error) != 0:
        raise CudaFault(f"{name} gives {error.name}")
    return results[0] if results else None


def _imported(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except (ImportError, OSError) as fault:
        reason = " ".join(str(fault).split())
        raise EngineError(f"engine 'tensorrt' needs the package {package} ({reason}): {INSTALL}") from None


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of its parent
        return False


def _show_cuda_runtime() -> None:
    """Put CUDA's runtime where Polygraphy looks for it: since CUDA 13 its wheel lies in another folder."""
    spec = find_spec("nvidia")
    roots = [Path(root) for root in (spec.submodule_search_locations if spec else None) or []]
    folders = {str(file.parent) for root in roots for file in root.glob("*/lib/libcudart.so*")}
    known = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [*known, *sorted(folders - set(known))]))
