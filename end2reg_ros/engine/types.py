"""What an engine takes and gives. NumPy in, NumPy out: what runs the network is the engine's own business."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.pyramid import Pyramid, build_pyramid
from end2reg_ros.cloud.view_grid import CHANNELS, COLUMNS, ROWS
from end2reg_ros.profile import Profile

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Arrays = dict[str, NDArray[np.generic]]
# What the registration is shown as its mask; all but ``learned`` are for studies of what the mask is worth.
MaskMode = Literal["learned", "all_ones", "random", "given"]


@dataclass(frozen=True)
class MaskChoice:
    """Which mask a pass uses: ``random`` keeps the learned mask's share; ``given`` takes ``labels`` (C0,)."""

    mode: MaskMode = "learned"
    labels: Floats | None = None
    seed: int = 0


@dataclass(frozen=True)
class NetworkMatches:
    """Correspondences and pose candidates of one pass, network units; k patch pairs, n correspondences a pair.

    Attributes:
        model, scene: (k, n, 3) corresponding points; weight: (k, n) confidence, 0 where there is none.
        rotation: (k, 3, 3), translation: (k, 3) each pair's own proposal of T_scene_model.
    """

    model: Floats
    scene: Floats
    weight: Floats
    rotation: Floats
    translation: Floats


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
        matches: what the pose rests on; None from an engine that does not tell.
    """

    rotation: Array
    translation: Array
    inliers: int
    total: int
    support: Floats
    mask: Floats
    logits: Floats
    matches: NetworkMatches | None = None


@dataclass(frozen=True)
class ScenePyramids:
    """A scene ready for a pass: the registration's pyramid, and the segmentation's where the profile has its own."""

    registration: Pyramid
    segmentation: Pyramid | None = None


def empty_scenes(profile: Profile) -> list[ScenePyramids]:
    """A scene without points for each of a profile's paddings: what an engine runs before its first real frame."""
    nothing = np.zeros((0, 3))
    own = None if profile.segmentation is None else build_pyramid(nothing, None, profile.segmentation)
    return [ScenePyramids(build_pyramid(nothing, None, spec), own) for spec in profile.scene_specs]


def empty_grid() -> Floats:
    """A view grid (see ``cloud.view_grid``) without points: what the region finder runs before its first real view."""
    return np.zeros((CHANNELS, ROWS, COLUMNS), np.float32)


@dataclass(frozen=True)
class EngineInfo:
    """What is shown of an engine.

    Attributes:
        name: onnxruntime, tensorrt or torch.
        device: what it runs on.
        profile, weights_hash, parameters, record: of the network: sizes, identity, learned numbers, training record.
        engine_hash: of what is run: graphs with their numbers, or the plan.
        precision: of the arithmetic.
        version: of the library that runs it.
        threads: of the CPU; 0 where they do not matter.
        why: why this engine was chosen; empty where it was asked for.
    """

    name: str
    device: str
    profile: str
    weights_hash: str
    parameters: int
    record: dict[str, object]
    engine_hash: str = ""
    precision: str = "fp32"
    version: str = ""
    threads: int = 0
    why: str = ""

    def text(self) -> str:
        """One line for a person."""
        threads = f", {self.threads} thread{'s' * (self.threads > 1)}" if self.threads else ""
        why = f" ({self.why})" if self.why else ""
        return (
            f"{self.name} {self.version} on {self.device}{threads}, {self.precision}, profile {self.profile}, "
            f"weights {self.weights_hash}{why}"
        )

    def document(self) -> dict[str, object]:
        """What a result says of its engine, as JSON takes it: all but the training record."""
        return {name: value for name, value in asdict(self).items() if name != "record"}


class Engine(Protocol):
    """A loaded network. One model side at a time; ``run`` holds no state between clouds."""

    profile: Profile
    info: EngineInfo

    def encode_model(self, model: Pyramid) -> Arrays:
        """The pre-operative side, encoded: named arrays that ``set_model`` takes, of this or of another process."""
        ...

    def set_model(self, model: Pyramid | Arrays) -> None:
        """Take the pre-operative side, encoding it where it is not: once a case."""
        ...

    def warm_up(self) -> None:
        """Run every graph, so that the first frame is as fast as the hundredth.

        Raises:
            EngineError: no model was set.
        """
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
