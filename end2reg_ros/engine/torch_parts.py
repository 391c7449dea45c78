"""Where the time of a pass of the torch engine goes."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import torch

from end2reg_ros.cloud.pyramid import Pyramid
from end2reg_ros.engine.torch_engine import TorchEngine
from end2reg_ros.engine.types import ScenePyramids
from end2reg_ros.network.local_to_global import local_to_global
from end2reg_ros.network.matching import best_pairs, superpoint_scores
from end2reg_ros.network.tables import cloud_tables, scene_tables_of


class Laps:
    """Milliseconds between calls, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, name: str) -> None:
        """Book the time since the last call."""
        now = perf_counter()
        self.laps[name] = 1000 * (now - self._last)
        self._last = now


def torch_parts(engine: TorchEngine, side: Pyramid, scene: ScenePyramids, repeats: int) -> dict[str, float]:
    """Part of a pass of the torch engine -> median milliseconds; on the CPU, where a call ends when its work does."""
    network, profile = engine.network, engine.network.profile
    laps: dict[str, list[float]] = {}
    with torch.no_grad():
        model = network.encode_model(cloud_tables(side, engine.device))
        for _ in range(repeats):
            clock = Laps()
            tables = scene_tables_of(scene.registration, scene.segmentation, engine.device)
            geometry = network.geometry(tables.registration)
            clock.lap("geometry")
            mask = network.segment(tables, geometry).mask
            clock.lap("segmentation")
            encoded = network.encode_masked(tables.registration, geometry, mask)
            clock.lap("backbone")
            related = network.relate(model, encoded)
            clock.lap("transformer")
            scores = superpoint_scores(*related, model.node_mask, encoded.node_mask)
            network.assign(model, encoded, best_pairs(scores, profile.pairs))
            clock.lap("matching")
            found = network.match(model, encoded).found
            clock.lap("again")  # all of it once more, for what the pose begins with
            local_to_global(found, profile.inlier_radius, profile.refinements)
            clock.lap("pose")
            del clock.laps["again"]
            for name, ms in clock.laps.items():
                laps.setdefault(name, []).append(ms)
    return {name: float(np.median(values)) for name, values in laps.items()}
