"""What keeps an ONNX graph from being run as it is by TensorRT 10.x and 11.x: found in the file, without TensorRT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from end2reg_ros.engine.tensorrt.operators import (
    AVOIDED,
    CONSTANT_INPUTS,
    DATA_INPUT,
    INSTEAD,
    OPSETS,
    SUPPORTED,
    TOPK_LIMIT,
)

DEFAULT_DOMAINS = ("", "ai.onnx")
# Attribute values that TensorRT's list excludes: (operator, attribute) -> values that it takes.
_ATTRIBUTES: dict[tuple[str, str], tuple[object, ...]] = {
    ("TopK", "sorted"): (1,),
    ("Resize", "mode"): (b"nearest", b"linear"),
    ("Resize", "antialias"): (0,),
    ("Resize", "keep_aspect_ratio_policy"): (b"stretch",),
    ("Resize", "coordinate_transformation_mode"): (
        b"half_pixel",
        b"pytorch_half_pixel",
        b"tf_half_pixel_for_nn",
        b"asymmetric",
        b"align_corners",
    ),
}
# Operators of which only the first output may be used.
_FIRST_OUTPUT = ("LayerNormalization", "MaxPool", "Dropout", "BatchNormalization")


def check_graph(model: Any) -> list[str]:
    """Every fault of a graph, one line a kind; none for a graph that TensorRT's lists allow and whose shapes are all fixed.

    Looked at: opset, operators and their types (see ``operators``), shape and type of every input, output and, after shape
    inference, of every tensor between; float64; sizes and axes that are no constants; the ``K`` of every TopK.

    Args:
        model: an ``onnx.ModelProto``; it is not changed.
    """
    from onnx import shape_inference

    try:
        inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except Exception as fault:  # of several classes, none of which the package documents
        return [f"the shapes do not fit together: {' '.join(str(fault).split())}"]
    types = _types(inferred.graph)
    found: dict[str, list[str]] = {}
    for text, place in (
        *_of_model(inferred),
        *_of_tensors(inferred, types),
        *_of_nodes(inferred.graph, types),
    ):
        found.setdefault(text, []).append(place)
    return [_line(text, places) for text, places in found.items()]


Types = dict[str, tuple[str, tuple[int, ...] | None]]
Fault = tuple[str, str]  # what is wrong, where


def _line(fault: str, places: list[str]) -> str:
    known = [place for place in places if place]
    if not known:
        return fault
    return f"{fault}: {known[0]}" + (f" and {len(known) - 1} more" if len(known) > 1 else "")


def _types(graph: Any) -> Types:
    """Type and shape of every named tensor; the shape is None where it is unknown or not fixed."""
    from onnx import TensorProto

    names = TensorProto.DataType.Name
    result: Types = {}
    for value in (*graph.input, *graph.output, *graph.value_info):
        tensor = value.type.tensor_type
        sizes = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
        fixed = tensor.HasField("shape") and all(size > 0 for size in sizes)
        result[value.name] = (names(tensor.elem_type), tuple(sizes) if fixed else None)
    for constant in graph.initializer:
        result[constant.name] = (names(constant.data_type), tuple(constant.dims))
    return result


def _of_model(model: Any) -> Iterator[Fault]:
    for opset in model.opset_import:
        if opset.domain not in DEFAULT_DOMAINS:
            continue
        if not OPSETS[0] <= opset.version <= OPSETS[1]:
            yield f"opset {opset.version} is outside {OPSETS[0]} to {OPSETS[1]}", ""
    if model.functions:
        yield "functions of the model's own", model.functions[0].name


def _of_tensors(model: Any, types: Types) -> Iterator[Fault]:
    graph = model.graph
    sides = {v.name: "input" for v in graph.input} | {v.name: "output" for v in graph.output}
    made = [name for node in graph.node for name in node.output if name]
    for name in dict.fromkeys([*sides, *made, *(c.name for c in graph.initializer)]):
        kind, shape = types.get(name, ("UNDEFINED", None))
        what = sides.get(name, "tensor")
        if shape is None:
            yield f"{what} without a fixed shape", name
        if kind == "DOUBLE":
            yield f"{what} of type float64", name


def _of_nodes(graph: Any, types: Types) -> Iterator[Fault]:
    from onnx import numpy_helper

    constants = {c.name: c for c in graph.initializer}
    constants |= {
        n.output[0]: n.attribute[0].t
        for n in graph.node
        if n.op_type == "Constant" and [a.name for a in n.attribute] == ["value"]
    }
    for node in graph.node:
        name, kind = node.name or "(a node without a name)", node.op_type
        if node.domain not in DEFAULT_DOMAINS:
            yield f"operator {node.domain}.{kind} is no operator of ONNX itself", name
            continue
        if kind not in SUPPORTED:
            advice = f" ({INSTEAD[kind]})" if kind in INSTEAD else ""
            yield f"operator {kind} is not supported by TensorRT{advice}", name
            continue
        if kind in AVOIDED:
            yield f"operator {kind} has no place in a static graph, {AVOIDED[kind]}", name
        yield from ((fault, name) for fault in _type_faults(node, types))
        yield from ((fault, name) for fault in _form_faults(node))
        for i in CONSTANT_INPUTS.get(kind, ()):
            if i < len(node.input) and node.input[i] and node.input[i] not in constants:
                yield f"input {i} of {kind} is no constant", name
        if kind == "TopK" and len(node.input) > 1 and node.input[1] in constants:
            k = int(numpy_helper.to_array(constants[node.input[1]]).reshape(-1)[0])
            if k >= TOPK_LIMIT:
                yield f"TopK of {k}, it must be less than {TOPK_LIMIT}", name


def _type_faults(node: Any, types: Types) -> Iterator[str]:
    """An operator on a type that the list does not name for it."""
    at = DATA_INPUT.get(node.op_type, 0)
    # A Cast has to know both types; what has no input (Constant) is judged by what it gives.
    names = [node.input[at]] if len(node.input) > at else []
    if node.op_type in ("Cast", "Constant", "ConstantOfShape"):
        names = [*(names if node.op_type == "Cast" else []), node.output[0]]
    for name in names:
        kind = types.get(name, ("UNDEFINED", None))[0]
        if kind not in SUPPORTED[node.op_type]:
            yield f"{node.op_type} of {kind.lower()}"


def _form_faults(node: Any) -> Iterator[str]:
    """Attributes and outputs that the list excludes."""
    from onnx import helper

    for attribute in node.attribute:
        allowed = _ATTRIBUTES.get((node.op_type, attribute.name))
        value = helper.get_attribute_value(attribute)
        if allowed is not None and value not in allowed:
            text = value.decode() if isinstance(value, bytes) else value
            yield f"{node.op_type} with {attribute.name} {text}"
    if node.op_type in _FIRST_OUTPUT and any(node.output[1:]):
        yield f"{node.op_type} with more than one output"
