"""Half precision that is written in the graph: the products of the backbones in fp16, all else in fp32.

TensorRT 11 takes precision from the graph alone, and 10 does so for a strongly typed network. So the graph says it with
casts around the matrix products and convolutions of encoder, decoder and segmentation, whose learned numbers are kept as
fp16. Norms, distances, influences, attention, softmax, Sinkhorn and the pose steps stay in fp32: in fp16 Sinkhorn gives NaN,
and the others lose what the pose is made of. So does the last layer of the segmentation, whose sign is the mask.
"""

from __future__ import annotations

import re
from typing import Any

from end2reg_ros.engine.graph_io import WEIGHTS
from end2reg_ros.errors import EngineError

#: What the metadata of a graph says of its precision.
FULL, MIXED = "fp32", "fp16 backbone"
#: Goes into the key of what is made of such a graph; raise it when ``to_mixed`` gives another graph.
CONVERSION = 1

#: Parts of a node's name (``segment/segmentation/backbone/blocks/kpconv/MatMul_3``) that make it one of a backbone ...
HALF_SCOPES = ("backbone", "encoder", "decoder", "segmentation")
#: ... and parts that keep it in fp32, wherever it is.
FULL_SCOPES = (
    "norm", "norms", "embedding", "transformer", "matching", "sinkhorn", "pose", "local_to_global", "neighbourhood", "logits",
)  # fmt: skip

PRODUCTS = ("MatMul", "Gemm", "Conv")
# They move numbers without reckoning: done in fp16 when only products in fp16 want what they give.
_MOVES = ("Gather", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Expand", "Slice", "Tile", "Identity")
_LARGEST = 65504.0
_SUFFIX = "/fp16"


def may_be_half(node: Any) -> bool:
    """Whether a node may be in fp16: a part of its name names a backbone, none names what stays in fp32.

    The names of the learned numbers that it takes (``network.segmentation.logits.weight``) speak for it as well.
    """
    paths = [node.name.rpartition("/")[0], *(name for name in node.input if name.startswith(WEIGHTS))]
    words = {word for path in paths for word in re.split(r"[/.]", path)}
    return not words.isdisjoint(HALF_SCOPES) and words.isdisjoint(FULL_SCOPES)


def to_mixed(model: Any) -> Any:
    """A copy of an fp32 graph with the products of its backbones in fp16 (see the module); inputs and outputs stay fp32.

    Args:
        model: an ``onnx.ModelProto`` whose nodes are named by where they come from and whose learned numbers are in it.

    Raises:
        EngineError: a graph that is not in fp32, that has no product to convert, or a number too large for fp16.
    """
    import onnx
    from onnx import TensorProto

    said = {p.key: p.value for p in model.metadata_props}.get("precision", FULL)
    if said != FULL:
        raise EngineError(f"the graph is in '{said}' already")
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    half = _half_nodes(graph)
    if not half:
        raise EngineError("the graph has no matrix product of a backbone: nothing to put into fp16")
    floats = _floats(model)
    converted = _Converted(graph, floats, {o for i in half for o in graph.node[i].output})
    nodes = []
    for at, node in enumerate(graph.node):
        if at not in half:
            nodes.append(node)
            continue
        for i, name in enumerate(node.input):
            if name in floats:
                node.input[i] = converted.half(name, nodes)
        for i, name in enumerate(node.output):
            if name in converted.wanted_full:
                node.output[i] = name + _SUFFIX
        nodes.append(node)
        nodes += [
            _cast(name + _SUFFIX, name, TensorProto.FLOAT)
            for name in (o.removesuffix(_SUFFIX) for o in node.output)
            if name in converted.wanted_full
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unused(graph)
    graph.ClearField("value_info")
    for entry in [p for p in model.metadata_props if p.key == "precision"]:
        model.metadata_props.remove(entry)
    model.metadata_props.add(key="precision", value=MIXED)
    return model


def _half_nodes(graph: Any) -> set[int]:
    """Places of the products of the backbones, and of the moves that only they want the result of."""
    outputs = {value.name for value in graph.output}
    users: dict[str, set[int]] = {}
    for i, node in enumerate(graph.node):
        for name in node.input:
            users.setdefault(name, set()).add(i)
    half = {i for i, node in enumerate(graph.node) if node.op_type in PRODUCTS and may_be_half(node)}
    # From the last to the first: by the time of a move it is known of all that use it.
    for i in reversed(range(len(graph.node))):
        node = graph.node[i]
        if node.op_type in _MOVES and may_be_half(node) and node.output[0] not in outputs:
            using = users.get(node.output[0], set())
            if using and using <= half:
                half.add(i)
    return half


def _floats(model: Any) -> set[str]:
    """Names of the tensors of type float32."""
    from onnx import TensorProto, shape_inference

    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    names = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    return names | {c.name for c in graph.initializer if c.data_type == TensorProto.FLOAT}


class _Converted:
    """Which tensors have an fp16 form, made once each: cast where they are made, stored as fp16 where they are constants."""

    def __init__(self, graph: Any, floats: set[str], made: set[str]) -> None:
        self.graph = graph
        self.made = made
        self.constants = {c.name: c for c in graph.initializer}
        self.names: dict[str, str] = {}
        outputs = {value.name for value in graph.output}
        full_users = {n for node in graph.node if not made.intersection(node.output) for n in node.input}
        self.wanted_full = {name for name in made & floats if name in outputs or name in full_users}

    def half(self, name: str, nodes: list[Any]) -> str:
        """Name of a tensor's fp16 form; a cast to it is appended to ``nodes`` where it is needed first."""
        from onnx import TensorProto

        if name in self.made:
            return name + _SUFFIX if name in self.wanted_full else name
        if name not in self.names:
            self.names[name] = name + _SUFFIX
            if name in self.constants:
                self.graph.initializer.append(_half_constant(self.constants[name]))
            else:
                nodes.append(_cast(name, name + _SUFFIX, TensorProto.FLOAT16))
        return self.names[name]


def _half_constant(constant: Any) -> Any:
    import numpy as np
    from onnx import numpy_helper

    values = numpy_helper.to_array(constant)
    largest = float(np.abs(values).max(initial=0.0))
    if not largest <= _LARGEST:
        raise EngineError(f"{constant.name} holds {largest:.3g}: too large for fp16 ({_LARGEST:.0f})")
    return numpy_helper.from_array(values.astype(np.float16), constant.name + _SUFFIX)


def _cast(source: str, target: str, kind: int) -> Any:
    from onnx import helper

    return helper.make_node("Cast", [source], [target], name=f"precision/Cast_{target}", to=kind)


def _drop_unused(graph: Any) -> None:
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for constant in [c for c in graph.initializer if c.name not in used]:
        graph.initializer.remove(constant)
