"""Half precision that is written in a graph: where it is, where it must not be, and what it costs in accuracy.

ONNX Runtime's CPU provider calculates fp16 products in fp32 and drops the rounding of what goes into them: it shows that a
mixed graph runs, not what it loses. That is measured here with ONNX's reference evaluator (small graphs), and on the real
graph with the roundings written out as fp32 operations (``rounded``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is absent")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from end2reg_ros.engine.tensorrt.mixed_precision import (  # noqa: E402
    MIXED,
    PRODUCTS,
    may_be_half,
    to_mixed,
)
from end2reg_ros.errors import EngineError  # noqa: E402

FLOAT, FLOAT16, INT32 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32
RNG = np.random.default_rng(5)
W1 = RNG.normal(size=(8, 16)).astype(np.float32)
W2 = RNG.normal(size=(16, 4)).astype(np.float32)
BIAS = RNG.normal(size=4).astype(np.float32)
X = RNG.normal(size=(6, 8)).astype(np.float32)
ROWS = np.array([0, 2, 2, 5], np.int32)


def node(kind: str, inputs: str, outputs: str, name: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), outputs.split(), name=name, **attributes)


def small(change: Any = None) -> Any:
    """A backbone in small: gather, product, norm, product; then what stays fp32."""
    nodes = [
        node("Gather", "x rows", "near", "encode/backbone/blocks/kpconv/Gather_0", axis=0),
        node("MatMul", "near network.w1", "h", "encode/backbone/blocks/kpconv/MatMul_1"),
        node("MatMul", "share h", "mean", "encode/backbone/blocks/norms/MatMul_2"),
        node("Sub", "h mean", "centred", "encode/backbone/blocks/norms/Sub_3"),
        node("Reshape", "centred shape", "flat", "encode/backbone/blocks/Reshape_4"),
        node("Gemm", "flat network.w2 network.b", "features", "encode/backbone/blocks/Gemm_5"),
        node("MatMul", "features turn", "scores", "transformer/MatMul_6"),
        node("Softmax", "scores", "y", "transformer/Softmax_7", axis=1),
    ]
    held = {
        "rows": ROWS,
        "network.w1": W1,
        "share": np.full((1, 4), 0.25, np.float32),
        "shape": np.array([4, 16], np.int64),
        "network.w2": W2,
        "network.b": BIAS,
        "turn": np.eye(4, dtype=np.float32),
    }
    constants = [numpy_helper.from_array(v, n) for n, v in held.items()]
    inputs = [helper.make_tensor_value_info("x", FLOAT, [6, 8])]
    outputs = [
        helper.make_tensor_value_info("features", FLOAT, [4, 4]),
        helper.make_tensor_value_info("y", FLOAT, [4, 4]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if change is not None:
        change(model)
    return model


def types(model: Any) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    return {v.name: v.type.tensor_type.elem_type for v in values} | {
        c.name: c.data_type for c in graph.initializer
    }


def by_name(model: Any, name: str) -> Any:
    return next(n for n in model.graph.node if n.name == name)


def results(model: Any) -> list[Any]:
    return list(ReferenceEvaluator(model).run(None, {"x": X}))


def test_products_of_the_backbone_take_and_give_fp16_and_nothing_else_does() -> None:
    mixed = to_mixed(small())
    kinds = types(mixed)
    half = {
        n.name
        for n in mixed.graph.node
        if n.op_type != "Cast" and any(kinds[t] == FLOAT16 for t in (*n.input, *n.output))
    }
    scope = "encode/backbone/blocks"
    assert half == {
        f"{scope}/kpconv/Gather_0",
        f"{scope}/kpconv/MatMul_1",
        f"{scope}/Reshape_4",
        f"{scope}/Gemm_5",
    }
    assert [kinds[v.name] for v in (*mixed.graph.input, *mixed.graph.output)] == [FLOAT] * 3
    onnx.checker.check_model(mixed, full_check=True)


def test_what_only_moves_numbers_is_moved_as_fp16_and_each_tensor_is_cast_once() -> None:
    mixed = to_mixed(small())
    casts = [(n.input[0], n.output[0]) for n in mixed.graph.node if n.op_type == "Cast"]
    # In: the backbone's input before it is gathered, the norm's result. Out: what the norm and the output want.
    assert sorted(casts) == [
        ("centred", "centred/fp16"),
        ("features/fp16", "features"),
        ("h/fp16", "h"),
        ("x", "x/fp16"),
    ]

    # One that someone in fp32 wants as well stays in fp32.
    def used_twice(model: Any) -> None:
        model.graph.node.append(node("Relu", "near", "z", "transformer/Relu_8"))
        model.graph.output.append(helper.make_tensor_value_info("z", FLOAT, [4, 8]))

    twice = to_mixed(small(used_twice))
    assert by_name(twice, "encode/backbone/blocks/kpconv/Gather_0").input[0] == "x"
    assert types(twice)["near"] == FLOAT and types(twice)["near/fp16"] == FLOAT16


def test_learned_numbers_are_stored_as_fp16_and_only_so() -> None:
    mixed = to_mixed(small())
    held = {c.name: numpy_helper.to_array(c) for c in mixed.graph.initializer}
    assert held["network.w1/fp16"].dtype == np.float16
    np.testing.assert_array_equal(held["network.w1/fp16"], W1.astype(np.float16))
    assert {n for n in held if n.startswith("network.")} == {
        "network.w1/fp16",
        "network.w2/fp16",
        "network.b/fp16",
    }
    assert held["share"].dtype == held["turn"].dtype == np.float32

    def shared(model: Any) -> None:
        by_name(model, "transformer/MatMul_6").input[1] = "network.square"
        by_name(model, "encode/backbone/blocks/Gemm_5").input[1] = "network.square"
        model.graph.initializer.append(numpy_helper.from_array(W2[:4], "network.square"))
        by_name(model, "encode/backbone/blocks/Reshape_4").input[1] = "narrow"
        model.graph.initializer.append(numpy_helper.from_array(np.array([16, 4]), "narrow"))
        for out in model.graph.output:
            out.type.tensor_type.shape.dim[0].dim_value = 16

    both = {c.name: c.data_type for c in to_mixed(small(shared)).graph.initializer}
    assert both["network.square"] == FLOAT and both["network.square/fp16"] == FLOAT16


def test_the_graph_given_is_left_as_it_was() -> None:
    model = small()
    before = model.SerializeToString()
    to_mixed(model)
    assert model.SerializeToString() == before


def test_the_result_is_that_of_numpy_with_the_roundings_written_out() -> None:
    def half(a: Any) -> Any:
        return a.astype(np.float16)

    h = (half(X)[ROWS] @ half(W1)).astype(np.float32)
    centred = h - np.float32(0.25) * h.sum(axis=0, keepdims=True)
    expected = (half(centred) @ half(W2) + half(BIAS)).astype(np.float32)
    features, y = results(to_mixed(small()))
    np.testing.assert_allclose(features, expected, atol=2e-3)  # fp16 sums in another order
    exact, softmax = results(small())
    assert 1e-5 < np.abs(features - exact).max() < 0.02
    assert np.abs(y - softmax).max() < 0.005


def test_onnx_runtime_runs_a_mixed_graph() -> None:
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is absent")
    session = ort.InferenceSession(to_mixed(small()).SerializeToString(), providers=["CPUExecutionProvider"])
    features, _ = session.run(None, {"x": X})
    np.testing.assert_allclose(features, results(small())[0], atol=0.02)


def test_metadata_says_the_precision() -> None:
    # The exported graphs say fp32; it is replaced, not said twice.
    def told(model: Any) -> None:
        model.metadata_props.add(key="precision", value="fp32")
        model.metadata_props.add(key="profile", value="realtime")

    found = {p.key: p.value for p in to_mixed(small(told)).metadata_props}
    assert found == {"precision": MIXED, "profile": "realtime"}


def test_the_layer_that_decides_the_mask_stays_fp32_by_the_name_of_its_numbers() -> None:
    plain = node("Gemm", "a network.segmentation.hidden.weight", "b", "segment/segmentation/Gemm_1")
    last = node("Gemm", "a network.segmentation.logits.weight", "b", "segment/segmentation/Gemm_1")
    assert may_be_half(plain) and not may_be_half(last)
    assert not may_be_half(node("MatMul", "a b", "c", "pose/backbone_of_a_boat/MatMul_2"))
    assert not may_be_half(node("MatMul", "backbone b", "c", "sinkhorn/MatMul_2"))


def test_what_cannot_be_converted_is_refused() -> None:
    with pytest.raises(EngineError, match=r"^the graph is in 'fp16 backbone' already$"):
        to_mixed(to_mixed(small()))

    def without(model: Any) -> None:
        for n in model.graph.node:
            n.name = ""

    with pytest.raises(
        EngineError, match=r"^the graph has no matrix product of a backbone: nothing to put into fp16$"
    ):
        to_mixed(small(without))

    def large(number: float) -> Any:
        def change(model: Any) -> None:
            held = next(c for c in model.graph.initializer if c.name == "network.w2")
            values = W2.copy()
            values[3, 1] = number
            held.CopyFrom(numpy_helper.from_array(values, "network.w2"))

        return change

    with pytest.raises(EngineError, match=r"^network.w2 holds 1e\+05: too large for fp16 \(65504\)$"):
        to_mixed(small(large(-1e5)))
    with pytest.raises(EngineError, match=r"^network.w2 holds nan: too large"):
        to_mixed(small(large(float("nan"))))
    to_mixed(small(large(65504.0)))


# The network's own graph


def rounded(model: Any) -> Any:
    """An fp32 graph that keeps 11 bits of all that a mixed graph keeps as fp16 (Veltkamp's splitting) and sums in fp32."""
    result = onnx.ModelProto.FromString(model.SerializeToString())
    graph, half = result.graph, set()
    for constant in graph.initializer:
        if constant.data_type == FLOAT16:
            half.add(constant.name)
            values = numpy_helper.to_array(constant).astype(np.float32)
            constant.CopyFrom(numpy_helper.from_array(values, constant.name))
    graph.initializer.append(numpy_helper.from_array(np.float32(2**13 + 1), "splitter"))

    def split(source: str, target: str) -> list[Any]:
        big, rest = f"{target}/big", f"{target}/rest"
        return [
            helper.make_node("Mul", [source, "splitter"], [big]),
            helper.make_node("Sub", [big, source], [rest]),
            helper.make_node("Sub", [big, rest], [target]),
        ]

    nodes = []
    for n in graph.node:
        if n.op_type == "Cast" and n.attribute[0].i == FLOAT16:
            nodes += split(n.input[0], n.output[0])
            half.add(n.output[0])
        elif n.op_type == "Cast" and n.input[0] in half:
            nodes.append(helper.make_node("Identity", [n.input[0]], [n.output[0]]))
        else:
            nodes.append(n)
            if half.intersection(n.input):
                half.update(n.output)
                if n.op_type in PRODUCTS:
                    target = n.output[0]
                    n.output[0] = f"{target}/exact"
                    nodes += split(f"{target}/exact", target)
    del graph.node[:]
    graph.node.extend(nodes)
    return result


def test_writing_the_roundings_out_gives_what_fp16_gives() -> None:
    features, _ = results(rounded(to_mixed(small())))
    by_fp16, _ = results(to_mixed(small()))
    exact, _ = results(small())
    assert 1e-5 < np.abs(features - exact).max() < 0.02
    np.testing.assert_allclose(features, by_fp16, rtol=2**-10)  # one step of fp16
    assert types(rounded(to_mixed(small())))["features"] == FLOAT


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The packaged weights' graphs."""
    pytest.importorskip("safetensors", reason="safetensors is absent")
    from end2reg_ros.engine.bundle_store import load_bundle
    from end2reg_ros.registration.weights_path import packaged_weights

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("END2REG_CACHE", str(tmp_path_factory.mktemp("cache")))
        bundle = load_bundle(Path(packaged_weights()))
    return {name: onnx.load_model_from_string(g.data) for name, g in bundle.graphs.items()}


@pytest.mark.parametrize("name", ["scene", "scene_small", "model"])
def test_the_networks_graphs_can_be_put_into_fp16(graphs: dict[str, Any], name: str) -> None:
    mixed = to_mixed(graphs[name])
    kinds = types(mixed)
    half = [
        n
        for n in mixed.graph.node
        if n.op_type != "Cast" and FLOAT16 in [kinds[t] for t in (*n.input, *n.output) if t]
    ]
    # Types hold: a product takes and gives fp16 only, and what is handed in and out is fp32.
    assert all({kinds[t] for t in (*n.input, *n.output)} == {FLOAT16} for n in half if n.op_type in PRODUCTS)
    assert FLOAT16 not in {kinds[v.name] for v in (*mixed.graph.input, *mixed.graph.output)}
    words = {word for n in half for word in n.name.rpartition("/")[0].replace(".", "/").split("/")}
    assert {"backbone", "blocks", "kpconv"} <= words
    assert ("segmentation" in words) == (name != "model")
    assert not words & {
        "norms",
        "embedding",
        "transformer",
        "sinkhorn",
        "pose",
        "local_to_global",
        "matching",
    }
    # More than four fifths of the learned numbers of the backbones are kept as fp16; the file shrinks.
    assert mixed.ByteSize() < 0.9 * graphs[name].ByteSize()


def test_there_is_nothing_to_convert_in_the_region_finder(graphs: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match="no matrix product of a backbone"):
        to_mixed(graphs["region"])


def test_fp16_backbones_cost_next_to_nothing_on_the_networks_graph(graphs: dict[str, Any]) -> None:
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is absent")
    import posed_spine

    from end2reg_ros.engine.graph_io import model_feed, output_of, scene_feed

    def run(model: Any, feed: dict[str, Any]) -> dict[str, Any]:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        return dict(zip(names, session.run(None, feed), strict=True))

    model, scene = posed_spine.model(), posed_spine.scene()
    side = run(graphs["model"], model_feed(model)) | {"model.patches": model.patches}
    wanted = {v.name for v in graphs["scene"].graph.input}
    feed = {n: v for n, v in (scene_feed(scene) | side).items() if n in wanted}
    exact = output_of(run(graphs["scene"], feed), scene)
    half = output_of(run(rounded(to_mixed(graphs["scene"])), feed), scene)
    assert np.abs(exact.rotation - posed_spine.ROTATION).max() < np.radians(1.0)
    assert exact.inliers > 200
    # Measured over 120 scenes of the suites standard and hard: median 0.0005 mm, worst 0.22 mm and 0.6 degrees, mask 99.85 %.
    assert 0.0 < np.abs(half.logits - exact.logits).max() < 0.1
    assert (half.mask == exact.mask).mean() > 0.995
    assert abs(half.inliers - exact.inliers) <= 0.03 * exact.inliers
    assert 95.0 * np.abs(half.translation - exact.translation).max() < 0.3
    assert np.abs(half.rotation - exact.rotation).max() < np.radians(0.3)
