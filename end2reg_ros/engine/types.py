"""What an engine takes and gives. NumPy in, NumPy out: what runs the network is the engine's own business."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.pyramid import Pyramid
from end2reg_ros.network.profile import Profile

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
# What the registration is shown as its mask; all but ``learned`` are for studies of what the mask is worth.
MaskMode = Literal["learned", "all_ones", "random", "given"]


@dataclass(frozen=True)
class MaskChoice:
    """Which mask a pass uses: ``random`` keeps the learned mask's share; ``given`` takes ``labels`` (C0,)."""

    mode: MaskMode = "learned"
    labels: Floats | None = None
    seed: int = 0


@dataclass(frozen=True)
class NetworkOutput:
    """One pass over one cloud.

    Attributes:
        rotation: (3, 3), translation: (3,) T_scene_model, network units.
        inliers: correspondences that agree with the pose; 0: no pose.
        total: correspondences.
        support: (k,) inliers of every patch pair's own proposal: the margin between hypotheses.
        mask: (count of the scene's level 0,) label 0 or 1 of each cell.
        logits: the same cells' logit of label 1 minus that of label 0.
    """

    rotation: Array
    translation: Array
    inliers: int
    total: int
    support: Floats
    mask: Floats
    logits: Floats


@dataclass(frozen=True)
class ScenePyramids:
    """A scene ready for a pass: the registration's pyramid, and the segmentation's where the profile has its own."""

    registration: Pyramid
    segmentation: Pyramid | None = None


@dataclass(frozen=True)
class EngineInfo:
    """What is shown of an engine: its name, the device, the profile, the weights' hash and training record."""

    name: str
    device: str
    profile: str
    weights_hash: str
    parameters: int
    record: dict[str, object]


class Engine(Protocol):
    """A loaded network. One model side at a time; ``run`` holds no state between clouds."""

    profile: Profile
    info: EngineInfo

    def set_model(self, model: Pyramid) -> None:
        """Encode the pre-operative side: once a case."""
        ...

    def run(self, scene: ScenePyramids, mask: MaskChoice | None = None) -> NetworkOutput:
        """One pass over a scene against the model set before."""
        ...

    def region_map(self, grid: Floats) -> Floats:
        """The region finder's output for a view grid (see ``cloud.view_grid``).

        Raises:
            EngineError: the weights hold no region finder.
        """
        ...

    def close(self) -> None:
        """Let go of memory and devices."""
        ...
