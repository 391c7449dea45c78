"""The package tensorrt: whether it is there, which one, and what may be asked of it. Imports it only when it is asked for."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

from end2reg_ros.engine.tensorrt.cuda_buffers import INSTALL
from end2reg_ros.engine.tensorrt.mixed_precision import PRECISIONS
from end2reg_ros.errors import EngineError

#: What ``EngineOptions.precision`` asks for, as a graph's metadata says it.
PRECISION_OF = {"fp32": PRECISIONS[0], "mixed": PRECISIONS[1]}
#: Major versions of TensorRT that this is written for.
MAJORS = (10, 11)


def missing_packages() -> list[str]:
    """Packages that this engine needs and that are not installed; nothing is imported to find out."""
    missing = [] if find_spec("tensorrt") else ["tensorrt"]
    try:
        found = find_spec("cuda.bindings")
    except ModuleNotFoundError:
        found = None
    return missing if found else [*missing, "cuda-bindings"]


def load_library() -> Any:
    """The module ``tensorrt``.

    Raises:
        EngineError: it is missing, its libraries are, or it is of a version that this is not written for.
    """
    try:
        import tensorrt
    except (ImportError, OSError) as fault:
        reason = " ".join(str(fault).split())
        raise EngineError(f"engine 'tensorrt' needs the package tensorrt ({reason}): {INSTALL}") from None
    major = tensorrt.__version__.partition(".")[0]
    if major not in map(str, MAJORS):
        known = " or ".join(f"{m}.x" for m in MAJORS)
        raise EngineError(f"TensorRT {tensorrt.__version__} is not supported, {known} is: {INSTALL}")
    return tensorrt


def precision_named(name: str) -> str:
    """A precision by the name that options give it, as a graph's metadata says it.

    Raises:
        EngineError: an unknown name.
    """
    if name not in PRECISION_OF:
        raise EngineError(f"unknown precision '{name}': choose one of {', '.join(PRECISION_OF)}")
    return PRECISION_OF[name]


def gpu_number(device: str) -> int:
    """The GPU of a device's name: empty or cuda for the first, cuda:1 for the second.

    Raises:
        EngineError: another name.
    """
    match = re.fullmatch(r"(?:cuda(?::(\d+))?)?", device)
    if match is None:
        raise EngineError(f"engine 'tensorrt' runs on an NVIDIA GPU (cuda, cuda:1), not on '{device}'")
    return int(match[1] or 0)
