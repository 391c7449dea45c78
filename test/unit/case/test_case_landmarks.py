"""Proposed landmarks: on the bone, on the right side, where a person would pick them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from case_shapes import ball

from end2reg_ros import se3
from end2reg_ros.case import Case, Mesh
from end2reg_ros.case.frames import R_RAS_BODY
from end2reg_ros.case.landmarks import propose_landmarks, vertebra_axes
from end2reg_ros.case.meshes import read_mesh
from end2reg_ros.case.raycast import signed_distance
from end2reg_ros.errors import CaseError


def test_proposals_lie_where_the_anatomy_has_its_tips(case: Case) -> None:
    for vertebra in case.vertebrae:
        proposed = propose_landmarks(vertebra.mesh)
        assert proposed.proposed
        assert vertebra.landmarks is not None
        off_mm = np.linalg.norm(proposed.as_array() - vertebra.landmarks.as_array(), axis=1) * 1000
        # The edge of a spinous process is some 20 mm high: where on it its tip is, is a matter of taste.
        assert off_mm[0] < 6.0 and off_mm[1:].max() < 4.0, vertebra.level


@pytest.mark.parametrize("rotvec_deg", [(30, 0, 0), (0, 30, 0), (0, 0, 30), (-18, 18, -18)])
def test_proposals_move_with_a_tilted_vertebra(case: Case, rotvec_deg: tuple[float, float, float]) -> None:
    mesh = case.vertebrae[2].mesh
    T = se3.from_rotation_translation(
        se3.rotation_from_vector(np.radians(np.array(rotvec_deg, dtype=float))), np.array([0.1, 0.2, -1.0])
    )
    tilted = propose_landmarks(Mesh(se3.apply(T, mesh.vertices), mesh.triangles))
    back = se3.apply(se3.inverse(T), tilted.as_array())
    off_mm = np.linalg.norm(back - propose_landmarks(mesh).as_array(), axis=1) * 1000
    assert off_mm.max() < 3.0


def test_own_axes_of_an_untilted_vertebra(case: Case) -> None:
    R, _ = vertebra_axes(case.vertebrae[2].mesh)
    assert np.degrees(se3.rotation_angle(R_RAS_BODY.T @ R)) < 5.0


def test_a_ball_gets_no_landmarks() -> None:
    with pytest.raises(CaseError, match=r"; give landmarks \(--landmarks\)$"):
        propose_landmarks(ball(40.0))


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", ["verse004", "ssm_clouthier", "vhm_lumbosacral"])
def test_proposals_on_real_vertebrae_are_plausible(shared_data: Path, name: str) -> None:
    for level in ("L1", "L2", "L3", "L4", "L5"):
        path = shared_data / "anatomy" / name / f"{level}.stl"
        if not path.exists():  # the mean shape of 87 patients has no L1
            continue
        mesh = read_mesh(path)
        marks = propose_landmarks(mesh)
        R, origin = vertebra_axes(mesh)
        assert np.abs(signed_distance(mesh, marks.as_array())).max() * 1000 < 0.01
        spinous, left, right = (marks.as_array() - origin) @ R * 1000
        assert 60 < np.linalg.norm(left - right) < 110
        assert left[1] > 25 and right[1] < -25 and abs(spinous[1]) < 8
        assert 40 < -spinous[0] < 65
        assert spinous[0] < min(left[0], right[0]) - 15
        assert marks.transverse_left[0] < marks.transverse_right[0]
        # Both tips are the same process of two sides: alike in reach and in height.
        assert abs(left[1] + right[1]) < 12 and abs(left[2] - right[2]) < 12
        # The spine's own tilt is followed: lumbar endplates lean by less than 40 degrees.
        assert np.degrees(se3.rotation_angle(R_RAS_BODY.T @ R)) < 40
