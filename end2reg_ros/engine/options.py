"""What is asked of an engine. Imports next to nothing: the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

EngineChoice = Literal["auto", "onnxruntime", "tensorrt", "torch"]


@dataclass(frozen=True)
class EngineOptions:
    """What is asked of an engine. `end2reg engine` takes its options from here."""

    engine: EngineChoice = "auto"
    """What runs the network; auto takes the fastest that is there."""
    weights: Path | None = None
    """Weights file (.safetensors), or a file of `end2reg export` (.onnx). Default: the case's own, else the shipped one."""
    profile: str | None = None
    """Profile that the weights must be of. Default: theirs."""
    device: str = ""
    """cpu or cuda (ONNX Runtime also: tensorrt, its own provider); the engine's own choice when not given."""
    threads: int = 2
    """Threads of the CPU."""
    precision: str = "fp32"
    """fp32, or mixed: half precision in the backbones (engine tensorrt only)."""
