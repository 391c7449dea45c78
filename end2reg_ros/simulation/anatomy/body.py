"""The vertebral body: a waisted, kidney-shaped drum with hollow endplates. Millimetres, level frame (x right,
y anterior, z superior; origin at the body's middle)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from end2reg_ros.simulation.anatomy.fields import FAR_MM, Array, Field, Grid, smooth_max
from end2reg_ros.simulation.anatomy.morphometry import LevelShape

WAIST = 0.12  # share by which the middle is narrower than the rims
HOLLOW_MM = 1.9  # depth of the endplates' concavity
KIDNEY_MM = 2.2  # depth of the notch that the canal makes in the back


@dataclass(frozen=True)
class Spurs:
    """Osteophytes on the rims: ``length`` mm, (n,) angles and (n,) signs (+1 upper rim, -1 lower rim)."""

    length: float
    angles: Array
    rims: Array


def body_half_extent(shape: LevelShape) -> Array:
    """(3,) half extent of a box that holds the body."""
    width = max(shape.endplate_width_upper, shape.endplate_width_lower)
    tilt = 0.5 * shape.endplate_depth * np.tan(np.radians(abs(shape.body_wedge_deg)) / 2)
    return np.array([width / 2, shape.endplate_depth / 2, shape.body_height / 2 + tilt])


def add_body(field: Field, grid: Grid, shape: LevelShape, spurs: Spurs) -> None:
    """Write the body into ``field`` in place (plain minimum; the pedicles blend with it afterwards)."""
    half = body_half_extent(shape) + spurs.length + 4.0
    box = grid.box(-half, half)
    field[box] = np.minimum(field[box], body_field(*grid.axes(box), shape, spurs))


def body_field(x: Field, y: Field, z: Field, shape: LevelShape, spurs: Spurs) -> Field:
    """Signed distance (approximate away from the surface) of the body at open coordinate arrays."""
    half_height = shape.body_height / 2
    slope = np.tan(np.radians(shape.body_wedge_deg) / 2)
    rim = half_height - np.float32(slope) * y  # lower in front when the wedge is ventral
    s = np.clip(z / np.maximum(rim, 1.0), -1.15, 1.15)
    width = 0.25 * ((1 + s) * shape.endplate_width_upper + (1 - s) * shape.endplate_width_lower)
    # A lip at the rims: nearly straight in the middle, flaring towards the endplates.
    waist = 1 - WAIST * (1 - np.abs(s) ** 2.2)
    half_width = width * waist
    half_depth = 0.5 * shape.endplate_depth * (1 - 0.75 * WAIST * (1 - np.abs(s) ** 2.2))
    # The front is round (an ellipse, nearly), the back flatter (exponent 2.5) and notched by the canal.
    notch = KIDNEY_MM * np.exp(-((x / 10.0) ** 2))
    yy = np.where(y < 0, y / (half_depth - notch * (y < 0)), y / half_depth)
    xx = np.abs(x / half_width)
    power = np.where(y < 0, np.float32(2.5), np.float32(2.05))
    rho = np.maximum((xx**power + np.abs(yy) ** power) ** (1 / power), np.float32(1e-3))
    radius = np.sqrt(x * x + y * y)
    side = (rho - 1) / rho * np.maximum(radius, np.float32(6.0))
    if spurs.length > 0:
        side = side - _spur_lift(x, y, s, spurs)
    hollow = HOLLOW_MM * np.clip(1 - (rho / 0.82) ** 2, 0, None)
    plates = np.abs(z) - rim + hollow
    field = smooth_max(side.astype(np.float32), plates.astype(np.float32), 3.0)
    return np.minimum(field, np.float32(FAR_MM))


def _spur_lift(x: Field, y: Field, s: Field, spurs: Spurs) -> Field:
    """How far the rim is drawn out: lobes about 35 degrees wide near the endplates."""
    theta = np.arctan2(y, x)
    lift = np.zeros(np.broadcast_shapes(x.shape, y.shape, s.shape), dtype=np.float32)
    for angle, rim in zip(spurs.angles, spurs.rims, strict=True):
        turn = np.angle(np.exp(1j * (theta - angle))).astype(np.float32)
        lobe = np.exp(-((turn / 0.3) ** 2)) * np.clip(1 - np.abs(s - 0.9 * rim) / 0.35, 0, 1)
        lift = np.maximum(lift, np.float32(spurs.length) * lobe)
    return lift
