#!/usr/bin/env python3
"""Give the network's graphs to NVIDIA's own ONNX parser and plan builder, which need no GPU: TensorRT for RTX.

    tools/check_tensorrt_graphs.py                   # the packaged graphs with the shipped weights, in fp32 and mixed precision
    tools/check_tensorrt_graphs.py a.onnx b.onnx     # other files
    tools/check_tensorrt_graphs.py --parse-only      # seconds instead of a minute

Every graph is parsed, and a plan of it built for compute capability 8.6, 8.9 and 12.0 (GeForce RTX 30, 40 and 50), by the code
that engine 'tensorrt' uses. Nothing is run: that takes a GPU. Exit 1 with the node's name when a graph is refused, 3 when the
wheels (requirements/tensorrt-rtx.txt) are not there and pip cannot install them into build/tensorrt-rtx.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements" / "tensorrt-rtx.txt"
WHEELS = ROOT / "build" / "tensorrt-rtx"
CAPABILITIES = [(8, 6), (8, 9), (12, 0)]
ABSENT = 3


def main() -> int:
    """Check; one line a graph."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, help="ONNX files; none: the packaged graphs")
    parser.add_argument("--parse-only", action="store_true", help="build no plans")
    options = parser.parse_args()
    if fault := install():
        print(f"NOT RUN: NVIDIA's parser cannot be had ({fault})", file=sys.stderr)
        return ABSENT
    sys.path.insert(0, str(ROOT))
    sys.path.append(str(WHEELS))
    from end2reg_ros.errors import EngineError

    library = load()
    print(f"TensorRT for RTX {library.version}, no GPU used")
    refused = 0
    for name, data in named(options.files) if options.files else packaged():
        start = time.monotonic()
        try:
            said = parsed(library, name, data) if options.parse_only else built(library, name, data)
        except EngineError as fault:
            refused += 1
            said = f"REFUSED: {fault}"
        print(f"{name}: {said} ({time.monotonic() - start:.1f} s)", flush=True)
    return 1 if refused else 0


def install() -> str:
    """Have the wheels in ``WHEELS``; why they cannot be had, empty when they are there."""
    pins = WHEELS / REQUIREMENTS.name
    if pins.is_file() and pins.read_bytes() == REQUIREMENTS.read_bytes():
        return ""
    shutil.rmtree(WHEELS, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    command += ["--only-binary", ":all:", "--target", str(WHEELS), "-r", str(REQUIREMENTS)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        return errors[-1] if errors else f"pip ended with {done.returncode}"
    shutil.copy(REQUIREMENTS, pins)
    return ""


def load() -> Any:
    """The engine's ``Library`` around TensorRT for RTX."""
    os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1"
    trt = import_module("tensorrt_rtx_bindings")
    sys.modules["tensorrt_rtx"] = trt  # the name that Polygraphy looks for
    from end2reg_ros.engine.tensorrt.library import library_of

    return library_of(trt)


def packaged() -> Iterator[tuple[str, bytes]]:
    """The packaged graphs with the shipped weights; those of a frame also in mixed precision."""
    from end2reg_ros.engine.onnx_files import make_bundle
    from end2reg_ros.engine.tensorrt.engine import SCENES
    from end2reg_ros.engine.tensorrt.mixed_precision import MIXED
    from end2reg_ros.engine.tensorrt.plans import graph_in
    from end2reg_ros.engine.weights_file import read_weights
    from end2reg_ros.registration.weights_path import packaged_weights

    for name, graph in make_bundle(read_weights(packaged_weights())).graphs.items():
        yield name, graph.data
        if name in SCENES:
            yield f"{name}, {MIXED}", graph_in(graph.data, MIXED)


def named(files: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Files by their names."""
    for file in files:
        yield file.name, file.read_bytes()


def parsed(library: Any, name: str, data: bytes) -> str:
    """Parse a graph; raises EngineError with the node that is refused."""
    from end2reg_ros.engine.tensorrt.plans import parse

    _, network, *_ = parse(library, data, name)
    return f"parsed, {network.num_layers} layers"


def built(library: Any, name: str, data: bytes) -> str:
    """Parse a graph and build its plan; raises EngineError with the node that is refused."""
    from end2reg_ros.engine.tensorrt.plans import build_plan

    configure = import_module("polygraphy.backend.tensorrt_rtx").CreateConfigRTX(
        compute_capabilities=CAPABILITIES
    )
    plan = build_plan(library, data, name, configure)
    capabilities = ", ".join(f"{major}.{minor}" for major, minor in CAPABILITIES)
    return f"parsed and built for {capabilities}, {len(plan) / 1e6:.1f} MB"


if __name__ == "__main__":
    raise SystemExit(main())
