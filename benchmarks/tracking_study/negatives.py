"""Clouds without a spine: whatever a tracker is given there, no pose may come of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.tracking_study.figures import counts
from benchmarks.tracking_study.run import NodePath, cloud_of_frame, message_of, stamp_of
from benchmarks.tracking_study.runner import Line, Report, Study, Unit, grouped
from benchmarks.tracking_study.setup import FIRST_SEED, Methods, SequencePlan, case_key
from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.decoding import DepthFrame, decoder
from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.recording import CAMERA_INFO, IMAGE, POINT_CLOUD, Recording
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CloudError, End2RegError
from end2reg_ros.evaluation.tables import table_of
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
LeadIn = tuple[tuple[Cloud, Array], ...]
"""Clouds of a spine, and T_camera_model of each."""
LEAD_IN, LEAD_IN_HZ = "leave", 6.0  # that scenario is calm for its first seconds
LEAD_IN_S = 2.0
PRIOR_EVERY_S = 1.0  # a new start
EMPTY = "empty"
NOTES = (
    "nothing: a tracker that knows nothing; lost: one that tracked a spine for 2 s before; prior: one that is given a start "
    "on what is there each second; follow: accepted fits of the registration alone, as if a track led there.",
    "The recordings hold a few real clouds: each is shown as it is, then turned, tilted, shifted and with 0.5 mm of noise.",
)


@dataclass(frozen=True)
class Negatives(Study):
    """Recordings without a spine and empty tables: from nothing, lost, with a wrong start, and followed."""

    name = "negatives"
    recordings: tuple[Path, ...] = ()
    """rosbag2 folders with clouds or depth images."""
    frames: int = 50
    """Clouds of each recording and of each seed."""
    rate: float = 5.0
    """Hz, of their stamps."""
    search_every: int = 5
    """The learned method searches for 0.3-1 s a cloud: it judges one of so many. The classical one judges all."""

    def units(self, cases: Iterable[Case], methods: Methods) -> Iterator[Unit]:
        """One for each case, source (a recording, or an empty table of a seed) and arm."""
        main, every = self.method.method, self.search_every
        alone: tuple[Arm, ...] = ("nothing", "lost", "prior") if main != "icp" else ()
        given: tuple[Arm, ...] = ("lost", "prior", "follow")
        arms = (*((main, arm, every) for arm in alone), *(("icp", arm, 1) for arm in given))
        for case in cases:
            lead_in = lru_cache(maxsize=1)(partial(calm_spine, case))
            sources = {
                (path.name, 0): partial(recorded_clouds, path, self.frames, self.rate)
                for path in self.recordings
            }
            for seed in self.seed_numbers():
                sources[EMPTY, seed] = partial(empty_clouds, case, seed, self.frames, self.rate)
            for (source, seed), clouds in sources.items():
                for method, arm, judged_every in arms:
                    key = {
                        "kind": "negative", **case_key(case), "source": source, "seed": seed, "arm": arm,
                        "every": judged_every, "frames": self.frames, "rate_hz": self.rate,
                        **replace(self.method, method=method).plain(case),
                    }  # fmt: skip

                    def work(
                        case: Case = case, clouds: Any = clouds, method: str = method, arm: Arm = arm,
                        every: int = judged_every, lead_in: Any = lead_in,
                    ) -> dict[str, Any]:  # fmt: skip
                        thinned = (cloud for k, cloud in enumerate(clouds()) if k % every == 0)
                        if arm == "follow":
                            return followed(methods.registrar(case, method), thinned, case)
                        before = lead_in() if arm == "lost" else ()
                        return judged(methods.tracker(case, method), thinned, case, before, arm == "prior")

                    yield key, work

    def report(self, lines: Sequence[Line]) -> Report:
        """How many poses came of clouds without a spine: none."""
        rows = [summary_of(*each) for each in grouped(lines, "method", "arm", "source", "every").items()]
        total, false = sum(row["frames"] for row in rows), sum(row["false"] for row in rows)
        table = table_of(
            [
                {
                    "method": row["method"], "arm": row["arm"], "source": row["source"],
                    "judged": f"1 of {row['judged_every']}", "clouds": str(row["frames"]), "poses": str(row["false"]),
                    "reasons": counts(row["reasons"]),
                }
                for row in rows
            ]
        )  # fmt: skip
        summary = {"poses": false, "clouds": total, "rows": rows}
        text = [f"{false} poses of {total} clouds without a spine.", "", *table]
        return Report("Clouds without a spine", summary, text, NOTES, good=false == 0)


def summary_of(named: tuple[Any, ...], lines: Sequence[Line]) -> dict[str, Any]:
    """What became of the units of one (method, arm, source, every)."""
    method, arm, source, every = named
    results = [line["result"] for line in lines]
    reasons: Counter[str] = Counter()
    for result in results:
        reasons.update(result.get("reasons", {}))
    return {
        "method": method, "arm": arm, "source": source, "judged_every": every, "units": len(lines),
        "units_not_counted": sum(result["frames"] == 0 for result in results),
        "frames": sum(result["frames"] for result in results),
        "false": sum(len(result["false"]) for result in results),
        "reasons": dict(reasons.most_common()),
        "wrong": [
            {"case": line["key"]["case"], "seed": line["key"]["seed"], **one}
            for line in lines for one in line["result"]["false"]
        ],
    }  # fmt: skip


def judged(
    tracker: Tracker,
    clouds: Iterator[Cloud],
    case: Case,
    lead_in: LeadIn,
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


def calm_spine(case: Case) -> LeadIn:
    """Two calm seconds of a spine, ending at time zero."""
    sequence = SequencePlan(FIRST_SEED, LEAD_IN).sequence(case)
    frames = [sequence.frame(k / LEAD_IN_HZ) for k in range(round(LEAD_IN_S * LEAD_IN_HZ))]
    clouds = [replace(cloud_of_frame(f), stamp_ns=stamp_of(f.t_s - LEAD_IN_S)) for f in frames]
    return tuple(zip(clouds, (frame.T_camera_model for frame in frames), strict=True))


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
