"""Colours that do not give bone away.

Exposed bone in surgery is blood-stained, and tissue, ligament and tendon can be as pale as bone. So every seed draws the
colours of bone and of tissue from the same anchors, blends them by the same smooth blotches, and stains both with the
same blood. Light, exposure and white balance are drawn per seed as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.simulation.field.surfaces import COLOUR_MAX, COLOUR_MIN, Array
from end2reg_ros.simulation.smooth_noise import at_points, smoothstep

# Red, green, blue in 0..255: dark blood, muscle, pink tissue, brownish, yellowish, ivory.
ANCHORS = np.array(
    [[95, 16, 18], [146, 54, 46], [186, 104, 92], [124, 68, 52], [196, 156, 104], [208, 186, 152]],
    dtype=np.float64,
)
# How often each anchor is drawn (Dirichlet): the two overlap on purpose.
BONE_WEIGHTS = np.array([0.5, 0.7, 1.0, 0.5, 0.8, 0.9])
TISSUE_WEIGHTS = np.array([0.6, 1.0, 0.9, 0.5, 0.6, 0.5])
FAT = np.array([[206, 160, 84], [214, 176, 118], [190, 130, 84]], dtype=np.float64)
SKIN = np.array(
    [[214, 160, 130], [186, 128, 98], [232, 186, 160], [120, 78, 58], [198, 132, 70]], dtype=np.float64
)
DRAPES = np.array(
    [[38, 92, 148], [52, 128, 116], [70, 128, 176], [36, 104, 92], [86, 150, 190]], dtype=np.float64
)
GLOVES = np.array(
    [[226, 218, 196], [120, 150, 196], [92, 72, 56], [196, 214, 204], [70, 98, 84]], dtype=np.float64
)


@dataclass(frozen=True)
class Palette:
    """The colours of one seed; each (2, 3) is a pair between which blotches blend, values 0..255."""

    bone: Array
    tissue: Array
    ligament: Array
    blood: Array
    blood_level: float
    fat: Array
    skin: Array
    drape: Array
    glove: Array
    gain: Array
    lamp: Array


def draw_palette(rng: np.random.Generator) -> Palette:
    """Draw all colours of one seed: (3,) gain is exposure times white balance, (3,) lamp its direction."""
    bone, tissue, ligament = (
        rng.dirichlet(weights, size=2) @ ANCHORS for weights in (BONE_WEIGHTS, TISSUE_WEIGHTS, BONE_WEIGHTS)
    )
    lamp = np.array([rng.normal(0, 0.35), -1.0, rng.normal(0, 0.35)])
    return Palette(
        bone=bone,
        tissue=tissue,
        ligament=ligament,
        blood=ANCHORS[0] * rng.uniform(0.85, 1.5),
        blood_level=float(rng.uniform(-1.6, 0.3)),
        fat=rng.dirichlet(np.ones(3), size=2) @ FAT,
        skin=np.tile(rng.dirichlet(0.5 * np.ones(5)) @ SKIN, (2, 1)) * [[0.94], [1.04]],
        drape=np.tile(DRAPES[rng.integers(5)], (2, 1)) * [[0.93], [1.05]],
        glove=np.tile(GLOVES[rng.integers(5)], (2, 1)) * [[0.95], [1.03]],
        gain=rng.uniform(0.85, 1.25) * rng.uniform(0.88, 1.12, size=3),
        lamp=lamp / np.linalg.norm(lamp),
    )


def blotches(points: NDArray[np.floating], seed: int, origin: Array) -> NDArray[np.float32]:
    """(N,) in 0..1, smooth over 8-40 mm; for equal seed and origin (3,) one field, on bone as on tissue."""
    rng = np.random.default_rng((seed, 11))
    field = at_points(points, 0.035, rng, origin) + 0.7 * at_points(points, 0.012, rng, origin)
    return np.asarray(smoothstep(0.5 + 0.35 * field), dtype=np.float32)


def blood(points: NDArray[np.floating], level: float, seed: int, origin: Array) -> NDArray[np.float32]:
    """(N,) share of blood in 0..1, in smooth patches, more of it for a higher ``level``; one field as blotches."""
    rng = np.random.default_rng((seed, 12))
    field = at_points(points, 0.028, rng, origin) + 0.6 * at_points(points, 0.009, rng, origin)
    return np.asarray(0.85 * smoothstep(0.5 + 0.7 * (field + level)), dtype=np.float32)


def blend(pair: Array, share: NDArray[np.floating]) -> Array:
    """(N, 3) colours between the two of a (2, 3) pair."""
    return np.asarray(pair[0] + share[:, None] * (pair[1] - pair[0]))


def light(
    colours: Array, normals: Array, palette: Palette, shade: NDArray[np.floating] | float
) -> NDArray[np.uint8]:
    """(N, 3) uint8: colours (N, 3) under the lamp, with the camera's exposure and white balance.

    Args:
        normals: (N, 3) unit, outwards.
        shade: (N,) or one factor for places that little light reaches.
    """
    diffuse = 0.42 + 0.58 * np.clip(normals @ palette.lamp, 0.0, 1.0)
    lit = colours * (diffuse * shade)[:, None] * palette.gain
    return np.clip(lit, COLOUR_MIN, COLOUR_MAX).astype(np.uint8)
