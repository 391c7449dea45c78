"""The network on TensorRT 10.x or 11.x: the scene's graphs as plans on an NVIDIA GPU, launched as one recorded sequence.

A frame's path is on the GPU; what runs once a case or only at a start (the model's side, the region finder) is left to
ONNX Runtime on the CPU: half the building time, and the same arrays as the default engine's.

What was run and what was not: no GPU and no TensorRT library was at hand. Run: the checks of the graphs, the change of
precision (in ONNX Runtime and by a reference evaluation), keys and files of the plan cache, buffers, build, session and
engine against stand-ins of ``tensorrt`` and ``cuda.bindings.runtime`` that calculate with ONNX Runtime; cuda-bindings 13.5 up
to its "no driver" error; of TensorRT's own Python bindings 10.3, 10.16 and 11.4 (without the library behind them) that every
name used here exists, and logger and progress monitor as objects. Never run: parsing, building, deserialising and running a
plan, recording a CUDA graph, mixed precision on a GPU. No speed or accuracy is claimed for this engine.
"""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from typing import Any

import numpy as np

from end2reg_ros.cloud.pyramid import Pyramid
from end2reg_ros.engine.graph_io import REGION_INPUT, model_feed, output_of, scene_feed
from end2reg_ros.engine.onnx_files import OnnxBundle, OnnxGraph, check_metadata
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.engine.tensorrt.build import BuildSettings, Show
from end2reg_ros.engine.tensorrt.cuda_buffers import Block, Cuda, load_cuda
from end2reg_ros.engine.tensorrt.library import gpu_number, load_library, precision_named
from end2reg_ros.engine.tensorrt.plans import Plan, obtain_plan
from end2reg_ros.engine.tensorrt.session import PlanRefused, TensorrtSession, shared_tensors
from end2reg_ros.engine.types import (
    Arrays,
    EngineInfo,
    Floats,
    MaskChoice,
    NetworkOutput,
    ScenePyramids,
)
from end2reg_ros.engine.warm_up import empty_grid, empty_scenes
from end2reg_ros.errors import EngineError
from end2reg_ros.profile import get_profile

#: Graphs of a frame's path, and what the names of the model's side begin with.
SCENES, MODEL_PREFIX = ("scene", "scene_small"), "model."


def load_tensorrt(options: EngineOptions, show: Show | None = None) -> TensorrtEngine:
    """The engine of a weights file; plans that are not kept are built, which takes minutes.

    Args:
        options: ``device`` is empty, cuda, or cuda:1 for the second GPU.
        show: told how far a build is; None writes it to the log.

    Raises:
        EngineError: a missing package, named with the command that installs it; no GPU; a graph that cannot be built.
        WeightsError: weights that cannot be used.
    """
    trt, cuda, bundle = _needed(options)
    return TensorrtEngine(trt, cuda, bundle, options.profile, options.precision, options.threads, show=show)


def build_plans(options: EngineOptions, show: Show | None = None) -> list[Plan]:
    """Have every plan of a weights file ready without running any: ``end2reg engine build``.

    Raises:
        EngineError, WeightsError: see ``load_tensorrt``.
    """
    trt, cuda, bundle = _needed(options)
    precision = precision_named(options.precision)
    return [
        obtain_plan(
            trt, cuda, graph, _graph(bundle, graph, options.profile), precision, BuildSettings(), show
        )
        for graph in SCENES
        if graph == "scene" or graph in bundle.graphs
    ]


class TensorrtEngine:
    """The graphs of one weights file, those of a frame as plans on a GPU."""

    def __init__(
        self,
        trt: Any,
        cuda: Cuda,
        bundle: OnnxBundle,
        profile: str | None = None,
        precision: str = "fp32",
        threads: int = 2,
        settings: BuildSettings | None = None,
        show: Show | None = None,
    ) -> None:
        """Load the plans, building those that are not kept.

        Args:
            trt, cuda: the library (``load_library``) and the GPU (``load_cuda``).
            bundle: of ``bundle_store.load_bundle``.
            profile: the profile wanted; None takes that of the graphs.
            precision: fp32 or mixed.
            threads: of the CPU, for the graphs that run there.
            settings, show: of builds.

        Raises:
            EngineError, WeightsError: see ``load_tensorrt``.
        """
        self._trt, self._cuda, self._bundle, self._threads = trt, cuda, bundle, threads
        self._settings, self._show = settings or BuildSettings(), show
        self._precision = precision_named(precision)
        told = _graph(bundle, "scene", profile).metadata
        for name in bundle.graphs:  # before anything is built
            _graph(bundle, name, profile)
        self.profile = get_profile(told["profile"])
        self._sessions: dict[int, TensorrtSession] = {}
        self._side: Block | None = None
        self._has_model = False
        self._digest = hashlib.sha256()
        specs = self.profile.scene_specs()
        capacity_of = {"scene": specs[-1].capacities[0], "scene_small": specs[0].capacities[0]}
        try:
            for graph in (g for g in SCENES if g in bundle.graphs):
                self._sessions[capacity_of[graph]] = self._session(graph)
            self._side = Block(cuda, shared_tensors(self._sessions.values()), "the model's side")
            for session in self._sessions.values():
                session.attach(self._side)
        except BaseException:
            self.close()
            raise
        # What runs on the CPU; the region finder's is made when it is first asked for.
        self._region: Any = None
        self.info = EngineInfo(
            name="tensorrt",
            device=f"cuda:{cuda.device} ({cuda.gpu.name})",
            profile=self.profile.name,
            weights_hash=told["weights_hash"],
            parameters=int(told["parameters"]),
            record=json.loads(told["record"]),
            engine_hash=self._digest.hexdigest()[:16],
            precision=self._precision,
            version=trt.__version__,
            threads=threads,
        )

    def encode_model(self, model: Pyramid) -> Arrays:
        """See ``Engine.encode_model``; on the CPU, once a case."""
        session = self._on_cpu("model")
        names = [value.name for value in session.get_outputs()]
        found: Arrays = dict(zip(names, session.run(None, model_feed(model)), strict=True))
        return found | {"model.patches": model.patches}

    def set_model(self, model: Pyramid | Arrays) -> None:
        """See ``Engine.set_model``; it stays on the GPU.

        Raises:
            EngineError: arrays that are not those of ``encode_model``.
        """
        if self._side is None:
            raise EngineError("the engine is closed")
        self._side.fill(model if isinstance(model, dict) else self.encode_model(model))
        next(iter(self._sessions.values())).upload(self._side)
        self._has_model = True

    def warm_up(self) -> None:
        """See ``Engine.warm_up``; records a pass of every plan."""
        self._needs_model()
        for session in self._sessions.values():
            session.record()
        for _ in range(2):
            for scene in empty_scenes(self.profile):
                if len(scene.registration.levels[0].points) in self._sessions:
                    self.run(scene)
            if "region" in self._bundle.graphs:
                self.region_map(empty_grid())

    @property
    def unrecorded(self) -> str:
        """Why passes are not launched as one recorded sequence; empty where they are, after ``warm_up``."""
        return next((s.unrecorded for s in self._sessions.values() if s.unrecorded), "")

    def run(self, scene: ScenePyramids, mask: MaskChoice | None = None) -> NetworkOutput:
        """See ``Engine.run``.

        Raises:
            EngineError: no model was set, tables of other sizes than the graphs', another mask than the learned one, a
                failure of CUDA or TensorRT.
        """
        self._needs_model()
        if mask is not None and mask.mode != "learned":
            raise EngineError(
                f"mask '{mask.mode}' needs engine 'torch': an exported graph has the learned one"
            )
        capacity = len(scene.registration.levels[0].points)
        session = self._sessions.get(capacity)
        if session is None:
            known = ", ".join(str(c) for c in sorted(self._sessions))
            raise EngineError(f"tables are padded to {capacity} points, the network's graphs to {known}")
        return output_of(session.run(scene_feed(scene)), scene)

    def region_map(self, grid: Floats) -> Floats:
        """See ``Engine.region_map``; on the CPU."""
        if "region" not in self._bundle.graphs:
            raise EngineError("these weights hold no region finder: a start is needed")
        if self._region is None:
            self._region = self._on_cpu("region")
        return np.asarray(self._region.run(None, {REGION_INPUT: grid[None]})[0][0], np.float32)

    def close(self) -> None:
        """See ``Engine.close``."""
        self._has_model, self._region = False, None
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        if self._side is not None:
            self._side.close()
            self._side = None

    def _needs_model(self) -> None:
        if not self._has_model:
            raise EngineError("the engine has no model side yet: set_model comes first")

    def _session(self, graph: str) -> TensorrtSession:
        """A graph's plan, loaded; one that TensorRT refuses is built anew, once."""
        plan = self._plan(graph)
        try:
            session = TensorrtSession(self._trt, self._cuda, plan.content, graph, MODEL_PREFIX)
        except PlanRefused as fault:
            if plan.why:  # just built
                raise
            plan = self._plan(graph, str(fault))
            session = TensorrtSession(self._trt, self._cuda, plan.content, graph, MODEL_PREFIX)
        self._digest.update(plan.content)
        return session

    def _plan(self, graph: str, refused: str = "") -> Plan:
        onnx = self._bundle.graphs[graph]
        return obtain_plan(
            self._trt, self._cuda, graph, onnx, self._precision, self._settings, self._show, refused
        )

    def _on_cpu(self, graph: str) -> Any:
        if find_spec("onnxruntime") is None:
            raise EngineError(f"the {graph} graph needs a package that is missing: pip install onnxruntime")
        from end2reg_ros.engine.onnx_session import make_session

        return make_session(_graph(self._bundle, graph, self.profile.name), graph, "cpu", self._threads)


def _needed(options: EngineOptions) -> tuple[Any, Cuda, OnnxBundle]:
    """Library, GPU and graphs; what is missing is told before anything long begins."""
    from end2reg_ros.engine.bundle_store import load_bundle

    if options.weights is None:
        raise EngineError("no weights were given")
    precision_named(options.precision)
    number = gpu_number(options.device)
    trt = load_library()
    cuda = load_cuda(number)
    return trt, cuda, load_bundle(options.weights, options.profile)


def _graph(bundle: OnnxBundle, graph: str, profile: str | None) -> OnnxGraph:
    """A graph that fits this version and the scene graph.

    Raises:
        EngineError: it is missing or does not fit.
    """
    for name in (graph, "scene"):
        if name not in bundle.graphs:
            raise EngineError(f"the network's {name} graph is missing: export it again")
    found = bundle.graphs[graph]
    check_metadata(found.metadata, graph, profile, f"the {graph} graph")
    mine, theirs = found.metadata["weights_hash"], bundle.graphs["scene"].metadata["weights_hash"]
    if mine != theirs:
        raise EngineError(
            f"the {graph} graph holds weights {mine}, the scene graph {theirs}: export them together"
        )
    return found
