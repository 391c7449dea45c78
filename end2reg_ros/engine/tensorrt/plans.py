"""The plan of a graph: the kept one where it fits, else checked, put into its precision, built and kept."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from end2reg_ros.engine.onnx_files import OnnxGraph
from end2reg_ros.engine.tensorrt.build import BuildSettings, Show, build_plan
from end2reg_ros.engine.tensorrt.cuda_buffers import Cuda
from end2reg_ros.engine.tensorrt.graph_checks import check_graph
from end2reg_ros.engine.tensorrt.mixed_precision import PRECISIONS, assert_precision, precision_of, to_mixed
from end2reg_ros.engine.tensorrt.plan_cache import (
    Found,
    Gpu,
    PlanKey,
    keep_plan,
    keep_timings,
    read_plan,
    read_timings,
)
from end2reg_ros.errors import EngineError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """A plan that is ready to run.

    Attributes:
        key: what it belongs to.
        content: as TensorRT serialises it.
        seconds: of building; 0 for a kept one.
        why: why it was built, in one line; empty for a kept one.
    """

    key: PlanKey
    content: bytes
    seconds: float = 0.0
    why: str = ""


def plan_key(
    graph: str, onnx: OnnxGraph, precision: str, tensorrt: str, gpu: Gpu, settings: BuildSettings
) -> PlanKey:
    """The key of a graph's plan.

    Args:
        graph: scene, scene_small.
        onnx: the graph as it comes, in fp32.
        precision: one of ``mixed_precision.PRECISIONS``.
        tensorrt: version of the library.
        gpu: what it runs on.
        settings: of the build.
    """
    return PlanKey(
        graph=graph,
        profile=onnx.metadata.get("profile", "network"),
        onnx=onnx.hash,
        tensorrt=tensorrt,
        gpu=gpu,
        precision=precision,
        shapes=onnx.metadata.get("sizes", ""),
        settings=settings.text(),
    )


def ready_graph(data: bytes, graph: str, precision: str) -> bytes:
    """A graph as TensorRT is given it: in the precision wanted, checked against the lists, its types asserted.

    Raises:
        EngineError: one line with the first fault and how many there are.
    """
    import onnx

    model = onnx.load_model_from_string(data)
    if precision != precision_of(model):
        if precision not in PRECISIONS:
            raise EngineError(f"unknown precision '{precision}': it is one of {', '.join(PRECISIONS)}")
        model = to_mixed(model)
    faults = check_graph(model)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise EngineError(f"the {graph} graph is none that TensorRT can run: {faults[0]}{more}")
    assert_precision(model)
    return bytes(model.SerializeToString())


def obtain_plan(
    trt: Any,
    cuda: Cuda,
    graph: str,
    onnx: OnnxGraph,
    precision: str,
    settings: BuildSettings,
    show: Show | None = None,
    refused: str = "",
) -> Plan:
    """The plan of a graph.

    Args:
        trt: the module ``tensorrt``.
        graph, onnx, precision, settings: see ``plan_key``.
        show: told how far a build is; None writes it to the log, a line every tenth.
        refused: why the kept plan is of no use; a new one is built.

    Raises:
        EngineError: see ``ready_graph`` and ``build_plan``.
    """
    key = plan_key(graph, onnx, precision, trt.__version__, cuda.gpu, settings)
    found = Found(None, refused) if refused else read_plan(key)
    if found.content is not None:
        return Plan(key, found.content)
    why = (
        found.why
        or f"no plan of the {graph} graph is kept for {cuda.gpu.name} and TensorRT {trt.__version__}"
    )
    _log.warning("%s; building it takes minutes, once", why)
    ready = ready_graph(onnx.data, graph, precision)
    timings = read_timings(cuda.gpu, trt.__version__)
    start = time.monotonic()
    built = build_plan(trt, cuda, ready, precision, settings, timings.content or b"", show or _to_log(graph))
    seconds = time.monotonic() - start
    lines = [timings.why, keep_plan(key, built.plan)]
    if built.timings:
        lines.append(keep_timings(cuda.gpu, trt.__version__, built.timings))
    for line in filter(None, lines):
        _log.warning("%s", line)
    return Plan(key, built.plan, seconds, why)


def _to_log(graph: str) -> Show:
    told = -1

    def show(share: float, phase: str) -> None:
        nonlocal told
        if int(share * 10) > told:
            told = int(share * 10)
            _log.info("building the plan of the %s graph: %d %% (%s)", graph, round(share * 100), phase)

    return show
