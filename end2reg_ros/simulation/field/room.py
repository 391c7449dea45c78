"""What stands still around the patient: table, instrument tray, floor. World frame (patient frame at rest), metres."""

from __future__ import annotations

import numpy as np

from end2reg_ros.simulation.field.colours import Palette
from end2reg_ros.simulation.field.surfaces import METAL, Surface, box, capsule, merge, uniform
from end2reg_ros.simulation.field.wound import Relief


def build_room(relief: Relief, palette: Palette, seed: int) -> Surface:
    """Table, tray with instruments and floor, placed by the seed."""
    rng = np.random.default_rng((seed, 51))
    x, y, z = relief.target
    drape = tuple(int(c) for c in np.clip(palette.drape.mean(axis=0) * palette.gain * 0.9, 0, 255))
    grey = int(rng.uniform(90, 170))
    parts = [
        uniform(*box(np.array([x, y + 0.26, z]), np.diag([0.34, 0.04, 0.95])), drape),  # type: ignore[arg-type]
        uniform(*box(np.array([x, y + 0.98, z]), np.diag([2.5, 0.02, 2.5])), (grey, grey, grey - 8)),
    ]
    side = rng.choice((-1.0, 1.0))
    tray = np.array([x + side * rng.uniform(0.55, 0.65), y + 0.02, z + rng.uniform(-0.15, 0.15)])
    parts.append(uniform(*box(tray, np.diag([0.17, 0.006, 0.25])), (150, 154, 158), METAL))
    for k in range(6):
        start = tray + np.array([-0.11, -0.012, -0.19 + 0.07 * k])
        end = start + np.array([rng.uniform(0.12, 0.2), 0.0, rng.uniform(-0.03, 0.03)])
        parts.append(uniform(*capsule(start, end, rng.uniform(0.003, 0.008)), (176, 178, 184), METAL))
    return merge(parts)
