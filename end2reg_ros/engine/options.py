"""What is asked of an engine. Imports next to nothing: the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

EngineChoice = Literal["auto", "onnxruntime", "tensorrt", "torch"]


@dataclass(frozen=True)
class EngineOptions:
    """What is asked of an engine.

    Attributes:
        engine: what runs the network; auto takes the fastest that is there.
        weights: safetensors file, or an exported ONNX file; None: the caller's choice.
        profile: the profile wanted; None takes that of the weights.
        device: cpu or cuda (ONNX Runtime also: tensorrt, its own provider); empty takes the engine's own.
        threads: of the CPU.
        precision: fp32, or mixed (half precision where the graph says so; TensorRT only).
    """

    engine: EngineChoice = "auto"
    weights: Path | None = None
    profile: str | None = None
    device: str = ""
    threads: int = 2
    precision: str = "fp32"
