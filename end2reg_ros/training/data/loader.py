"""Training pairs in a fixed, seeded order, made ahead of time in a worker process. Item i never depends on where a run began."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from end2reg_ros.errors import TrainingError
from end2reg_ros.network.tables import CloudTables, SceneTables, cloud_tables, scene_tables_of
from end2reg_ros.network.targets import TruePose
from end2reg_ros.profile import Profile
from end2reg_ros.training.config import Augmentation
from end2reg_ros.training.data.pairs import ModelSide, TrainingPair, make_pair, model_side
from end2reg_ros.training.data.scene_sample import load_anatomy, load_scene

TRIES = 20
ANATOMIES_KEPT = 400


class PairTensors(NamedTuple):
    """A training pair as tensors: tables of both clouds, the truth, bone share (C0,) and landmarks (K, 3)."""

    model: CloudTables
    scene: SceneTables
    pose: TruePose
    bone: Tensor
    landmarks: Tensor


def pair_tensors(pair: TrainingPair, device: str = "cpu") -> PairTensors:
    """Tensors of a pair on a device."""
    return PairTensors(
        cloud_tables(pair.model, device),
        scene_tables_of(pair.scene, pair.segmentation, device),
        TruePose(torch.from_numpy(pair.rotation).to(device), torch.from_numpy(pair.translation).to(device)),
        torch.from_numpy(pair.bone).to(device),
        torch.from_numpy(pair.landmarks).to(device),
    )


def to_device(pair: PairTensors, device: str) -> PairTensors:
    """The same pair on a device."""

    def moved(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device, non_blocking=True)
        if isinstance(value, tuple):
            parts = [moved(item) for item in value]
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        return value

    result = moved(pair)
    assert isinstance(result, PairTensors)
    return result


class ShardIndex:
    """The scenes of several shard folders with a spine in them, by folder."""

    def __init__(self, folders: Sequence[str], weights: Sequence[float] = ()) -> None:
        """List the scenes.

        Raises:
            TrainingError: a folder without scenes.
        """
        self.folders = [Path(folder) for folder in folders]
        self.scenes: list[list[Path]] = []
        for folder in self.folders:
            found = sorted((folder / "scene").glob("*.npz")) if folder.is_dir() else []
            if not found:
                raise TrainingError(f"{folder}: no training scenes (folder 'scene' with .npz files) in it")
            self.scenes.append(found)
        share = np.array(weights or [len(s) for s in self.scenes], float)
        self.share = share / share.sum()

    def draw(self, rng: np.random.Generator) -> tuple[Path, Path]:
        """A random scene file and its folder."""
        which = int(rng.choice(len(self.folders), p=self.share))
        scenes = self.scenes[which]
        return scenes[int(rng.integers(len(scenes)))], self.folders[which]


class Anatomies:
    """Model sides by folder and id, the last few hundred kept."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._kept: OrderedDict[Path, ModelSide] = OrderedDict()

    def side(self, folder: Path, anatomy: str) -> ModelSide:
        """The model side of an anatomy of a shard folder."""
        path = folder / "anatomy" / f"{anatomy}.npz"
        if path not in self._kept:
            self._kept[path] = model_side(load_anatomy(path), self.profile)
            if len(self._kept) > ANATOMIES_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(path)
        return self._kept[path]


class PairDataset(Dataset[PairTensors]):
    """Item i is drawn with the seed (seed, i): the same whatever the worker and wherever the run began."""

    def __init__(
        self, index: ShardIndex, profile: Profile, augmentation: Augmentation, seed: int, count: int
    ) -> None:
        self.index, self.profile, self.augmentation = index, profile, augmentation
        self.seed, self.count = seed, count
        self.anatomies = Anatomies(profile)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, item: int) -> PairTensors:
        rng = np.random.default_rng((self.seed, item))
        for _ in range(TRIES):
            path, folder = self.index.draw(rng)
            scene = load_scene(path)
            if not scene.anatomy:
                continue  # no spine: nothing to register; the region finder learns from these
            side = self.anatomies.side(folder, scene.anatomy)
            pair = make_pair(scene, side, self.profile, self.augmentation, rng)
            if pair is not None:
                return pair_tensors(pair)
        raise TrainingError(f"no scene with enough bone in {TRIES} tries in {self.index.folders[0]}")


class _From(torch.utils.data.Sampler[int]):
    def __init__(self, first: int, count: int) -> None:
        self.first, self.count = first, count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.count))

    def __len__(self) -> int:
        return self.count - self.first


def pairs_from(dataset: PairDataset, first: int, workers: int = 1) -> Iterator[PairTensors]:
    """Items ``first`` to the end, prepared ahead by worker processes (0: in this one).

    Raises:
        TrainingError: a scene or anatomy that cannot be read.
    """
    prepared = iter(
        DataLoader(
            dataset,
            batch_size=None,
            sampler=_From(first, len(dataset)),
            num_workers=workers,
            collate_fn=_as_it_is,  # torch's own makes lists of tuples, which ``to_device`` would pass over
            prefetch_factor=4 if workers else None,
            worker_init_fn=_one_thread,
        )
    )
    try:
        yield from prepared
    except TrainingError as fault:  # from a worker it comes with the worker's traceback
        raise TrainingError(str(fault).strip().splitlines()[-1].removeprefix(_RAISED)) from None


_RAISED = f"{TrainingError.__module__}.{TrainingError.__qualname__}: "


def _as_it_is(pair: Any) -> Any:
    return pair


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def fixed_pairs(
    folders: Sequence[str], profile: Profile, augmentation: Augmentation, per_folder: int
) -> list[PairTensors]:
    """The validation: the first scenes of each folder, each seen in one fixed random way."""
    result = []
    anatomies = Anatomies(profile)
    for folder in folders:
        taken = 0
        for number, path in enumerate(ShardIndex([folder]).scenes[0]):
            if taken >= per_folder:
                break
            scene = load_scene(path)
            if not scene.anatomy:
                continue
            rng = np.random.default_rng((7, number))
            pair = make_pair(scene, anatomies.side(Path(folder), scene.anatomy), profile, augmentation, rng)
            if pair is not None:
                result.append(pair_tensors(pair))
                taken += 1
    return result
