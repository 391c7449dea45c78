"""The plan of a graph: the kept one where all that it depends on is the same, else built by TensorRT and kept."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from end2reg_ros.cache import CacheMiss, Key, cache_folder, seal, unseal, write_atomically
from end2reg_ros.engine.onnx_files import OnnxGraph
from end2reg_ros.engine.tensorrt.library import Gpu, Library
from end2reg_ros.engine.tensorrt.mixed_precision import CONVERSION, MIXED, to_mixed

#: Bytes of the GPU that a layer may use for itself.
WORKSPACE = 1 << 30
#: TensorRT's optimisation level, 0 (a fast build) to 5 (a fast plan).
EFFORT = 3

#: Makes TensorRT's ``IBuilderConfig`` from its builder and network.
Configure = Callable[[Any, Any], Any]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlanKey:
    """All that a plan depends on.

    Attributes:
        graph: which graph of the network: scene, scene_small.
        onnx: the graph as it comes, in fp32; its metadata names profile and sizes.
        tensorrt: version of the library.
        gpu: what it is built for.
        precision: ``fp32`` or ``fp16 backbone``.
    """

    graph: str
    onnx: OnnxGraph
    tensorrt: str
    gpu: Gpu
    precision: str

    def parts(self) -> Key:
        """By name, the ones that explain most first: the first that differs is the one that is told."""
        return {
            "GPU": self.gpu.name,
            "compute capability": self.gpu.compute,
            "TensorRT": self.tensorrt,
            "precision": self.precision,
            "graph": self.onnx.hash,
            "shapes": self.onnx.metadata.get("sizes", ""),
            "settings": f"workspace {WORKSPACE}, effort {EFFORT}, no TF32, conversion {CONVERSION}",
        }

    def path(self) -> Path:
        """The one file for this graph, profile and precision on this GPU; a new build takes the old one's place.

        Raises:
            OSError: see ``cache_folder``.
        """
        folder = re.sub(r"[^a-z0-9]+", "-", f"{self.gpu.name} {self.gpu.compute}".lower()).strip("-")
        profile = self.onnx.metadata.get("profile", "network")
        name = f"{profile}-{self.graph}-{self.precision.replace(' ', '-')}.plan"
        return cache_folder() / "plans" / folder / name


@dataclass(frozen=True)
class Plan:
    """A plan that is ready to run.

    Attributes:
        content: as TensorRT serialises it.
        why: why it was built, in one line; empty for a kept one.
    """

    content: bytes
    why: str = ""


def obtain_plan(library: Library, key: PlanKey, refused: str = "") -> Plan:
    """The plan of a graph; one that is built is kept, and a folder that cannot be written costs one line in the log.

    Args:
        refused: why the kept plan is of no use, where that is known already.

    Raises:
        EngineError: the graph cannot be put into the precision, the parser refuses it, or the build fails: one line each.
    """
    content, why = (None, refused) if refused else read_plan(key)
    if content is not None:
        return Plan(content)
    why = why or f"no plan of the {key.graph} graph is kept for {key.gpu.name} and TensorRT {key.tensorrt}"
    _log.warning("%s; building it takes minutes, once", why)
    start = time.monotonic()
    content = build_plan(library, graph_in(key.onnx.data, key.precision), key.graph)
    _log.info("the plan of the %s graph was built in %.0f s", key.graph, time.monotonic() - start)
    try:
        write_atomically(key.path(), seal(key.parts(), content))
    except OSError as fault:
        reason = fault.strerror or fault
        _log.warning(
            "the plan of the %s graph cannot be kept, every start makes it anew: %s", key.graph, reason
        )
    return Plan(content, why)


def read_plan(key: PlanKey) -> tuple[bytes | None, str]:
    """The kept plan; None, and why in one line, where it cannot be used (no line where none is kept)."""
    try:
        return bytes(unseal(key.path().read_bytes(), key.parts())), ""
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except CacheMiss as miss:
        return None, f"the plan kept for the {key.graph} graph is of no use, a new one is made: {miss}"
    except OSError as fault:
        reason = fault.strerror or fault
        return None, f"the plan kept for the {key.graph} graph cannot be read, a new one is made: {reason}"


def graph_in(onnx: bytes, precision: str) -> bytes:
    """An fp32 graph in a precision (``fp32`` or ``fp16 backbone``), serialised.

    Raises:
        EngineError: see ``to_mixed``.
    """
    if precision != MIXED:
        return onnx
    from onnx import load_model_from_string

    return bytes(to_mixed(load_model_from_string(onnx)).SerializeToString())


def parse(library: Library, onnx: bytes, graph: str) -> Any:
    """TensorRT's builder, network and parser of a graph. It is strongly typed: the graph's own types are the precision.

    Raises:
        EngineError: the parser refuses it; the line names the node.
    """
    with library.faults(f"TensorRT's parser refuses the {graph} graph"):
        return library.backend.NetworkFromOnnxBytes(onnx, strongly_typed=True)()


def build_plan(library: Library, onnx: bytes, graph: str, configure: Configure | None = None) -> bytes:
    """Parse and build.

    Args:
        configure: how it is built; None takes ``WORKSPACE`` and ``EFFORT`` for this GPU.

    Returns:
        the plan as TensorRT serialises it.

    Raises:
        EngineError: the parser refuses the graph, or the build fails.
    """
    parsed = parse(library, onnx, graph)

    def configured(builder: Any, network: Any) -> Any:
        limits = {library.trt.MemoryPoolType.WORKSPACE: WORKSPACE}
        create = configure or library.backend.CreateConfig(
            memory_pool_limits=limits, builder_optimization_level=EFFORT
        )
        config = create(builder, network)
        config.clear_flag(library.trt.BuilderFlag.TF32)  # fp32 parts keep their 24 bits
        return config

    with library.faults(f"TensorRT cannot build the {graph} graph"):
        return bytes(library.backend.EngineBytesFromNetwork(parsed, config=configured)())
