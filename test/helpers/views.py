"""One simulated view of the bundled case, shared by the tests that register or track."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.classical import IcpRegistrar
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.registration.types import Prior
from end2reg_ros.se3 import apply, from_rotation_translation
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedFrame, SimulatedSequence


@lru_cache(maxsize=1)
def bundled_case() -> Case:
    return load_case(bundled_case_path())


@lru_cache(maxsize=1)
def registrar() -> IcpRegistrar:
    return IcpRegistrar(bundled_case(), RegistrationSettings())


@lru_cache(maxsize=4)
def frame(seed: int = 0, scenario: str = "still", t_s: float = 0.0) -> SimulatedFrame:
    return SimulatedSequence(bundled_case(), SequenceSettings(seed=seed, scenario=scenario)).frame(t_s)


def cloud_of(seen: SimulatedFrame, stamp_ns: int = 1) -> Cloud:
    valid = np.isfinite(seen.points).all(axis=-1)
    return Cloud(seen.points[valid], seen.colours[valid], "camera", stamp_ns, received=valid.size)


def tre_mm(T_estimate: NDArray, T_truth: NDArray, case: Case | None = None) -> float:
    landmarks = (case or bundled_case()).landmark_array()
    return float(
        1000 * np.linalg.norm(apply(T_estimate, landmarks) - apply(T_truth, landmarks), axis=1).mean()
    )


def shifted(T: NDArray, x_mm: float = 0.0, y_mm: float = 0.0, z_mm: float = 0.0) -> NDArray:
    """The pose moved along the model's own axes (right, anterior, superior)."""
    return T @ from_rotation_translation(np.eye(3), np.array([x_mm, y_mm, z_mm]) / 1000)


def prior(T: NDArray, stddev_m: float = 0.003) -> Prior:
    return Prior(T, "test", stddev_m)
