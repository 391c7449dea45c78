"""NVIDIA's own ONNX parser on the network's graphs, and what the tool that asks it says of one with an unknown operator.

Needs the wheels that ``tools/check_tensorrt_graphs.py`` installs into build/tensorrt-rtx (``.ci/run`` calls it, and builds plans
of every graph as well); skipped, and says so, without.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx", reason="onnx is absent: run 'make setup'")

from onnx import TensorProto, helper  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / "tools" / "check_tensorrt_graphs.py"

needs_wheels = pytest.mark.skipif(
    not (ROOT / "build" / "tensorrt-rtx" / "tensorrt-rtx.txt").is_file(),
    reason="NVIDIA's parser is absent: run 'tools/check_tensorrt_graphs.py', which installs it",
)


def parsed(*files: Path) -> tuple[int, list[str]]:
    """The tool's exit code, and its lines without the first, which names the library."""
    command = [sys.executable, TOOL, "--parse-only", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    return done.returncode, done.stdout.splitlines()[1:]


def written(folder: Path, operator: str, shape: list[int], **attributes: int) -> Path:
    """A file with one node over a float input (4, 8)."""
    node = helper.make_node(operator, ["x"], ["y"], name=f"part/{operator}_7", **attributes)
    kind = TensorProto.INT64 if operator == "ArgMax" else TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 8] if shape else [4])],
        [helper.make_tensor_value_info("y", kind, shape)],
    )
    file = folder / f"{operator}.onnx"
    file.write_bytes(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
        ).SerializeToString()
    )
    return file


@needs_wheels
@pytest.mark.slow
def test_nvidias_parser_takes_every_graph() -> None:
    code, lines = parsed()
    assert code == 0
    names = [line.split(":")[0] for line in lines]
    assert names == [
        "scene", "scene, fp16 backbone", "scene_small", "scene_small, fp16 backbone", "model", "region",
    ]  # fmt: skip
    assert all(re.search(r": parsed, \d+ layers ", line) for line in lines)


@needs_wheels
def test_what_the_parser_refuses_fails_the_run_with_the_nodes_name(tmp_path: Path) -> None:
    good = written(tmp_path, "Relu", [4, 8])
    unknown = written(tmp_path, "Bernoulli", [4, 8])
    vector = written(tmp_path, "ArgMax", [], axis=0, keepdims=0)  # its input has one axis
    code, lines = parsed(good, unknown, vector)
    assert code == 1
    assert re.match(r"Relu.onnx: parsed, 1 layers ", lines[0])
    for line, name in zip(lines[1:], ("Bernoulli", "ArgMax"), strict=True):
        refused = f"{name}.onnx: REFUSED: TensorRT's parser refuses the {name}.onnx graph: In node 0 with name: part/{name}_7"
        assert line.startswith(refused)
