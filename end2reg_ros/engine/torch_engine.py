"""The network in torch: the reference that every other engine is held against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from end2reg_ros.cloud.pyramid import Pyramid
from end2reg_ros.engine.graph_io import output_of
from end2reg_ros.engine.torch_weights import Weights, build_network, load_into, load_weights
from end2reg_ros.engine.types import (
    Arrays,
    EngineInfo,
    Floats,
    MaskChoice,
    NetworkOutput,
    ScenePyramids,
    empty_grid,
    empty_scenes,
)
from end2reg_ros.errors import EngineError
from end2reg_ros.network.graphs import EncodedModel, ModelGraph, SceneGraph, SceneResult
from end2reg_ros.network.model import End2Reg, parameter_count
from end2reg_ros.network.region_net import RegionNet
from end2reg_ros.network.tables import cloud_tables, scene_tables_of


class TorchEngine:
    """A weights file run by torch on the CPU or an NVIDIA GPU."""

    def __init__(
        self, weights: Path | Weights, profile: str | None = None, device: str = "cpu", threads: int = 1
    ) -> None:
        """Load the weights.

        Raises:
            WeightsError: see ``load_weights`` and ``build_network``.
            EngineError: a device that torch does not have.
        """
        torch.set_num_threads(threads)
        loaded = weights if isinstance(weights, Weights) else load_weights(weights)
        self.network: End2Reg = build_network(loaded, profile)
        self.profile = self.network.profile
        try:
            self.network.to(device)
        except (RuntimeError, AssertionError) as fault:
            first = str(fault).splitlines()[0]
            raise EngineError(f"torch cannot use the device '{device}': {first}") from None
        self.device = device
        self.region: RegionNet | None = None
        if loaded.region:
            self.region = RegionNet()
            load_into(self.region, loaded.region, "region finder")
            self.region.eval().to(device)
        self.info = EngineInfo(
            "torch",
            device,
            self.profile.name,
            loaded.hash,
            parameter_count(self.network),
            dict(loaded.record),
            engine_hash=loaded.hash,
            version=torch.__version__,
            threads=threads if device == "cpu" else 0,
        )
        self._model: EncodedModel | None = None
        self._encoder, self._passer = ModelGraph(self.network), SceneGraph(self.network)

    @torch.no_grad()
    def encode_model(self, model: Pyramid) -> Arrays:
        """The pre-operative side, encoded: named arrays that ``set_model`` takes."""
        side = self._encoder(cloud_tables(model, self.device))
        return {f"model.{name}": value.cpu().numpy() for name, value in side._asdict().items()}

    @torch.no_grad()
    def set_model(self, model: Pyramid | Arrays) -> None:
        """Take the pre-operative side, a pyramid or what ``encode_model`` gave of it."""
        if isinstance(model, dict):
            named = {n: torch.from_numpy(np.array(model[f"model.{n}"])) for n in EncodedModel._fields}
            self._model = EncodedModel(**{n: value.to(self.device) for n, value in named.items()})
        else:
            self._model = self._encoder(cloud_tables(model, self.device))

    def warm_up(self) -> None:
        """Run every graph over nothing, so that the first frame is as fast as the hundredth."""
        for scene in empty_scenes(self.profile):
            self.run(scene)
        if self.region is not None:
            self.region_map(empty_grid())

    @torch.no_grad()
    def run(self, scene: ScenePyramids, mask: MaskChoice | None = None) -> NetworkOutput:
        """One pass over a scene against the model set before.

        Raises:
            EngineError: no model was set.
        """
        if self._model is None:
            raise EngineError("the engine has no model side yet: set_model comes first")
        tables = scene_tables_of(scene.registration, scene.segmentation, self.device)
        labels = None
        if mask is not None and mask.mode != "learned":
            geometry = self.network.geometry(tables.registration)
            learned = self.network.segment(tables, geometry).mask
            labels = self._labels(learned, geometry[0].mask[:, 0], mask)
        result: SceneResult = self._passer(tables, self._model, labels)
        return output_of({name: value.cpu().numpy() for name, value in result._asdict().items()}, scene)

    @torch.no_grad()
    def region_map(self, grid: Floats) -> Floats:
        """The region finder's maps (7, rows, columns) for a view grid of ``cloud.view_grid``."""
        if self.region is None:
            raise EngineError("these weights hold no region finder: a start is needed")
        output = self.region(torch.from_numpy(grid)[None].to(self.device))
        return np.asarray(output[0].cpu().numpy(), np.float32)

    def close(self) -> None:
        """Let go of the memory; the engine can be used no more."""
        self._model = None

    def _labels(self, learned: torch.Tensor, real: torch.Tensor, choice: MaskChoice) -> torch.Tensor:
        """(C0,) the mask of a choice."""
        if choice.mode == "all_ones":
            return real
        if choice.mode == "given":
            given = np.zeros(len(real), np.float32)
            if choice.labels is not None:
                given[: len(choice.labels)] = choice.labels
            return torch.from_numpy(given).to(real.device) * real
        share = float(learned.sum() / real.sum().clamp(min=1.0))
        drawn = torch.rand(len(real), generator=torch.Generator().manual_seed(choice.seed))
        return (drawn.to(real.device) < share).to(real.dtype) * real
