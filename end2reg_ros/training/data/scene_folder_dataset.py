"""Anyone's own scene folders as training scenes.

``python -m end2reg_ros.training.data.scene_folder_dataset --scenes DIR --out SHARDS``
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from end2reg_ros import se3
from end2reg_ros.cloud.scene_folder import StoredScene, find_scenes, read_scene
from end2reg_ros.errors import TrainingError
from end2reg_ros.training.command import main
from end2reg_ros.training.data.anatomies import load_individual, make_anatomy
from end2reg_ros.training.data.samples import (
    AnatomySample,
    LabelledView,
    SceneSample,
    anatomy_path,
    save_sample,
    scene_path,
)
from end2reg_ros.training.data.scene_making import make_scene
from end2reg_ros.training.data.shards import FORMAT, write_description

LABEL_M = 0.003  # so close to the posed model counts as bone where a scene has no labels: film included


class SceneFolderDataset:
    """Scene folders (cloud.ply, scene.json with its case and truth) thinned as the shards' scenes are.

    Scenes without a bone label get one by their distance to the posed model; scenes tagged ``"spine": false`` show none.
    """

    def __init__(self, folder: Path) -> None:
        """List the scene folders at or below ``folder``.

        Raises:
            CloudError: ``no_scene``: there are none.
        """
        self.folders = find_scenes(folder)
        self._anatomies: dict[Path, tuple[str, str, AnatomySample]] = {}

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, number: int) -> tuple[SceneSample, AnatomySample | None]:
        """A scene and its anatomy; None for one without a spine.

        Raises:
            CloudError: a scene that cannot be read.
            CaseError: a case that cannot be read.
            TrainingError: a scene without a case, of another version of it, or without bone.
        """
        folder = self.folders[number]
        scene = read_scene(folder)
        cloud, bone = scene.cloud, scene.bone
        tags = {**scene.tags, "scene": scene.name}
        suite = str(scene.tags.get("suite", ""))
        if scene.tags.get("spine") is False:
            view = LabelledView(cloud.points, cloud.colours, np.zeros(len(cloud.points), bool), suite=suite)
            return make_scene(view, None, 0, tags), None
        name, anatomy = self._anatomy(scene, folder)
        if bone is None:
            bone = near_surface(cloud.points, scene.T_camera_model, anatomy)
            tags["bone_label"] = f"within {1e3 * LABEL_M:g} mm of the model"
        if not bone.any():
            raise TrainingError(f"{folder}: no bone in it; is T_camera_model right, in metres?")
        view = LabelledView(cloud.points, cloud.colours, bone, scene.T_camera_model, name, suite)
        return make_scene(view, anatomy, 0, tags), anatomy

    def _anatomy(self, scene: StoredScene, folder: Path) -> tuple[str, AnatomySample]:
        path = scene.case_path
        if path is None:
            text = 'names no case; add "case": "PATH", or the tag "spine": false where it shows no spine'
            raise TrainingError(f"{folder / 'scene.json'}: {text}")
        if path not in self._anatomies:
            individual = load_individual(path)
            case = individual.case
            sample = make_anatomy(case, case.name, individual.group)
            self._anatomies[path] = (f"{case.name}-{case.hash[:8]}", case.hash, sample)
        name, digest, sample = self._anatomies[path]
        if scene.case_hash and scene.case_hash != digest:
            raise TrainingError(f"{folder}: was made with another version of case {path}")
        return name, sample


def near_surface(
    points: NDArray[np.float32], T_camera_model: NDArray[np.float64], anatomy: AnatomySample
) -> NDArray[np.bool_]:
    """(N,) which points (N, 3), camera frame, lie within ``LABEL_M`` of the posed visible surface."""
    local = se3.apply(se3.inverse(T_camera_model), points.astype(np.float64))
    distance, _ = cKDTree(anatomy.points).query(local, distance_upper_bound=LABEL_M)
    return np.asarray(np.isfinite(distance))


def write_shards(scenes: Path, out: Path) -> int:
    """Make a shard folder of scene folders, for the training to read. Returns how many scenes.

    Raises:
        End2RegError: a scene that cannot be used, or a folder that is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TrainingError(f"{out}: is not empty; choose another folder")
    dataset = SceneFolderDataset(scenes)
    digest = hashlib.sha256()
    for number in range(len(dataset)):
        sample, anatomy = dataset[number]
        if anatomy is not None and not anatomy_path(out, sample.anatomy).is_file():
            save_sample(anatomy_path(out, sample.anatomy), anatomy)
        path = scene_path(out, number)
        save_sample(path, sample)
        digest.update(path.read_bytes())
    content = {
        "format": FORMAT,
        "recipe": {"scene_folders": [os.path.relpath(f, scenes) for f in dataset.folders]},
        "scenes": len(dataset),
        "hash": digest.hexdigest(),
    }
    write_description(out, content)
    return len(dataset)


@dataclass(frozen=True)
class ConvertSceneFolders:
    """Make training scenes of scene folders (docs/training_data.md).

    Attributes:
        scenes: the folder that holds the scene folders.
        out: the shard folder to write.
    """

    scenes: Path
    out: Path

    def execute(self) -> str:
        """Write the shards."""
        return f"{write_shards(self.scenes, self.out)} scenes made in {self.out}"


if __name__ == "__main__":
    main(ConvertSceneFolders)
