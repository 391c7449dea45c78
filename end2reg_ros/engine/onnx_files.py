"""ONNX files of a weights file: the packaged graphs joined with its numbers, and what they say of themselves. No torch here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from end2reg_ros import __version__
from end2reg_ros.engine.graph_io import GRAPHS, WEIGHTS, template_path
from end2reg_ros.engine.types import EngineInfo
from end2reg_ros.engine.weights_file import RawWeights, profile_of
from end2reg_ros.errors import EngineError
from end2reg_ros.profile import Profile, profile_hash

FORMAT = "end2reg_ros onnx 1"
IR_VERSION = 10  # of opset 20's time: the oldest runtimes that know the operators read it


@dataclass(frozen=True)
class OnnxGraph:
    """One graph with its numbers: serialised ONNX, and what that says of itself."""

    data: bytes
    metadata: dict[str, str]

    @property
    def hash(self) -> str:
        """sha256 of the bytes, 64 hex digits."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class OnnxBundle:
    """All graphs of one weights file, by name (``graph_io.GRAPHS``); no ``region`` for weights without."""

    graphs: dict[str, OnnxGraph]

    @property
    def hash(self) -> str:
        """sha256 over names and graphs, 16 hex digits."""
        text = " ".join(f"{name} {self.graphs[name].hash}" for name in sorted(self.graphs))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def info(self, name: str, device: str, precision: str, version: str, threads: int = 0) -> EngineInfo:
        """What an engine that runs these graphs says of itself.

        Args:
            name, device, precision, version: of the engine, as ``EngineInfo`` tells them.
            threads: of the CPU; 0 where they do not matter.
        """
        told = self.graphs["scene"].metadata
        return EngineInfo(
            name=name,
            device=device,
            profile=told["profile"],
            weights_hash=told["weights_hash"],
            parameters=int(told["parameters"]),
            record=json.loads(told["record"]),
            engine_hash=self.hash,
            precision=precision,
            version=version,
            threads=threads,
        )


def make_bundle(weights: RawWeights, profile: str | None = None) -> OnnxBundle:
    """Join every graph of the weights' profile with their numbers.

    Raises:
        WeightsError: weights of another profile.
        EngineError: the package has no graphs of the profile, or the weights do not fit them.
    """
    own = profile_of(weights.profile, weights.profile_hash, profile)
    return OnnxBundle({name: join(weights, own, name) for name in graph_names(own, weights.has_region)})


def graph_names(profile: Profile, region: bool = True) -> tuple[str, ...]:
    """The graphs that weights of a profile have, in the order of ``GRAPHS``."""
    absent = {"" if profile.small_capacities is not None else "scene_small", "" if region else "region"}
    return tuple(name for name in GRAPHS if name not in absent)


def join(weights: RawWeights, profile: Profile, graph: str) -> OnnxGraph:
    """One graph with its numbers and metadata.

    Raises:
        EngineError: see ``make_bundle``.
    """
    import onnx
    from onnx import numpy_helper

    path = template_path(profile.name, graph)
    if not path.is_file():
        raise EngineError(
            f"no {graph} graph of profile '{profile.name}' comes with this package ({path.name} is missing): "
            "engine 'torch' runs any profile"
        )
    model = onnx.load_model_from_string(path.read_bytes())
    for value in [v for v in model.graph.input if v.name.startswith(WEIGHTS)]:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        tensor = weights.tensors.get(value.name)
        if tensor is None or list(tensor.shape) != shape:
            found = "missing" if tensor is None else f"of shape {list(tensor.shape)}"
            raise EngineError(
                f"weights do not fit the {graph} graph: {value.name} is {found}, {shape} needed"
            )
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(tensor, np.float32), value.name))
        model.graph.input.remove(value)
    padded = {v.name: v.type.tensor_type.shape.dim[0].dim_value for v in model.graph.input}
    for side, capacities in sizes(profile, graph).items():
        first = f"{side}.0.points"
        if first in padded and padded[first] != capacities[0]:
            raise EngineError(
                f"the packaged {graph} graph is padded to {padded[first]} points, profile '{profile.name}' to "
                f"{capacities[0]}: write the graphs anew (python -m end2reg_ros.engine.torch_export)"
            )
    told = metadata(weights, profile, graph)
    for key, text in told.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, text
    model.producer_name, model.producer_version = "end2reg_ros", __version__
    return OnnxGraph(bytes(model.SerializeToString(deterministic=True)), told)


def read_graph(path: Path) -> OnnxGraph:
    """An exported file.

    Raises:
        EngineError: unreadable, cut short, or no ONNX.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        data = path.read_bytes()
        model = onnx.load_model_from_string(data)
    except OSError as fault:
        raise EngineError(f"{path} cannot be read ({fault.strerror})") from None
    except DecodeError:
        raise EngineError(f"{path} is no ONNX file, or cut short") from None
    return OnnxGraph(data, {entry.key: entry.value for entry in model.metadata_props})


def metadata(weights: RawWeights, profile: Profile, graph: str) -> dict[str, str]:
    """What a file says of itself."""
    return {
        "format": FORMAT,
        "graph": graph,
        "graph_hash": template_hash(profile.name, graph),
        "profile": profile.name,
        "profile_hash": profile_hash(profile),
        "sizes": json.dumps(sizes(profile, graph)),
        "weights_hash": weights.hash,
        "parameters": str(sum(v.size for n, v in weights.tensors.items() if n.startswith("network."))),
        "record": json.dumps(weights.record, sort_keys=True),
        "precision": "fp32",
        "version": __version__,
    }


def sizes(profile: Profile, graph: str) -> dict[str, list[int]]:
    """Paddings that a graph was made for, level by level."""
    if graph == "region":
        return {}
    if graph == "model":
        return {"model": list(profile.model.capacities)}
    spec = profile.scene_specs[0] if graph == "scene_small" else profile.scene
    return {"model": list(profile.model.capacities), "scene": list(spec.capacities)}


def check_metadata(
    found: Mapping[str, str], graph: str, profile: str | None = None, what: str = "file"
) -> None:
    """Refuse a file that this version cannot run.

    Args:
        what: what the file is called in the refusal.

    Raises:
        EngineError: not one of ours, another graph, another profile or paddings than this version's, other numbers.
    """
    if found.get("format") != FORMAT:
        raise EngineError(f"{what} is no network of this program (format {found.get('format')!r})")
    if found.get("graph") != graph:
        raise EngineError(f"{what} holds the {found.get('graph')} graph, not the {graph} graph")
    own = profile_of(found.get("profile", ""), found.get("profile_hash", ""), profile)
    if json.loads(found.get("sizes", "{}")) != sizes(own, graph):
        raise EngineError(
            f"{what} was made for paddings {found.get('sizes')}, not {json.dumps(sizes(own, graph))}: export it again"
        )


@cache
def template_hash(profile: str, graph: str) -> str:
    """16 hex digits of a packaged graph; empty where there is none."""
    path = template_path(profile, graph)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


def write_bundle(bundle: OnnxBundle, out: Path) -> list[Path]:
    """Write ``model.onnx`` (the scene graph) and its companions ``model.<graph>.onnx`` beside it; returns the paths.

    Raises:
        EngineError: it cannot be written.
    """
    from end2reg_ros.cache import write_atomically

    written = []
    for name, graph in bundle.graphs.items():
        path = companion(out, name)
        try:
            write_atomically(path, graph.data)
        except OSError as fault:
            raise EngineError(f"{path} cannot be written ({fault.strerror})") from None
        written.append(path)
    return written


def companion(scene: Path, graph: str) -> Path:
    """The file that holds another graph of the same network as ``scene``."""
    return scene if graph == "scene" else scene.with_name(f"{scene.stem}.{graph}.onnx")
