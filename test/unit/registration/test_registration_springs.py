"""The normal equations of all levels at once: against numerical differentiation, and against a slow solver of scipy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pytest
from flexed_spine import View, flexed, local, look
from scipy.optimize import least_squares

from end2reg_ros.registration.fit.articulated import ArticulationSettings, System, level_covariance
from end2reg_ros.registration.fit.matching import Matches, PostureMatcher
from end2reg_ros.registration.fit.posture import Posture, straight
from end2reg_ros.registration.fit.refine import cos_limit, damping, weights
from end2reg_ros.registration.settings import RefineSettings
from end2reg_ros.se3 import apply, inverse, move_covariance, rotation_angle

Array = np.ndarray
REFINE, ARTICULATION = RefineSettings(), ArticulationSettings()
LEVELS = 5


def resting(points: Array, level: Array, posture: Posture) -> Array:
    """Points (N, 3) of posed levels (N,), where the CT has them."""
    back = np.stack([inverse(T) for T in posture.motions])[level]
    return np.einsum("nij,nj->ni", back[:, :3, :3], points) + back[:, :3, 3]


@dataclass(frozen=True)
class Pairs:
    """Scene points, each with the plane of its level's surface that it was paired with, in that level's CT place."""

    matches: Matches
    normals: Array
    offsets: Array

    def at(self, posture: Posture) -> Matches:
        """The same pairs under another posture."""
        found = self.matches
        at_rest = resting(found.points, found.level, posture)
        turned = posture.turned(self.normals, found.level)
        residual = np.einsum("ij,ij->i", self.normals, at_rest) - self.offsets
        return replace(found, normals=turned, residual=residual)


@lru_cache(maxsize=4)
def pairs(most: int = 700, without: tuple[int, ...] = ()) -> Pairs:
    """Pairs of a spine flexed by 2 degrees and 1 mm, with the right planes."""
    view = look(2.0, 1.0)
    scene = view.scene(most, [k for k in range(LEVELS) if k not in without])
    found = PostureMatcher(local().surface, view.posture).match(
        scene, inverse(view.T_camera_model), 0.003, cos_limit(REFINE)
    )
    turned_back = np.swapaxes(view.posture.motions[found.level, :3, :3], 1, 2)
    normals = np.einsum("nij,nj->ni", turned_back, found.normals)
    at_rest = resting(found.points, found.level, view.posture)
    return Pairs(found, normals, np.einsum("ij,ij->i", normals, at_rest) - found.residual)


def system_of(given: Pairs, posture: Posture) -> System:
    """With loose springs, and springs to the CT's posture."""
    settings = replace(ARTICULATION, min_level_points=10)
    made = System(given.at(posture), posture, local().fitter.skeleton, REFINE, settings)
    made.hold(made.motion(), np.tile(made.loosely(), (LEVELS - 1, 1)))
    made.hold(made.motion(straight(LEVELS)), np.tile(4 * made.from_frame_to_frame(), (LEVELS - 1, 1)))
    return made


def spring_terms(given: Pairs, posture: Posture) -> Array:
    """(8 segments,) motions over their standard deviations, in the points' units: what both kinds of springs pull by."""
    here = system_of(given, posture)
    loose = here.motion() / np.sqrt(here.loosely() / here.noise)
    firm = here.motion() / np.sqrt(4 * here.from_frame_to_frame() / here.noise)
    return np.concatenate([loose.ravel(), firm.ravel()])


@pytest.mark.parametrize(("deg", "tolerance"), [(0.0, 5e-6), (0.4, 1e-4)])
def test_a_step_is_that_of_numerically_differentiated_terms(deg: float, tolerance: float) -> None:
    """Every number of the Jacobian by central differences, all in one dense system. Exact where the springs rest."""
    given, posture = pairs(), flexed(deg, deg / 2, 7)
    system = system_of(given, posture)

    def terms(step: Array) -> Array:
        moved = system.moved(step.reshape(LEVELS, 6))
        return np.concatenate([given.at(moved).residual, spring_terms(given, moved)])

    size = 6 * LEVELS
    J = np.stack([(terms(h) - terms(-h)) / 2e-6 for h in 1e-6 * np.eye(size)], axis=1)
    r = terms(np.zeros(size))
    count = len(given.matches.points)
    w = np.concatenate([weights(r[:count], 1.0, REFINE.scale), np.ones(len(r) - count)])
    H, g = (J * w[:, None]).T @ J, (J * w[:, None]).T @ r
    points = (J[:count] * w[:count, None]).T @ J[:count]
    for k in range(LEVELS):
        mine = slice(6 * k, 6 * k + 6)
        H[mine, mine] += damping(points[mine, mine])
    slow, fast = -np.linalg.solve(H, g), system.solve(1.0).ravel()
    assert np.abs(slow).max() > 0.01
    np.testing.assert_allclose(fast, slow, rtol=0.0, atol=tolerance)  # metres, radians


def converged(given: Pairs, start: Posture) -> Posture:
    """Steps until nothing moves."""
    posture = start
    for _ in range(60):
        system = system_of(given, posture)
        step = system.solve(1.0)
        posture = system.moved(step)
        if np.abs(step).max() < 1e-9:
            break
    return posture


def test_steps_end_where_a_slow_solver_ends() -> None:
    """Robust point-to-plane distances and springs, given to ``scipy.optimize.least_squares`` as they are."""
    given = pairs(300)
    ours = converged(given, straight(LEVELS))
    start = system_of(given, straight(LEVELS))

    def terms(step: Array) -> Array:
        moved = start.moved(step.reshape(LEVELS, 6))
        r = given.at(moved).residual
        return np.concatenate([r / np.sqrt(1 + (r / REFINE.scale) ** 2), spring_terms(given, moved)])

    # Metres and radians in one vector: a radian moves a vertebra's surface by about 3 cm.
    scale = np.tile([1.0, 1.0, 1.0, 30.0, 30.0, 30.0], LEVELS)
    slow = start.moved(
        least_squares(terms, np.zeros(6 * LEVELS), x_scale=1 / scale, xtol=1e-12).x.reshape(-1, 6)
    )
    for k, centre in enumerate(local().fitter.skeleton.level_centres):
        apart = 1000 * np.linalg.norm(apply(ours.motions[k], centre) - apply(slow.motions[k], centre))
        turned = np.degrees(rotation_angle(ours.motions[k, :3, :3].T @ slow.motions[k, :3, :3]))
        moved = 1000 * np.linalg.norm(apply(ours.motions[k], centre) - centre)
        assert apart < 0.03 and turned < 0.03, (k, apart, turned)
        assert moved > 0.1 or k == 2


def covariances(given: Pairs, without: tuple[int, ...] = ()) -> Array:
    """(levels, 6, 6) after a step."""
    kept = ~np.isin(given.matches.level, without)
    m = given.matches
    some = replace(m, index=m.index[kept], points=m.points[kept], normals=m.normals[kept],
                   residual=m.residual[kept], level=m.level[kept])  # fmt: skip
    system = System(some, look(2.0, 1.0).posture, local().fitter.skeleton, REFINE, ARTICULATION)
    system.hold(system.motion(), np.tile(system.loosely(), (LEVELS - 1, 1)))
    system.solve(1.0)
    return system.covariances()


def stddevs(covariance: Array) -> Array:
    """(levels, 2) largest standard deviation of a level's place (mm) and turn (degrees)."""
    parts = [(np.linalg.eigvalsh(c[:3, :3])[-1], np.linalg.eigvalsh(c[3:, 3:])[-1]) for c in covariance]
    return np.sqrt(np.array(parts)) * [1000, np.degrees(1)]


def test_covariance_of_a_level_without_points_is_its_neighbours_and_the_springs() -> None:
    """As uncertain as a segment may move (3 mm, 5 degrees), and more at the next one outwards."""
    given = pairs(4000)
    seen = stddevs(covariances(given))
    assert (seen[:, 0] < 0.6).all() and (seen[:, 1] < 1.2).all()
    one, two = stddevs(covariances(given, (0,))), stddevs(covariances(given, (0, 1)))
    np.testing.assert_allclose(one[2:], seen[2:], rtol=0.05)
    assert 3.0 < one[0, 0] < 5.0 and 5.0 < one[0, 1] < 6.0
    assert two[0, 0] > 1.3 * two[1, 0] > 3.0 and two[0, 1] > 1.3 * two[1, 1]
    between = stddevs(covariances(given, (2,)))
    assert 1.5 < between[2, 0] < 0.8 * one[0, 0]  # held from both sides


def test_covariance_is_large_along_what_the_points_do_not_tell() -> None:
    """L1 shows one flat patch only: nothing there tells of a shift within it."""
    rng, skeleton, posture = np.random.default_rng(0), local().fitter.skeleton, straight(LEVELS)
    everywhere = pairs(4000).matches
    others = everywhere.level != 0
    patch = skeleton.level_centres[0] + rng.uniform(-0.01, 0.01, (400, 3)) * [1.0, 0.0, 1.0]
    normals = np.tile([0.0, -1.0, 0.0], (400, 1))  # backwards
    points = np.concatenate([everywhere.points[others], patch])
    matches = Matches(
        np.arange(len(points)), points, np.concatenate([everywhere.normals[others], normals]),
        np.zeros(len(points)), np.concatenate([everywhere.level[others], np.zeros(400, np.intp)]), 1.0,
    )  # fmt: skip
    system = System(matches, posture, skeleton, REFINE, ARTICULATION)
    system.hold(system.motion(), np.tile(system.loosely(), (LEVELS - 1, 1)))
    system.solve(1.0)
    x, y, z = 1000 * np.sqrt(np.diag(system.covariances()[0])[:3])
    assert y < 0.5 and x > 5 * y and z > 5 * y


def test_half_the_points_with_twice_the_say_are_as_sure() -> None:
    """Of every second point each speaks for two."""
    given, posture = pairs(4000), look(2.0, 1.0).posture
    m = given.matches
    half = replace(m, index=m.index[::2], points=m.points[::2], normals=m.normals[::2],
                   residual=m.residual[::2], level=m.level[::2])  # fmt: skip
    found = []
    for matches, stride in ((m, 1), (half, 2)):
        system = System(matches, posture, local().fitter.skeleton, REFINE, ARTICULATION, stride)
        system.hold(system.motion(), np.tile(system.loosely(), (LEVELS - 1, 1)))
        system.solve(1.0)
        found.append(stddevs(system.covariances()))
    np.testing.assert_allclose(found[1], found[0], rtol=0.1)


def test_a_level_without_enough_points_has_no_say() -> None:
    view: View = look(2.0, 1.0)
    given = pairs(4000)
    few = np.flatnonzero(given.matches.level == 1)[: ARTICULATION.min_level_points - 1]
    kept = np.sort(np.concatenate([np.flatnonzero(given.matches.level != 1), few]))
    m = given.matches
    some = replace(m, index=m.index[kept], points=m.points[kept], normals=m.normals[kept],
                   residual=m.residual[kept], level=m.level[kept])  # fmt: skip
    system = System(some, view.posture, local().fitter.skeleton, REFINE, ARTICULATION)
    np.testing.assert_array_equal(system.told, [True, False, True, True, True])
    np.testing.assert_array_equal(system.joined, [False, False, True, True])
    assert system.counts[1] == ARTICULATION.min_level_points - 1


def test_tight_springs_give_way_where_a_segment_has_plainly_moved() -> None:
    """At rest as stiff as stated; a segment that has moved by ten deviations is held a hundred times more softly."""
    given = pairs(4000)
    system = System(given.matches, look(2.0, 1.0).posture, local().fitter.skeleton, REFINE, ARTICULATION)
    segments = LEVELS - 1
    known = np.zeros((segments, 6))
    stated = np.repeat([ARTICULATION.shift_stddev, np.radians(ARTICULATION.turn_stddev_deg)], 3) ** 2
    np.testing.assert_allclose(system.tightly(np.zeros((segments, 6)), known), np.tile(stated, (segments, 1)))
    motion = np.zeros((segments, 6))
    motion[1, 0] = 10 * ARTICULATION.shift_stddev
    found = system.tightly(motion, known)
    np.testing.assert_allclose(found[1], 101 * stated)
    np.testing.assert_allclose(found[[0, 2, 3]], np.tile(stated, (3, 1)))
    # Hardly known, the same motion says little.
    vague = system.tightly(motion, np.full((segments, 6), 0.01**2))
    assert vague[1, 0] < 2.5 * stated[0]


def test_level_covariance_moves_to_the_frame_and_turns_into_the_camera() -> None:
    """Against sampled errors: about the centre in model axes, watched at another point from the camera."""
    rng = np.random.default_rng(4)
    A = 1e-3 * rng.normal(size=(6, 6))
    T = look().T_camera_model
    centre, origin = rng.normal(scale=0.1, size=(2, 3))
    found = level_covariance(A @ A.T, centre, origin, T)
    np.testing.assert_allclose(found, found.T, atol=1e-18)
    R6 = np.kron(np.eye(2), T[:3, :3])
    np.testing.assert_allclose(found, R6 @ move_covariance(A @ A.T, origin - centre) @ R6.T, atol=1e-15)
    twists = rng.multivariate_normal(np.zeros(6), A @ A.T, size=100_000)
    moved = twists[:, :3] + np.cross(twists[:, 3:], origin - centre)
    np.testing.assert_allclose(found[:3, :3], np.cov((moved @ T[:3, :3].T).T), rtol=0.05, atol=1e-7)
