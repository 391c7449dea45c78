"""A graph in small with the names and types of the real ones, and its plan: for the tests of the TensorRT engine's parts."""

from __future__ import annotations

from typing import Any

import numpy as np
from fake_tensorrt import FakeTensorrt
from onnx import TensorProto, helper, numpy_helper

from end2reg_ros.engine.onnx_files import OnnxGraph
from end2reg_ros.engine.tensorrt.build import BuildSettings
from end2reg_ros.engine.tensorrt.cuda_buffers import Cuda
from end2reg_ros.engine.tensorrt.plans import obtain_plan

GOOD = {"profile": "realtime", "sizes": '{"scene": [4]}'}
SETTINGS = BuildSettings()
X = np.arange(15, dtype=np.float32).reshape(5, 3) - 7.0
TABLE = np.array([0, 4, 4, 2], np.int32)
SIDE = np.arange(12, dtype=np.float32).reshape(4, 3)
FEED = {"x": X, "table": TABLE, "unused": np.zeros(3)}


def node(kind: str, inputs: str, outputs: str, name: str) -> Any:
    return helper.make_node(kind, inputs.split(), outputs.split(), name=name)


def small(kind: str = "Relu", scale: float = 2.0) -> OnnxGraph:
    """y = relu(x rows(table) W) + model.side, in the names and types of the real graphs."""
    nodes = [
        node("Gather", "x table", "near", "encode/backbone/Gather_0"),
        node("MatMul", "near network.w", "h", "encode/backbone/MatMul_1"),
        node(kind, "h", "r", "encode/backbone/act/Act_2"),
        node("Add", "r model.side", "y", "match/Add_3"),
        node("ReduceSum", "y", "total", "pose/ReduceSum_4"),
    ]
    nodes[-1].attribute.append(helper.make_attribute("keepdims", 0))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [
            value("x", TensorProto.FLOAT, [5, 3]),
            value("table", TensorProto.INT32, [4]),
            value("model.side", TensorProto.FLOAT, [4, 3]),
        ],
        [value("y", TensorProto.FLOAT, [4, 3]), value("total", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(np.eye(3, dtype=np.float32) * scale, "network.w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return OnnxGraph(model.SerializeToString(), dict(GOOD))


def expected(x: Any = X, side: Any = SIDE) -> Any:
    return np.maximum(2.0 * x[TABLE], 0.0) + side


def plan(
    trt: FakeTensorrt, cuda: Cuda, graph: OnnxGraph | None = None, precision: str = "fp32", **more: Any
) -> Any:
    return obtain_plan(trt, cuda, "scene", graph or small(), precision, SETTINGS, **more)
