"""A camera, a tracker and fits made by hand: what the tests of the measuring of tracking share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from views import bundled_case

from benchmarks.tracking_study.observer import Observer
from benchmarks.tracking_study.run import RunSettings, run_track
from end2reg_ros import se3
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.evaluation.rows import CloudRow
from end2reg_ros.registration.types import LevelResult, Quality, Registration
from end2reg_ros.simulation.sequence import SimulatedFrame
from end2reg_ros.tracking.types import PUBLISHING_STATES, State, TrackingUpdate

T_TRUE = se3.from_rotation_translation(
    se3.rotation_from_vector(np.array([1.5, 0.2, -0.3])), np.array([0.02, -0.01, 0.5])
)


def shift(x_mm: float = 0.0, y_mm: float = 0.0, z_mm: float = 0.0) -> np.ndarray:
    return se3.from_rotation_translation(np.eye(3), np.array([x_mm, y_mm, z_mm]) / 1000)


class StillCamera:
    """Two points and the truth; ``visible`` by time."""

    def __init__(self, visible: Any = lambda t: 1.0, spine: bool = True) -> None:
        self.visible, self.spine = visible, spine
        self.asked: list[float] = []

    def frame(self, t_s: float) -> SimulatedFrame:
        self.asked.append(t_s)
        # A camera's noise: clouds that equal each other would be those of a frozen one.
        points = np.array([[[1e-6 * len(self.asked), 0.0, 0.5], [np.nan, np.nan, np.nan]]], dtype=np.float32)
        levels = {v.level: T_TRUE @ v.T_model_level for v in bundled_case().vertebrae}
        colours = np.zeros((1, 2, 3), np.uint8)
        return SimulatedFrame(
            t_s, points, colours, np.zeros((1, 2), bool), T_TRUE, levels, 1, self.visible(t_s), {"spine": self.spine}
        )  # fmt: skip


def fit(moved: np.ndarray, own: np.ndarray | None = None, **more: Any) -> Registration:
    """A fit off by ``moved``, its levels by ``own``, in camera axes."""
    case = bundled_case()
    levels = tuple(
        LevelResult(v.level, (moved if own is None else own) @ T_TRUE @ v.T_model_level, 1e-6 * np.eye(6), Quality(), k == 0)
        for k, v in enumerate(case.vertebrae)
    )  # fmt: skip
    values = {"covariance": 1e-6 * np.eye(6), "levels": levels, **more}
    return Registration(moved @ T_TRUE, True, "ok", "", Quality(), method="fake", engine="", **values)


class FakeTracker:
    """Answers by the number of the cloud: (state, fit); the last answer is repeated."""

    def __init__(self, answers: Sequence[tuple[State, Registration | None]]) -> None:
        self.answers, self.stamps = list(answers), list[int]()

    def reset(self, reason_code: str, reason: str) -> None:
        """Nothing to forget."""

    def update(self, cloud: Cloud) -> TrackingUpdate:
        state, found = self.answers[min(len(self.stamps), len(self.answers) - 1)]
        self.stamps.append(cloud.stamp_ns)
        published = state in PUBLISHING_STATES
        code = "ok" if published else "few_inliers"
        return TrackingUpdate(cloud.stamp_ns, "camera", state, False, code, code, found, published)


def rows_of_run(
    answers: Sequence[tuple[State, Registration | None]],
    camera: StillCamera | None = None,
    settings: RunSettings | None = None,
    with_uncertainty: bool = False,
) -> list[CloudRow]:
    observer = Observer(bundled_case(), with_uncertainty)
    wanted = settings or RunSettings(10.0, 0.1 * len(answers))
    return run_track(camera or StillCamera(), FakeTracker(answers), observer, wanted)
