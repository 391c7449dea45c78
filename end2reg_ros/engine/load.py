"""Which engine runs a network, and why. Imports what runs it only when it is asked for."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from end2reg_ros.engine.options import EngineChoice, EngineOptions
from end2reg_ros.engine.tensorrt.library import missing_packages
from end2reg_ros.engine.types import Engine
from end2reg_ros.errors import EngineError, has_training_parts, missing_training_parts

NVIDIA = (Path("/proc/driver/nvidia/version"), Path("/dev/nvhost-gpu"))


def load_engine(options: EngineOptions) -> Engine:
    """An engine for a weights file, its model side not set yet.

    Raises:
        EngineError: what runs the network is not installed, or lacks the device; a file that does not fit.
        WeightsError: weights that cannot be used.
    """
    if options.weights is None:
        raise EngineError("no weights were given")
    name, why = options.engine, ""
    if name == "auto":
        name, why = choose_engine(options.device)
    engine = _load(name, options, options.weights)
    engine.info = replace(engine.info, why=why)
    return engine


def choose_engine(device: str = "") -> tuple[EngineChoice, str]:
    """The fastest engine that is there, and why.

    Args:
        device: cpu keeps to the CPU, cuda to the GPU; empty takes what there is.

    Raises:
        EngineError: none is there.
    """
    gpu = has_nvidia_gpu()
    if not gpu and device not in ("", "cpu"):
        raise EngineError(f"device '{device}' was asked for, and no NVIDIA GPU is there")
    if device not in ("", "cpu") or (gpu and device != "cpu"):
        if not missing_packages():
            return "tensorrt", "an NVIDIA GPU and TensorRT are there"
        if has_torch():
            return "torch", "an NVIDIA GPU is there, TensorRT is not: torch runs it"
    if find_spec("onnxruntime") is not None:
        reason = "the CPU was asked for" if device == "cpu" else "no NVIDIA GPU is there"
        if gpu and device != "cpu":
            reason = "neither TensorRT nor torch is there for the NVIDIA GPU"
        return "onnxruntime", f"{reason}: ONNX Runtime is the fastest on the CPU"
    if has_torch():
        return "torch", "ONNX Runtime is not installed: torch runs the network on the CPU"
    raise EngineError("nothing is there to run the network: pip install onnxruntime")


def has_torch() -> bool:
    """Whether torch is there, and what of this package runs on it; nothing is imported to find out."""
    return find_spec("torch") is not None and has_training_parts()


def has_nvidia_gpu() -> bool:
    """Whether an NVIDIA driver is loaded; nothing is imported to find out."""
    return any(path.exists() for path in NVIDIA)


def _load(name: EngineChoice, options: EngineOptions, weights: Path) -> Engine:
    if name == "tensorrt":
        from end2reg_ros.engine.tensorrt.engine import load_tensorrt

        return load_tensorrt(options)
    if name == "onnxruntime":
        if find_spec("onnxruntime") is None:
            raise EngineError("engine 'onnxruntime' needs a package that is missing: pip install onnxruntime")
        from end2reg_ros.engine.bundle_store import load_bundle
        from end2reg_ros.engine.onnx_engine import OnnxEngine

        bundle = load_bundle(weights, options.profile)
        return OnnxEngine(bundle, options.profile, options.device or "cpu", options.threads)
    if weights.suffix == ".onnx":
        raise EngineError("engine 'torch' runs weights (safetensors), not an exported ONNX file")
    try:
        from end2reg_ros.engine.torch_engine import TorchEngine
    except ImportError as fault:
        text = f"engine 'torch' needs torch and safetensors ({fault}): `make setup-train` installs them"
        raise EngineError(missing_training_parts(fault) or text) from None
    device = options.device or ("cuda" if has_nvidia_gpu() else "cpu")
    return TorchEngine(weights, options.profile, device, options.threads)
