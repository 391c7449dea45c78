"""The mask study's bookkeeping: scores by hand, the table."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from benchmarks.mask_study import (
    MaskedRun,
    MaskMode,
    bone_at,
    mask_document,
    mask_scores,
    mask_table,
    run_mask_study,
    summarise_masks,
)
from end2reg_ros import se3
from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.cloud.scene_folder import StoredScene
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CloudError, End2RegError
from end2reg_ros.evaluation.metrics import targets_from_case

LEARNED = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0], bool)
BONE = np.array([1, 1, 0, 1, 1, 0, 0, 0, 0, 0], bool)


def scene(name: str, bone: np.ndarray | None = BONE) -> StoredScene:
    points = np.stack([np.arange(10.0), np.zeros(10), np.ones(10)], axis=1).astype(np.float32) / 100
    return StoredScene(name, Cloud(points, None, "cam", 0), bone, np.eye(4))


def test_scores_by_hand() -> None:
    scores = mask_scores(LEARNED, BONE)
    assert (scores.share, scores.bone_share) == (0.3, 0.4)
    assert (scores.precision, scores.recall, scores.iou) == (2 / 3, 0.5, 0.4)
    nothing = mask_scores(np.zeros(10, bool), BONE)
    assert math.isnan(nothing.precision) and (nothing.recall, nothing.iou) == (0.0, 0.0)
    with pytest.raises(End2RegError) as caught:
        mask_scores(LEARNED, BONE[:9])
    assert str(caught.value) == "mask and bone label must be of the same points: (10,) against (9,)"


def test_label_of_other_points_is_the_nearest_ones() -> None:
    points = np.array([[0.001, 0, 0.01], [0.029, 0.002, 0.01], [0.5, 0, 0]], np.float32)
    assert bone_at(scene("s"), points).tolist() == [True, True, False]


def test_study_from_scenes_to_table() -> None:
    case = load_case(bundled_case_path())
    targets = targets_from_case(case)
    ones, few = np.ones(10, bool), np.random.default_rng(0).permutation(LEARNED)
    masks = {"learned": LEARNED, "ones": ones, "random": few, "truth": BONE}
    shift_mm = {"learned": 1.0, "ones": 3.0, "random": 20.0, "truth": 1.0}

    def run(seen: StoredScene, mode: MaskMode) -> MaskedRun:
        mask = masks[mode]
        if mode == "random" and seen.name == "s0":
            return MaskedRun(None, mask)
        shift = np.array([shift_mm[mode] / 1000 + 1e-5 * int(seen.name[1:]) * (mode == "ones"), 0.0, 0.0])
        T = se3.from_rotation_translation(np.eye(3), shift)
        # Half the network's points, as after its own thinning.
        return MaskedRun(T, mask[::2], seen.cloud.points[::2]) if mode == "truth" else MaskedRun(T, mask)

    rows = run_mask_study([scene(f"s{k}") for k in range(12)], lambda seen: targets, run)
    learned, ones, random, truth = summarise_masks(rows)
    assert [s.mode for s in (learned, ones, random, truth)] == ["learned", "ones", "random", "truth"]
    assert (learned.tre_mm.median, learned.iou.median) == (pytest.approx(1.0), 0.4)
    assert (ones.precision.median, ones.recall.median) == (0.4, 1.0)
    assert (truth.iou.median, truth.share.median) == (1.0, 0.4)  # points 0, 2, 4, 6, 8: two of five are bone
    assert (random.outliers, random.tre_mm.count) == (1.0, 11)
    assert learned.against_learned is None
    assert ones.against_learned is not None and ones.against_learned.z < -3.0
    assert truth.against_learned is not None and truth.against_learned.pairs == 0
    lines = mask_table([learned, ones, random, truth])
    assert (
        lines[2]
        == "| learned | 12 | 1.00 [1.00, 1.00] | 0.0 % | 0.30 | 0.67 | 0.50 | 0.40 [0.40, 0.40] | – |"
    )
    assert lines[3].endswith("| worse: p = 0.002, r = 0.88 (n = 12) |")
    assert lines[5].endswith("| equal |")
    written = json.loads(json.dumps(mask_document(rows, [learned, random]), allow_nan=False))
    assert written["rows"][2]["tre_mm"] is None and written["rows"][0]["scores"]["iou"] == 0.4
    with pytest.raises(End2RegError) as caught:
        summarise_masks(rows[:5])
    assert str(caught.value) == "mask ones: was run on 1 of the 2 scenes"


def test_study_needs_the_true_bone() -> None:
    targets = targets_from_case(load_case(bundled_case_path()))
    with pytest.raises(CloudError) as caught:
        run_mask_study(
            [scene("bare", None)], lambda seen: targets, lambda seen, mode: MaskedRun(None, LEARNED)
        )
    assert str(caught.value) == "scene bare: has no bone label, which the mask study needs"
