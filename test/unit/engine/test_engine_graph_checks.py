"""Graphs against what TensorRT's parsers list: ours have no fault, every kind of fault is found and named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is absent")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from end2reg_ros.engine.graph_io import GRAPHS, OPSET, template_path  # noqa: E402
from end2reg_ros.engine.tensorrt.graph_checks import check_graph  # noqa: E402
from end2reg_ros.engine.tensorrt.operators import (  # noqa: E402
    AVOIDED,
    CONSTANT_INPUTS,
    DATA_INPUT,
    INSTEAD,
    OPSETS,
    SUPPORTED,
    TOPK_LIMIT,
)

FLOAT, INT32, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL
Value = tuple[str, int, Sequence[int | str | None] | None]


def value(name: str, kind: int, shape: Sequence[int | str | None] | None) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def graph(
    nodes: list[Any],
    inputs: Sequence[Value] = (("x", FLOAT, [4, 8]),),
    outputs: Sequence[Value] = (("y", FLOAT, [4, 8]),),
    opset: int = OPSET,
    **constants: Any,
) -> Any:
    held = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    made = helper.make_graph(nodes, "g", [value(*v) for v in inputs], [value(*v) for v in outputs], held)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)])


def node(kind: str, inputs: str = "x", outputs: str = "y", name: str = "part/node", **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), outputs.split(), name=name, **attributes)


def test_a_plain_graph_has_no_fault_and_is_left_as_it_was() -> None:
    model = graph([node("Relu", "x", "r"), node("Add", "r b", "y")], b=np.ones(8, np.float32))
    before = model.SerializeToString()
    assert check_graph(model) == []
    assert model.SerializeToString() == before


@pytest.mark.parametrize("name", GRAPHS)
def test_the_packaged_graphs_have_no_fault(name: str) -> None:
    path = template_path("realtime", name)
    assert path.is_file()
    model = onnx.load_model(path)
    assert len(model.graph.node) > 30
    assert check_graph(model) == []
    # The check does look at every node of them: one that is changed is found.
    model.graph.node[len(model.graph.node) // 2].op_type = "Det"
    assert any("Det" in fault for fault in check_graph(model))


def topk(k: int, **attributes: int) -> Any:
    nodes = [node("TopK", "x k", "y i", **attributes)]
    size = TOPK_LIMIT + 5
    inputs = [("x", FLOAT, [size])]
    return graph(nodes, inputs, [("y", FLOAT, [k]), ("i", INT64, [k])], k=np.array([k], np.int64))


FAULTS = {
    "unsupported": (
        graph([node("Det", "x", "y")], [("x", FLOAT, [2, 4, 4])], [("y", FLOAT, [2])]),
        ["operator Det is not supported by TensorRT (write the products out): part/node"],
    ),
    "unique": (
        graph([node("Unique", "x", "y")], [("x", FLOAT, [4])], [("y", FLOAT, ["n"])]),
        [
            "output without a fixed shape: y",
            "operator Unique is not supported by TensorRT (number the cells before the graph): part/node",
        ],
    ),
    "nonzero": (
        graph([node("NonZero", "x", "y")], outputs=[("y", INT64, [2, None])]),
        [
            "output without a fixed shape: y",
            "operator NonZero has no place in a static graph, how much it gives depends on the data: part/node",
        ],
    ),
    "scatter": (
        graph(
            [node("ScatterND", "x i u", "y")],
            [("x", FLOAT, [4, 8]), ("i", INT64, [2, 1]), ("u", FLOAT, [2, 8])],
        ),
        [
            "operator ScatterND has no place in a static graph, it writes to places that the data names: part/node",
        ],
    ),
    "foreign": (
        helper.make_model(
            helper.make_graph(
                [helper.make_node("Gelu", ["x"], ["y"], name="part/node", domain="com.microsoft")],
                "g",
                [value("x", FLOAT, [4])],
                [value("y", FLOAT, [4])],
            ),
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)],
        ),
        ["operator com.microsoft.Gelu is no operator of ONNX itself: part/node"],
    ),
    "dynamic": (
        graph([node("Relu")], [("x", FLOAT, ["batch", 8])], [("y", FLOAT, ["batch", 8])]),
        ["input without a fixed shape: x", "output without a fixed shape: y"],
    ),
    "no rank": (
        graph([node("Relu")], [("x", FLOAT, None)], [("y", FLOAT, None)]),
        ["input without a fixed shape: x", "output without a fixed shape: y"],
    ),
    "between": (
        graph(
            [node("Reshape", "x s", "r", "a"), node("Relu", "r", "q", "b"), node("Reshape", "q t", "y", "c")],
            [("x", FLOAT, [4, 8]), ("s", INT64, [2])],
            t=np.array([4, 8], np.int64),
        ),
        ["tensor without a fixed shape: r and 1 more", "input 1 of Reshape is no constant: a"],
    ),
    "float64": (
        graph(
            [node("Cast", "x", "d", "a", to=TensorProto.DOUBLE), node("Cast", "d", "y", "b", to=FLOAT)],
        ),
        ["tensor of type float64: d", "Cast of double: a and 1 more"],
    ),
    "float64 number": (
        graph([node("Add", "x b", "y")], [("x", TensorProto.DOUBLE, [4])], [("y", TensorProto.DOUBLE, [4])], b=[1.0]),
        [
            "input of type float64: x",
            "output of type float64: y",
            "tensor of type float64: b",
            "Add of double: part/node",
        ],
    ),
    "type": (
        graph([node("Clip", "x a b", "y")], [("x", INT32, [4])], [("y", INT32, [4])], a=np.int32(0), b=np.int32(9)),
        ["Clip of int32: part/node"],
    ),
    "bool": (
        graph([node("Equal", "x z", "y")], [("x", BOOL, [4]), ("z", BOOL, [4])], [("y", BOOL, [4])]),
        ["Equal of bool: part/node"],
    ),
    "where": (
        graph(
            [node("Where", "c x x", "y")],
            [("c", BOOL, [4, 8]), ("x", TensorProto.INT8, [4, 8])],
            [("y", TensorProto.INT8, [4, 8])],
        ),
        ["Where of int8: part/node"],
    ),
    "large k": (topk(TOPK_LIMIT), [f"TopK of {TOPK_LIMIT}, it must be less than {TOPK_LIMIT}: part/node"]),
    "unsorted": (topk(5, sorted=0), ["TopK with sorted 0: part/node"]),
    "moving k": (
        graph(
            [node("TopK", "x k", "y i")],
            [("x", FLOAT, [4, 8]), ("k", INT64, [1])],
            [("y", FLOAT, [4, 3]), ("i", INT64, [4, 3])],
        ),
        ["input 1 of TopK is no constant: part/node"],
    ),
    "axes": (
        graph(
            [node("ReduceSum", "x a", "y", keepdims=1)],
            [("x", FLOAT, [4, 8]), ("a", INT64, [1])],
            [("y", FLOAT, [4, 1])],
        ),
        ["input 1 of ReduceSum is no constant: part/node"],
    ),
    "mode": (
        graph(
            [helper.make_node("Resize", ["x", "", "s"], ["y"], name="part/node", mode="cubic")],
            [("x", FLOAT, [1, 1, 4, 4])],
            [("y", FLOAT, [1, 1, 8, 8])],
            s=np.array([1, 1, 2, 2], np.float32),
        ),
        ["Resize with mode cubic: part/node"],
    ),
    "second output": (
        graph(
            [node("LayerNormalization", "x w", "y m")],
            outputs=[("y", FLOAT, [4, 8]), ("m", FLOAT, [4, 1])],
            w=np.ones(8, np.float32),
        ),
        ["LayerNormalization with more than one output: part/node"],
    ),
    "opset": (graph([node("Relu")], opset=21), ["opset 21 is outside 9 to 20"]),
    "old opset": (graph([node("Relu")], opset=8), ["opset 8 is outside 9 to 20"]),
    "several": (
        graph([node("Det", "x", "a", "first"), node("Det", "x", "b", "second"), node("Add", "a b", "y", "sum")],
              [("x", FLOAT, [2, 4, 4])], [("y", FLOAT, [2])]),
        ["operator Det is not supported by TensorRT (write the products out): first and 1 more"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_every_kind_of_fault_is_found_and_named(kind: str) -> None:
    model, expected = FAULTS[kind]
    assert check_graph(model) == expected


def test_shapes_that_do_not_fit_are_one_fault() -> None:
    faults = check_graph(graph([node("Add", "x b", "y")], b=np.ones(5, np.float32)))
    assert len(faults) == 1 and "\n" not in faults[0]
    assert faults[0].startswith("the shapes do not fit together: ") and "part/node" in faults[0]


def test_functions_of_the_models_own_are_a_fault() -> None:
    model = graph([node("Relu")])
    inner = helper.make_function("own", "twice", ["a"], ["b"], [node("Add", "a a", "b")], model.opset_import)
    model.functions.append(inner)
    assert "functions of the model's own: twice" in check_graph(model)


def test_what_the_lists_allow_passes() -> None:
    assert check_graph(topk(TOPK_LIMIT - 1)) == []
    # Constants may be nodes; opsets of others do not matter; int64 is a type like others.
    constant = helper.make_node(
        "Constant", [], ["s"], name="c", value=numpy_helper.from_array(np.array([8, 4]))
    )
    wide = graph([constant, node("Reshape", "x s", "y")], outputs=[("y", FLOAT, [8, 4])])
    wide.opset_import.append(helper.make_opsetid("own.domain", 77))
    assert check_graph(wide) == []
    assert check_graph(graph([node("Add", "x x", "y")], [("x", INT64, [4])], [("y", INT64, [4])])) == []
    assert check_graph(graph([node("Relu")], [("x", FLOAT, [])], [("y", FLOAT, [])])) == []


def test_a_constant_without_a_tensor_is_no_constant_size() -> None:
    constant = helper.make_node("Constant", [], ["k"], name="c", value_ints=[3])
    model = graph(
        [constant, node("TopK", "x k", "y i")], outputs=[("y", FLOAT, [4, 3]), ("i", INT64, [4, 3])]
    )
    assert check_graph(model) == ["input 1 of TopK is no constant: part/node"]


def test_the_lists_hold_together() -> None:
    assert len(SUPPORTED) == 149
    assert set(AVOIDED) <= set(SUPPORTED)
    assert set(CONSTANT_INPUTS) <= set(SUPPORTED) and set(DATA_INPUT) <= set(SUPPORTED)
    assert not set(INSTEAD) & set(SUPPORTED)
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    assert set(INSTEAD) <= known
    # Three of the parsers' operators are older than ONNX's first release.
    assert set(SUPPORTED) - known == {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}
    assert OPSETS[0] <= OPSET <= OPSETS[1]
    # What ONNX and 11.x have and 10.0 did not is not in the list; nor what neither has.
    later = {"Attention", "RMSNormalization", "RotaryEmbedding", "Swish", "TensorScatter", "STFT", "DFT"}
    never = {
        "Unique",
        "Compress",
        "Det",
        "BitwiseAnd",
        "MatMulInteger",
        "SequenceAt",
        "Bernoulli",
        "AffineGrid",
    }
    assert not (later | never) & set(SUPPORTED)
