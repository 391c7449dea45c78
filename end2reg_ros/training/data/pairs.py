"""One stored scene -> one training pair: crop, random pose and colours, padded tables, the true pose. NumPy only.

The network sees the scene in a local frame that is nearly the model's: turned by what a found region leaves open, centred
near the exposed bone. Lengths in the tables are network units (1 unit = 95 mm).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.pyramid import UNIT_M, Level, Pyramid, build_pyramid, point_attributes
from end2reg_ros.profile import Profile
from end2reg_ros.registration.find.network_search import POSED_MARGIN_M, REGION_HALF_M
from end2reg_ros.se3 import rotation_from_vector
from end2reg_ros.training.config import Augmentation
from end2reg_ros.training.data.samples import AnatomySample, SceneSample

Array = NDArray[np.float64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TrainingPair:
    """Both clouds as pyramids without padding, and the truth.

    Attributes:
        model, scene: pyramids; capacities are the counts.
        segmentation: the scene's pyramid for the segmentation, where the profile has one of its own.
        rotation: (3, 3), translation: (3,) T_scene_model in network units.
        bone: (points of the scene's level 0,) share of bone among each cell's points: for logs and ablations only.
        landmarks: (K, 3) of the model, network units, centred like the model: for validation.
    """

    model: Pyramid
    scene: Pyramid
    segmentation: Pyramid | None
    rotation: Floats
    translation: Floats
    bone: Floats
    landmarks: Floats


@dataclass(frozen=True)
class PreparedAnatomy:
    """An anatomy ready for pairs.

    Attributes:
        pyramid: of its visible surface, network units about ``centre``.
        centre, low, high: (3,) mean, smallest and largest coordinates of its surface, metres.
        landmarks: (K, 3) network units about ``centre``.
    """

    pyramid: Pyramid
    centre: Array
    landmarks: Floats
    low: Array
    high: Array


def prepare_anatomy(anatomy: AnatomySample, profile: Profile) -> PreparedAnatomy:
    """Build the pyramid of an anatomy."""
    points = anatomy.points.astype(np.float64)
    centre = points.mean(axis=0)
    attributes = point_attributes(len(points), None, anatomy.normals)
    spec = profile.model
    pyramid = trimmed(build_pyramid((points - centre) / UNIT_M, attributes, spec), spec.fine_level)
    landmarks = ((anatomy.landmarks - centre) / UNIT_M).astype(np.float32)
    return PreparedAnatomy(pyramid, centre, landmarks, points.min(axis=0), points.max(axis=0))


def make_pair(
    scene: SceneSample,
    anatomy: PreparedAnatomy,
    profile: Profile,
    settings: Augmentation,
    rng: np.random.Generator,
) -> TrainingPair | None:
    """A random view of a stored scene; None when next to no bone is left in it."""
    T = scene.T_camera_model
    second = rng.random() < settings.second_pass_share
    angle = settings.second_pass_rotation_deg if second else settings.rotation_deg
    turn = rotation_from_vector(_direction(rng) * np.radians(rng.uniform(0.0, angle)))
    R_local_camera = turn @ T[:3, :3].T
    points = scene.points.astype(np.float64)
    posed_centre = T[:3, :3] @ anatomy.centre + T[:3, 3]
    if second:
        origin = posed_centre + _direction(rng) * rng.uniform(0.0, settings.second_pass_offset_m)
        local = (points - origin) @ R_local_camera.T
        low, high = (
            anatomy.low - anatomy.centre - POSED_MARGIN_M,
            anatomy.high - anatomy.centre + POSED_MARGIN_M,
        )
        keep = np.all((local > low) & (local < high), axis=1)
    else:
        seen = scene.bone > 0
        middle = points[seen].mean(axis=0) if seen.any() else posed_centre
        origin = middle + rng.normal(0.0, settings.offset_m, 3)
        local = (points - origin) @ R_local_camera.T
        keep = np.all(np.abs(local) < REGION_HALF_M, axis=1)
    keep &= _kept(local, settings, rng)
    if int((scene.bone[keep] > 0).sum()) < 60:
        return None
    local = local[keep] / UNIT_M
    normals = (scene.normals[keep].astype(np.float32) / 127.0) @ R_local_camera.T.astype(np.float32)
    colours = None if scene.colours is None else scene.colours[keep]
    attributes = point_attributes(len(local), None, normals)
    attributes[:, :3] = random_colours(colours, len(local), settings, rng)
    pyramid = build_pyramid(local, attributes, profile.scene)
    own = None
    if profile.segmentation is not None:
        own = trimmed(build_pyramid(local, attributes, profile.segmentation))
    bone = cell_share(pyramid, scene.bone[keep] > 0)
    translation = R_local_camera @ (posed_centre - origin) / UNIT_M
    return TrainingPair(
        anatomy.pyramid,
        trimmed(pyramid, profile.scene.fine_level),
        own,
        turn.astype(np.float32),
        translation.astype(np.float32),
        bone,
        anatomy.landmarks,
    )


def random_colours(
    colours: NDArray[np.uint8] | None, count: int, settings: Augmentation, rng: np.random.Generator
) -> Floats:
    """(count, 3) in 0..1: gain, white balance, gamma and noise changed; grey or absent for a share of the calls."""
    if colours is None or rng.random() < settings.colourless_share:
        return np.zeros((count, 3), np.float32)
    values = colours.astype(np.float32) / 255.0
    if rng.random() < settings.grey_share:
        values = np.repeat(values.mean(axis=1, keepdims=True), 3, axis=1)
    s = settings.colour
    gain = np.exp(rng.normal(0.0, s / 2)) * np.exp(rng.normal(0.0, s / 4, 3))
    gamma = np.exp(rng.normal(0.0, s / 2))
    values = np.clip(values * gain.astype(np.float32), 0.0, 1.0) ** np.float32(gamma)
    values += rng.normal(0.0, 0.05 * s, values.shape).astype(np.float32)
    return np.clip(values, 0.0, 1.0).astype(np.float32)


def _kept(local: Array, settings: Augmentation, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(N,) which points stay after thinning and cutting holes."""
    keep = np.ones(len(local), bool)
    if rng.random() < settings.thinning_share:
        keep &= rng.random(len(local)) < rng.uniform(0.35, 1.0)
    if rng.random() < settings.hole_share and len(local):
        for _ in range(int(rng.integers(1, 3))):
            middle = local[int(rng.integers(len(local)))] * np.array([0.5, 1.0, 0.7])
            keep &= ((local - middle) ** 2).sum(axis=1) > rng.uniform(0.008, 0.028) ** 2
    return keep


def cell_share(pyramid: Pyramid, bone: NDArray[np.bool_]) -> Floats:
    """(count of level 0,) share of each cell's points with the label."""
    count = pyramid.levels[0].count
    cell = pyramid.cell_of_point
    held = cell >= 0
    total = np.bincount(cell[held], minlength=count)
    labelled = np.bincount(cell[held], weights=bone[held].astype(np.float64), minlength=count)
    return (labelled / np.maximum(total, 1)).astype(np.float32)


def trimmed(pyramid: Pyramid, fine_level: int = 0) -> Pyramid:
    """A pyramid without its padding: capacities are the counts (at least 1), missing entries point past them.

    The network does not see padding (tests hold that); training need not pay for it. ``fine_level`` is that of the patches.
    """
    sizes = [max(1, level.count) for level in pyramid.levels]
    levels = []
    for i, level in enumerate(pyramid.levels):
        below = sizes[i + 1] if i + 1 < len(sizes) else 0
        n = sizes[i]
        levels.append(
            Level(
                points=level.points[:n],
                mask=level.mask[:n],
                neighbours=np.minimum(level.neighbours[:n], n),
                pool=None if level.pool is None else np.minimum(level.pool[:below], n),
                upsample=None if level.upsample is None else np.minimum(level.upsample[:n], below),
                count=level.count,
            )
        )
    patches = np.minimum(pyramid.patches[: sizes[-1]], sizes[fine_level])
    return replace(pyramid, levels=tuple(levels), attributes=pyramid.attributes[: sizes[0]], patches=patches)


def _direction(rng: np.random.Generator) -> Array:
    """(3,) unit vector, evenly distributed."""
    vector = rng.standard_normal(3)
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9))
