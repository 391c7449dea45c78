"""The soft tissue as a height field: floor of the wound, its walls, skin, drapes. Heights are towards posterior, metres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.errors import CaseError
from end2reg_ros.simulation.field.bone_map import BoneMap
from end2reg_ros.simulation.field.settings import FieldSettings
from end2reg_ros.simulation.field.surfaces import Array
from end2reg_ros.simulation.smooth_noise import at_points, smoothstep

Noise = Callable[[float], NDArray[np.float64]]  # wavelength in metres -> (Z, X) field of variance 1

FIELD_HALF_WIDTH_M, FIELD_BEYOND_M = (
    0.30,
    0.32,
)  # how far the height field reaches lateral and past the spine's ends
FINE_M, COARSE_M = 0.0010, 0.007  # grid spacing in the wound and at the rim


@dataclass(frozen=True)
class Relief:
    """The height field on a grid that is fine in the wound and coarse outside.

    Attributes:
        x, z: (X,), (Z,) grid coordinates, metres, patient frame.
        height: (Z, X) of the tissue's surface.
        skin: (Z, X) height of the closed skin (or drape) before the cut.
        outside: (Z, X) signed distance to the top edge of the wound; negative inside; metres.
        draped: (Z, X) share of drape: 0 bare, 1 draped.
        ligament: (Z, X) share of ligament at the surface.
        target: (3,) middle of the wound on the level of the laminae, patient frame: what cameras aim at.
        half_length: half the wound's length along z.
    """

    x: Array
    z: Array
    height: Array
    skin: Array
    outside: Array
    draped: Array
    ligament: Array
    target: Array
    half_length: float

    def point(self, row: int, column: int) -> Array:
        """(3,) surface point of one grid node, patient frame."""
        return np.array([self.x[column], -self.height[row, column], self.z[row]])


def build_relief(bone: BoneMap, settings: FieldSettings) -> Relief:
    """Cut the wound of ``settings`` into the back over ``bone``.

    Raises:
        CaseError: an exposed level that the case lacks.
    """
    rng = np.random.default_rng((settings.seed, 2))
    spans = [s for s in bone.spans if settings.exposed_levels is None or s.level in settings.exposed_levels]
    missing = set(settings.exposed_levels or ()) - {s.level for s in bone.spans}
    if missing or not spans:
        there = ", ".join(s.level for s in bone.spans)
        raise CaseError(f"exposed levels {', '.join(sorted(missing)) or '(none)'}: the case has {there}")
    z_low = min(s.z_low for s in spans) - settings.end_margin_m
    z_high = max(s.z_high for s in spans) + settings.end_margin_m
    z_mid = 0.5 * (z_low + z_high)
    x_mid = float(bone.midline(np.array([z_mid]))[0])
    run = _wall_run(bone, z_mid, settings)
    fine = run + 0.02
    x = _graded(x_mid + settings.shift_m, settings.half_width_m + fine, FIELD_HALF_WIDTH_M)
    z = _graded(z_mid, 0.5 * (z_high - z_low) + fine, 0.5 * float(bone.z[-1] - bone.z[0]) + FIELD_BEYOND_M)
    grid = np.stack(np.meshgrid(x, z), axis=-1).reshape(-1, 2)
    shape = (len(z), len(x))

    def noise(wavelength_m: float) -> NDArray[np.float64]:
        return at_points(grid, wavelength_m, rng).astype(np.float64).reshape(shape)

    lateral = x[None, :] - bone.midline(z)[:, None]
    skin = _skin(bone, z, lateral, settings) + 0.0012 * noise(0.08)
    outside = _outside(lateral - settings.shift_m, z, (z_low, z_high), settings) - run + 0.0025 * noise(0.05)
    draped, drape_height = _drape(skin, outside, lateral, noise, rng)
    target = np.array([x_mid, -float(_at(bone, bone.laminae, x_mid, z_mid)[0, 0]), z_mid])
    ligament = np.zeros(shape)
    if settings.spine:
        floor, ligament = _floor(bone, x, z, lateral, settings, noise, rng)
        height = _walls(floor, skin, outside, run)
        height = _cover_uncut(height, bone, x, z, outside)
        height += draped * (drape_height - skin)
    else:
        outside = np.abs(outside) + 1.0
        draped, height = np.ones(shape), drape_height
        target[1] = -float(height[np.abs(z - z_mid).argmin(), np.abs(x - x_mid).argmin()])
    return Relief(x, z, height, skin, outside, draped, ligament, target, 0.5 * (z_high - z_low))


def _graded(centre: float, fine_half: float, half: float) -> Array:
    """Coordinates that are FINE_M apart near the centre and grow to COARSE_M at the rim."""
    steps = [FINE_M] * round(fine_half / FINE_M)
    while sum(steps) < half:
        steps.append(min(steps[-1] * 1.1, COARSE_M))
    side = np.cumsum(steps)
    return centre + np.concatenate([-side[::-1], [0.0], side])


def _skin(bone: BoneMap, z: Array, lateral: Array, settings: FieldSettings) -> Array:
    """The closed back: over the spinous tips by fat, lower to the sides, a table's height lower past the flanks."""
    from scipy.ndimage import gaussian_filter1d

    z_fine = np.arange(bone.z[0] - 0.1, bone.z[-1] + 0.1, 0.002)
    tips = np.interp(z, z_fine, gaussian_filter1d(bone.tips(z_fine), 15))
    past_low, past_high = np.clip(bone.z[0] - z, 0, None), np.clip(z - bone.z[-1], 0, None)
    along = tips + settings.fat_m + 0.035 * smoothstep(past_low / 0.14) + 0.02 * smoothstep(past_high / 0.2)
    side = np.abs(lateral)
    paraspinal = 0.004 * np.exp(-(((side - 0.045) / 0.025) ** 2)) - 0.012 * (side / 0.1) ** 2
    return np.asarray(along[:, None] + paraspinal - 0.13 * smoothstep((side - 0.12) / 0.16))


def _outside(lateral: Array, z: Array, z_range: tuple[float, float], settings: FieldSettings) -> Array:
    """Signed distance to the foot of the wound wall, a rounded rectangle."""
    radius = 0.8 * settings.half_width_m
    q_x = np.abs(lateral) - settings.half_width_m + radius
    q_z = (np.abs(z - np.mean(z_range)) - 0.5 * (z_range[1] - z_range[0]))[:, None] + radius
    corner = np.hypot(np.clip(q_x, 0, None), np.clip(q_z, 0, None))
    return np.asarray(corner + np.minimum(np.maximum(q_x, q_z), 0) - radius)


def _floor(
    bone: BoneMap,
    x: Array,
    z: Array,
    lateral: Array,
    settings: FieldSettings,
    noise: Noise,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Muscle and ligament left in the open wound: its height and the share of ligament in it, both (Z, X).

    It follows the laminar surface, so that laminae, facets and spinous processes stand out of it here and there,
    climbs to the sides, and keeps part of the ligament between the spinous processes.
    """
    laminae = _at(bone, bone.laminae, x, z)
    side = np.abs(lateral - settings.shift_m) / settings.half_width_m
    lumps = settings.lump_m * (0.85 * noise(0.024) + 0.45 * noise(0.011) + 0.15 * noise(0.005))
    floor = laminae + settings.cover_m + lumps + settings.lateral_cover_m * smoothstep((side - 0.45) / 0.55)
    floor = floor + 0.0025 * np.exp(-((lateral / 0.007) ** 2))
    along = z[:, None]
    drop = 0.005 + 0.0035 * at_points(along, 0.03, rng)
    kept = smoothstep(0.5 + 1.5 * (at_points(along, 0.03, rng) + 2.0 * (settings.ligament_share - 0.5)))
    ridge = np.clip((bone.tips(z) - drop)[:, None] - floor, 0.0, None) * kept[:, None]
    shape = np.exp(-((lateral / 0.0036) ** 4))
    # Rough, because it was cut: a smooth ridge would give itself away beside the bone.
    floor = floor + ridge * shape * np.clip(0.9 + 0.12 * noise(0.006), 0.3, 1.05)
    return floor, np.clip(kept[:, None] * shape + 0.35 * smoothstep(noise(0.03) - 0.8), 0.0, 1.0)


def _wall_run(bone: BoneMap, z_mid: float, settings: FieldSettings) -> float:
    """Horizontal distance from the foot of the wound wall to the skin's edge, metres."""
    x_mid = float(bone.midline(np.array([z_mid]))[0])
    floor = float(_at(bone, bone.laminae, x_mid, z_mid)[0, 0]) + settings.lateral_cover_m
    depth = float(bone.tips(np.array([z_mid]))[0]) + settings.fat_m - floor
    return max(depth, 0.005) / float(np.tan(np.radians(settings.wall_slope_deg)))


def _walls(floor: Array, skin: Array, outside: Array, run: float) -> Array:
    """From the floor to the skin: a steep wall, its upper edge at ``outside`` = 0, rolled over a little."""
    rise = smoothstep(1.0 + outside / run)
    edge = 0.003 * np.exp(-(((outside - 0.006) / 0.006) ** 2))
    return np.asarray(floor + rise * (skin - floor) + edge)


def _cover_uncut(height: Array, bone: BoneMap, x: Array, z: Array, outside: Array) -> Array:
    """Raise the tissue over bone that lies outside the cut: nothing is exposed there."""
    from scipy.ndimage import gaussian_filter, maximum_filter

    spacing = float(bone.x[1] - bone.x[0])
    deep = float(np.nanmin(bone.height))
    top = maximum_filter(np.where(np.isnan(bone.height), deep, bone.height), round(0.007 / spacing))
    cover = _at(bone, gaussian_filter(top, 2.0) + 0.0025, x, z)
    missing = np.clip(cover - height, 0.0, None)
    return np.asarray(height + smoothstep(outside / 0.005) * missing)


def _drape(
    skin: Array, outside: Array, lateral: Array, noise: Noise, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Where drapes lie, share (Z, X), and their height with folds (Z, X)."""
    margin = rng.uniform(0.022, 0.055) + 0.004 * noise(0.12)
    draped = smoothstep((outside - margin) / 0.004)
    # Folds: ridged noise, finer near the wound's edge where the drape is stuck down.
    loose = smoothstep((outside - margin) / 0.12) + 0.12
    folds = 0.010 * (0.8 - np.abs(noise(0.16))) + 0.005 * (0.8 - np.abs(noise(0.06)))
    return draped, np.asarray(skin + 0.0015 + loose * folds)


def _at(bone: BoneMap, values: Array, x: Array | float, z: Array | float) -> Array:
    """A map (Z, X) of ``bone`` at the nodes of the grid x (X',), z (Z',): (Z', X'); held beyond its rim."""
    from scipy.ndimage import map_coordinates

    spacing = float(bone.x[1] - bone.x[0])
    rows = (np.atleast_1d(z) - bone.z[0]) / spacing
    columns = (np.atleast_1d(x) - bone.x[0]) / spacing
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    result: Array = map_coordinates(values, grid, order=1, mode="nearest")
    return result
