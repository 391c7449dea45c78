"""A made-up network in NumPy that knows where the model is, for the tests of the learned registrar."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from views import bundled_case, cloud_of, frame, shifted

from end2reg_ros.cloud.pyramid import UNIT_M, Pyramid
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.cloud.view_grid import COLUMNS, ViewGrid, view_grid
from end2reg_ros.engine.types import Arrays, EngineInfo, MaskChoice, NetworkOutput, ScenePyramids
from end2reg_ros.errors import EngineError
from end2reg_ros.profile import realtime
from end2reg_ros.registration.find.region_search import CROP
from end2reg_ros.registration.local import LocalRegistration
from end2reg_ros.registration.network import NetworkScene, model_side
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.se3 import from_rotation_translation, inverse, rotation_angle, rotation_from_vector

Array = NDArray[np.float64]
PROFILE = realtime()
NO_REGION = np.concatenate([np.full((1, 60, 80), -10.0), np.zeros((6, 60, 80))]).astype(np.float32)


@dataclass
class FakeEngine:
    """A network that knows where the model is, and sees nothing in a scene turned further than it was trained for.

    Attributes:
        T: (4, 4) T_camera_model that it finds.
        region: (7, 60, 80) of its region finder; None for weights without.
        found: inliers it claims, pass by pass; the last one for all further ones.
        shown: scenes it was shown.
    """

    T: Array
    region: NDArray[np.float32] | None = None
    found: tuple[int, ...] = (400,)
    capture_deg: float = 60.0
    shown: list[NetworkScene] = field(default_factory=list)
    masks: list[MaskChoice | None] = field(default_factory=list)
    models: int = 0
    profile = PROFILE
    info = EngineInfo("fake", "cpu", PROFILE.name, "ab" * 8, 0, {}, engine_hash="ab" * 8)
    side = None

    def encode_model(self, model: Pyramid) -> Arrays:
        return {"model.patches": model.patches}

    def set_model(self, model: Pyramid | Arrays) -> None:
        self.models += 1

    def warm_up(self) -> None:
        pass

    def run(self, scene: ScenePyramids, mask: MaskChoice | None = None) -> NetworkOutput:
        self.masks.append(mask)
        finest = scene.registration.levels[0]
        assert np.isfinite(finest.points).all() and np.isfinite(scene.registration.attributes).all()
        T = inverse(self.shown[-1].T_camera_local) @ self.T
        inliers = self.found[min(len(self.masks), len(self.found)) - 1]
        if rotation_angle(T[:3, :3]) > np.radians(self.capture_deg):
            T, inliers = np.eye(4), 30
        labels = (np.arange(finest.count) % 2).astype(np.float32)
        centre = sides().centre
        shift = (T[:3, 3] + T[:3, :3] @ centre) / UNIT_M
        return NetworkOutput(T[:3, :3], shift, inliers, 500, np.zeros(64, np.float32), labels, labels - 0.5)

    def region_map(self, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.region is None:
            raise EngineError("these weights hold no region finder: a start is needed")
        # The first look sees more than the second's crop. A second look that finds nothing leaves the first as it is.
        first = grid[0, :, : (COLUMNS - CROP[1]) // 2].any() or not grid.any()
        return self.region if first else NO_REGION

    def close(self) -> None:
        pass


@lru_cache(maxsize=1)
def local() -> LocalRegistration:
    return LocalRegistration(bundled_case(), RegistrationSettings())


@lru_cache(maxsize=1)
def sides() -> Any:
    return model_side(local().surface, PROFILE)


@lru_cache(maxsize=1)
def cloud() -> Cloud:
    return cloud_of(frame(0))


def truth() -> Array:
    return frame(0).T_camera_model


def turned(T: Array, degrees: float, x_mm: float = 0.0) -> Array:
    """A pose turned about the model's centre and shifted."""
    R = rotation_from_vector(np.radians(degrees) * np.array([0.6, 0.0, 0.8]))
    c = sides().centre
    return shifted(T, x_mm=x_mm) @ from_rotation_translation(R, c - R @ c)


def region_output(grid: ViewGrid, T: Array, superior: float = 1.0) -> NDArray[np.float32]:
    """What a perfect region finder says; ``superior`` -1 takes head for feet, 0 cannot tell."""
    bone = grid.values[0].reshape(60, 2, 80, 2).mean(axis=(1, 3)) > 0.15
    angle = np.arctan2(T[1, 2], T[0, 2])
    along = superior * np.array([np.cos(angle), np.sin(angle)])
    values = [np.cos(2 * angle), np.sin(2 * angle), *along, *T[:2, 1]]
    maps = [np.where(bone, 6.0, -6.0), *(np.full(bone.shape, v) for v in values)]
    return np.stack(maps).astype(np.float32)


def region(superior: float = 1.0) -> NDArray[np.float32]:
    seen = frame(0)
    bone = seen.bone[np.isfinite(seen.points).all(axis=-1)]
    grid = view_grid(cloud().points, cloud().colours, bone[:, None].astype(np.float32))
    return region_output(grid, truth(), superior)
