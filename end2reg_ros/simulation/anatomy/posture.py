"""How the five bodies stand on each other, and where the facet joints between them lie. Millimetres, model frame."""

from __future__ import annotations

import numpy as np

from end2reg_ros import se3
from end2reg_ros.simulation.anatomy.arch import SIDES, FacetJoint
from end2reg_ros.simulation.anatomy.fields import Array
from end2reg_ros.simulation.anatomy.morphometry import PersonShape
from end2reg_ros.simulation.anatomy.settings import AnatomySettings

JOINT_BEHIND_BODY_MM = 15.5
LUMBOSACRAL_DISC_MM = 6.0  # of L5-S1, as its facets see it: the disc is low behind
FACET_ABOVE_PLATE_MM = 4.5  # middle of a joint above the upper endplate of the lower vertebra


def stack_bodies(person: PersonShape, settings: AnatomySettings) -> list[Array]:
    """T_model_body (4, 4) of L1..L5, L3 at the origin: each disc carries half of its tilt on either side.

    Lordosis turns each lower body's upper face forwards; scoliosis bends the column to one side with its apex at L3
    and turns the bodies about their long axis towards the convexity (a third of the bend).
    """
    count = len(person.levels)
    # Tilts of the bodies: cumulated lordosis about x, a sideways bend about y that is zero in the middle.
    tilt = np.concatenate([[0.0], np.cumsum(person.disc_angles_deg)])
    tilt -= tilt[count // 2]
    bend = settings.scoliosis_deg * (np.arange(count) / (count - 1) - 0.5)
    turn = settings.scoliosis_deg / 3 * np.cos(np.linspace(-np.pi / 2, np.pi / 2, count))
    rotations = [_rotation(t, b, r) for t, b, r in zip(tilt, bend, turn, strict=True)]
    poses = [se3.from_rotation_translation(R, np.zeros(3)) for R in rotations]
    for i in range(1, count):
        upper, lower = person.levels[i - 1], person.levels[i]
        middle = _rotation(*(0.5 * (a[i] + a[i - 1]) for a in (tilt, bend, turn)))
        step = poses[i - 1][:3, :3] @ np.array([0, 0, -upper.body_height / 2])
        step += middle @ np.array([0, 0, -person.disc_heights[i - 1]])
        step += poses[i][:3, :3] @ np.array([0, 0, -lower.body_height / 2])
        poses[i][:3, 3] = poses[i - 1][:3, 3] + step
    origin = poses[count // 2][:3, 3].copy()
    for pose in poses:
        pose[:3, 3] -= origin
    return poses


def _rotation(tilt_deg: float, bend_deg: float, turn_deg: float) -> Array:
    """Rotation of a body: forwards about x, sideways about y, about its own axis z."""
    about_x = se3.rotation_from_vector(np.radians([-tilt_deg, 0.0, 0.0]))
    about_y = se3.rotation_from_vector(np.radians([0.0, bend_deg, 0.0]))
    about_z = se3.rotation_from_vector(np.radians([0.0, 0.0, turn_deg]))
    return np.asarray(about_y @ about_x @ about_z)


def facet_joints(
    person: PersonShape, poses: list[Array], noise: Array
) -> list[dict[str, tuple[FacetJoint, FacetJoint]]]:
    """Per level and side the joint above and the joint below, each in that level's own frame.

    Both partners get the same joint: its centre is the mean of what their own dimensions ask for. ``noise``:
    (6, 2, 4) displacements of the joints in mm (first three) and turns in degrees, from T12-L1 down to L5-S1.
    """
    count = len(person.levels)
    joints: list[dict[str, tuple[Array, Array]]] = []
    for k in range(count + 1):
        pair: dict[str, tuple[Array, Array]] = {}
        for s, name in enumerate(SIDES):
            sign = 1.0 if name == "right" else -1.0
            owner = max(k - 1, 0)  # the level above the joint, whose inferior facets it dimensions
            angle = np.radians(person.levels[owner].joint_angle_deg + noise[k, s, 3])
            normal = np.array([-sign * np.cos(angle), -np.sin(angle), 0.0])
            offset = person.levels[owner].joint_offset * (0.95 if k == 0 else 1.0)
            wanted, turns = [], []
            if k > 0:
                level = person.levels[k - 1]
                disc = person.disc_heights[k - 1] if k <= len(person.disc_heights) else LUMBOSACRAL_DISC_MM
                z = -level.body_height / 2 - disc + FACET_ABOVE_PLATE_MM
                local = np.array([sign * offset, -level.endplate_depth / 2 - JOINT_BEHIND_BODY_MM, z])
                wanted.append(se3.apply(poses[k - 1], local))
                turns.append(poses[k - 1][:3, :3])
            if k < count:
                level = person.levels[k]
                z = level.body_height / 2 + FACET_ABOVE_PLATE_MM
                local = np.array([sign * offset, -level.endplate_depth / 2 - JOINT_BEHIND_BODY_MM, z])
                wanted.append(se3.apply(poses[k], local))
                turns.append(poses[k][:3, :3])
            direction = np.mean([R @ normal for R in turns], axis=0)
            pair[name] = (np.mean(wanted, axis=0) + noise[k, s, :3], direction / np.linalg.norm(direction))
        joints.append(pair)
    return [
        {name: (_local(joints[k][name], poses[k]), _local(joints[k + 1][name], poses[k])) for name in SIDES}
        for k in range(count)
    ]


def _local(joint: tuple[Array, Array], pose: Array) -> FacetJoint:
    R = pose[:3, :3]
    return FacetJoint(centre=R.T @ (joint[0] - pose[:3, 3]), normal=R.T @ joint[1])
