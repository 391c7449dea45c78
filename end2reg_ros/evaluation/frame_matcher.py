"""Pairs what a client receives (TF, status, the network's pose) with the truth by equal stamps, a row for each cloud.

The tracker's chain is ``camera -> spine -> L1``, the truth's ``camera -> ground_truth/spine -> ground_truth/L1``; poses
are composed along the chain of one stamp, never across stamps, never "latest".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.model import Case
from end2reg_ros.evaluation.rows import PUBLISHING, CloudRow, LevelTargets
from end2reg_ros.names import SPINE, TRUTH_PREFIX
from end2reg_ros.reasons import Reason

Array = NDArray[np.float64]


@dataclass(frozen=True)
class StampedTransform:
    """One transform of a TF message: ``T_parent_child``, (4, 4), metres."""

    stamp_ns: int
    parent: str
    child: str
    T_parent_child: Array


@dataclass(frozen=True)
class ReceivedStatus:
    """What one TrackingStatus says, reduced to what the log keeps."""

    stamp_ns: int
    state: str
    reason_code: str
    reason: str
    visible_fraction: float = float("nan")
    latency_ms: float = float("nan")
    stages_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ReceivedPose:
    """The network's own pose of the spine, before refinement: ``T_camera_model``, (4, 4), metres."""

    stamp_ns: int
    frame_id: str
    T_camera_model: Array


@dataclass
class _Pending:
    first_received_ns: int
    transforms: dict[str, StampedTransform] = field(default_factory=dict)
    network: ReceivedPose | None = None
    status: ReceivedStatus | None = None
    truth: ReceivedStatus | None = None
    poses_ns: int | None = None
    repeats: int = 0
    late: bool = False


@dataclass
class _Given:
    """What a row was made from, and the row: whatever still comes for its stamp gives the row again, corrected."""

    pending: _Pending
    row: CloudRow
    changed: bool = False


@dataclass(frozen=True)
class MatcherSettings:
    """Names of the tracker's frames, how long an incomplete stamp is waited for, and how long a given row is kept."""

    frame_prefix: str = ""
    truth_prefix: str = TRUTH_PREFIX
    patience_s: float = 1.5
    memory_s: float = 10.0


class FrameMatcher:
    """Collects messages by stamp and gives a row for each cloud once all of it has arrived (or will not arrive).

    A row is given again, corrected, when something about its cloud arrives later, for 10 s: poses that come late or
    are sent again must not drop out. Poses at a stamp without a cloud give a row of their own, marked ``unknown``.
    """

    def __init__(self, case: Case, settings: MatcherSettings | None = None) -> None:
        self._settings = settings or MatcherSettings()
        self._levels = case.levels
        self._targets = LevelTargets.of(case)
        self._pending: dict[int, _Pending] = {}
        self._given: dict[int, _Given] = {}
        self._forgotten_ns = -1  # newest cloud whose row is no longer kept
        self._start_ns: int | None = None
        self._last_status: ReceivedStatus | None = None
        prefix = self._settings.frame_prefix
        self._poses_of_tracker = {prefix + SPINE, *(f"{prefix}{level}" for level in case.levels)}

    def add_transforms(self, transforms: Iterable[StampedTransform], now_ns: int) -> None:
        """Transforms of one TF message; ``now_ns`` is when it arrived (same clock as the stamps)."""
        ours: set[int] = set()
        again: set[int] = set()
        for transform in transforms:
            pose = transform.child in self._poses_of_tracker
            if not pose and transform.stamp_ns <= self._forgotten_ns:
                continue
            pending = self._at(transform.stamp_ns, now_ns)
            if pose and transform.child in pending.transforms:
                again.add(transform.stamp_ns)
                continue
            pending.transforms[transform.child] = transform
            if pose:
                ours.add(transform.stamp_ns)
            self._touch(transform.stamp_ns)
        for stamp_ns in ours:
            pending = self._at(stamp_ns, now_ns)
            if pending.poses_ns is None:
                pending.late = stamp_ns in self._given
            pending.poses_ns = now_ns
        for stamp_ns in again:
            self._at(stamp_ns, now_ns).repeats += 1
            self._touch(stamp_ns)

    def add_network_pose(self, pose: ReceivedPose, now_ns: int) -> None:
        """The network's own pose for a cloud; the first one at a stamp counts. It alone makes no row."""
        if pose.stamp_ns <= self._forgotten_ns:
            return
        pending = self._at(pose.stamp_ns, now_ns)
        if pending.network is None:
            pending.network = pose
            self._touch(pose.stamp_ns)

    def add_status(self, status: ReceivedStatus, now_ns: int) -> None:
        """A status of the tracker. One without a cloud's stamp (a watchdog's) only updates the current state."""
        if status.stamp_ns <= max(0, self._forgotten_ns):
            return
        pending = self._at(status.stamp_ns, now_ns)
        # The watchdog repeats the last status: the first one at a stamp is the judgement of that cloud.
        if pending.status is None:
            pending.status = status
            self._touch(status.stamp_ns)

    def add_truth(self, status: ReceivedStatus, now_ns: int) -> None:
        """A status of the simulated camera: there is a cloud at this stamp."""
        if self._start_ns is None or status.stamp_ns < self._start_ns:
            self._start_ns = status.stamp_ns
        if status.stamp_ns > self._forgotten_ns:
            self._at(status.stamp_ns, now_ns).truth = status
            self._touch(status.stamp_ns)

    def finished(self, now_ns: int, flush: bool = False) -> list[CloudRow]:
        """Rows that are complete by ``now_ns``, in the order of their stamps; with ``flush`` also the incomplete ones.

        Before them, rows given earlier that are to be corrected.
        """
        rows = self._corrected(now_ns)
        newest_complete = max((s for s, p in self._pending.items() if self._complete(p)), default=-1)
        for stamp_ns in sorted(self._pending):
            pending = self._pending[stamp_ns]
            waited_s = (now_ns - pending.first_received_ns) / 1e9
            # The tracker works in the order of stamps: behind a judged cloud little that is older can still come.
            patience_s = 0.3 if stamp_ns < newest_complete else self._settings.patience_s
            if not (flush or self._complete(pending) or waited_s > patience_s):
                break
            del self._pending[stamp_ns]
            if pending.status is not None:
                self._last_status = pending.status
            if pending.truth is None and pending.poses_ns is None:
                continue  # a status about a cloud that the camera node did not send (a watchdog's before the first)
            row = self._row(stamp_ns, pending, pending.status or self._last_status)
            self._given[stamp_ns] = _Given(pending, row)
            rows.append(row)
        return rows

    def _corrected(self, now_ns: int) -> list[CloudRow]:
        """Rows to give again; what is older than the memory is forgotten."""
        rows = []
        for stamp_ns, given in list(self._given.items()):
            if given.changed:
                given.changed = False
                row = self._row(stamp_ns, given.pending, given.pending.status)
                if given.pending.status is None:
                    row = replace(
                        row, state=given.row.state, reason_code=given.row.reason_code, reason=given.row.reason
                    )
                given.row = row
                rows.append(row)
            if now_ns - given.pending.first_received_ns > 1e9 * self._settings.memory_s:
                del self._given[stamp_ns]
                if not given.row.unknown:
                    self._forgotten_ns = max(self._forgotten_ns, stamp_ns)
        return rows

    def _at(self, stamp_ns: int, now_ns: int) -> _Pending:
        if stamp_ns in self._given:
            return self._given[stamp_ns].pending
        return self._pending.setdefault(stamp_ns, _Pending(now_ns))

    def _touch(self, stamp_ns: int) -> None:
        if stamp_ns in self._given:
            self._given[stamp_ns].changed = True

    def _complete(self, pending: _Pending) -> bool:
        if pending.truth is None or pending.status is None:
            return False
        if pending.truth.reason_code != Reason.NO_SPINE and not all(
            f"{self._settings.truth_prefix}{level}" in pending.transforms for level in self._levels
        ):
            return False
        return pending.status.state not in PUBLISHING or pending.poses_ns is not None

    def _row(self, stamp_ns: int, pending: _Pending, status: ReceivedStatus | None) -> CloudRow:
        camera, estimated = self._poses(pending, self._settings.frame_prefix)
        camera_of_truth, true = self._poses(pending, self._settings.truth_prefix)
        finite = {level: T for level, T in estimated.items() if np.isfinite(T).all()}
        comparable = camera == camera_of_truth and len(finite) == len(estimated)
        visible = pending.truth.visible_fraction if pending.truth else float("nan")
        judged = pending.status
        network = self._network_poses(pending.network, camera_of_truth)
        return CloudRow(
            t=(stamp_ns - (stamp_ns if self._start_ns is None else self._start_ns)) / 1e9,
            stamp_ns=stamp_ns,
            state=status.state if status else "SEARCHING",
            reason_code=status.reason_code if status else "",
            reason=status.reason if status else "",
            judged=judged is not None,
            published=pending.poses_ns is not None,
            age_ms=None if pending.poses_ns is None else (pending.poses_ns - stamp_ns) / 1e6,
            visible_fraction=visible if np.isfinite(visible) else None,
            errors_mm=self._targets.errors_mm(estimated, true) if comparable else {},
            network_errors_mm=self._targets.errors_mm(network, true),
            T_camera_levels={level: T.ravel().tolist() for level, T in finite.items()},
            T_camera_levels_true={level: T.ravel().tolist() for level, T in true.items()},
            repeats=pending.repeats,
            late=pending.late,
            unknown=pending.truth is None,
            latency_ms=judged.latency_ms if judged and np.isfinite(judged.latency_ms) else None,
            stages_ms=dict(judged.stages_ms) if judged else {},
        )

    def _network_poses(self, received: ReceivedPose | None, camera: str) -> dict[str, Array]:
        """Level -> pose in the camera frame; empty where there is none, or none that the truth's frame can judge."""
        if received is None or received.frame_id != camera or not np.isfinite(received.T_camera_model).all():
            return {}
        return self._targets.poses_of(received.T_camera_model)

    def _poses(self, pending: _Pending, prefix: str) -> tuple[str, dict[str, Array]]:
        """Root of the chain (the camera frame) and level -> pose in it, from the transforms of one stamp."""
        poses: dict[str, Array] = {}
        root = ""
        for level in self._levels:
            T, child = np.eye(4), f"{prefix}{level}"
            if child not in pending.transforms:
                continue
            for _ in range(len(pending.transforms)):  # bounded: a loop of frames must not hang
                step = pending.transforms.get(child)
                if step is None:
                    break
                T, child = step.T_parent_child @ T, step.parent
            poses[level], root = T, child
        return root, poses
