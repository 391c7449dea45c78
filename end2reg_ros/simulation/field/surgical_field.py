"""The surgical field of a case: bone under its film, tissue, retractors, as coloured surfaces of the patient frame.

The patient frame is the model frame (CT RAS axes, metres; the back faces -y). Everything here moves as one body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.meshes import vertex_normals
from end2reg_ros.case.model import Case, Mesh
from end2reg_ros.simulation.field import colours
from end2reg_ros.simulation.field.bone_map import BoneMap, build_bone_map
from end2reg_ros.simulation.field.retractors import build_retractors
from end2reg_ros.simulation.field.settings import FieldSettings
from end2reg_ros.simulation.field.surfaces import (
    MATTE,
    WET,
    Array,
    Surface,
    grid_triangles,
    triangle_normals,
)
from end2reg_ros.simulation.field.wound import Relief, build_relief
from end2reg_ros.simulation.smooth_noise import at_points, smoothstep

SHADE_DEPTH_M = 0.06  # this far below the skin the light has dropped by a third


@dataclass(frozen=True)
class SurgicalField:
    """What the camera sees of the patient.

    Attributes:
        bone: one surface per level, cranial to caudal, film included; empty without a spine.
        covers: tissue, then retractors if any.
        relief: the tissue's height field.
        palette: the colours drawn for this seed.
        settings: what it was built from.
        film_m: per level (V,) film thickness at each vertex of ``bone``, metres.
    """

    bone: tuple[Surface, ...]
    covers: tuple[Surface, ...]
    relief: Relief
    palette: colours.Palette
    settings: FieldSettings
    film_m: tuple[NDArray[np.float32], ...]


def build_field(case: Case, settings: FieldSettings) -> SurgicalField:
    """Open a case's back as ``settings`` say.

    Raises:
        CaseError: an exposed level that the case lacks.
    """
    bone = build_bone_map(case)
    relief = build_relief(bone, settings)
    palette = colours.draw_palette(np.random.default_rng((settings.seed, 3)))
    covers = [_tissue(relief, palette, settings)]
    if not settings.spine:
        return SurgicalField((), tuple(covers), relief, palette, settings, ())
    if settings.retractors:
        covers.append(build_retractors(relief, settings))
    meshes = [v.mesh for v in case.vertebrae]
    films = [_film(mesh, settings) for mesh in meshes]
    wound = _Wound(bone, relief, palette, settings)
    surfaces = [_bone(mesh, film, wound) for mesh, film in zip(meshes, films, strict=True)]
    return SurgicalField(tuple(surfaces), tuple(covers), relief, palette, settings, tuple(films))


@dataclass(frozen=True)
class _Wound:
    bone: BoneMap
    relief: Relief
    palette: colours.Palette
    settings: FieldSettings


def _film(mesh: Mesh, settings: FieldSettings) -> NDArray[np.float32]:
    """(V,) film thickness, 0 to ``film_max_m``, smooth over 4-15 mm, none on ``film_bare_share`` of the bone."""
    rng = np.random.default_rng((settings.seed, 4))
    field = (0.8 * at_points(mesh.vertices, 0.014, rng) + 0.6 * at_points(mesh.vertices, 0.006, rng)) / 1.0
    # The field is close to normal: shift it so that the wanted share falls below zero.
    from scipy.special import ndtri

    bare = float(ndtri(np.clip(settings.film_bare_share, 0.01, 0.99)))
    return np.asarray(settings.film_max_m * np.clip((field - bare) / 2.0, 0.0, 1.0), dtype=np.float32)


def _bone(mesh: Mesh, film: NDArray[np.float32], wound: _Wound) -> Surface:
    palette, settings = wound.palette, wound.settings
    origin = wound.relief.target
    vertices = mesh.vertices + film[:, None] * vertex_normals(mesh)
    centres = vertices[mesh.triangles].mean(axis=1)
    normals = triangle_normals(vertices, mesh.triangles)
    share = colours.blotches(centres, settings.seed, origin)
    covered = film[mesh.triangles].mean(axis=1) / max(settings.film_max_m, 1e-9)
    tissue_share = np.clip(1.2 * covered, 0.0, 0.8)[:, None]
    base = colours.blend(palette.bone, share) * (1 - tissue_share)
    base += colours.blend(palette.tissue, share) * tissue_share
    stain = colours.blood(centres, palette.blood_level, settings.seed, origin)[:, None]
    base = base * (1 - stain) + palette.blood * stain
    depth = wound.bone.tips(centres[:, 2]) + settings.fat_m + centres[:, 1]
    painted = colours.light(base, normals, palette, _shade(depth))
    return Surface(vertices, mesh.triangles, painted, np.full(len(painted), WET, np.uint8))


def _shade(depth_m: Array) -> Array:
    return np.asarray(1.0 - 0.35 * np.clip(depth_m / SHADE_DEPTH_M, 0.0, 1.2))


def _tissue(relief: Relief, palette: colours.Palette, settings: FieldSettings) -> Surface:
    """The height field as a mesh, coloured by what it is: floor, ligament, fat, skin, drape."""
    xx, zz = np.meshgrid(relief.x, relief.z)
    vertices = np.stack([xx, -relief.height, zz], axis=-1).reshape(-1, 3)
    triangles = grid_triangles(*relief.height.shape)

    def on_triangles(values: NDArray[np.floating]) -> Array:
        return np.asarray(values.reshape(-1)[triangles].mean(axis=1))

    depth, outside = on_triangles(relief.skin - relief.height), on_triangles(relief.outside)
    draped, ligament = on_triangles(relief.draped), on_triangles(relief.ligament)
    # At the vertices: half as many as triangles.
    share = on_triangles(colours.blotches(vertices, settings.seed, relief.target))
    stain = on_triangles(colours.blood(vertices, palette.blood_level, settings.seed, relief.target))
    base = _mix(colours.blend(palette.tissue, share), colours.blend(palette.ligament, share), ligament)
    fat = smoothstep((outside + 0.016) / 0.004) * smoothstep((0.75 * settings.fat_m - depth) / 0.004)
    base = _mix(base, colours.blend(palette.fat, share), fat)
    base = _mix(base, palette.blood[None], stain)
    base = _mix(base, colours.blend(palette.skin, share), smoothstep((outside + 0.001) / 0.003))
    cloth = smoothstep((draped - 0.3) / 0.4)
    base = _mix(base, colours.blend(palette.drape, share), cloth)
    wet = (outside < 0) & (cloth < 0.5)
    painted = colours.light(base, triangle_normals(vertices, triangles), palette, _shade(depth * wet))
    return Surface(vertices, triangles, painted, np.where(wet, WET, MATTE).astype(np.uint8))


def _mix(colours_a: Array, colours_b: Array, share: NDArray[np.floating]) -> Array:
    return np.asarray(colours_a + share[:, None] * (colours_b - colours_a))
