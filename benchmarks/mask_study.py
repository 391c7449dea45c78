"""What the learned mask is worth: ``python benchmarks/mask_study.py --scenes SUITES/standard --out OUT [--weights W]``.

Every scene is registered by the network alone and by the network with refinement, from the truth turned by up to 45 degrees
and shifted by up to 15 mm (so that the region finder plays no part), under the learned mask, all ones, a random mask of the
same share and the simulator's truth.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.paper.mask_study_core import (
    MaskedRun,
    MaskMode,
    mask_document,
    mask_table,
    run_mask_study,
    summarise_masks,
)
from end2reg_ros import se3
from end2reg_ros.case import load_case
from end2reg_ros.cloud.scene_folder import Scene, find_scenes, read_scene
from end2reg_ros.engine.load import load_engine
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.evaluation.host import environment
from end2reg_ros.evaluation.metrics import Targets, targets_from_case
from end2reg_ros.evaluation.tables import finite
from end2reg_ros.registration.end2reg import End2RegRegistrar
from end2reg_ros.registration.find.network_search import mask_source
from end2reg_ros.registration.types import Prior, Stopwatch
from end2reg_ros.registration.weights_path import choose_weights

MODES = {"learned": "learned", "ones": "all_ones", "random": "random", "truth": "given"}


class Study:
    """Registrars by case, and the two ways to run them."""

    def __init__(self, weights: Path | None, refined: bool) -> None:
        self.weights, self.refined = weights, refined
        self.registrars: dict[Path, End2RegRegistrar] = {}
        self.seeds: dict[str, int] = {}

    def registrar(self, scene: Scene) -> End2RegRegistrar:
        """Set up once a case."""
        assert scene.case_path is not None
        key = scene.case_path.resolve()
        if key not in self.registrars:
            case = load_case(key)
            self.registrars[key] = End2RegRegistrar(
                case, load_engine(EngineOptions("torch", choose_weights(case, self.weights).path))
            )
        return self.registrars[key]

    def targets(self, scene: Scene) -> Targets:
        """Landmarks of the scene's case."""
        return targets_from_case(self.registrar(scene).case)

    def run(self, scene: Scene, mode: MaskMode) -> MaskedRun:
        """One registration under one mask."""
        registrar = self.registrar(scene)
        seed = self.seeds.setdefault(scene.name, len(self.seeds))
        source = mask_source(MODES[mode], seed, None if scene.bone is None else scene.bone > 0)
        prior = self.prior(scene, registrar.local.centre, seed)
        poses = registrar.network.find(scene.cloud, prior, Stopwatch(), source)
        if not poses:
            return MaskedRun(None, np.zeros(len(scene.cloud.points), bool))
        pose = poses[0]
        cell = pose.shown.cell_of_index()
        mask = (cell >= 0) & (pose.output.mask[np.maximum(cell, 0)] > 0.5)
        T = pose.T_camera_model
        if self.refined:
            T = registrar.search.from_pose(scene.cloud, T).T_camera_model
        return MaskedRun(T, mask, scene.cloud.points[pose.shown.scene.index])

    def prior(self, scene: Scene, centre: np.ndarray, seed: int) -> Prior:
        """The truth, turned and shifted: the same for every mask."""
        rng = np.random.default_rng((seed, 77))
        axis, shift = rng.standard_normal(3), rng.standard_normal(3)
        turn = se3.rotation_from_vector(axis / np.linalg.norm(axis) * np.radians(rng.uniform(0, 45)))
        offset = shift / np.linalg.norm(shift) * rng.uniform(0, 0.015)
        moved = se3.from_rotation_translation(turn, centre - turn @ centre + offset)
        return Prior(scene.T_camera_model @ moved, "perturbed", 0.01)


def main() -> None:
    """Run the study and write mask_study.md and mask_study.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument("--limit", type=int, default=None)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    scenes = [read_scene(path) for path in find_scenes(options.scenes)[: options.limit]]
    document: dict[str, object] = {"environment": environment(), "scenes": len(scenes)}
    text = []
    for name, refined in (("network alone", False), ("refined", True)):
        study = Study(options.weights, refined)
        rows = run_mask_study(scenes, study.targets, study.run)
        summaries = summarise_masks(rows)
        document[name] = mask_document(rows, summaries)
        text += [f"## {name}", "", *mask_table(summaries), ""]
    (options.out / "mask_study.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    (options.out / "mask_study.json").write_text(
        json.dumps(finite(document), indent=1) + "\n", encoding="utf-8"
    )
    print("\n".join(text))


if __name__ == "__main__":
    main()
