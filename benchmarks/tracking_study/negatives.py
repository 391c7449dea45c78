"""Clouds without a spine: whatever a tracker is given there, no pose may come of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.tracking_study.run import NodePath, cloud_of_frame, message_of, stamp_of
from benchmarks.tracking_study.setup import (
    FIRST_SEED,
    Cases,
    Methods,
    SequencePlan,
    case_key,
)
from benchmarks.tracking_study.units import Unit
from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.decoding import DepthFrame, decoder
from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.recording import CAMERA_INFO, IMAGE, POINT_CLOUD, Recording
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CloudError, End2RegError
from end2reg_ros.frame import Tracker
from end2reg_ros.names import CAMERA_FRAME
from end2reg_ros.reasons import Reason
from end2reg_ros.registration.classical import unguided_start
from end2reg_ros.registration.interface import Registrar
from end2reg_ros.registration.types import Prior, Registration
from end2reg_ros.simulation.picks import PICK_RMS_M, picked_prior
from end2reg_ros.tracking.track import LAST_FRAME_STDDEV_M
from end2reg_ros.tracking.types import PUBLISHING_STATES

Array = NDArray[np.float64]
# nothing: a tracker that knows nothing. lost: one that tracked a spine for 2 s before. prior: one that is given a start on
# what is there. follow: the registrar alone, as if a track led there: the accepted fits are counted.
Arm = Literal["nothing", "lost", "prior", "follow"]
ARMS: tuple[Arm, ...] = get_args(Arm)
LEAD_IN, LEAD_IN_HZ = "leave", 6.0  # that scenario is calm for its first seconds
LEAD_IN_S = 2.0
PRIOR_EVERY_S = 1.0  # a new start
EMPTY = "empty"


@dataclass(frozen=True)
class NegativeStudy:
    """What is run on every case.

    Attributes:
        recordings: rosbag2 folders without a spine; a few real clouds, each seen again from nearby places.
        seeds: of empty tables, moving as a table does.
        frames: of each source, a recording or a seed; ``rate_hz`` of their stamps.
        arms: (method, arm, of how many frames one is judged).
    """

    recordings: tuple[Path, ...]
    seeds: tuple[int, ...]
    arms: tuple[tuple[str, Arm, int], ...]
    frames: int = 50
    rate_hz: float = 5.0


def negative_units(study: NegativeStudy, cases: Cases, methods: Methods) -> Iterator[Unit]:
    """One unit for each case, source and arm."""
    lead = LeadIn()
    for case in cases:
        sources: list[tuple[str, int]] = [(path.name, 0) for path in study.recordings]
        sources += [(EMPTY, seed) for seed in study.seeds]
        for number, (source, seed) in enumerate(sources):
            path = study.recordings[number] if number < len(study.recordings) else None
            for method, arm, every in study.arms:
                key = {
                    "kind": "negative", **case_key(case), "source": source, "seed": seed, "arm": arm, "every": every,
                    "frames": study.frames, "rate_hz": study.rate_hz, **replace(methods.settings, method=method).plain(case),
                }  # fmt: skip
                yield Unit(key, _work(study, case, methods, (path, seed, lead), (method, arm, every)))


def _work(
    study: NegativeStudy,
    case: Case,
    methods: Methods,
    source: tuple[Path | None, int, LeadIn],
    chosen: tuple[str, Arm, int],
) -> Callable[[], dict[str, Any]]:
    path, seed, lead = source
    method, arm, every = chosen

    def work() -> dict[str, Any]:
        if path is None:
            clouds = empty_clouds(case, seed, study.frames, study.rate_hz)
        else:
            clouds = recorded_clouds(path, study.frames, study.rate_hz)
        thinned = (cloud for k, cloud in enumerate(clouds) if k % every == 0)
        if arm == "follow":
            return followed(methods.registrar(case, method), thinned, case)
        tracker = methods.tracker(case, method)
        lead_in = lead.of(case) if arm == "lost" else ()
        return judged(tracker, thinned, case, lead_in, starts=arm == "prior")

    return work


def judged(
    tracker: Tracker,
    clouds: Iterator[Cloud],
    case: Case,
    lead_in: Sequence[tuple[Cloud, Array]],
    starts: bool,
) -> dict[str, Any]:
    """Clouds without a spine through a tracker.

    Args:
        lead_in: clouds of a spine with the truth, seen before; stamps before those of ``clouds``.
        starts: give a start on what is there, once a second.
    """
    if lead_in and tracker.registrar.needs_prior:
        tracker.set_prior(picked_prior(case, lead_in[0][1], 0, PICK_RMS_M))
    path = NodePath(tracker)
    for cloud, _ in lead_in:
        path.run(message_of(cloud), perf_counter())
    had_track = tracker.state in PUBLISHING_STATES
    frames, reasons, states = 0, Counter[str](), Counter[str]()
    false: list[dict[str, Any]] = []
    next_start_ns = 0
    for frames, cloud in enumerate(clouds, 1):
        if starts and cloud.stamp_ns >= next_start_ns:
            tracker.set_prior(Prior(start_on(cloud, case.centroid(), frames), "wrong", PICK_RMS_M))
            next_start_ns = cloud.stamp_ns + round(PRIOR_EVERY_S * 1e9)
        outcome = path.run(message_of(cloud), perf_counter())
        if outcome.update is None:  # the checks dropped it, as the node's would
            reasons[str(outcome.drop.code if outcome.drop else "")] += 1
            continue
        update = outcome.update
        reasons[update.reason_code] += 1
        states[update.state.name] += 1
        if update.published:
            false.append({"frame": frames - 1, "state": update.state.name, **_told(update.registration)})
    if lead_in and not had_track:
        return {"note": "the spine before was not tracked: not counted", "frames": 0, "false": []}
    note = f"{len(false)} poses of {frames} clouds without a spine"
    return {"note": note, "frames": frames, "false": false, "reasons": dict(reasons), "states": dict(states)}


def followed(registrar: Registrar, clouds: Iterator[Cloud], case: Case) -> dict[str, Any]:
    """Every cloud as the next one of a track that leads to a place on what is there."""
    frames, reasons = 0, Counter[str]()
    false: list[dict[str, Any]] = []
    for frames, cloud in enumerate(clouds, 1):
        T = start_on(cloud, case.centroid(), frames)
        expected = Prior(T, "last_frame", LAST_FRAME_STDDEV_M)
        found = registrar.follow(registrar.crop(cloud, expected), expected)
        reasons[found.reason_code] += 1
        if found.success:
            false.append({"frame": frames - 1, "state": "accepted", **_told(found)})
    note = f"{len(false)} fits accepted of {frames} clouds without a spine"
    return {"note": note, "frames": frames, "false": false, "reasons": dict(reasons), "states": {}}


def _told(found: Registration | None) -> dict[str, Any]:
    if found is None:
        return {}
    q = found.quality
    return {
        "inlier_ratio": q.inlier_ratio, "inliers": q.inliers, "visible_fraction": q.visible_fraction,
        "normal_agreement": q.normal_agreement, "T_camera_model": found.T_camera_model.ravel().tolist(),
    }  # fmt: skip


def start_on(cloud: Cloud, centre: Array, number: int) -> Array:
    """T_camera_model with the spine's centre on a surface near the middle of the view, its back to the camera, any roll."""
    if len(cloud.points) == 0:
        return unguided_start(centre, np.array([0.0, 0.0, 0.6]))
    rng = np.random.default_rng((number, 91))
    direction = cloud.points[:, :2] / np.maximum(cloud.points[:, 2:], 1e-6) - rng.normal(0, 0.15, 2)
    place = cloud.points[int(np.argmin((direction**2).sum(axis=1)))].astype(np.float64)
    T = unguided_start(centre, place)
    turn = se3.rotation_from_vector(np.array([0.0, 0.0, rng.uniform(0, 2 * np.pi)]))
    return se3.from_rotation_translation(turn, place - turn @ place) @ T


class LeadIn:
    """Two calm seconds of a spine with the truth, ending at time zero; the last case's are kept."""

    def __init__(self) -> None:
        self._case = ""
        self._seen: tuple[tuple[Cloud, Array], ...] = ()

    def of(self, case: Case) -> tuple[tuple[Cloud, Array], ...]:
        """Clouds and T_camera_model."""
        if case.hash != self._case:
            sequence = SequencePlan(FIRST_SEED, LEAD_IN).sequence(case)
            frames = [sequence.frame(k / LEAD_IN_HZ) for k in range(round(LEAD_IN_S * LEAD_IN_HZ))]
            self._seen = tuple(
                (
                    replace(cloud_of_frame(frame), stamp_ns=stamp_of(frame.t_s - LEAD_IN_S)),
                    frame.T_camera_model,
                )
                for frame in frames
            )
            self._case = case.hash
        return self._seen


def empty_clouds(case: Case, seed: int, frames: int, rate_hz: float) -> Iterator[Cloud]:
    """A table without a wound; the case only says how large the patient is."""
    sequence = SequencePlan(seed, EMPTY).sequence(case)
    return (cloud_of_frame(sequence.frame(k / rate_hz)) for k in range(frames))


def recorded_clouds(path: Path, frames: int, rate_hz: float) -> Iterator[Cloud]:
    """A recording's clouds over and over: first as they are, then each time seen from a little elsewhere, with 0.5 mm of noise.

    Raises:
        CloudError: it cannot be read; End2RegError: it holds no cloud.
    """
    seen = read_clouds(path)
    if not seen:
        raise End2RegError(f"{path}: no cloud in it")
    return (moved_view(seen[k % len(seen)], k // len(seen), stamp_of(k / rate_hz)) for k in range(frames))


def read_clouds(path: Path) -> list[Cloud]:
    """The clouds of a recording, of its depth images where it has no PointCloud2.

    Raises:
        CloudError: it cannot be read, or has neither.
    """
    with Recording(path) as recording:
        clouds = [topic.name for topic in recording.topics if topic.type == POINT_CLOUD]
        depth = [t.name for t in recording.topics if t.type == IMAGE and "depth" in t.name.lower()]
        infos = [t.name for t in recording.topics if t.type == CAMERA_INFO and "depth" in t.name.lower()]
        if not clouds and not (depth and infos):
            raise CloudError(
                Reason.NO_TOPIC, f"{path}: neither clouds nor depth images with their calibration"
            )
        decode, _ = decoder("points" if clouds else "depth")
        info: Any = None
        if not clouds:  # recorders may write the calibration after the first image
            info = next(recorded.message for recorded in recording.messages(infos[0]))
        limits = CloudLimits(require_header=False)
        found = []
        for recorded in recording.messages(clouds[0] if clouds else depth[0]):
            message = recorded.message if clouds else DepthFrame(recorded.message, info, None)
            found.append(decode(message, limits))
        return found


def moved_view(cloud: Cloud, turn: int, stamp_ns: int) -> Cloud:
    """The cloud turned about the line of sight, tilted by up to 15 degrees, shifted by up to 30 mm; as it is for turn 0."""
    points = cloud.points
    if turn:
        rng = np.random.default_rng((turn, 92))
        middle = np.median(points, axis=0).astype(np.float64)
        tilt = np.radians(rng.uniform(-15, 15, 2))
        R = se3.rotation_from_vector(np.array([*tilt, 0.0]))
        R = R @ se3.rotation_from_vector(np.array([0.0, 0.0, rng.uniform(0, 2 * np.pi)]))
        shift = middle - R @ middle + rng.uniform(-0.03, 0.03, 3)
        moved = points.astype(np.float64) @ R.T + shift
        points = (moved + rng.normal(0, 0.0005, moved.shape)).astype(np.float32)
    return Cloud(points, cloud.colours, CAMERA_FRAME, stamp_ns, received=len(points))


def negative_summary(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each method, arm and source."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for line in lines:
        key = line["key"]
        groups.setdefault((key["method"], key["arm"], key["source"], str(key["every"])), []).append(line)
    rows = []
    for (method, arm, source, every), members in groups.items():
        reasons: Counter[str] = Counter()
        for line in members:
            reasons.update(line["result"].get("reasons", {}))
        rows.append(
            {
                "method": method, "arm": arm, "source": source, "judged_every": int(every), "units": len(members),
                "units_not_counted": sum(line["result"]["frames"] == 0 for line in members),
                "frames": sum(line["result"]["frames"] for line in members),
                "false": sum(len(line["result"]["false"]) for line in members),
                "reasons": dict(reasons.most_common()),
                "wrong": [
                    {"case": line["key"]["case"], "seed": line["key"]["seed"], **one}
                    for line in members for one in line["result"]["false"]
                ],
            }
        )  # fmt: skip
    return rows
