"""ONNX Runtime sessions, from graphs that it has optimised before where those are kept: a third of the time to load."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from end2reg_ros.cache import CacheMiss, cache_folder, seal, unseal, write_atomically
from end2reg_ros.engine.onnx_files import OnnxGraph
from end2reg_ros.errors import EngineError

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

_log = logging.getLogger(__name__)


def providers(device: str, available: list[str]) -> list[str]:
    """ONNX Runtime's providers for a device, the CPU last.

    Raises:
        EngineError: this build does not have the device's.
    """
    wanted = PROVIDERS.get(device)
    if wanted is None:
        raise EngineError(f"ONNX Runtime knows no device '{device}': choose one of {', '.join(PROVIDERS)}")
    if wanted not in available:
        raise EngineError(
            f"this build of ONNX Runtime has no {wanted}: pip install onnxruntime-gpu (in place of onnxruntime)"
        )
    return list(dict.fromkeys([wanted, PROVIDERS["cpu"]]))


def make_session(graph: OnnxGraph, name: str, device: str, threads: int) -> Any:
    """A session of a graph.

    Raises:
        EngineError: bytes that are no graph, or a device that this build does not know.
    """
    import onnxruntime

    chosen = providers(device, onnxruntime.get_available_providers())
    if device != "cpu":
        return _session(graph.data, name, chosen, _options(threads))
    key = {"graph": graph.hash, "onnxruntime": onnxruntime.__version__}
    try:
        path = cache_folder() / "onnxruntime" / f"{graph.hash[:16]}.onnx"
        kept = bytes(unseal(path.read_bytes(), key))
    except (FileNotFoundError, NotADirectoryError):
        return _optimised_and_kept(graph, name, chosen, threads)
    except (CacheMiss, OSError) as why:
        _log.warning("the %s graph kept for ONNX Runtime is not used, but made anew: %s", name, why)
        return _optimised_and_kept(graph, name, chosen, threads)
    options = _options(threads)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return _session(kept, name, chosen, options)


def _optimised_and_kept(graph: OnnxGraph, name: str, chosen: list[str], threads: int) -> Any:
    import onnxruntime

    options = _options(threads)
    # Without what depends on the very CPU: the folder may be shared between machines.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "optimised.onnx"
            options.optimized_model_filepath = str(made)
            session = _session(graph.data, name, chosen, options)
            key = {"graph": graph.hash, "onnxruntime": onnxruntime.__version__}
            path = cache_folder() / "onnxruntime" / f"{graph.hash[:16]}.onnx"
            write_atomically(path, seal(key, made.read_bytes()))
            return session
    except OSError as why:
        _log.warning("the network's graphs are not kept between starts: %s", why)
        return _session(graph.data, name, chosen, _options(threads))


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads spin while a frame is worked on, and sleep between frames: the node shares its cores with the camera.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _session(data: bytes, name: str, chosen: list[str], options: Any) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(data, options, providers=chosen)
    except Exception as fault:  # its exceptions have no common class
        first = " ".join(str(fault).split())[:160]
        raise EngineError(f"the {name} graph cannot be loaded, the file may be cut short: {first}") from None
