"""What is tracked: a case, its vertebrae, landmarks and planned screws, in memory. Metres, model frame (CT RAS)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Mesh:
    """A closed triangle surface: vertices (V, 3) in metres, triangles (F, 3) wound outwards."""

    vertices: Array
    triangles: NDArray[np.int32]


@dataclass(frozen=True)
class Landmarks:
    """The points of the target registration error of one level, (3,) each, metres, model frame.

    ``proposed`` marks points found by geometry rather than picked by a person.
    """

    spinous: Array
    transverse_left: Array
    transverse_right: Array
    proposed: bool = False

    def as_array(self) -> Array:
        """(3, 3): spinous, transverse left, transverse right."""
        return np.stack([self.spinous, self.transverse_left, self.transverse_right])


@dataclass(frozen=True)
class Screw:
    """A planned pedicle screw: entry point and tip (3,) in metres, model frame; diameter and length in metres."""

    side: str
    entry: Array
    tip: Array
    diameter: float
    length: float


@dataclass(frozen=True)
class Vertebra:
    """One level of a case. ``T_model_level`` is its REP-103 frame: x anterior, y left, z superior."""

    level: str
    mesh: Mesh
    T_model_level: Array
    colour: tuple[int, int, int]
    landmarks: Landmarks | None = None
    screws: tuple[Screw, ...] = ()


@dataclass(frozen=True)
class Case:
    """A case folder in memory; ``vertebrae`` from cranial to caudal. ``hash`` is the sha256 over all its files."""

    name: str
    path: Path
    vertebrae: tuple[Vertebra, ...]
    source: str
    hash: str

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the levels, cranial to caudal."""
        return tuple(v.level for v in self.vertebrae)

    def landmark_array(self) -> Array:
        """(3 * levels with landmarks, 3) in metres, model frame."""
        given = [v.landmarks.as_array() for v in self.vertebrae if v.landmarks is not None]
        return np.concatenate(given) if given else np.zeros((0, 3))

    def centroid(self) -> Array:
        """(3,) mean of the vertebra frames' origins: the point at which translation errors are told."""
        return np.asarray(np.mean([v.T_model_level[:3, 3] for v in self.vertebrae], axis=0))
