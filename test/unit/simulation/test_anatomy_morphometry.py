"""The drawn dimensions: their means and spreads are the table's, the posture is the literature's."""

from __future__ import annotations

import numpy as np
import pytest

from end2reg_ros import se3
from end2reg_ros.simulation.anatomy.morphometry import DIMENSIONS, DISC_ANGLES_DEG, draw_person
from end2reg_ros.simulation.anatomy.posture import facet_joints, stack_bodies
from end2reg_ros.simulation.anatomy.settings import LEVELS, AnatomySettings

PEOPLE = [draw_person(np.random.default_rng(seed), AnatomySettings()) for seed in range(300)]


def table(name: str) -> np.ndarray:
    return np.array([[getattr(level, name) for level in person.levels] for person in PEOPLE])


@pytest.mark.parametrize("name", [n for n in DIMENSIONS if n != "pedicle_width"])
def test_means_over_many_people_are_those_of_the_table(name: str) -> None:
    means = np.array(DIMENSIONS[name].means)
    tolerance = 0.02 * np.abs(means) if DIMENSIONS[name].relative else 0.4
    assert (np.abs(table(name).mean(axis=0) - means) < tolerance).all()


def test_spread_of_the_endplates_is_that_of_adults() -> None:
    """Panjabi et al. 1992 and CT studies give standard deviations of 2 to 4 mm."""
    spread = table("endplate_width_upper").std(axis=0)
    assert spread.min() > 2.0
    assert spread.max() < 4.0


def test_a_large_person_is_large_at_every_level_and_in_every_dimension() -> None:
    width = table("endplate_width_upper")
    assert np.corrcoef(width[:, 0], width[:, 4])[0, 1] > 0.9
    assert np.corrcoef(width[:, 2], table("spinous_reach")[:, 2])[0, 1] > 0.5


def test_a_given_size_scales_every_length() -> None:
    small = draw_person(np.random.default_rng(5), AnatomySettings(size=0.9)).levels[2]
    large = draw_person(np.random.default_rng(5), AnatomySettings(size=1.1)).levels[2]
    assert large.transverse_span / small.transverse_span == pytest.approx(1.1 / 0.9)
    assert large.joint_angle_deg == small.joint_angle_deg


def test_every_pedicle_takes_a_6_5_mm_screw() -> None:
    assert table("pedicle_width").min() >= 8.0


def test_lordosis_turns_each_lower_body_forwards_by_the_published_angles() -> None:
    """Troyanovich et al. 1997: 4.1, 7.6, 11.7 and 16.8 degrees; the upper endplate of L5 faces forwards."""
    poses = [stack_bodies(person, AnatomySettings()) for person in PEOPLE]
    steps = np.array([[np.degrees(np.arctan2(T[1, 2], T[2, 2])) for T in person] for person in poses])
    mean = np.diff(steps, axis=1).mean(axis=0)
    np.testing.assert_allclose(mean, 0.9 * np.array(DISC_ANGLES_DEG), atol=0.6)
    assert (steps[:, 4] > 5.0).all()


def test_scoliosis_has_the_cobb_angle_asked_for_and_its_apex_on_the_right() -> None:
    settings = AnatomySettings(scoliosis_deg=30.0)
    poses = stack_bodies(draw_person(np.random.default_rng(0), settings), settings)
    across = [np.degrees(np.arctan2(T[0, 2], T[2, 2])) for T in poses]
    assert abs(across[4] - across[0]) == pytest.approx(30.0, abs=2.0)
    chord = 0.5 * (poses[0][0, 3] + poses[4][0, 3])
    assert poses[2][0, 3] - chord > 3.0  # mm to the patient's right (+x)


def test_both_partners_of_a_facet_joint_know_the_same_joint() -> None:
    person = PEOPLE[0]
    poses = stack_bodies(person, AnatomySettings())
    noise = np.random.default_rng(0).standard_normal((6, 2, 4))
    joints = facet_joints(person, poses, noise)
    for i in range(1, len(LEVELS)):
        for side in ("left", "right"):
            below, above = joints[i - 1][side][1], joints[i][side][0]
            np.testing.assert_allclose(
                se3.apply(poses[i - 1], below.centre), se3.apply(poses[i], above.centre), atol=1e-9
            )
            np.testing.assert_allclose(
                poses[i - 1][:3, :3] @ below.normal, poses[i][:3, :3] @ above.normal, atol=1e-9
            )
