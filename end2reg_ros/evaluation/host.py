"""What a result was measured on: no more than is needed to judge a time, nothing that tells whose machine it was."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

#: Packages that decide about poses and times.
PACKAGES = (
    "numpy", "scipy", "open3d", "small-gicp", "kiss-matcher", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt", "torch",
    "rclpy", "ros-jazzy-rclpy", "ros-jazzy-rmw-fastrtps-cpp",
)  # fmt: skip


def processor() -> str:
    """Name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or "unknown"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def system() -> str:
    """System and version of its kernel, major.minor: ``Linux 6.1``. No build, no host."""
    return " ".join([platform.system(), ".".join(platform.release().split("-")[0].split(".")[:2])])


def machine() -> str:
    """Processor, cores and system of this machine, one line."""
    return f"{processor()}, {cores()} cores, {system()}"


def versions() -> dict[str, str]:
    """Name -> version of all that decides about a result: this package, Python, the packages that are installed, ROS 2."""
    from end2reg_ros import __version__

    found = {"end2reg_ros": __version__, "Python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found | ({"ROS 2": os.environ["ROS_DISTRO"]} if "ROS_DISTRO" in os.environ else {})


def command() -> str:
    """The command line of this process."""
    program = Path(sys.argv[0])
    words = ["python", os.path.relpath(program)] if program.suffix == ".py" else [program.name]
    return shlex.join([*words, *sys.argv[1:]])


def environment() -> dict[str, Any]:
    """Machine and versions that a result was made with."""
    return {"system": system(), "processor": processor(), "cpus": cores(), "versions": versions()}


def gpu_memory_mb() -> float | None:
    """Memory in use on all GPUs, MB (10^6 bytes); None where there is none."""
    lines = _nvidia_smi("memory.used")
    return sum(float(line) for line in lines) * 1.048576 if lines else None


def gpu_name() -> str | None:
    """Name of the first GPU."""
    lines = _nvidia_smi("name")
    return lines[0] if lines else None


def _nvidia_smi(what: str) -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
