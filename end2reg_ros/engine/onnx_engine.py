"""The network on ONNX Runtime: the default on any CPU; on NVIDIA GPUs where the installed build has the provider."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from end2reg_ros.cloud.pyramid import Pyramid
from end2reg_ros.engine.graph_io import (
    MODEL_SIDE,
    REGION_INPUT,
    REGION_OUTPUT,
    model_feed,
    output_of,
    scene_feed,
)
from end2reg_ros.engine.onnx_files import OnnxBundle, OnnxGraph, check_metadata
from end2reg_ros.engine.onnx_session import make_session
from end2reg_ros.engine.types import (
    Arrays,
    Floats,
    MaskChoice,
    NetworkOutput,
    ScenePyramids,
    empty_grid,
    empty_scenes,
)
from end2reg_ros.errors import EngineError
from end2reg_ros.profile import get_profile

#: What runs a graph: inputs by name to outputs by name.
GraphRun = Callable[[Arrays], Arrays]


class OnnxEngine:
    """The graphs of one weights file in ONNX Runtime sessions.

    Attributes:
        loaders: graphs that are loaded at a time.
    """

    # A session is made outside of Python: two at a time are twice as fast.
    loaders = 2

    def __init__(
        self, bundle: OnnxBundle, profile: str | None = None, device: str = "cpu", threads: int = 2
    ) -> None:
        """Load the graphs.

        Args:
            device: cpu, cuda, or tensorrt (ONNX Runtime's own provider, not engine ``tensorrt``).
            threads: of the CPU; never more than it has.

        Raises:
            EngineError: a graph that is missing, cut short or does not fit; a device that this build does not know.
        """
        import onnxruntime

        self._device = device
        self._threads = max(1, min(threads, len(os.sched_getaffinity(0))))
        self._bundle = bundle
        self._side: Arrays | None = None
        names = [name for name in bundle.graphs if name != "model"]
        graphs = {name: self._graph(name, profile) for name in ("scene", *names)}
        with ThreadPoolExecutor(self.loaders) as pool:
            self._runs: dict[str, GraphRun] = dict(zip(graphs, pool.map(self._load, graphs), strict=True))
        told = graphs["scene"].metadata
        self.profile = get_profile(told["profile"])
        specs = self.profile.scene_specs
        self._by_capacity = {specs[-1].capacities[0]: "scene"}
        if "scene_small" in graphs:
            self._by_capacity[specs[0].capacities[0]] = "scene_small"
        version = onnxruntime.__version__
        self.info = bundle.info("onnxruntime", device, told["precision"], version, self._threads)

    def encode_model(self, model: Pyramid) -> Arrays:
        """The pre-operative side, encoded: named arrays that ``set_model`` takes."""
        self._graph("model", self.profile.name)
        return self._load("model")(model_feed(model)) | {"model.patches": model.patches}

    def set_model(self, model: Pyramid | Arrays) -> None:
        """Take the pre-operative side, a pyramid or what ``encode_model`` gave of it."""
        side = model if isinstance(model, dict) else self.encode_model(model)
        self._side = {name: np.ascontiguousarray(side[name]) for name in MODEL_SIDE}

    def warm_up(self) -> None:
        """Run every graph over nothing, so that the first frame is as fast as the hundredth."""
        if self._side is None:
            raise EngineError("the engine has no model side yet: set_model comes first")
        for scene in empty_scenes(self.profile):
            if len(scene.registration.levels[0].points) in self._by_capacity:
                self.run(scene)
        if "region" in self._runs:
            self.region_map(empty_grid())

    def run(self, scene: ScenePyramids, mask: MaskChoice | None = None) -> NetworkOutput:
        """One pass over a scene against the model set before.

        Raises:
            EngineError: no model was set, tables of other sizes than the graphs', or another mask than the learned one.
        """
        if self._side is None:
            raise EngineError("the engine has no model side yet: set_model comes first")
        if mask is not None and mask.mode != "learned":
            raise EngineError(
                f"mask '{mask.mode}' needs engine 'torch': an exported graph has the learned one"
            )
        capacity = len(scene.registration.levels[0].points)
        name = self._by_capacity.get(capacity)
        if name is None:
            known = ", ".join(str(c) for c in sorted(self._by_capacity))
            raise EngineError(f"tables are padded to {capacity} points, the network's graphs to {known}")
        return output_of(self._runs[name](scene_feed(scene) | self._side), scene)

    def region_map(self, grid: Floats) -> Floats:
        """The region finder's maps (7, rows, columns) for a view grid of ``cloud.view_grid``."""
        if "region" not in self._runs:
            raise EngineError("these weights hold no region finder: a start is needed")
        maps = self._runs["region"]({REGION_INPUT: grid[None]})[REGION_OUTPUT]
        return np.asarray(maps[0], np.float32)

    def close(self) -> None:
        """Let go of the memory; the engine can be used no more."""
        self._side = None
        self._runs.clear()

    def _load(self, name: str) -> GraphRun:
        """What runs a graph of the bundle."""
        session = make_session(self._bundle.graphs[name], name, self._device, self._threads)
        outputs = [value.name for value in session.get_outputs()]
        return lambda feed: dict(zip(outputs, session.run(None, feed), strict=True))

    def _graph(self, name: str, profile: str | None) -> OnnxGraph:
        """A graph that fits this version and the scene graph.

        Raises:
            EngineError, WeightsError: it is missing or does not fit.
        """
        for wanted in (name, "scene"):
            if wanted not in self._bundle.graphs:
                raise EngineError(f"the network's {wanted} graph is missing: export it again")
        graph = self._bundle.graphs[name]
        check_metadata(graph.metadata, name, profile, f"the {name} graph")
        mine, theirs = (g.metadata["weights_hash"] for g in (graph, self._bundle.graphs["scene"]))
        if mine != theirs:
            raise EngineError(
                f"the {name} graph holds weights {mine}, the scene graph {theirs}: export them together"
            )
        return graph
