"""One vertebra's distance field: body, arch, canal, noise. Millimetres, level frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from end2reg_ros import se3
from end2reg_ros.simulation.anatomy.arch import ArchPoints, FacetJoint, SideShape, build_arch
from end2reg_ros.simulation.anatomy.body import Spurs, add_body, body_half_extent
from end2reg_ros.simulation.anatomy.fields import (
    FAR_MM,
    Array,
    Ball,
    Field,
    Grid,
    add_part,
    element_field,
    parts_bounds,
    smooth_max,
    smooth_noise,
)
from end2reg_ros.simulation.anatomy.morphometry import CANAL_NOTCH_MM, LevelShape
from end2reg_ros.simulation.anatomy.settings import AnatomySettings

# Direction of the transverse processes per level: straight out above, back and up below.
TRANSVERSE_BACK_DEG = (20.0, 18.0, 14.0, 14.0, 14.0)
TRANSVERSE_UP_DEG = (2.0, 2.0, 2.0, 8.0, 10.0)


@dataclass(frozen=True)
class VertebraField:
    """A vertebra before it becomes a surface: field on its grid and the design points."""

    grid: Grid
    field: Field
    points: ArchPoints
    shape: LevelShape


def build_field(
    index: int,
    shape: LevelShape,
    joints: dict[str, tuple[FacetJoint, FacetJoint]],
    rng: np.random.Generator,
    settings: AnatomySettings,
) -> VertebraField:
    """The field of level L1 + ``index``. Every random number of the level comes from ``rng``."""
    uneven = settings.asymmetry
    sides: dict[str, SideShape] = {}
    for name, (upper, lower) in joints.items():
        draw = np.clip(rng.standard_normal(3), -2, 2) * uneven
        sides[name] = SideShape(
            transverse_length=shape.transverse_span / 2 + 1.5 * draw[0],
            transverse_back_deg=TRANSVERSE_BACK_DEG[index] + 4.0 * draw[1],
            transverse_up_deg=TRANSVERSE_UP_DEG[index] + 4.0 * draw[2],
            upper=upper,
            lower=lower,
            jitter=np.clip(rng.standard_normal((4, 3)), -2, 2) * 0.6 * uneven,
        )
    bend = float(np.clip(rng.standard_normal(), -2, 2)) * 1.3 * uneven
    parts, points = build_arch(shape, sides, bend)
    spurs = Spurs(settings.osteophytes_mm, rng.uniform(-0.3, np.pi + 0.3, 6), rng.choice([-1.0, 1.0], 6))

    half = body_half_extent(shape) + settings.osteophytes_mm
    low, high = parts_bounds(parts, 0.0)
    grid = Grid.around(np.minimum(low, -half) - 3.0, np.maximum(high, half) + 3.0, settings.voxel_mm)
    field = np.full(grid.shape, FAR_MM, dtype=np.float32)
    add_body(field, grid, shape, spurs)
    for part in parts:
        add_part(field, grid, part)
    _clear_canal(field, grid, shape)
    field = gaussian_filter(field, 0.45 / settings.voxel_mm)
    if settings.roughness > 0:
        field += np.float32(0.35 * settings.roughness) * smooth_noise(grid, rng, wavelength=22.0)
        field += np.float32(0.09 * settings.roughness) * smooth_noise(grid, rng, wavelength=7.0)
    return VertebraField(grid=grid, field=field, points=points, shape=shape)


def _clear_canal(field: Field, grid: Grid, shape: LevelShape) -> None:
    """Cut the vertebral canal: a prism with a round triangle as its section."""
    wall, roof = shape.back_wall + CANAL_NOTCH_MM, shape.canal_roof
    radius = 0.30 * shape.canal_depth
    x = shape.canal_width / 2 - radius
    high = 60.0
    corners = [(x, wall - 1.5 * radius), (-x, wall - 1.5 * radius), (0.0, roof + radius)]
    balls = [Ball(np.array([cx, cy, 0.0]), radius) for cx, cy in corners]
    reach = np.array([shape.canal_width / 2 + 4, 0, high])
    box = grid.box(np.array([0, roof - 4, 0]) - reach, np.array([0, wall + 4, 0]) + reach)
    gx, gy, _ = grid.axes(box)
    section = element_field(gx, gy, np.zeros((1, 1, 1), dtype=np.float32), (balls[0], balls[1], balls[2]))
    field[box] = smooth_max(field[box], np.broadcast_to(-section, field[box].shape), 2.0)


def carve_neighbour(upper: VertebraField, lower: VertebraField, T_lower_upper: Array, gap: float) -> None:
    """Cut from ``lower``, in place, all that comes nearer than ``gap`` mm to ``upper``.

    This is what shapes the hollow superior facets round the neighbour's inferior ones, with an even joint space, and
    it keeps the levels apart whatever the posture.
    """
    T_upper_lower = se3.inverse(T_lower_upper)
    near = np.argwhere(lower.field < 2.0)
    points = lower.grid.origin + lower.grid.voxel * near
    nodes = (se3.apply(T_upper_lower, points) - upper.grid.origin) / upper.grid.voxel
    inside = ((nodes >= 0) & (nodes <= np.array(upper.grid.shape) - 1)).all(axis=1)
    near, nodes = near[inside], nodes[inside]
    distance = map_coordinates(upper.field, nodes.T, order=1, mode="nearest")
    at = tuple(near.T)
    lower.field[at] = smooth_max(lower.field[at], np.float32(gap) - distance.astype(np.float32), 0.8)
