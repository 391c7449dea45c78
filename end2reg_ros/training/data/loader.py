"""Training pairs in a fixed, seeded order, made ahead of time in a worker process. Item i never depends on where a run began."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from end2reg_ros.errors import TrainingError
from end2reg_ros.network.tables import CloudTables, SceneTables, cloud_tables, scene_tables_of
from end2reg_ros.network.targets import TruePose
from end2reg_ros.profile import Profile
from end2reg_ros.training.config import Augmentation
from end2reg_ros.training.data.pairs import PreparedAnatomy, TrainingPair, make_pair, prepare_anatomy
from end2reg_ros.training.data.samples import anatomy_path, load_anatomy, load_scene, scene_files

TRIES = 20


class PairTensors(NamedTuple):
    """A training pair as tensors: tables of both clouds, the truth, bone share (C0,) and landmarks (K, 3)."""

    model: CloudTables
    scene: SceneTables
    pose: TruePose
    bone: Tensor
    landmarks: Tensor


def pair_tensors(pair: TrainingPair) -> PairTensors:
    """Tensors of a pair, on the CPU."""
    return PairTensors(
        cloud_tables(pair.model),
        scene_tables_of(pair.scene, pair.segmentation),
        TruePose(torch.from_numpy(pair.rotation), torch.from_numpy(pair.translation)),
        torch.from_numpy(pair.bone),
        torch.from_numpy(pair.landmarks),
    )


def to_device(pair: PairTensors, device: str) -> PairTensors:
    """A pair with all its tensors on a device."""

    def moved(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device, non_blocking=True)
        if isinstance(value, tuple):
            parts = map(moved, value)
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        return value

    return cast(PairTensors, moved(pair))


class ShardIndex:
    """The scenes of several shard folders with a spine in them, by folder."""

    def __init__(self, folders: Sequence[str], weights: Sequence[float] = ()) -> None:
        """List the scenes.

        Raises:
            TrainingError: a folder without scenes.
        """
        self.folders = [Path(folder) for folder in folders]
        self.scenes = [scene_files(folder) for folder in self.folders]
        share = np.array(weights or [len(s) for s in self.scenes], float)
        self.share = share / share.sum()

    def draw(self, rng: np.random.Generator) -> tuple[Path, Path]:
        """A random scene file and its folder."""
        which = int(rng.choice(len(self.folders), p=self.share))
        scenes = self.scenes[which]
        return scenes[int(rng.integers(len(scenes)))], self.folders[which]


@lru_cache(maxsize=400)
def anatomy_of(folder: Path, name: str, profile: Profile) -> PreparedAnatomy:
    """An anatomy of a shard folder, ready for pairs; the last few hundred are kept.

    Raises:
        TrainingError: a file that cannot be read.
    """
    return prepare_anatomy(load_anatomy(anatomy_path(folder, name)), profile)


class PairDataset(Dataset[PairTensors]):
    """Item i is drawn with the seed (seed, i): the same whatever the worker and wherever the run began."""

    def __init__(
        self, index: ShardIndex, profile: Profile, augmentation: Augmentation, seed: int, count: int
    ) -> None:
        self.index, self.profile, self.augmentation = index, profile, augmentation
        self.seed, self.count = seed, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, item: int) -> PairTensors:
        rng = np.random.default_rng((self.seed, item))
        for _ in range(TRIES):
            path, folder = self.index.draw(rng)
            scene = load_scene(path)
            if not scene.anatomy:
                continue  # no spine: nothing to register; the region finder learns from these
            anatomy = anatomy_of(folder, scene.anatomy, self.profile)
            pair = make_pair(scene, anatomy, self.profile, self.augmentation, rng)
            if pair is not None:
                return pair_tensors(pair)
        raise TrainingError(f"no scene with enough bone in {TRIES} tries in {self.index.folders[0]}")


def pairs_from(dataset: PairDataset, first: int, workers: int = 1) -> Iterator[PairTensors]:
    """Items ``first`` to the end, prepared ahead by worker processes (0: in this one).

    Raises:
        TrainingError: a scene or anatomy that cannot be read.
    """
    prepared = iter(
        DataLoader(
            dataset,
            batch_size=None,
            sampler=range(first, len(dataset)),
            num_workers=workers,
            collate_fn=_as_it_is,  # torch's own makes lists of tuples, which ``to_device`` would pass over
            prefetch_factor=4 if workers else None,
        )
    )
    try:
        yield from prepared
    except TrainingError as fault:  # from a worker it comes with the worker's traceback
        raise TrainingError(str(fault).strip().splitlines()[-1].removeprefix(_RAISED)) from None


_RAISED = f"{TrainingError.__module__}.{TrainingError.__qualname__}: "


def _as_it_is(pair: Any) -> Any:
    return pair


def fixed_pairs(
    folders: Sequence[str], profile: Profile, augmentation: Augmentation, per_folder: int
) -> list[PairTensors]:
    """The validation: the first scenes of each folder, each seen in one fixed random way."""
    result = []
    for folder in folders:
        taken = 0
        for number, path in enumerate(ShardIndex([folder]).scenes[0]):
            if taken >= per_folder:
                break
            scene = load_scene(path)
            if not scene.anatomy:
                continue
            rng = np.random.default_rng((7, number))
            anatomy = anatomy_of(Path(folder), scene.anatomy, profile)
            pair = make_pair(scene, anatomy, profile, augmentation, rng)
            if pair is not None:
                result.append(pair_tensors(pair))
                taken += 1
    return result
