"""Anyone's own scene folders as training scenes.

``python -m end2reg_ros.training.data.scene_folder_dataset --scenes DIR --out SHARDS``
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from end2reg_ros import se3
from end2reg_ros.cloud.scene_folder import Scene, find_scenes, read_scene
from end2reg_ros.errors import End2RegError, TrainingError
from end2reg_ros.training.data.anatomies import load_individual, visible_surface
from end2reg_ros.training.data.scene_making import LabelledView, make_anatomy, make_scene
from end2reg_ros.training.data.scene_sample import AnatomySample, SceneSample, save_anatomy, save_scene
from end2reg_ros.training.data.shards import FORMAT, anatomy_path, scene_path

LABEL_M = (
    0.003  # what lies this close to the posed model counts as bone where a scene has no labels: film included
)


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

    def __getitem__(self, number: int) -> SceneSample:
        """A scene; its ``anatomy`` names what ``anatomy_of`` gives.

        Raises:
            CloudError: a scene that cannot be read.
            CaseError: a case that cannot be read.
            TrainingError: a scene without a case, of another version of it, or without bone.
        """
        scene = read_scene(self.folders[number])
        tags = {**scene.tags, "scene": scene.name}
        suite = str(scene.tags.get("suite", ""))
        if scene.tags.get("spine") is False:
            view = LabelledView(
                scene.cloud.points, scene.cloud.colours, np.zeros(len(scene.cloud.points), bool)
            )
            return make_scene(view, np.eye(4), None, "", suite, 0, tags)
        name, anatomy = self._anatomy(scene, self.folders[number])
        bone = scene.bone
        if bone is None:
            bone = near_surface(scene.cloud.points, scene.T_camera_model, anatomy)
            tags["bone_label"] = f"within {1e3 * LABEL_M:g} mm of the model"
        if not bone.any():
            raise TrainingError(f"{self.folders[number]}: no bone in it; is T_camera_model right, in metres?")
        view = LabelledView(scene.cloud.points, scene.cloud.colours, bone)
        return make_scene(view, scene.T_camera_model, anatomy, name, suite, 0, tags)

    def anatomy_of(self, number: int) -> AnatomySample | None:
        """The model side of a scene; None for one without a spine.

        Raises:
            End2RegError: as ``__getitem__``.
        """
        scene = read_scene(self.folders[number])
        if scene.tags.get("spine") is False:
            return None
        return self._anatomy(scene, self.folders[number])[1]

    def _anatomy(self, scene: Scene, folder: Path) -> tuple[str, AnatomySample]:
        path = scene.case_path
        if path is None:
            text = 'names no case; add "case": "PATH", or the tag "spine": false where it shows no spine'
            raise TrainingError(f"{folder / 'scene.json'}: {text}")
        if path not in self._anatomies:
            individual = load_individual(path)
            case = individual.case
            sample = make_anatomy(case, visible_surface(case), case.name, individual.group)
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
    for folder in ("scene", "anatomy"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    for number in range(len(dataset)):
        sample = dataset[number]
        anatomy = dataset.anatomy_of(number)
        if anatomy is not None and not anatomy_path(out, sample.anatomy).is_file():
            save_anatomy(anatomy_path(out, sample.anatomy), anatomy)
        path = scene_path(out, number)
        save_scene(path, sample)
        digest.update(path.read_bytes())
    content = {
        "format": FORMAT,
        "recipe": {"scene_folders": [os.path.relpath(f, scenes) for f in dataset.folders]},
        "scenes": len(dataset),
        "hash": digest.hexdigest(),
    }
    (out / "shards.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return len(dataset)


@dataclass(frozen=True)
class Arguments:
    """Make training scenes of scene folders (docs/training_data.md).

    Attributes:
        scenes: the folder that holds the scene folders.
        out: the shard folder to write.
    """

    scenes: Path
    out: Path


def main(arguments: Arguments) -> int:
    """Write the shards; 0 on success, 1 with one line on stderr otherwise."""
    try:
        count = write_shards(arguments.scenes, arguments.out)
    except End2RegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{count} scenes made in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments)))
