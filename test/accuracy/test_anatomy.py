"""The finished spine: closed, in the literature's ranges, apart, landmarked, planned, the same for the same seed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from anatomies import COARSE, coarse_spine

from end2reg_ros import se3
from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.case.meshes import inspect, signed_volume, volume_centroid
from end2reg_ros.case.model import Mesh, Vertebra
from end2reg_ros.case.raycast import signed_distance
from end2reg_ros.simulation.anatomy import make_spine

Spine = tuple[Vertebra, ...]

# Widths over both transverse tips, mm: Panjabi et al. 1992 and CT surfaces of adults span 64 to 102.
WIDTH_MM = {"L1": (60, 92), "L2": (66, 98), "L3": (72, 106), "L4": (70, 104), "L5": (72, 106)}


@pytest.fixture(scope="module", params=["bundled", 1], ids=["bundled", "seed1"])
def spine(request: pytest.FixtureRequest) -> Spine:
    """The bundled spine (seed 0, as test_anatomy_case shows) and a smaller one."""
    if request.param == "bundled":
        return load_case(bundled_case_path()).vertebrae
    return make_spine(request.param)


def in_level(vertebra: Vertebra, points: np.ndarray) -> np.ndarray:
    """Points in the vertebra frame (x anterior, y left, z superior), mm."""
    return se3.apply(se3.inverse(vertebra.T_model_level), points) * 1000.0


def facing_out(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    a, b, c = (mesh.vertices[mesh.triangles[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    return (a + b + c) / 3, normals / np.linalg.norm(normals, axis=1, keepdims=True)


def test_surfaces_are_closed_outward_light_and_of_real_volume(spine: Spine) -> None:
    assert [v.level for v in spine] == ["L1", "L2", "L3", "L4", "L5"]
    for vertebra in spine:
        assert inspect(vertebra.mesh).watertight
        assert len(vertebra.mesh.triangles) <= 8000
        assert 35.0 < signed_volume(vertebra.mesh) * 1e6 < 85.0  # cm3


def test_no_triangle_is_turned_over(spine: Spine) -> None:
    """A step of 0.3 mm along any triangle's normal leads out of the bone."""
    for vertebra in spine:
        centre, normal = facing_out(vertebra.mesh)
        assert (signed_distance(vertebra.mesh, centre + 3e-4 * normal) > 0).mean() > 0.9995


def test_widths_heights_and_depths_lie_in_published_ranges(spine: Spine) -> None:
    for vertebra in spine:
        low, high = WIDTH_MM[vertebra.level]
        depth, width, height = np.ptp(in_level(vertebra, vertebra.mesh.vertices), axis=0)
        assert low < width < high, vertebra.level
        assert 70 < depth < 105
        assert 38 < height < 60
        assert vertebra.landmarks is not None
        reach = np.linalg.norm(vertebra.landmarks.spinous - vertebra.T_model_level[:3, 3]) * 1000
        assert 42 < reach < 68


def test_levels_look_like_their_numbers(spine: Spine) -> None:
    span = {v.level: np.ptp(v.landmarks.as_array()[:, 0]) for v in spine if v.landmarks}
    assert span["L3"] > span["L1"]
    reach = {
        v.level: np.linalg.norm(v.landmarks.spinous - v.T_model_level[:3, 3]) for v in spine if v.landmarks
    }
    assert reach["L5"] < reach["L4"] < 1.1 * reach["L3"]
    entries = [abs(v.screws[0].entry[0] - v.screws[1].entry[0]) for v in spine]
    assert entries == sorted(entries)  # the pedicles move apart caudally
    # L5's body is a wedge, higher in front: its endplates meet at the steepest angle against those of L1.
    tops = [v.T_model_level[2, 3] for v in spine]
    assert tops == sorted(tops, reverse=True)
    steps = -np.diff(tops) * 1000
    assert steps.min() > 26
    assert steps.max() < 46


def test_neighbours_do_not_touch_and_their_facets_meet_at_one_to_two_millimetres(spine: Spine) -> None:
    for upper, lower in pairwise(spine):
        gaps = signed_distance(lower.mesh, upper.mesh.vertices)
        back = signed_distance(upper.mesh, lower.mesh.vertices)
        assert min(gaps.min(), back.min()) > 0.0008
        for side in (1.0, -1.0):  # left and right in the vertebra frame
            near = (back < 0.0023) & (side * in_level(lower, lower.mesh.vertices)[:, 1] > 3.0)
            assert near.sum() > 8, "no joint"


def test_inferior_facets_lie_behind_and_inside_the_superior_ones(spine: Spine) -> None:
    for upper, lower in pairwise(spine):
        concave = lower.mesh.vertices[signed_distance(upper.mesh, lower.mesh.vertices) < 0.002]
        centre, normal = facing_out(upper.mesh)
        for side in (1.0, -1.0):
            place = in_level(lower, concave)
            # Above the lamina, that the tip of the upper vertebra's process nearly rests on.
            facet = concave[(side * place[:, 1] > 3.0) & (place[:, 2] > 14.0)]
            assert len(facet) >= 5
            distance = np.linalg.norm(centre[:, None] - facet[None], axis=2).min(axis=1)
            touching = distance < 0.0035
            assert touching.sum() >= 5
            # The upper vertebra's facet looks forwards and outwards, at the other one.
            direction = normal[touching].mean(axis=0) @ lower.T_model_level[:3, :3]
            assert direction[0] > 0.1
            assert side * direction[1] > 0.3


def test_landmarks_lie_on_the_surface_at_the_tips(spine: Spine) -> None:
    for vertebra in spine:
        marks = vertebra.landmarks
        assert marks is not None and not marks.proposed
        assert np.abs(signed_distance(vertebra.mesh, marks.as_array())).max() < 0.0005
        local = in_level(vertebra, vertebra.mesh.vertices)
        spinous, left, right = in_level(vertebra, marks.as_array())
        # No bone reaches more than 3 mm further than the tips.
        assert spinous[0] < local[:, 0].min() + 3.0
        assert left[1] > local[:, 1].max() - 3.0
        assert right[1] < local[:, 1].min() + 3.0


def test_left_is_left_and_frames_are_rep103(spine: Spine) -> None:
    for vertebra in spine:
        assert vertebra.landmarks is not None
        assert (
            vertebra.landmarks.transverse_left[0] < 0 < vertebra.landmarks.transverse_right[0]
        )  # RAS: x right
        assert vertebra.landmarks.spinous[1] < vertebra.T_model_level[1, 3]  # RAS: y anterior
        assert [s.side for s in vertebra.screws] == ["left", "right"]
        assert vertebra.screws[0].entry[0] < 0 < vertebra.screws[1].entry[0]
        R = vertebra.T_model_level[:3, :3]
        assert se3.is_rigid(vertebra.T_model_level)
        assert R[1, 0] > 0.75 and R[0, 1] < -0.95 and R[2, 2] > 0.75
        np.testing.assert_allclose(vertebra.T_model_level[:3, 3], volume_centroid(vertebra.mesh), atol=1e-9)


def test_screws_enter_at_the_surface_run_in_the_pedicle_and_end_in_the_body(spine: Spine) -> None:
    for vertebra in spine:
        for screw in vertebra.screws:
            assert (screw.diameter, screw.length) == pytest.approx((0.0065, 0.045))
            assert np.linalg.norm(screw.tip - screw.entry) == pytest.approx(0.045, abs=2e-6)
            shaft = screw.entry + np.linspace(0, 1, 46)[:, None] * (screw.tip - screw.entry)
            depth = signed_distance(vertebra.mesh, shaft) * 1000
            assert abs(depth[0]) < 1.5  # the entry
            assert depth[2:].max() < -1.0
            assert depth[6:26].max() < -2.7, "the pedicle is breached by more than half a millimetre"
            assert depth[-1] < -3.25  # the whole tip
            entry, tip = in_level(vertebra, np.stack([screw.entry, screw.tip]))
            side = 1.0 if screw.side == "left" else -1.0
            assert 10 < side * entry[1] < 40 and abs(tip[1]) < abs(entry[1])
            assert entry[0] < 0 < tip[0]


def test_the_canal_is_open(spine: Spine) -> None:
    """A straight 9 mm rod along each vertebra's axis passes behind its body."""
    for vertebra in spine:
        mesh = vertebra.mesh
        behind = np.stack([np.arange(-45.0, 5.0, 0.5), np.zeros(100), np.zeros(100)], axis=1)
        clear = np.full(100, np.inf)
        for z in np.arange(-8.0, 9.0, 2.0):
            points = se3.apply(vertebra.T_model_level, (behind + np.array([0, 0, z])) / 1000.0)
            clear = np.minimum(clear, signed_distance(mesh, points) * 1000)
        assert clear.max() > 4.5, vertebra.level


def test_the_same_seed_gives_the_same_arrays() -> None:
    for a, b in zip(coarse_spine(3), make_spine(3, COARSE), strict=True):
        np.testing.assert_array_equal(a.mesh.vertices, b.mesh.vertices)
        np.testing.assert_array_equal(a.mesh.triangles, b.mesh.triangles)
        np.testing.assert_array_equal(a.T_model_level, b.T_model_level)
        assert a.landmarks is not None and b.landmarks is not None
        np.testing.assert_array_equal(a.landmarks.as_array(), b.landmarks.as_array())


def test_other_seeds_give_other_people() -> None:
    """Surfaces of the same level, laid over each other by their frames, differ by more than 1 mm RMS."""
    people = [coarse_spine(seed) for seed in (3, 4, 5)]
    for i, j in ((0, 1), (1, 2), (0, 2)):
        for a, b in zip(people[i], people[j], strict=True):
            moved = se3.apply(b.T_model_level @ se3.inverse(a.T_model_level), a.mesh.vertices)
            assert np.sqrt((signed_distance(b.mesh, moved) ** 2).mean()) > 0.001


def test_left_and_right_differ_unless_asked_not_to() -> None:
    def mirror_rms_mm(asymmetry: float) -> float:
        vertebra = make_spine(1, replace(COARSE, asymmetry=asymmetry, roughness=0.0))[2]
        mirrored = in_level(vertebra, vertebra.mesh.vertices) * np.array([1.0, -1.0, 1.0])
        points = se3.apply(vertebra.T_model_level, mirrored / 1000.0)
        return float(np.sqrt((signed_distance(vertebra.mesh, points) ** 2).mean()) * 1000)

    assert mirror_rms_mm(0.0) < 0.15
    assert mirror_rms_mm(1.0) > 0.4


def test_osteophytes_grow_from_the_rims_only() -> None:
    plain = coarse_spine(3)[3]
    spurred = make_spine(3, replace(COARSE, osteophytes_mm=5.0))[3]
    grown = signed_distance(plain.mesh, spurred.mesh.vertices) * 1000
    assert 2.5 < grown.max() < 6.5
    assert in_level(plain, spurred.mesh.vertices[grown > 2.0])[:, 0].min() > -20.0  # none behind the body


def test_scoliosis_keeps_the_levels_apart() -> None:
    spine = make_spine(0, replace(COARSE, scoliosis_deg=25.0))
    for upper, lower in pairwise(spine):
        assert signed_distance(lower.mesh, upper.mesh.vertices).min() > 0.0005
