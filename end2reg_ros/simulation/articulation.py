"""Motion between vertebrae: every level moves against its neighbours, as from the CT's posture to the one in surgery."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from end2reg_ros import se3
from end2reg_ros.case.model import Case, Landmarks, Vertebra
from end2reg_ros.errors import End2RegError
from end2reg_ros.kabsch import kabsch
from end2reg_ros.simulation.contact import ContactCheck
from end2reg_ros.simulation.field.surfaces import Array

TRIES = 24  # draws of one joint's direction
SHRINK = 0.85  # of a motion that would press the bones together
MAX_DEG, MAX_SHIFT_M = 30.0, 0.02  # beyond, no spine is left to speak of
_ARM_M = 0.03  # where a vertebra has no landmarks, points this far out along its axes stand for it


@dataclass(frozen=True)
class Articulation:
    """Intervertebral motion; everything random in it follows from ``seed``.

    Attributes:
        deg: largest rotation of a level against its neighbour, degrees, about any axis.
        shift_m: largest translation of the segment's centre (midway between the two vertebra frames), metres.
        seed: of the joints' directions and sizes.
        exact: every joint moves by just ``deg`` and ``shift_m``, in a random direction: for sweeps.
    """

    deg: float
    shift_m: float
    seed: int = 0
    exact: bool = False

    def __post_init__(self) -> None:
        # Written so that NaN fails too.
        if not 0.0 <= self.deg <= MAX_DEG:
            raise End2RegError(f"the motion between levels is {self.deg:g} deg, must be 0 to {MAX_DEG:g}")
        if not 0.0 <= self.shift_m <= MAX_SHIFT_M:
            text = (
                f"the motion between levels is {1e3 * self.shift_m:g} mm, must be 0 to {1e3 * MAX_SHIFT_M:g}"
            )
            raise End2RegError(text)


@dataclass(frozen=True)
class Joint:
    """One motion segment.

    Attributes:
        fixed, moving: levels; the fixed one is nearer to the middle of the spine.
        T_fixed_moving: (4, 4) motion of the one against the other, in the model frame of the CT.
        centre: (3,) of the segment, model frame, metres.
        depth_m: how far the bones reach into each other beyond what they do in the CT, at most.
    """

    fixed: str
    moving: str
    T_fixed_moving: Array
    centre: Array
    depth_m: float


def draw_joints(case: Case, articulation: Articulation) -> tuple[Joint, ...]:
    """The motion segments from the middle level outwards, first towards cranial.

    Directions are uniform over the ball (over the sphere when ``exact``). Vertebrae are solid: of several draws the first
    one is taken that presses neighbours no more than ``contact.TOLERANCE_M`` deeper into each other than they
    are in the CT. Where all fail, the least deep draw is made smaller until it holds; an exact one is kept as it is.
    """
    middle = len(case.vertebrae) // 2
    pairs = [(k + 1, k) for k in range(middle - 1, -1, -1)]
    pairs += [(k - 1, k) for k in range(middle + 1, len(case.vertebrae))]
    return tuple(_draw_joint(case.vertebrae[a], case.vertebrae[b], b, articulation) for a, b in pairs)


def level_motions(case: Case, articulation: Articulation) -> dict[str, Array]:
    """Level -> (4, 4) T_model_moved of its points, cranial to caudal; the middle level stays."""
    motions = {case.levels[len(case.levels) // 2]: np.eye(4)}
    for joint in draw_joints(case, articulation):
        motions[joint.moving] = motions[joint.fixed] @ joint.T_fixed_moving
    return {level: motions[level] for level in case.levels}


def moved_case(case: Case, motions: dict[str, Array]) -> Case:
    """The case with each level moved: meshes, frames, landmarks, screws. Its hash is another: it is another anatomy."""
    recipe = json.dumps([case.hash, {level: T.tolist() for level, T in motions.items()}])
    return replace(
        case,
        name=f"{case.name} (moved)",
        vertebrae=tuple(_moved(v, motions[v.level]) for v in case.vertebrae),
        hash=hashlib.sha256(recipe.encode()).hexdigest(),
    )


def articulation_tags(articulation: Articulation) -> dict[str, Any]:
    """What a scene's or frame's tags say of it."""
    return {
        "articulation_deg": articulation.deg,
        "articulation_mm": round(1e3 * articulation.shift_m, 6),
        "articulation_seed": articulation.seed,
        "articulation_exact": articulation.exact,
    }


def rigid_part(case: Case, motions: dict[str, Array]) -> Array:
    """(4, 4) T_model_moved of the one rigid motion of the whole spine that is nearest to ``motions``.

    Least squares over all landmarks; where a level has none, over four points of every level's frame.
    """
    if all(v.landmarks is not None for v in case.vertebrae):
        points = [v.landmarks.as_array() for v in case.vertebrae if v.landmarks is not None]
    else:
        corners = np.concatenate([np.zeros((1, 3)), _ARM_M * np.eye(3)])
        points = [se3.apply(v.T_model_level, corners) for v in case.vertebrae]
    moved = [se3.apply(motions[v.level], p) for v, p in zip(case.vertebrae, points, strict=True)]
    return kabsch(np.concatenate(points), np.concatenate(moved))


def _draw_joint(fixed: Vertebra, moving: Vertebra, number: int, articulation: Articulation) -> Joint:
    centre = 0.5 * (fixed.T_model_level[:3, 3] + moving.T_model_level[:3, 3])
    if articulation.deg == 0.0 and articulation.shift_m == 0.0:
        return Joint(fixed.level, moving.level, np.eye(4), centre, 0.0)
    rng = np.random.default_rng((articulation.seed, 91, number))
    check = ContactCheck(fixed.mesh, moving.mesh)

    def motion(turn: Array, shift: Array) -> Array:
        R = se3.rotation_from_vector(np.radians(articulation.deg) * turn)
        return se3.from_rotation_translation(R, centre - R @ centre + articulation.shift_m * shift)

    best: tuple[float, Array, Array] | None = None
    for _ in range(TRIES):
        turn, shift = _direction(rng, articulation.exact), _direction(rng, articulation.exact)
        depth = check.extra_depth(motion(turn, shift))
        if best is None or depth < best[0]:
            best = (depth, turn, shift)
        if check.allows(depth):
            break
    assert best is not None
    depth, turn, shift = best
    while not check.allows(depth) and not articulation.exact:
        turn, shift = SHRINK * turn, SHRINK * shift
        depth = check.extra_depth(motion(turn, shift))
    return Joint(fixed.level, moving.level, motion(turn, shift), centre, depth)


def _direction(rng: np.random.Generator, unit: bool) -> Array:
    """(3,) uniform over the unit ball, or over its surface."""
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    length = 1.0 if unit else float(rng.uniform()) ** (1.0 / 3.0)
    return np.asarray(length * direction)


def _moved(vertebra: Vertebra, T: Array) -> Vertebra:
    marks = vertebra.landmarks
    if marks is not None:
        spinous, left, right = se3.apply(T, marks.as_array())
        marks = Landmarks(spinous, left, right, marks.proposed)
    screws = tuple(replace(s, entry=se3.apply(T, s.entry), tip=se3.apply(T, s.tip)) for s in vertebra.screws)
    return replace(
        vertebra,
        mesh=replace(vertebra.mesh, vertices=se3.apply(T, vertebra.mesh.vertices)),
        T_model_level=T @ vertebra.T_model_level,
        landmarks=marks,
        screws=screws,
    )
