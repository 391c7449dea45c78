"""Settings of a training run, read from one YAML file. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from end2reg_ros.errors import TrainingError
from end2reg_ros.training.settings_file import build_settings, read_document

Strategy = Literal["end_to_end", "two_step", "all_ones", "true_mask"]


@dataclass(frozen=True)
class Augmentation:
    """What every scene goes through on its way into the network.

    Attributes:
        rotation_deg: the scene is turned about a random axis by up to this: what a found region leaves open.
        offset_m: standard deviation of the crop's centre about the exposed bone.
        second_pass_share: share of samples cropped around a nearly right pose, as the second pass sees them.
        second_pass_rotation_deg, second_pass_offset_m: how far that pose is off, at most.
        colour: strength of gain, white balance and gamma changes; 0 for none.
        colourless_share: share of samples without any colour (sensors that give xyz only).
        grey_share: share of samples in grey.
        thinning_share: share of samples of which a random part of the points is dropped (sparser sensors).
        hole_share: share of samples with one or two balls of points cut out (more occlusion than was drawn).
    """

    rotation_deg: float = 45.0
    offset_m: float = 0.012
    second_pass_share: float = 0.35
    second_pass_rotation_deg: float = 8.0
    second_pass_offset_m: float = 0.008
    colour: float = 0.3
    colourless_share: float = 0.10
    grey_share: float = 0.05
    thinning_share: float = 0.2
    hole_share: float = 0.25


@dataclass(frozen=True)
class TrainingConfig:
    """One training run.

    Attributes:
        shards: folders of shards (``end2reg_ros.training.data.shards``), drawn from by their number of scenes.
        weights: of the folders, relative; empty for their numbers of scenes.
        validation: folders of shards that are never trained on; their first scenes are the validation.
        validation_scenes: of each folder.
        start_from: weights file to start from; empty for a fresh network.
        profile: of the network.
        strategy: ``end_to_end`` (the method); ``two_step`` (weak labels and cross-entropy first, then frozen);
            ``all_ones`` (no mask at all) and ``true_mask`` (the simulator's, an oracle): ablations.
        segmentation_iterations: of the first step of ``two_step``, on top of ``iterations``.
        iterations: steps of one pair of clouds each.
        accumulate: pairs whose gradients make one step of the optimiser.
        learning_rate, warm_up, weight_decay, clip: of Adam; ``clip`` is the largest gradient norm.
        final_rate: the cosine ends at this share of ``learning_rate``.
        average: decay of the moving average of the weights, which is what is kept.
        tau, tau_end: temperature of the Gumbel-softmax at the start and at the end.
        fine_pairs: true superpoint pairs a step for the fine loss.
        validate_every, checkpoint_minutes: how often.
        collapse_share, collapse_after: when the mean mask share of 300 steps stays above ``collapse_share`` after this
            many steps the run stops: the mask has collapsed to all ones.
        seed: of everything random.
        threads: of torch.
        augmentation: see ``Augmentation``.
    """

    shards: tuple[str, ...]
    weights: tuple[float, ...] = ()
    validation: tuple[str, ...] = ()
    validation_scenes: int = 40
    start_from: str = ""
    profile: str = "realtime"
    strategy: Strategy = "end_to_end"
    segmentation_iterations: int = 0
    iterations: int = 12000
    accumulate: int = 1
    learning_rate: float = 6e-4
    warm_up: int = 300
    weight_decay: float = 1e-6
    clip: float = 1.0
    final_rate: float = 0.02
    average: float = 0.999
    tau: float = 1.0
    tau_end: float = 0.5
    fine_pairs: int = 64
    validate_every: int = 1000
    checkpoint_minutes: float = 2.0
    collapse_share: float = 0.97
    collapse_after: int = 2000
    seed: int = 0
    threads: int = 1
    augmentation: Augmentation = Augmentation()


def read_config(path: Path) -> TrainingConfig:
    """A config file. Relative folders are those of the working directory.

    Raises:
        TrainingError: unreadable, an unknown key, a value of the wrong kind or out of range.
    """
    config = build_settings(TrainingConfig, read_document(path, "training config"), str(path))
    _check(config, path)
    return config


def _check(config: TrainingConfig, path: Path) -> None:
    positive = ("iterations", "accumulate", "learning_rate", "clip", "tau", "tau_end", "fine_pairs", "threads",
                "validate_every", "checkpoint_minutes", "validation_scenes")  # fmt: skip
    for name in positive:
        if not getattr(config, name) > 0:
            raise TrainingError(f"{path}: '{name}' must be above 0, not {getattr(config, name)}")
    if not config.shards:
        raise TrainingError(f"{path}: 'shards' names no folder")
    if config.weights and len(config.weights) != len(config.shards):
        raise TrainingError(f"{path}: {len(config.weights)} weights for {len(config.shards)} shards")
    if config.weights and not (min(config.weights) >= 0 and sum(config.weights) > 0):
        raise TrainingError(f"{path}: 'weights' must be 0 or more, and not all of them 0")
    if config.strategy == "two_step" and config.segmentation_iterations < 1:
        raise TrainingError(f"{path}: two_step needs 'segmentation_iterations'")
