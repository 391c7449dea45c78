"""How well a network registers the held-out views of one case: the tracker's own search, without refinement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.engine.torch_engine import TorchEngine
from end2reg_ros.engine.torch_weights import Weights, build_network
from end2reg_ros.registration.end2reg import End2RegAloneRegistrar
from end2reg_ros.registration.find.network_search import NetworkSearch
from end2reg_ros.registration.types import Prior
from end2reg_ros.se3 import apply, rotation_from_vector
from end2reg_ros.training.adapt.views import load_whole
from end2reg_ros.training.config import Augmentation
from end2reg_ros.training.data.loader import fixed_pairs
from end2reg_ros.training.progress import ProgressBar
from end2reg_ros.training.validation import validate

Array = NDArray[np.float64]
PRIOR_DEG, PRIOR_M = 45.0, 0.015


@dataclass(frozen=True)
class HeldOutErrors:
    """Errors of one network.

    Attributes:
        errors_mm: mean landmark error of each view; infinite without a pose.
        crops: figures of ``training.validation`` on crops of the same views.
    """

    errors_mm: list[float]
    crops: dict[str, float]


class HeldOutBench:
    """The held-out views of a case, ready to measure any number of networks on."""

    def __init__(self, case: Case, folder: Path, count: int, threads: int = 1) -> None:
        self.case, self.folder, self.count, self.threads = case, folder, count, threads
        self._registrar: End2RegAloneRegistrar | None = None

    def measure(self, weights: Weights, title: str, progress: bool) -> HeldOutErrors:
        """Register every view: from nothing where the weights hold a region finder, else from a rough prior."""
        engine = TorchEngine(weights, threads=self.threads)
        if self._registrar is None:
            self._registrar = End2RegAloneRegistrar(self.case, engine)
        else:  # the model's surface takes seconds and is the same
            self._registrar.network = NetworkSearch(engine, self._registrar.network.side)
        errors = []
        with ProgressBar(title, self.count, progress) as bar:
            for number in range(self.count):
                errors.append(self._error_mm(self._registrar, number, guided=not weights.region))
                bar.step(number + 1)
        network = build_network(weights)
        pairs = fixed_pairs([str(self.folder)], network.profile, Augmentation(), self.count)
        return HeldOutErrors(errors, validate(network, pairs).as_row() if pairs else {})

    def _error_mm(self, registrar: End2RegAloneRegistrar, number: int, guided: bool) -> float:
        cloud, T_true = load_whole(self.folder, number)
        centre = apply(T_true, registrar.network.side.centre[None])[0]
        prior = Prior(rough_pose(T_true, centre, number), "held_out") if guided else None
        found = registrar.register(cloud, prior)
        if not found.success:
            return float("inf")
        landmarks = self.case.landmark_array()
        offset = apply(found.T_camera_model, landmarks) - apply(T_true, landmarks)
        return float(np.linalg.norm(offset, axis=1).mean()) * 1e3


def rough_pose(T_camera_model: Array, centre: Array, seed: int) -> Array:
    """A pose (4, 4) up to 45 degrees and 15 mm from the true one, turned about ``centre`` (3,) in the camera frame."""
    rng = np.random.default_rng((seed, 91))
    axis, direction = rng.standard_normal((2, 3))
    angle = np.radians(rng.uniform(0.0, PRIOR_DEG))
    turn = rotation_from_vector(axis / np.linalg.norm(axis) * angle)
    shift = direction / np.linalg.norm(direction) * rng.uniform(0.0, PRIOR_M)
    T = np.eye(4)
    T[:3, :3] = turn @ T_camera_model[:3, :3]
    T[:3, 3] = turn @ (T_camera_model[:3, 3] - centre) + centre + shift
    return T
