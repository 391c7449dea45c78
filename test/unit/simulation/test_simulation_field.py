"""The surgical field: what is exposed, what is covered, and what the film on the bone does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from end2reg_ros.case.meshes import vertex_normals
from end2reg_ros.case.model import Case
from end2reg_ros.errors import CaseError
from end2reg_ros.simulation.field.bone_map import BoneMap, build_bone_map
from end2reg_ros.simulation.field.settings import SUITES, FieldSettings, draw_field_settings
from end2reg_ros.simulation.field.surgical_field import SurgicalField, build_field
from end2reg_ros.simulation.field.wound import build_relief


@pytest.fixture(scope="module")
def bone(case: Case) -> BoneMap:
    return build_bone_map(case)


@pytest.fixture(scope="module")
def field(case: Case) -> SurgicalField:
    return build_field(case, FieldSettings(seed=1, retractors=False))


def bare_height(field: SurgicalField, bone: BoneMap, film_m: float = 0.0) -> np.ndarray:
    """(Z, X) of the bone map: how far bone stands out of the tissue, metres; negative where it is covered."""
    from scipy.interpolate import RegularGridInterpolator

    tissue = RegularGridInterpolator(
        (field.relief.z, field.relief.x), field.relief.height, bounds_error=False
    )
    zz, xx = np.meshgrid(bone.z, bone.x, indexing="ij")
    return np.asarray(bone.height + film_m - tissue(np.stack([zz, xx], -1)))


def test_bone_map_finds_the_spinous_tips(case: Case, bone: BoneMap) -> None:
    for vertebra, span in zip(case.vertebrae, bone.spans, strict=True):
        assert vertebra.landmarks is not None
        tip = vertebra.landmarks.spinous
        assert span.level == vertebra.level
        assert abs(span.tip_x - tip[0]) < 0.004
        assert abs(span.tip_height + vertebra.mesh.vertices[:, 1].min()) < 1e-9
        assert abs(float(bone.midline(np.array([span.tip_z]))[0]) - span.tip_x) < 1e-9
        # The tips stand 15-40 mm above the laminar surface.
        row, column = np.abs(bone.z - span.tip_z).argmin(), np.abs(bone.x - span.tip_x).argmin()
        assert 0.012 < span.tip_height - bone.laminae[row, column] < 0.045


def test_bone_sticks_out_of_the_tissue_in_part(field: SurgicalField, bone: BoneMap) -> None:
    out = bare_height(field, bone)
    seen = out > 0
    posterior = np.isfinite(bone.height)
    # Not a skeleton on a plane: most of the bone is covered; not a closed back either.
    assert 0.12 < seen.sum() / posterior.sum() < 0.5
    for span in bone.spans:
        near = (np.abs(bone.z - span.tip_z) < 0.008)[:, None] & (np.abs(bone.x - span.tip_x) < 0.006)[None]
        # Every spinous process stands at least 3 mm out of what surrounds it.
        assert np.nanmax(np.where(near, out, np.nan)) > 0.003
        rows = (bone.z > span.z_low) & (bone.z < span.z_high)
        beside = seen[rows][:, np.abs(bone.x - span.tip_x) > 0.008]
        assert beside.sum() > 60, f"{span.level}: no lamina or facet to be seen"  # mm^2


def test_levels_that_are_not_opened_stay_covered(case: Case, bone: BoneMap) -> None:
    settings = FieldSettings(seed=2, exposed_levels=("L3",), end_margin_m=0.004, retractors=False)
    out = bare_height(build_field(case, settings), bone) > 0
    area = {}
    for span in bone.spans:
        middle = 0.5 * (span.z_low + span.z_high)
        area[span.level] = int(out[np.abs(bone.z - middle) < 0.01].sum())
    assert area["L3"] > 150
    assert area["L1"] == 0 and area["L5"] == 0


def test_gap_between_opened_levels_is_opened_too(bone: BoneMap) -> None:
    both = build_relief(bone, FieldSettings(seed=0, exposed_levels=("L2", "L4")))
    three = build_relief(bone, FieldSettings(seed=0, exposed_levels=("L2", "L3", "L4")))
    np.testing.assert_array_equal(both.height, three.height)


def test_unknown_level_is_named(case: Case) -> None:
    with pytest.raises(CaseError, match=r"^exposed levels L9: the case has L1, L2, L3, L4, L5$"):
        build_field(case, FieldSettings(exposed_levels=("L3", "L9")))


def test_closed_back_has_no_bone(case: Case, bone: BoneMap) -> None:
    closed = build_field(case, FieldSettings(seed=1, spine=False))
    assert closed.bone == () and len(closed.covers) == 1
    out = bare_height(closed, bone)
    assert np.nanmax(out) < -0.003
    assert (closed.covers[0].shine == 0).all()


@pytest.mark.parametrize("film_mm", [0.0, 1.0, 3.0])
def test_film_is_as_thick_as_it_says_and_leaves_bone_bare(case: Case, film_mm: float) -> None:
    settings = FieldSettings(seed=4, film_max_m=1e-3 * film_mm, film_bare_share=0.35, retractors=False)
    field = build_field(case, settings)
    film = np.concatenate(field.film_m)
    assert film.min() == 0.0
    assert 1e3 * film.max() == pytest.approx(film_mm, abs=1e-4)
    if film_mm:
        assert np.mean(film == 0) == pytest.approx(0.35, abs=0.1)
    for vertebra, surface, thickness in zip(case.vertebrae, field.bone, field.film_m, strict=True):
        moved = surface.vertices - vertebra.mesh.vertices
        np.testing.assert_allclose(np.linalg.norm(moved, axis=1), thickness, atol=1e-7)
        outwards = np.einsum("ij,ij->i", moved, vertex_normals(vertebra.mesh))
        assert outwards.min() > -1e-9


def test_more_film_and_cover_hide_more_bone(case: Case, bone: BoneMap) -> None:
    settings = FieldSettings(seed=5, retractors=False)
    areas = [
        (bare_height(build_field(case, replace(settings, cover_m=cover)), bone) > 0).sum()
        for cover in (-0.003, 0.0, 0.003)
    ]
    assert areas[0] > 1.2 * areas[1] > 1.2 * 1.2 * areas[2] > 0


@pytest.mark.parametrize("suite", SUITES)
def test_suites_draw_what_they_promise(case: Case, suite: str) -> None:
    drawn = [draw_field_settings(case, suite, seed) for seed in range(60)]  # type: ignore[arg-type]
    assert drawn[3] == draw_field_settings(case, suite, 3)  # type: ignore[arg-type]
    films = [1e3 * d.film_max_m for d in drawn]
    levels = [len(d.exposed_levels or case.levels) for d in drawn]
    limits = {"easy": (0.0, 0.5), "standard": (0.4, 1.0), "hard": (1.0, 3.0)}[suite]
    assert limits[0] <= min(films) and max(films) <= limits[1]
    assert set(levels) == ({1, 2, 3, 4} if suite == "hard" else {5})
    assert all(0.020 <= d.half_width_m <= 0.045 for d in drawn)
