"""Variants of a case: landmarks stay on the bone, left stays left, joints stay together, equal seeds give equal variants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from end2reg_ros.case.meshes import signed_volume
from end2reg_ros.case.model import Case, Mesh
from end2reg_ros.case.raycast import signed_distance
from end2reg_ros.errors import TrainingError
from end2reg_ros.simulation.anatomy import AnatomySettings
from end2reg_ros.training.data.anatomies import TRIANGLES, load_individual, procedural_settings
from end2reg_ros.training.data.variation import VariationSettings, moved_vertebra, vary_case

ALL = VariationSettings(mirror_share=1.0, mix_share=1.0, fewer_share=0.0, plain_share=0.0)
STILL = VariationSettings(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def donor(case: Case) -> Case:
    """The same bones, larger, wider, elsewhere."""
    shift, stretch = np.array([0.3, -0.2, 1.0]), np.array([1.3, 1.2, 1.1])
    vertebrae = tuple(
        moved_vertebra(v, stretch * v.mesh.vertices + shift, stretch * v.landmarks.as_array() + shift)
        for v in case.vertebrae
        if v.landmarks is not None
    )
    return replace(case, name="donor", vertebrae=vertebrae, hash="cd" * 32)


def landmark_distance_mm(case: Case) -> float:
    """Largest distance of a landmark to its own level's surface."""
    distances = [
        np.abs(signed_distance(v.mesh, v.landmarks.as_array())).max()
        for v in case.vertebrae
        if v.landmarks is not None
    ]
    assert len(distances) == len(case.vertebrae)
    return 1e3 * float(np.max(distances))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_landmarks_stay_on_the_bone(case: Case, donor: Case, seed: int) -> None:
    assert landmark_distance_mm(case) < 0.1  # or the next line shows nothing
    varied = vary_case(case, (seed,), ALL, [donor]).case
    moved = np.abs(varied.landmark_array() - case.landmark_array()).max()
    assert moved > 0.002
    assert landmark_distance_mm(varied) < 0.3


def test_mirrored_bones_are_right_handed_and_their_left_is_left(case: Case) -> None:
    varied = vary_case(case, (4,), replace(STILL, mirror_share=1.0)).case
    for old, new in zip(case.vertebrae, varied.vertebrae, strict=True):
        assert signed_volume(new.mesh) == pytest.approx(signed_volume(old.mesh), rel=1e-9)
        assert old.landmarks is not None and new.landmarks is not None
        assert new.landmarks.transverse_left[0] < new.landmarks.transverse_right[0]  # RAS: x to the right
        np.testing.assert_allclose(
            new.landmarks.transverse_left, old.landmarks.transverse_right * [-1, 1, 1], atol=1e-12
        )
        assert np.linalg.det(new.T_model_level[:3, :3]) == pytest.approx(1.0)
        assert new.T_model_level[0, 0] * old.T_model_level[0, 0] > 0 or abs(old.T_model_level[0, 0]) < 0.3
        assert new.T_model_level[1, 0] > 0.7  # anterior stays anterior


def test_stretch_and_warp_keep_joints_together(case: Case) -> None:
    varied = vary_case(case, (5,), replace(STILL, scale=0.12, warp=0.035)).case
    for k in range(len(case.vertebrae) - 1):
        pair = [case.vertebrae[k + i].mesh.vertices for i in (0, 1)]
        distance, index = cKDTree(pair[1]).query(pair[0])
        close = distance < 0.003
        assert close.sum() > 20
        a, b = (varied.vertebrae[k + i].mesh.vertices for i in (0, 1))
        after = np.linalg.norm(a[close] - b[index[close]], axis=1)
        assert np.abs(after - distance[close]).max() < 0.0015
    sizes = [np.ptp(np.concatenate([v.mesh.vertices for v in c.vertebrae]), axis=0) for c in (case, varied)]
    assert np.abs(sizes[1] / sizes[0] - 1.0).max() > 0.01


def test_jitter_moves_each_level_by_itself_within_its_limits(case: Case) -> None:
    varied = vary_case(case, (6,), replace(STILL, jitter_deg=3.0, jitter_m=0.002)).case
    shifts = np.array(
        [
            b.T_model_level[:3, 3] - a.T_model_level[:3, 3]
            for a, b in zip(case.vertebrae, varied.vertebrae, strict=True)
        ]
    )
    assert 0 < np.abs(shifts).max() <= 0.002 + 1e-9
    assert np.ptp(shifts, axis=0).max() > 1e-4


def test_levels_of_another_individual_take_the_place_and_size_of_what_they_replace(
    case: Case, donor: Case
) -> None:
    same = replace(STILL, mix_share=1.0)
    variants = [vary_case(case, (seed,), same, [donor]) for seed in range(4)]
    assert all(v.donors == (case.name, "donor") for v in variants)
    swapped = 0
    for variant in variants:
        assert variant.case.levels == case.levels
        for old, new in zip(case.vertebrae, variant.case.vertebrae, strict=True):
            if old.mesh.vertices.shape == new.mesh.vertices.shape and np.allclose(
                old.mesh.vertices, new.mesh.vertices, atol=1e-9
            ):
                continue
            swapped += 1
            assert np.linalg.norm(new.T_model_level[:3, 3] - old.T_model_level[:3, 3]) < 1e-4
            turn = old.T_model_level[:3, :3].T @ new.T_model_level[:3, :3]
            assert np.degrees(np.arccos(min(1.0, (np.trace(turn) - 1) / 2))) < 8.0
            assert (
                np.abs(np.ptp(new.mesh.vertices, axis=0) / np.ptp(old.mesh.vertices, axis=0) - 1).max() < 0.15
            )
    assert 4 <= swapped < 20


def test_without_donors_nothing_is_mixed(case: Case) -> None:
    variant = vary_case(case, (1,), replace(STILL, mix_share=1.0))
    assert variant.donors == (case.name,)
    for old, new in zip(case.vertebrae, variant.case.vertebrae, strict=True):
        np.testing.assert_allclose(new.mesh.vertices, old.mesh.vertices, atol=1e-9)


def test_fewer_levels_are_neighbours(case: Case) -> None:
    kept = {vary_case(case, (s,), replace(STILL, fewer_share=1.0)).case.levels for s in range(12)}
    runs = {case.levels[a:b] for a in range(5) for b in range(a + 3, 6)} - {case.levels}
    assert kept <= runs and len(kept) > 2


def test_equal_seeds_give_equal_variants(case: Case, donor: Case) -> None:
    a, b, c = (vary_case(case, seed, ALL, [donor]).case for seed in ((7, 1), (7, 1), (7, 2)))
    assert a.hash == b.hash != c.hash
    for one, other in zip(a.vertebrae, b.vertebrae, strict=True):
        assert np.array_equal(one.mesh.vertices, other.mesh.vertices)
    assert not np.array_equal(a.landmark_array(), c.landmark_array())
    assert all(not v.screws for v in a.vertebrae)
    plain = vary_case(case, (7, 1), replace(ALL, plain_share=1.0)).case
    assert all(x.mesh is y.mesh for x, y in zip(plain.vertebrae, case.vertebrae, strict=True))


def test_draws_of_procedural_individuals_stay_what_they_were() -> None:
    # The bases of stored training data: other numbers here mean other people under the same names.
    drawn = procedural_settings(1000)
    assert isinstance(drawn, AnatomySettings)
    values = [drawn.scoliosis_deg, drawn.asymmetry, drawn.roughness, drawn.osteophytes_mm, drawn.facet_gap_mm]
    np.testing.assert_allclose(values, EXPECTED_1000, rtol=1e-9)


EXPECTED_1000 = [
    -6.406785098617464,
    1.2550483359016122,
    1.0583297845471407,
    1.5010012057088085,
    1.95652650233678,
]


def test_heavy_meshes_are_thinned_and_landmarks_are_needed(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = case.vertebrae[0]
    mesh = Mesh(*_divided(fine.mesh))
    heavy = replace(case, vertebrae=(replace(fine, mesh=mesh), *case.vertebrae[1:]))
    monkeypatch.setattr("end2reg_ros.training.data.anatomies.load_case", lambda path: heavy)
    individual = load_individual(tmp_path)
    assert len(mesh.triangles) > TRIANGLES >= len(individual.case.vertebrae[0].mesh.triangles)
    off = signed_distance(fine.mesh, individual.case.vertebrae[0].mesh.vertices)
    assert np.abs(off).max() < 0.0005
    bare = replace(case, vertebrae=(replace(fine, landmarks=None),))
    monkeypatch.setattr("end2reg_ros.training.data.anatomies.load_case", lambda path: bare)
    with pytest.raises(TrainingError, match=f"level {fine.level} has no landmarks"):
        load_individual(tmp_path)


def _divided(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Every triangle in four."""
    import trimesh

    vertices, triangles = trimesh.remesh.subdivide(mesh.vertices, mesh.triangles)
    return vertices, triangles.astype(np.int32)
