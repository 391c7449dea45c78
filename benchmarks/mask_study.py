"""What the learned mask is worth: ``python benchmarks/mask_study.py --scenes SUITES/standard --out OUT [--weights W]``.

Every scene is registered by the network alone and by the network with refinement, from the truth turned by up to 45 degrees
and shifted by up to 15 mm (so that the region finder plays no part), under the learned mask, all ones, a random mask of the
same share and the simulator's truth.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tyro
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.case import load_case
from end2reg_ros.cloud.scene_folder import StoredScene, find_scenes, read_scene
from end2reg_ros.engine.load import load_engine
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.errors import CloudError, End2RegError
from end2reg_ros.evaluation.host import environment
from end2reg_ros.evaluation.metrics import WRONG_MM, Pose, Targets, pose_errors, targets_from_case
from end2reg_ros.evaluation.scenes import true_pose
from end2reg_ros.evaluation.spread import Spread, spread
from end2reg_ros.evaluation.statistics import SignedRank, signed_rank
from end2reg_ros.evaluation.tables import NOTHING, finite, number, percent, table_of
from end2reg_ros.reasons import Reason
from end2reg_ros.registration.end2reg import End2RegRegistrar
from end2reg_ros.registration.find.network_search import MaskMode as SourceMode
from end2reg_ros.registration.find.network_search import mask_source
from end2reg_ros.registration.types import Prior, Stopwatch
from end2reg_ros.registration.weights_path import choose_weights

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
MaskMode = Literal["learned", "ones", "random", "truth"]
MASK_MODES: tuple[MaskMode, ...] = get_args(MaskMode)


@dataclass(frozen=True)
class MaskedRun:
    """One registration under one kind of mask.

    Attributes:
        T_camera_model: (4, 4) pose found, or None.
        mask: (N,) which points the network took for relevant in this run.
        points: (N, 3) metres, camera frame: the points that it looked at; None for all of the scene's cloud.
    """

    T_camera_model: Array | None
    mask: Mask
    points: NDArray[np.float32] | None = None


MaskRunner = Callable[[StoredScene, MaskMode], MaskedRun]


@dataclass(frozen=True)
class MaskScores:
    """A mask against the true bone of the same points.

    Attributes:
        share: of the points that are in the mask; ``bone_share``: that are bone.
        precision: share of the mask that is bone; NaN of an empty mask.
        recall: share of the bone that is in the mask; NaN without bone.
        iou: intersection over union; NaN when both are empty.
    """

    share: float
    bone_share: float
    precision: float
    recall: float
    iou: float


@dataclass(frozen=True)
class MaskRow:
    """One scene under one kind of mask; ``tre_mm`` is infinite without a pose."""

    scene: str
    mode: MaskMode
    tre_mm: float
    scores: MaskScores


@dataclass(frozen=True)
class MaskSummary:
    """One kind of mask over all scenes.

    Attributes:
        tre_mm: over the scenes with a pose.
        outliers: share of all scenes above 10 mm or without a pose.
        share, precision, recall, iou: over the scenes where they are known.
        against_learned: paired test of the TRE of the learned mask against this one; z below 0 when the learned is better.
            None for the learned one itself, or when it was not run.
    """

    mode: MaskMode
    scenes: int
    tre_mm: Spread
    outliers: float
    share: Spread
    precision: Spread
    recall: Spread
    iou: Spread
    against_learned: SignedRank | None


def mask_scores(mask: Mask, bone: Mask) -> MaskScores:
    """Scores of a mask (N,) against the truth (N,).

    Raises:
        End2RegError: they are not of the same points, or of none.
    """
    if mask.shape != bone.shape or mask.ndim != 1 or len(mask) == 0:
        raise End2RegError(
            f"mask and bone label must be of the same points: {mask.shape} against {bone.shape}"
        )
    both, either = int((mask & bone).sum()), int((mask | bone).sum())
    marked, true = int(mask.sum()), int(bone.sum())
    return MaskScores(
        share=marked / len(mask),
        bone_share=true / len(mask),
        precision=_ratio(both, marked),
        recall=_ratio(both, true),
        iou=_ratio(both, either),
    )


def bone_at(scene: StoredScene, points: NDArray[np.float32]) -> Mask:
    """(N,) true label at points (N, 3), camera frame: that of the nearest point of the scene's cloud.

    Raises:
        CloudError: ``no_bone_label``.
    """
    from scipy.spatial import cKDTree

    _, nearest = cKDTree(scene.cloud.points).query(points)
    return np.asarray(_bone(scene)[nearest])


def run_mask_study(
    scenes: Iterable[StoredScene],
    targets_of: Callable[[StoredScene], Targets],
    run: MaskRunner,
    modes: Sequence[MaskMode] = MASK_MODES,
) -> list[MaskRow]:
    """Register every scene under every kind of mask.

    Raises:
        CloudError: ``no_bone_label``.
        End2RegError: a mask that is not of the points it came with.
    """
    rows = []
    for scene in scenes:
        targets = targets_of(scene)
        truth = true_pose(scene, targets)
        for mode in modes:
            result = run(scene, mode)
            bone = _bone(scene) if result.points is None else bone_at(scene, result.points)
            tre = float("inf")
            if result.T_camera_model is not None and np.isfinite(result.T_camera_model).all():
                tre = pose_errors(Pose(result.T_camera_model), truth, targets).mean_tre_mm
            rows.append(MaskRow(scene.name, mode, tre, mask_scores(result.mask, bone)))
    return rows


def summarise_masks(rows: Sequence[MaskRow]) -> list[MaskSummary]:
    """One summary per kind of mask, in the order of their first rows.

    Raises:
        End2RegError: the kinds were not run on the same scenes.
    """
    by_mode: dict[MaskMode, dict[str, MaskRow]] = {}
    for row in rows:
        by_mode.setdefault(row.mode, {})[row.scene] = row
    scenes = sorted({row.scene for row in rows})
    for mode, found in by_mode.items():
        if sorted(found) != scenes:
            raise End2RegError(f"mask {mode}: was run on {len(found)} of the {len(scenes)} scenes")
    learned = by_mode.get("learned")
    return [_summary(mode, list(found.values()), learned) for mode, found in by_mode.items()]


def _summary(mode: MaskMode, rows: Sequence[MaskRow], learned: dict[str, MaskRow] | None) -> MaskSummary:
    tre = [row.tre_mm for row in rows]
    test = None
    if learned is not None and mode != "learned":
        test = signed_rank([learned[row.scene].tre_mm for row in rows], tre)
    known = {
        name: spread(v for row in rows if not np.isnan(v := getattr(row.scores, name)))
        for name in ("share", "precision", "recall", "iou")
    }
    return MaskSummary(
        mode=mode,
        scenes=len(rows),
        tre_mm=spread(v for v in tre if np.isfinite(v)),
        outliers=float(np.mean([v > WRONG_MM for v in tre])),
        against_learned=test,
        **known,
    )


def mask_table(summaries: Sequence[MaskSummary]) -> list[str]:
    """Lines of a Markdown table: median [Q1, Q3] of TRE and IoU, medians of the rest."""
    return table_of(
        [
            {
                "mask": s.mode, "n": str(s.scenes), "TRE mm": s.tre_mm.text(), "> 10 mm": percent(s.outliers),
                "share of points": number(s.share.median), "precision": number(s.precision.median),
                "recall": number(s.recall.median), "IoU": s.iou.text(),
                "TRE against the learned mask": _verdict(s.against_learned),
            }
            for s in summaries
        ]
    )  # fmt: skip


def mask_document(rows: Sequence[MaskRow], summaries: Sequence[MaskSummary]) -> dict[str, Any]:
    """Everything as plain numbers, ready for JSON (unknown and infinite figures as null)."""
    plain = {"summaries": [asdict(s) for s in summaries], "rows": [asdict(row) for row in rows]}
    cleaned: dict[str, Any] = finite(plain)
    return cleaned


def _verdict(test: SignedRank | None) -> str:
    if test is None:
        return NOTHING
    if test.pairs == 0:
        return "equal"
    return f"{'worse' if test.z < 0 else 'better'}: {test.text()}"


def _bone(scene: StoredScene) -> Mask:
    if scene.bone is None:
        text = f"scene {scene.name}: has no bone label, which the mask study needs"
        raise CloudError(Reason.NO_BONE_LABEL, text)
    return scene.bone


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


MODES: dict[MaskMode, SourceMode] = {
    "learned": "learned",
    "ones": "all_ones",
    "random": "random",
    "truth": "given",
}


class MaskStudy:
    """Registrars by case, and the two ways to run them."""

    def __init__(self, weights: Path | None, refined: bool) -> None:
        self.weights, self.refined = weights, refined
        self.registrars: dict[Path, End2RegRegistrar] = {}
        self.seeds: dict[str, int] = {}

    def registrar(self, scene: StoredScene) -> End2RegRegistrar:
        """Set up once a case."""
        assert scene.case_path is not None
        key = scene.case_path.resolve()
        if key not in self.registrars:
            case = load_case(key)
            weights = choose_weights(case, self.weights).path
            self.registrars[key] = End2RegRegistrar(case, load_engine(EngineOptions("torch", weights)))
        return self.registrars[key]

    def targets(self, scene: StoredScene) -> Targets:
        """Landmarks of the scene's case."""
        return targets_from_case(self.registrar(scene).case)

    def run(self, scene: StoredScene, mode: MaskMode) -> MaskedRun:
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

    def prior(self, scene: StoredScene, centre: np.ndarray, seed: int) -> Prior:
        """The truth, turned and shifted: the same for every mask."""
        rng = np.random.default_rng((seed, 77))
        axis, shift = rng.standard_normal(3), rng.standard_normal(3)
        turn = se3.rotation_from_vector(axis / np.linalg.norm(axis) * np.radians(rng.uniform(0, 45)))
        offset = shift / np.linalg.norm(shift) * rng.uniform(0, 0.015)
        moved = se3.from_rotation_translation(turn, centre - turn @ centre + offset)
        return Prior(scene.T_camera_model @ moved, "perturbed", 0.01)


def main(scenes: Path, out: Path, weights: Path | None = None, limit: int | None = None) -> None:
    """Run the study and write mask_study.md and mask_study.json."""
    out.mkdir(parents=True, exist_ok=True)
    seen = [read_scene(path) for path in find_scenes(scenes)[:limit]]
    document: dict[str, object] = {"environment": environment(), "scenes": len(seen)}
    text = []
    for name, refined in (("network alone", False), ("refined", True)):
        study = MaskStudy(weights, refined)
        rows = run_mask_study(seen, study.targets, study.run)
        summaries = summarise_masks(rows)
        document[name] = mask_document(rows, summaries)
        text += [f"## {name}", "", *mask_table(summaries), ""]
    (out / "mask_study.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    (out / "mask_study.json").write_text(json.dumps(finite(document), indent=1) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
