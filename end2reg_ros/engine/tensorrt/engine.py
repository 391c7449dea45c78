"""The network on TensorRT 10.x or 11.x: the scene's graphs as plans on an NVIDIA GPU, run by NVIDIA's Polygraphy.

A frame's path is on the GPU; what runs once a case or only at a start (the model's side, the region finder) is left to
ONNX Runtime on the CPU: half the building time, and the same arrays as the default engine's.

No plan was ever run: no GPU was at hand. docs/engine.md says what was parsed and built with NVIDIA's own library.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from typing import Any

import numpy as np

from end2reg_ros.engine.onnx_engine import GraphRun, OnnxEngine
from end2reg_ros.engine.onnx_files import OnnxBundle
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.engine.tensorrt.library import Gpu, Library, find_gpu, load_library, precision_named
from end2reg_ros.engine.tensorrt.plans import Plan, PlanKey, obtain_plan
from end2reg_ros.engine.types import Arrays
from end2reg_ros.errors import EngineError

#: Graphs of a frame's path.
SCENES = ("scene", "scene_small")


def load_tensorrt(options: EngineOptions) -> TensorrtEngine:
    """The engine of a weights file; plans that are not kept are built, which takes minutes.

    Args:
        options: ``device`` is empty, cuda, or cuda:1 for the second GPU.

    Raises:
        EngineError: a missing package, named with the command that installs it; no GPU; a graph that cannot be built.
        WeightsError: weights that cannot be used.
    """
    from end2reg_ros.engine.bundle_store import load_bundle

    if options.weights is None:
        raise EngineError("no weights were given")
    precision_named(options.precision)  # before anything long
    library, gpu = load_library(), find_gpu(options.device)
    bundle = load_bundle(options.weights, options.profile)
    return TensorrtEngine(library, gpu, bundle, options.profile, options.precision, options.threads)


class TensorrtEngine(OnnxEngine):
    """The graphs of one weights file, those of a frame as plans on a GPU."""

    loaders = 1  # builds take the time of layers, each wants the GPU for itself

    def __init__(
        self,
        library: Library,
        gpu: Gpu,
        bundle: OnnxBundle,
        profile: str | None = None,
        precision: str = "fp32",
        threads: int = 2,
    ) -> None:
        """Load the plans, building those that are not kept.

        Args:
            threads: of the CPU, for the graphs that run there.

        Raises:
            EngineError, WeightsError: see ``load_tensorrt``.
        """
        self._library, self._gpu = library, gpu
        self._precision = precision_named(precision)
        self._digest = hashlib.sha256()
        self._runners: list[Any] = []
        gpu.use()
        try:
            super().__init__(bundle, profile, "cpu", threads)
        except BaseException:
            self._release()
            raise
        self.info = replace(
            self.info,
            name="tensorrt",
            device=f"cuda:{gpu.number} ({gpu.name})",
            engine_hash=self._digest.hexdigest()[:16],
            precision=self._precision,
            version=library.version,
        )

    def close(self) -> None:
        """Let go of the memory; the engine can be used no more."""
        self._release()
        super().close()

    def _release(self) -> None:
        """Let go of what the plans hold on the GPU."""
        while self._runners:
            # A GPU that failed before fails here again, which says nothing new.
            with contextlib.suppress(EngineError), self._library.faults("closing"):
                self._runners.pop().deactivate()

    def _load(self, name: str) -> GraphRun:
        """What runs a graph; a plan that TensorRT refuses is built anew, once."""
        if name not in SCENES:
            return super()._load(name)
        self._gpu.use()
        key = PlanKey(name, self._bundle.graphs[name], self._library.version, self._gpu, self._precision)
        plan = obtain_plan(self._library, key)
        try:
            runner = self._activated(name, plan)
        except EngineError as refused:
            if plan.why or "memory" in str(refused).lower():  # just built, or it would not fit either
                raise
            plan = obtain_plan(self._library, key, str(refused))
            runner = self._activated(name, plan)
        self._digest.update(plan.content)

        def run(feed: Arrays) -> Arrays:
            self._gpu.use()
            with self._library.faults(f"TensorRT cannot run the {name} graph"):
                # Its buffers are used again by the next pass.
                return {output: np.array(value) for output, value in runner.infer(feed).items()}

        return run

    def _activated(self, name: str, plan: Plan) -> Any:
        """Polygraphy's runner of a plan, its memory taken."""
        with self._library.faults(f"TensorRT refuses the plan of the {name} graph"):
            runner = self._library.backend.TrtRunner(
                self._library.backend.EngineFromBytes(plan.content), name=name
            )
            runner.activate()
        self._runners.append(runner)
        return runner
