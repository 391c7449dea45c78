"""Which engine runs a weights file. Imports what runs it only when it is asked for."""

from __future__ import annotations

from pathlib import Path

from end2reg_ros.engine.types import Engine
from end2reg_ros.errors import EngineError


def load_engine(weights: Path, profile: str | None = None, device: str = "cpu", threads: int = 1) -> Engine:
    """An engine for a weights file.

    Args:
        weights: safetensors file.
        profile: the profile wanted; None takes that of the weights.
        device: cpu or cuda.
        threads: of the CPU.

    Raises:
        EngineError: what runs the network is not installed, or lacks the device.
        WeightsError: a file that cannot be used.
    """
    try:
        from end2reg_ros.engine.torch_engine import TorchEngine
    except ImportError as fault:
        raise EngineError(
            f"the learned method needs torch and safetensors ({fault}): `make setup-train` installs them"
        ) from None
    return TorchEngine(weights, profile, device, threads)
