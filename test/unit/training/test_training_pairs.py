"""Training pairs: the truth fits the clouds, what is random stays in bounds, nothing is padded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from network_pairs import tiny
from scipy.spatial import cKDTree
from training_shards import anatomy, scene

from end2reg_ros.cloud.pyramid import UNIT_M, build_pyramid
from end2reg_ros.profile import realtime
from end2reg_ros.registration.find.network_search import POSED_MARGIN_M, REGION_HALF_M
from end2reg_ros.se3 import rotation_angle
from end2reg_ros.training.config import Augmentation
from end2reg_ros.training.data.pairs import TrainingPair, make_pair, prepare_anatomy, random_colours, trimmed

SHAPE = 3
ANATOMY, SCENE = anatomy(SHAPE), scene(SHAPE, 0)
PREPARED = prepare_anatomy(ANATOMY, tiny())
FIRST = Augmentation(second_pass_share=0.0)
SECOND = Augmentation(second_pass_share=1.0)
PLAIN = replace(FIRST, thinning_share=0.0, hole_share=0.0)


def pair(settings: Augmentation, seed: int, given: object = SCENE) -> TrainingPair:
    made = make_pair(given, PREPARED, tiny(), settings, np.random.default_rng(seed))  # type: ignore[arg-type]
    assert made is not None
    return made


def gaps_mm(found: TrainingPair, rotation: np.ndarray) -> np.ndarray:
    """Distance of the scene's bone cells from the posed surface."""
    model = (ANATOMY.points.astype(np.float64) - PREPARED.centre) / UNIT_M
    bone = found.scene.levels[0].points[: len(found.bone)][found.bone > 0.9]
    return cKDTree(model @ rotation.T + found.translation).query(bone)[0] * UNIT_M * 1e3


@pytest.mark.parametrize("settings", [FIRST, SECOND], ids=["first pass", "second pass"])
def test_the_true_pose_puts_the_model_on_the_bone(settings: Augmentation) -> None:
    for seed in range(6):
        made = pair(settings, seed)
        assert np.median(gaps_mm(made, made.rotation)) < 1.5
        if rotation_angle(made.rotation) > np.radians(15.0):
            assert np.median(gaps_mm(made, made.rotation.T)) > 3.0  # the other way round does not fit


def test_the_landmarks_are_the_models() -> None:
    expected = (ANATOMY.landmarks - PREPARED.centre) / UNIT_M
    assert np.allclose(pair(FIRST, 0).landmarks, expected, atol=1e-6)


def test_first_and_second_pass_are_cropped_and_turned_as_at_run_time() -> None:
    box = (PREPARED.low - PREPARED.centre - POSED_MARGIN_M, PREPARED.high - PREPARED.centre + POSED_MARGIN_M)
    angles: dict[str, list[float]] = {"first": [], "second": []}
    for seed in range(20):
        first, second = pair(FIRST, seed), pair(SECOND, seed)
        points = first.scene.levels[0].points * UNIT_M
        assert (np.abs(points) < REGION_HALF_M + 1e-6).all()
        points = second.scene.levels[0].points * UNIT_M
        assert (points > box[0] - 1e-6).all() and (points < box[1] + 1e-6).all()
        assert np.linalg.norm(second.translation) * UNIT_M <= SECOND.second_pass_offset_m + 1e-6
        angles["first"].append(np.degrees(rotation_angle(first.rotation)))
        angles["second"].append(np.degrees(rotation_angle(second.rotation)))
    assert 20.0 < max(angles["first"]) <= FIRST.rotation_deg
    assert 3.0 < max(angles["second"]) <= SECOND.second_pass_rotation_deg


def test_normals_turn_with_the_points() -> None:
    made = pair(PLAIN, 4)
    normals = made.scene.attributes[: len(made.bone), 3:6]
    model = (ANATOMY.points.astype(np.float64) - PREPARED.centre) / UNIT_M
    posed = cKDTree(model @ made.rotation.T + made.translation)
    near = posed.query(made.scene.levels[0].points[: len(made.bone)])[1]
    agreement = (normals * (ANATOMY.normals[near] @ made.rotation.T)).sum(axis=1)
    assert np.median(agreement[made.bone > 0.9]) > 0.95


def test_a_scene_with_next_to_no_bone_gives_no_pair() -> None:
    bare = replace(SCENE, bone=np.where(np.arange(6000) < 59, 1, 0).astype(np.uint8))
    assert make_pair(bare, PREPARED, tiny(), PLAIN, np.random.default_rng(0)) is None
    none = replace(SCENE, bone=np.zeros(6000, np.uint8))
    assert make_pair(none, PREPARED, tiny(), FIRST, np.random.default_rng(0)) is None


def test_the_bone_share_counts_points() -> None:
    made = pair(PLAIN, 1)
    assert made.bone.shape == (made.scene.levels[0].count,)
    assert made.bone.min() >= 0.0 and made.bone.max() == 1.0
    assert 0.5 < (made.bone > 0.5).mean() < 0.95


def test_thinning_and_holes_leave_fewer_points() -> None:
    counts = {}
    for name, changed in (
        ("all", PLAIN),
        ("thinned", replace(PLAIN, thinning_share=1.0)),
        ("holes", replace(PLAIN, hole_share=1.0)),
    ):
        counts[name] = [len(pair(changed, seed).scene.cell_of_point) for seed in range(8)]
    assert np.mean(counts["thinned"]) < 0.9 * np.mean(counts["all"])
    assert np.mean(counts["holes"]) < 0.99 * np.mean(counts["all"])


def test_colours_change_within_bounds_or_are_absent() -> None:
    rng = np.random.default_rng(0)
    given = rng.integers(0, 256, (500, 3)).astype(np.uint8)
    still = Augmentation(colour=0.0, colourless_share=0.0, grey_share=0.0)
    assert np.allclose(random_colours(given, 500, still, rng), given / 255.0, atol=1e-6)
    assert not random_colours(given, 500, replace(still, colourless_share=1.0), rng).any()
    assert not random_colours(None, 7, still, rng).any() and random_colours(None, 7, still, rng).shape == (
        7,
        3,
    )
    grey = random_colours(given, 500, replace(still, grey_share=1.0), rng)
    assert np.ptp(grey, axis=1).max() < 1e-6 and np.ptp(grey) > 0.3
    strong = random_colours(given, 500, replace(still, colour=1.0), rng)
    assert strong.dtype == np.float32 and strong.min() >= 0.0 and strong.max() <= 1.0
    assert np.abs(strong - given / 255.0).mean() > 0.02


def test_trimming_drops_the_padding_and_nothing_else() -> None:
    points = (SCENE.points - SCENE.points.mean(axis=0)) / UNIT_M
    for spec in (tiny().scene, realtime().scene):
        full = build_pyramid(points, None, spec)
        small = trimmed(full, spec.fine_level)
        for i, (whole, cut) in enumerate(zip(full.levels, small.levels, strict=True)):
            n = whole.count
            assert cut.count == n and cut.mask.all() and len(cut.points) == n < len(whole.points)
            assert np.array_equal(cut.points, whole.points[:n])
            present = whole.neighbours[:n] < len(whole.points)
            assert np.array_equal(cut.neighbours < n, present)
            assert np.array_equal(cut.neighbours[present], whole.neighbours[:n][present])
            if i + 1 < len(full.levels):
                assert cut.pool is not None and whole.pool is not None and cut.upsample is not None
                below = full.levels[i + 1].count
                assert np.array_equal(cut.pool < n, whole.pool[:below] < len(whole.points))
                assert cut.upsample.max() < below
        assert np.array_equal(
            small.patches < small.levels[0].count, full.patches[: len(small.patches)] < spec.capacities[0]
        )


def test_an_empty_cloud_can_be_trimmed() -> None:
    small = trimmed(build_pyramid(np.zeros((0, 3)), None, tiny().scene))
    assert [len(level.points) for level in small.levels] == [1, 1, 1]
    assert not any(level.mask.any() for level in small.levels)
    assert all((level.neighbours == 1).all() for level in small.levels)
