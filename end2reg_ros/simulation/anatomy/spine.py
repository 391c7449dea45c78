"""A seed -> five vertebrae, in memory or as a case folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from end2reg_ros import se3
from end2reg_ros.case.frames import vertebra_frame
from end2reg_ros.case.levels import default_colour
from end2reg_ros.case.model import Mesh, Vertebra
from end2reg_ros.case.store import CaseSpec, LevelSpec, check_target, write_case
from end2reg_ros.simulation.anatomy.morphometry import draw_person
from end2reg_ros.simulation.anatomy.plan import mark_landmarks, plan_screws
from end2reg_ros.simulation.anatomy.posture import facet_joints, stack_bodies
from end2reg_ros.simulation.anatomy.settings import LEVELS, AnatomySettings
from end2reg_ros.simulation.anatomy.surface import closed_surface
from end2reg_ros.simulation.anatomy.vertebra_field import build_field, carve_neighbour


def make_spine(seed: int, settings: AnatomySettings | None = None) -> tuple[Vertebra, ...]:
    """L1..L5 of one procedural person: meshes, landmarks, screws and frames. Metres, model frame (RAS), L3 near 0.

    The same seed and settings give the same arrays. The order of work: dimensions, posture, facet joints, one
    distance field a level, joint spaces, surfaces, plan.
    """
    settings = settings or AnatomySettings()
    streams = np.random.SeedSequence(seed).spawn(2 + len(LEVELS))
    person = draw_person(np.random.default_rng(streams[0]), settings)
    poses = stack_bodies(person, settings)
    uneven = np.clip(np.random.default_rng(streams[1]).standard_normal((len(LEVELS) + 1, 2, 4)), -2, 2)
    joints = facet_joints(person, poses, settings.asymmetry * uneven * np.array([0.5, 0.5, 0.7, 3.0]))
    fields = [
        build_field(i, person.levels[i], joints[i], np.random.default_rng(streams[2 + i]), settings)
        for i in range(len(LEVELS))
    ]
    for i in range(1, len(LEVELS)):
        T_lower_upper = se3.inverse(poses[i]) @ poses[i - 1]
        carve_neighbour(fields[i - 1], fields[i], T_lower_upper, settings.facet_gap_mm)
    vertebrae = []
    for i, level in enumerate(LEVELS):
        vertices, triangles = closed_surface(fields[i].field, fields[i].grid, settings.triangles)
        mesh = Mesh(se3.apply(poses[i], vertices) / 1000.0, triangles)
        landmarks = mark_landmarks(mesh, fields[i].points, poses[i])
        vertebrae.append(
            Vertebra(
                level=level,
                mesh=mesh,
                T_model_level=vertebra_frame(mesh, landmarks),
                colour=default_colour(level, i),
                landmarks=landmarks,
                screws=plan_screws(mesh, fields[i].points, poses[i]),
            )
        )
    return tuple(vertebrae)


def write_procedural_case(
    path: str | Path, seed: int, settings: AnatomySettings | None = None, overwrite: bool = False
) -> Path:
    """Make the spine of ``seed`` and write it as a case folder (case.yaml, meshes/L1.stl ... L5.stl, mm).

    Raises:
        CaseError: the folder is not empty (unless ``overwrite``) or cannot be written.
    """
    check_target(Path(path), overwrite)  # before the seconds that the spine takes
    vertebrae = make_spine(seed, settings)
    levels = tuple(LevelSpec(v.level, v.mesh, v.colour, v.landmarks, v.screws) for v in vertebrae)
    source = f"parametric anatomy of end2reg_ros, seed {seed}; no patient data (docs/anatomy.md)"
    return write_case(path, CaseSpec(f"procedural_{seed}", levels, source), overwrite)
