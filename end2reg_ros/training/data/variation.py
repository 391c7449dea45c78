"""Random variants of a case in memory: other sizes and shapes, mirrored, moved levels, levels of another individual."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.case.frames import vertebra_frame
from end2reg_ros.case.levels import level_rank
from end2reg_ros.case.model import Case, Landmarks, Mesh, Vertebra
from end2reg_ros.errors import CaseError
from end2reg_ros.simulation.smooth_noise import at_points

Array = NDArray[np.float64]

WARP_WAVELENGTH_M = (0.03, 0.08)
MIX_SCALE = (0.75, 1.33)  # a donor's level is stretched to the one it replaces, but not into another bone


@dataclass(frozen=True)
class VariationSettings:
    """How far variants go from their individual.

    Attributes:
        scale: largest change of size along each axis, as a share.
        warp: root mean square of the smooth warp, at most this share of its wavelength (30-80 mm).
        mirror_share: share of variants with left and right exchanged.
        jitter_deg, jitter_m: largest turn and shift of a level about each axis, against its neighbours.
        mix_share: share of variants with levels of another individual; needs donors.
        fewer_share: share of variants that keep three or more neighbouring levels only, of four or more.
        plain_share: share of variants left as they are.
    """

    scale: float = 0.12
    warp: float = 0.035
    mirror_share: float = 0.5
    jitter_deg: float = 3.0
    jitter_m: float = 0.002
    mix_share: float = 0.3
    fewer_share: float = 0.2
    plain_share: float = 0.1


@dataclass(frozen=True)
class CaseVariant:
    """A varied case and the names of the individuals it is made of, the first being the base."""

    case: Case
    donors: tuple[str, ...]


def vary_case(
    base: Case,
    seed: tuple[int, ...],
    settings: VariationSettings | None = None,
    donors: Sequence[Case] = (),
) -> CaseVariant:
    """A variant of ``base``. Landmarks go with the bone, frames are made anew, planned screws are left out.

    Args:
        seed: what everything random follows from.
        donors: other individuals that levels may come from; none for the base's own levels only.
    """
    settings = settings or VariationSettings()
    rng = np.random.default_rng((*seed, 61))
    u = rng.uniform
    plain, mixed, fewer, mirrored = u(size=4) < (
        settings.plain_share, settings.mix_share, settings.fewer_share, settings.mirror_share
    )  # fmt: skip
    names: tuple[str, ...] = (base.name,)
    vertebrae = [replace(v, screws=()) for v in base.vertebrae]
    if not plain:
        if mixed and donors:
            donor = donors[int(rng.integers(len(donors)))]
            vertebrae = _mix_levels(vertebrae, donor, rng)
            names += (donor.name,)
        if fewer and len(vertebrae) > 3:
            count = int(rng.integers(3, len(vertebrae)))
            first = int(rng.integers(0, len(vertebrae) - count + 1))
            vertebrae = vertebrae[first : first + count]
        vertebrae = _jittered(vertebrae, settings, u(), rng)
        vertebrae = _stretched_and_warped(vertebrae, settings, rng)
        if mirrored:
            vertebrae = [_mirrored(v) for v in vertebrae]
    recipe = [base.hash, [d.hash for d in donors if d.name in names[1:]], list(seed), asdict(settings)]
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()
    name = "+".join(names)
    case = Case(name, Path(name), tuple(vertebrae), f"variant of {name}", digest)
    return CaseVariant(case, names)


def moved_vertebra(vertebra: Vertebra, vertices: Array, landmarks: Array | None) -> Vertebra:
    """A level with other vertices (V, 3) and landmarks (3, 3: spinous, left, right), its frame made anew."""
    mesh = Mesh(vertices, vertebra.mesh.triangles)
    marks = vertebra.landmarks
    if marks is not None and landmarks is not None:
        marks = Landmarks(landmarks[0], landmarks[1], landmarks[2], marks.proposed)
    return replace(vertebra, mesh=mesh, landmarks=marks, T_model_level=_frame(vertebra.level, mesh, marks))


def _frame(level: str, mesh: Mesh, landmarks: Landmarks | None) -> Array:
    try:
        return vertebra_frame(mesh, landmarks)
    except CaseError as error:
        raise CaseError(f"variant of {level}: {error}") from None


def _points(vertebra: Vertebra) -> Array:
    """Vertices and, behind them, landmarks of a level."""
    parts = [vertebra.mesh.vertices]
    if vertebra.landmarks is not None:
        parts.append(vertebra.landmarks.as_array())
    return np.concatenate(parts)


def _with_points(vertebra: Vertebra, points: Array) -> Vertebra:
    count = len(vertebra.mesh.vertices)
    marks = points[count:] if vertebra.landmarks is not None else None
    return moved_vertebra(vertebra, np.ascontiguousarray(points[:count]), marks)


def _mirrored(vertebra: Vertebra) -> Vertebra:
    """Right becomes left: x changes its sign, triangles their winding, the transverse tips their names."""
    mesh = vertebra.mesh
    flip = np.array([-1.0, 1.0, 1.0])
    turned = replace(vertebra, mesh=Mesh(mesh.vertices, np.ascontiguousarray(mesh.triangles[:, ::-1])))
    marks = None
    if vertebra.landmarks is not None:
        marks = vertebra.landmarks.as_array()[[0, 2, 1]] * flip
    return moved_vertebra(turned, mesh.vertices * flip, marks)


def _jittered(
    vertebrae: list[Vertebra], settings: VariationSettings, strength: float, rng: np.random.Generator
) -> list[Vertebra]:
    result = []
    for vertebra in vertebrae:
        turn = se3.rotation_from_vector(strength * np.radians(settings.jitter_deg) * rng.uniform(-1, 1, 3))
        shift = strength * settings.jitter_m * rng.uniform(-1, 1, 3)
        centre = vertebra.T_model_level[:3, 3]
        moved = (_points(vertebra) - centre) @ turn.T + centre + shift
        result.append(_with_points(vertebra, moved))
    return result


def _stretched_and_warped(
    vertebrae: list[Vertebra], settings: VariationSettings, rng: np.random.Generator
) -> list[Vertebra]:
    """One map for all levels, so that joints stay together."""
    parts = [_points(v) for v in vertebrae]
    points = np.concatenate(parts)
    origin = points.mean(axis=0)
    stretch = 1.0 + settings.scale * rng.uniform(-1, 1, 3)
    wavelength = float(rng.uniform(*WARP_WAVELENGTH_M))
    rms = settings.warp * wavelength * float(rng.uniform()) / np.sqrt(3.0)
    warp = np.stack([at_points(points, wavelength, rng, origin) for _ in range(3)], axis=1)
    moved = (points - origin) * stretch + origin + rms * warp.astype(np.float64)
    ends = np.cumsum([len(p) for p in parts])[:-1]
    return [_with_points(v, p) for v, p in zip(vertebrae, np.split(moved, ends), strict=True)]


def _mix_levels(vertebrae: list[Vertebra], donor: Case, rng: np.random.Generator) -> list[Vertebra]:
    """About half of the levels, at least one, from ``donor``."""
    chosen = rng.uniform(size=len(vertebrae)) < 0.5
    chosen[int(rng.integers(len(vertebrae)))] = True
    picks = rng.uniform(size=len(vertebrae))
    return [
        _replaced(v, _suitable(v, donor, pick)) if swap else v
        for v, swap, pick in zip(vertebrae, chosen, picks, strict=True)
    ]


def _suitable(vertebra: Vertebra, donor: Case, pick: float) -> Vertebra:
    """The donor's level of the same name, for a quarter of the picks a neighbour of it; the nearest where it has none."""
    rank = level_rank(vertebra.level)
    ranks = [level_rank(v.level) for v in donor.vertebrae]
    if rank is None or None in ranks:
        return donor.vertebrae[min(int(pick * len(ranks)), len(ranks) - 1)]
    wanted = rank + (-1 if pick < 0.125 else 1 if pick < 0.25 else 0)
    steps = [abs(r - wanted) for r in ranks if r is not None]
    return donor.vertebrae[int(np.argmin(steps))]


def _replaced(old: Vertebra, new: Vertebra) -> Vertebra:
    """``new`` in the place, the size and under the name of ``old``."""
    T_level_new = se3.inverse(new.T_model_level)
    local = se3.apply(T_level_new, _points(new))
    own = se3.apply(se3.inverse(old.T_model_level), old.mesh.vertices)
    theirs = local[: len(new.mesh.vertices)]
    ratio = np.clip(np.ptp(own, axis=0) / np.ptp(theirs, axis=0), *MIX_SCALE)
    placed = se3.apply(old.T_model_level, local * ratio)
    renamed = replace(new, level=old.level, colour=old.colour, screws=())
    return _with_points(renamed, placed)
