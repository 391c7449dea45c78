"""Where the individuals of training data come from: case folders, procedural ones made when they are missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from end2reg_ros.case.frames import vertebra_frame
from end2reg_ros.case.meshes import clean, oriented
from end2reg_ros.case.model import Case, Mesh, Vertebra
from end2reg_ros.case.store import load_case
from end2reg_ros.errors import TrainingError
from end2reg_ros.registration.fit.surface import view_directions
from end2reg_ros.registration.fit.surface_build import sample_surface, thin, visibility
from end2reg_ros.simulation.anatomy import AnatomySettings, write_procedural_case
from end2reg_ros.training.data.samples import AnatomySample

TRIANGLES = 14_000  # of one level at most: a finer mesh costs time and shows nothing more at 2 mm
SAMPLE_M, SURFACE_M = 0.001, 0.0015
PROCEDURAL = "procedural"


@dataclass(frozen=True)
class Individual:
    """A base anatomy and the group it belongs to: variants of it never help to test on that group."""

    case: Case
    group: str


def procedural_settings(seed: int) -> AnatomySettings:
    """The anatomy of a training seed: scoliosis, asymmetry, roughness, osteophytes and joint gaps drawn from it."""
    rng = np.random.default_rng((seed, 77))
    return AnatomySettings(
        scoliosis_deg=float(rng.normal(0, 6)),
        asymmetry=float(rng.uniform(0.6, 1.8)),
        roughness=float(rng.uniform(0.5, 1.8)),
        osteophytes_mm=float(max(0, rng.normal(0, 2.0))),
        facet_gap_mm=float(rng.uniform(0.8, 2.0)),
    )


def procedural_folder(folder: Path, seed: int) -> Path:
    """The case folder of a training seed below ``folder``; made when it is not there (about 20 s)."""
    path = folder / f"{PROCEDURAL}_{seed}"
    if not (path / "case.yaml").is_file():
        write_procedural_case(path, seed, procedural_settings(seed))
    return path


def load_individual(path: Path) -> Individual:
    """A case folder as a base, its meshes thinned to a usable number of triangles.

    Raises:
        CaseError: as ``load_case``.
        TrainingError: a level without landmarks, which validation needs.
    """
    case = load_case(path)
    bare = [v.level for v in case.vertebrae if v.landmarks is None]
    if bare:
        raise TrainingError(f"{path}: level {bare[0]} has no landmarks; 'end2reg case create' proposes them")
    vertebrae = tuple(_lighter(v) for v in case.vertebrae)
    group = PROCEDURAL if case.name.startswith(PROCEDURAL) else case.name
    return Individual(replace(case, vertebrae=vertebrae), group)


def _lighter(vertebra: Vertebra) -> Vertebra:
    if len(vertebra.mesh.triangles) <= TRIANGLES:
        return vertebra
    import open3d

    o3d: Any = open3d  # its type stubs do not know numpy arrays
    centre = vertebra.mesh.vertices.mean(axis=0)
    thick = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertebra.mesh.vertices - centre),
        o3d.utility.Vector3iVector(vertebra.mesh.triangles),
    )
    thinned = thick.simplify_quadric_decimation(TRIANGLES)
    vertices, triangles = clean(np.asarray(thinned.vertices) + centre, np.asarray(thinned.triangles))
    mesh = oriented(Mesh(vertices, triangles))
    return replace(vertebra, mesh=mesh, T_model_level=vertebra_frame(mesh, vertebra.landmarks))


def make_anatomy(case: Case, source: str, group: str) -> AnatomySample:
    """The model side of a case's scenes: what a camera behind the patient can see of it, one point per cube of 1.5 mm.

    The samples are those of ``build_model_surface``, without the grids that it builds on top.

    Args:
        source: individuals it is made of, joined by "+".
        group: their groups, joined by "+".
    """
    rng = np.random.default_rng(0)
    sampled = [sample_surface(v.mesh, SAMPLE_M, rng) for v in case.vertebrae]
    points = np.concatenate([p for p, _ in sampled])
    normals = np.concatenate([n for _, n in sampled])
    levels = np.repeat(np.arange(len(sampled), dtype=np.uint8), [len(p) for p, _ in sampled])
    seen = np.flatnonzero(visibility(case, points, normals, view_directions()).any(axis=1))
    kept = seen[thin(points[seen], SURFACE_M)]
    return AnatomySample(
        points[kept].astype(np.float32),
        normals[kept].astype(np.float32),
        levels[kept],
        case.landmark_array().astype(np.float32),
        np.stack([v.T_model_level for v in case.vertebrae]),
        case.levels,
        source,
        group,
    )
