"""Writes the network's graphs as ONNX without its numbers: ``python -m end2reg_ros.engine.torch_export``.

The learned numbers are inputs of the exported function, so that no constant of the graph depends on them; ``engine.onnx_files``
joins a graph with a weights file, without torch. One graph serves every weights file of its profile.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.utils import _pytree

from end2reg_ros.cloud.pyramid import build_pyramid, point_attributes
from end2reg_ros.cloud.view_grid import CHANNELS, COLUMNS, ROWS
from end2reg_ros.engine.graph_io import (
    GRAPHS,
    OPSET,
    REGION_INPUT,
    REGION_OUTPUT,
    WEIGHTS,
    GraphName,
    template_path,
)
from end2reg_ros.network.graphs import (
    EncodedModel,
    ModelGraph,
    RegionGraph,
    SceneGraph,
    SceneResult,
    state_of,
    stateless,
)
from end2reg_ros.network.model import End2Reg
from end2reg_ros.network.region_net import RegionNet
from end2reg_ros.network.tables import CloudTables, SceneTables, cloud_tables, scene_tables
from end2reg_ros.profile import Profile, get_profile

TRACE = re.compile(r"end2reg_ros/network/(\w+)\.py\", line \d+, in (\w+)")


class _WithState(nn.Module):
    """A module whose numbers are arguments."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.names = list(state_of(module))
        self.inner = [module]  # in a list: its own numbers are none of this module's

    def forward(self, state: list[Tensor], *arguments: Any) -> Any:
        return stateless(self.inner[0], dict(zip(self.names, state, strict=True)), *arguments)


def export_graph(kind: str, profile: Profile) -> Any:
    """The ``onnx.ModelProto`` of one graph of a profile, its learned numbers being inputs named as in a weights file."""
    module, arguments, inputs, outputs = _parts(kind, profile)
    wrapped = _WithState(module.eval())
    state = [value.detach() for value in state_of(module).values()]
    names = [*wrapped.names, *inputs]
    leaves = _pytree.tree_leaves((state, *arguments))
    assert len(names) == sum(leaf is not None for leaf in leaves)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            wrapped,
            (state, *arguments),
            input_names=names,
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return tidied(program.model_proto)


def _parts(kind: str, profile: Profile) -> tuple[nn.Module, tuple[Any, ...], list[str], Sequence[str]]:
    """Module, example arguments, names of its tensors in and out."""
    if kind == "region":
        return (
            RegionGraph(RegionNet()),
            (torch.zeros(1, CHANNELS, ROWS, COLUMNS),),
            [REGION_INPUT],
            [REGION_OUTPUT],
        )
    network = End2Reg(profile)
    points = np.random.default_rng(0).uniform(-0.4, 0.4, (4000, 3))
    attributes = point_attributes(len(points), None, None)
    model = cloud_tables(build_pyramid(points, attributes, profile.model))
    if kind == "model":
        outputs = [f"model.{name}" for name in EncodedModel._fields]
        return ModelGraph(network), (model,), table_names("model", model), outputs
    if kind == "scene_small":
        assert profile.small_capacities is not None
        profile = replace(profile, scene=profile.scene_specs[0])
    scene = scene_tables(points, attributes, profile)
    with torch.no_grad():
        side = ModelGraph(network)(model)
    names = [*scene_names(scene), *(f"model.{name}" for name in EncodedModel._fields)]
    return SceneGraph(network), (scene, side), names, SceneResult._fields


def table_names(prefix: str, tables: CloudTables) -> list[str]:
    """Names of a cloud's tensors in the order in which an export flattens them."""
    names = [
        f"{prefix}.{i}.{field}"
        for i, level in enumerate(tables.levels)
        for field, value in zip(level._fields, level, strict=True)
        if value is not None
    ]
    return [*names, f"{prefix}.attributes", f"{prefix}.patches"]


def scene_names(tables: SceneTables) -> list[str]:
    """Names of a scene's tensors in the order in which an export flattens them."""
    names = table_names("scene", tables.registration)
    if tables.segmentation is not None:
        names += [*table_names("segmentation", tables.segmentation), "transfer"]
    return names


def tidied(model: Any) -> Any:
    """The graph with nodes named by the module they come from, and without what the exporter noted beside them."""
    graph = model.graph
    for i, node in enumerate(graph.node):
        trace = {p.key: p.value for p in node.metadata_props}.get("pkg.torch.onnx.stack_trace", "")
        node.name = f"{scope_of(trace)}/{node.op_type}_{i}"
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.ClearField("metadata_props")
        value.ClearField("doc_string")
    used = {name for node in graph.node for name in node.input}
    kept = [value for value in graph.input if value.name in used or not value.name.startswith(WEIGHTS)]
    del graph.input[:]
    graph.input.extend(kept)
    # What an output only hands through is taken from the input.
    given = {value.name for value in graph.input}
    made = [value for value in graph.output if value.name not in given]
    del graph.output[:]
    graph.output.extend(made)
    for node in [n for n in graph.node if given.intersection(n.output)]:
        graph.node.remove(node)
    graph.ClearField("metadata_props")
    graph.ClearField("value_info")
    model.ClearField("metadata_props")
    model.ClearField("functions")
    return model


def scope_of(trace: str) -> str:
    """Where in this package a node was made, outermost first: ``segment/segmentation/backbone/blocks/kpconv``.

    A part is a file's name, with the function's where that is not ``forward``; methods of the network stand by themselves.
    """
    parts: list[str] = []
    for stem, function in TRACE.findall(trace):
        part = stem if function in ("forward", "__call__") else f"{stem}.{function.lstrip('_')}"
        part = part.removeprefix("model.")
        if stem not in ("export", "graphs") and (not parts or parts[-1] != part):
            parts.append(part)
    return "/".join(parts)


def write_templates(profile: str = "realtime", graphs: tuple[GraphName, ...] = GRAPHS) -> None:
    """Write the graphs of a profile into the package.

    Args:
        profile: which sizes.
        graphs: only these.
    """
    sizes = get_profile(profile)
    for kind in graphs:
        if kind == "scene_small" and sizes.small_capacities is None:
            continue
        path = template_path(profile, kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = export_graph(kind, sizes).SerializeToString(deterministic=True)
        path.write_bytes(data)
        print(f"{path}: {len(data) / 1e3:.0f} kB")


if __name__ == "__main__":
    tyro.cli(write_templates)
