"""What of the bone faces the back: a map of its posterior height, the midline and the laminar surface.

All heights are metres towards posterior (h = -y of the patient frame, which is the model frame: CT RAS axes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case, Mesh, Vertebra
from end2reg_ros.case.raycast import ray_scene, tensor
from end2reg_ros.simulation.field.surfaces import Array

POSTERIOR_BAND_M = 0.012  # what lies this close behind the most posterior point counts as the spinous tip

SPACING_M, MARGIN_M = 0.001, 0.03  # of the grid; beyond the bone


@dataclass(frozen=True)
class LevelSpan:
    """Where one level's posterior elements are: midline x, spinous tip height, lowest and highest z; metres."""

    level: str
    tip_x: float
    tip_z: float
    tip_height: float
    z_low: float
    z_high: float


@dataclass(frozen=True)
class BoneMap:
    """Posterior height of the bone over a regular lateral-axial grid.

    Attributes:
        x, z: (X,), (Z,) grid coordinates, metres.
        height: (Z, X) height of the first bone seen from posterior; NaN where there is none.
        laminae: (Z, X) smooth surface through laminae, facets and transverse processes, without spinous processes.
        spans: one per level, cranial to caudal as in the case.
    """

    x: Array
    z: Array
    height: Array
    laminae: Array
    spans: tuple[LevelSpan, ...]

    def midline(self, z: Array) -> Array:
        """Lateral position of the spinous tips, interpolated along z and held beyond the ends; metres."""
        return self._along(z, [s.tip_x for s in self.spans])

    def tips(self, z: Array) -> Array:
        """Height of the curve through the spinous tips, held beyond the ends; metres."""
        return self._along(z, [s.tip_height for s in self.spans])

    def _along(self, z: Array, values: list[float]) -> Array:
        order = np.argsort([s.tip_z for s in self.spans])
        knots = np.array([s.tip_z for s in self.spans])[order]
        return np.interp(z, knots, np.asarray(values)[order])


def build_bone_map(case: Case) -> BoneMap:
    """Look at a case's bone from posterior, along +y, by ray casting."""
    from scipy.ndimage import gaussian_filter

    bounds = np.stack([f([v.mesh.vertices.min(0), v.mesh.vertices.max(0)], axis=0)
                       for f in (np.min, np.max) for v in case.vertebrae])  # fmt: skip
    low, high = bounds.min(axis=0), bounds.max(axis=0)
    x = np.arange(low[0] - MARGIN_M, high[0] + MARGIN_M, SPACING_M)
    z = np.arange(low[2] - MARGIN_M, high[2] + MARGIN_M, SPACING_M)
    height = _posterior_height([v.mesh for v in case.vertebrae], x, z, low[1] - 0.01)
    spans = tuple(_span(v) for v in case.vertebrae)
    laminae = _laminar_surface(height, SPACING_M)
    # Above the first and below the last lamina only vertebral bodies are seen, far deeper: hold the last good row.
    last, first = min(s.z_low for s in spans) + 0.014, max(s.z_high for s in spans) - 0.02
    rows = np.clip(np.arange(len(z)), np.searchsorted(z, last), np.searchsorted(z, max(first, last)))
    laminae = gaussian_filter(laminae[rows], 0.005 / SPACING_M, mode="nearest")
    return BoneMap(x, z, height, laminae, spans)


def _posterior_height(meshes: list[Mesh], x: Array, z: Array, y_start: float) -> Array:
    rays = np.zeros((len(z), len(x), 6), np.float32)
    rays[..., 0], rays[..., 1], rays[..., 2] = x[None, :], y_start, z[:, None]
    rays[..., 4] = 1.0
    t = ray_scene(meshes).cast_rays(tensor(rays))["t_hit"].numpy().astype(np.float64)
    return np.where(np.isfinite(t), -(y_start + t), np.nan)


def _span(vertebra: Vertebra) -> LevelSpan:
    vertices = vertebra.mesh.vertices
    height = -vertices[:, 1]
    top = float(height.max())
    tip = vertices[height > top - POSTERIOR_BAND_M].mean(axis=0)
    # The posterior elements are what lies behind the body: the posterior 55 % of the vertebra's depth.
    behind = vertices[height > top - 0.55 * float(np.ptp(height))]
    return LevelSpan(
        vertebra.level,
        float(tip[0]),
        float(tip[2]),
        top,
        float(behind[:, 2].min()),
        float(behind[:, 2].max()),
    )


def _laminar_surface(height: NDArray[np.float64], spacing_m: float) -> Array:
    """Close the gaps between levels, take the narrow spinous ridge off, fill what is left."""
    from scipy.ndimage import distance_transform_edt, grey_closing, grey_opening

    deep = float(np.nanmin(height))
    closed = grey_closing(np.where(np.isnan(height), deep, height), size=(round(0.04 / spacing_m), 1))
    ridgeless = grey_opening(closed, size=(1, round(0.024 / spacing_m)))
    # Where a line along z met no bone at all the value is still `deep`: take the nearest real one.
    empty = ridgeless <= deep + 1e-6
    nearest = distance_transform_edt(empty, return_distances=False, return_indices=True)
    filled = ridgeless[tuple(nearest)]
    return np.asarray(filled)
