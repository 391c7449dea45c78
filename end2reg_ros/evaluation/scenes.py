"""Scenes as a benchmark needs them: looked through beforehand, their truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.scene_folder import StoredScene, read_scene
from end2reg_ros.errors import CloudError
from end2reg_ros.evaluation.metrics import Pose, Targets, targets_from_case
from end2reg_ros.evaluation.regions import Region, cloud_of_region
from end2reg_ros.reasons import Reason


def check_scenes(
    folders: Sequence[Path], case_of: Callable[[StoredScene], Case], regions: Sequence[Region]
) -> None:
    """Read every scene and its case once, so that a bad one is told before hours of work and not after.

    Args:
        folders: scene folders.
        case_of: the case of a scene.
        regions: that methods will be given.

    Raises:
        CloudError: a scene that cannot be read; ``stale_scene``: made with another version of its case;
            ``no_bone_label``: region ``bone`` is asked of a scene that has none.
        CaseError: a scene without a case, or a case that cannot be read or has no landmarks.
    """
    for folder in folders:
        scene = read_scene(folder)
        case = case_of(scene)
        if scene.case_hash and scene.case_hash != case.hash:
            hashes = f"hash {scene.case_hash[:12]}, now {case.hash[:12]}"
            text = f"scene {scene.name}: was made with another version of case {case.path} ({hashes})"
            raise CloudError(Reason.STALE_SCENE, text)
        true_pose(scene, targets_from_case(case))
        for region in regions:
            cloud_of_region(scene, region)


def true_pose(scene: StoredScene, targets: Targets) -> Pose:
    """The truth of a scene.

    Raises:
        CloudError: ``bad_scene`` when its levels are none of the case's.
    """
    known = {name: T for name, T in scene.T_camera_levels.items() if name in targets.T_model_levels}
    if scene.T_camera_levels and not known:
        ours, theirs = ", ".join(targets.T_model_levels), ", ".join(scene.T_camera_levels)
        raise CloudError(
            Reason.BAD_SCENE, f"scene {scene.name}: its levels ({theirs}) are not the case's ({ours})"
        )
    return Pose(scene.T_camera_model, known)
