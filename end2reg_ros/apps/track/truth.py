"""The truth that a simulated recording carries on TF, and the errors of an offline track against it.

The tracker never sees any of it: the recording is read a second time, after the track is done.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.apps.track.files import seconds_text
from end2reg_ros.apps.track.run import FrameRecord
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.messages import stamp_ns
from end2reg_ros.cloud.recording import Recording
from end2reg_ros.errors import CloudError
from end2reg_ros.evaluation.metrics import Pose, landmark_errors, targets_from_case
from end2reg_ros.evaluation.rows import CloudRow, joined, mean_mm
from end2reg_ros.evaluation.spread import spread
from end2reg_ros.names import SPINE, TRUTH_PREFIX
from end2reg_ros.se3 import from_rotation_translation, rotation_from_quaternion

Array = NDArray[np.float64]

TF_MESSAGE = "tf2_msgs/msg/TFMessage"


@dataclass(frozen=True)
class TrueFrame:
    """Where the spine was at one stamp, in the camera frame ``frame_id``."""

    frame_id: str
    pose: Pose


@dataclass(frozen=True)
class TrackErrors:
    """Errors of a whole track.

    Attributes:
        frames: of every published pose whose truth is known, in order, with the errors of the vertebrae's own poses and, as
            ``rigid_errors_mm``, of the spine's one rigid pose, both at the landmarks of all levels.
        without_truth: stamps of published poses of which the recording holds no truth: nothing of a spine was there, or
            it is told in another frame.
    """

    frames: tuple[CloudRow, ...] = ()
    without_truth: tuple[int, ...] = ()

    def pooled(self) -> dict[str, Array]:
        """``spine`` and each level -> errors at all landmarks of all frames, mm; empty without frames."""
        if not self.frames:
            return {}
        own = {
            name: joined({name: row.errors_mm[name]} for row in self.frames)
            for name in self.frames[0].errors_mm
        }
        return {SPINE: joined(row.rigid_errors_mm for row in self.frames), **own}


def read_truth(recording: Recording, levels: Iterable[str]) -> dict[int, TrueFrame]:
    """Stamp -> truth, from the TF frames ``ground_truth/spine`` and ``ground_truth/<level>``; empty without any.

    Of a damaged recording, what can be read.
    """
    topics = [t.name for t in recording.topics if t.type == TF_MESSAGE]
    wanted = {TRUTH_PREFIX + level: level for level in levels}
    spines: dict[int, tuple[str, Array]] = {}
    relative: dict[int, dict[str, Array]] = {}
    try:
        for _, _, message in recording.messages(*topics) if topics else ():
            for transform in message.transforms:
                child, stamp = transform.child_frame_id, stamp_ns(transform)
                if child == TRUTH_PREFIX + SPINE:
                    spines[stamp] = (transform.header.frame_id, matrix_of(transform.transform))
                elif child in wanted and transform.header.frame_id == TRUTH_PREFIX + SPINE:
                    relative.setdefault(stamp, {})[wanted[child]] = matrix_of(transform.transform)
    except CloudError:
        pass  # whoever tracked it has heard of the damage
    return {
        stamp: TrueFrame(frame_id, Pose(T, {name: T @ M for name, M in relative.get(stamp, {}).items()}))
        for stamp, (frame_id, T) in spines.items()
    }


def matrix_of(transform: Any) -> Array:
    """(4, 4) of a geometry_msgs/Transform."""
    t, q = transform.translation, transform.rotation
    rotation = rotation_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
    return from_rotation_translation(rotation, np.array([t.x, t.y, t.z]))


def track_errors(records: Sequence[FrameRecord], truth: dict[int, TrueFrame], case: Case) -> TrackErrors:
    """Errors of all published poses.

    Raises:
        CaseError: a case without landmarks.
    """
    targets = targets_from_case(case, points_per_level=1)
    frames, without = [], []
    for record in records:
        update = record.update
        if update is None or not update.published or update.registration is None:
            continue
        true = truth.get(record.stamp_ns)
        if true is None or true.frame_id != update.frame_id:
            without.append(record.stamp_ns)
            continue
        found = update.registration
        own = Pose(found.T_camera_model, {level.level: level.T_camera_level for level in found.levels})
        frames.append(
            CloudRow(
                1e-9 * (record.stamp_ns - records[0].stamp_ns),
                record.stamp_ns,
                update.state.name,
                update.reason_code,
                published=True,
                errors_mm=landmark_errors(own, true.pose, targets),
                rigid_errors_mm=landmark_errors(Pose(found.T_camera_model), true.pose, targets),
            )
        )
    return TrackErrors(tuple(frames), tuple(without))


def mean_errors(row: CloudRow) -> dict[str, float]:
    """``spine`` and each level -> mean error at its landmarks, mm."""
    return {SPINE: mean_mm(row.rigid_errors_mm), **row.level_tre_mm()}


def accuracy_summary(errors: TrackErrors) -> dict[str, Any]:
    """For ``summary.json``: target registration error over the landmarks of all published poses.

    ``spine``: of the one rigid pose, all levels; ``L1``, ...: of each vertebra's own pose.
    """
    return {
        "accuracy_against_recorded_truth": {
            "poses_compared": len(errors.frames),
            "poses_without_truth": len(errors.without_truth),
            "tre_at_landmarks_mm": {name: _figures(values) for name, values in errors.pooled().items()},
        }
    }


def _figures(values: Array) -> dict[str, float]:
    found = spread(values)
    return {"median": round(found.median, 3), "p95": round(found.p95, 3), "max": round(found.maximum, 3)}


def write_errors(path: Path, errors: TrackErrors) -> None:
    """One CSV line a compared pose: mean over the landmarks, mm, of the spine's pose and of each vertebra's own."""
    means = [(row.stamp_ns, mean_errors(row)) for row in errors.frames]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["stamp_s", *(f"{name}_mm" for name in (means[0][1] if means else (SPINE,)))])
        for stamp, told in means:
            writer.writerow([seconds_text(stamp), *(f"{v:.3f}" for v in told.values())])
