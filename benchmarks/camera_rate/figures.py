"""What a run at camera rate was like: from the clouds sent and the messages heard to rates, losses, ages and errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.camera_rate.log import Judged, RateRun, by_stamp
from benchmarks.camera_rate.stream import Playback, PlaybackFrame
from end2reg_ros.evaluation.figures import StreamFigures, stream_figures
from end2reg_ros.evaluation.rows import CloudRow, LevelTargets
from end2reg_ros.evaluation.spread import percentiles
from end2reg_ros.evaluation.tables import finite

TARGET_DROPS, TARGET_AGE_P50_MS, TARGET_AGE_P99_MS = 0.01, 40.0, 80.0


def rows_of(run: RateRun, playback: Playback, truth: LevelTargets) -> list[CloudRow]:
    """Every cloud that counts, with its errors."""
    heard = by_stamp(run.heard)
    first, last = run.window()
    rows, state, began = [], "SEARCHING", run.sent[0].stamp_ns if run.sent else 0
    for number, stamp_ns, _ in run.sent:
        judged = heard.get(stamp_ns, Judged())
        if judged.status is not None:
            state = judged.status["state"]
        if first <= stamp_ns <= last:
            rows.append(
                _row(playback.frames[number], 1e-9 * (stamp_ns - began), (stamp_ns, state, judged), truth)
            )
    return rows


def _row(seen: PlaybackFrame, t: float, said: tuple[int, str, Judged], truth: LevelTargets) -> CloudRow:
    stamp_ns, state, judged = said
    levels, true = judged.T_camera_levels, seen.T_camera_levels
    network = {} if judged.T_network is None else truth.poses_of(judged.T_network)
    return CloudRow(
        t,
        stamp_ns,
        state,
        judged=judged.status is not None,
        published=judged.pose_ns is not None,
        age_ms=None if judged.pose_ns is None else 1e-6 * (judged.pose_ns - stamp_ns),
        visible_fraction=seen.visible_fraction,
        errors_mm=truth.errors_mm(levels, true),
        network_errors_mm=truth.errors_mm(network, true),
        T_camera_levels={level: T.ravel().tolist() for level, T in levels.items()},
        T_camera_levels_true={level: T.ravel().tolist() for level, T in true.items()},
    )


def rate_figures(run: RateRun, playback: Playback, truth: LevelTargets) -> dict[str, Any]:
    """The figures of a run as they stand in the JSON; None where there was nothing to measure.

    ``clouds`` counts the whole run, everything else the clouds after ``settle_s``. ``drop_share``: clouds sent that no
    judgement was heard of, whoever lost them; ``drop_share_followed``: the same among those sent while the track ran.
    ``transport_ms``: from the stamp to the node's callback; ``send_ms`` of it passes in the camera's process.
    """
    first, last = run.window()
    frames = rows_of(run, playback, truth)
    statuses = [line for line in run.heard if line["kind"] == "status"]
    judgements = [
        judged.status
        for stamp_ns, judged in by_stamp(run.heard).items()
        if judged.status is not None and first <= stamp_ns <= last
    ]
    sent_hz = _sent_hz(run)
    seconds = len(frames) / sent_hz if sent_hz else 0.0
    figures = stream_figures(frames)
    ages = [f.age_ms for f in frames if f.age_ms is not None]
    networks = sum(line["kind"] == "network" and first <= line["stamp_ns"] <= last for line in run.heard)
    end: Mapping[str, Any] = (
        statuses[-1] if statuses else {"received": 0, "processed": 0, "poses": 0, "drops": {}}
    )
    stages = {name for status in judgements for name in status["stages_ms"]}
    followed = [f for before, f in pairwise(frames) if before.state == "TRACKING"]
    return {
        "clouds": {
            "sent": len(run.sent),
            "skipped_by_camera": run.skipped,
            "received": end["received"],
            "lost_before_node": len(run.sent) - end["received"],
            "processed": end["processed"],
            "dropped": end["drops"],
            "poses": end["poses"],
            "counters_add_up": end["received"] == end["processed"] + sum(end["drops"].values()),
        },
        "seconds": seconds,
        "sent_hz": sent_hz,
        "judged_hz": _ratio(sum(f.judged for f in frames), seconds),
        "pose_hz": _ratio(sum(f.published for f in frames), seconds),
        "network_hz": _ratio(networks, seconds),
        "dropped_by_reason": _drops_since(statuses, first),
        "drop_share": _ratio(sum(not f.judged for f in frames), len(frames)),
        "drop_share_followed": _ratio(sum(not f.judged for f in followed), len(followed)),
        "pose_age_ms": counted(ages),
        "pose_age_of_tracker_ms": counted(_all(judgements, "pose_age_ms")),
        "latency_ms": counted(_all(judgements, "latency_ms")),
        "send_ms": counted([cloud.send_ms for cloud in run.sent if first <= cloud.stamp_ns <= last]),
        "transport_ms": counted(
            [
                s["pose_age_ms"] - s["latency_ms"]
                for s in judgements
                if None not in (s["pose_age_ms"], s["latency_ms"])
            ]
        ),
        "stages_ms": {
            name: counted([s["stages_ms"][name] for s in judgements if name in s["stages_ms"]])
            for name in sorted(stages)
        },
        **_error_figures(figures),
        **_strange_poses(run),
    }


def _error_figures(figures: StreamFigures) -> dict[str, Any]:
    tre, network = figures.tre_mm, figures.network_tre_mm
    return {
        "tre_mm": {"median": _known(tre.median), "p95": _known(tre.p95), "max": _known(tre.maximum)},
        "network_tre_mm": {"median": _known(network.median), "p95": _known(network.p95)},
        "availability": _known(figures.availability),
        "false_poses": figures.false_poses,
        "blind_poses": figures.blind_poses,
        "level_slips": figures.level_slips,
        "uncompared_poses": figures.uncompared_poses,
    }


def _strange_poses(run: RateRun) -> dict[str, int]:
    """Over the whole run: poses at stamps of no cloud, and poses sent again."""
    poses = Counter(int(line["stamp_ns"]) for line in run.heard if line["kind"] == "pose")
    sent = {cloud.stamp_ns for cloud in run.sent}
    return {
        "unknown_poses": sum(count for stamp_ns, count in poses.items() if stamp_ns not in sent),
        "repeated_poses": poses.total() - len(poses),
    }


def problems(figures: Mapping[str, Any]) -> list[str]:
    """What must never be, one sentence each; empty for a sound run, however slow."""
    clouds = figures["clouds"]
    found = [
        f"{figures[name]} {text}"
        for name, text in (
            ("false_poses", "poses are off by more than 10 mm"),
            ("blind_poses", "poses were published while nothing of the spine was in view"),
            ("level_slips", "poses are a level off"),
            ("uncompared_poses", "poses came without the vertebrae"),
            ("unknown_poses", "poses belong to no cloud that was sent"),
            ("repeated_poses", "poses were sent again under a stamp already published"),
        )
        if figures[name]
    ]
    if not clouds["counters_add_up"]:
        found.append("the counters do not add up: received is not processed + dropped")
    if not clouds["poses"]:
        found.append("no pose was published")
    return found


def targets_met(figures: Mapping[str, Any]) -> dict[str, bool]:
    """The targets of a run: drops below 1 %, pose age p50 at most 40 ms and p99 at most 80 ms."""
    age, drops = figures["pose_age_ms"], figures["drop_share"]
    return {
        "drops": drops is not None and drops < TARGET_DROPS,
        "pose_age_p50": age["p50"] is not None and age["p50"] <= TARGET_AGE_P50_MS,
        "pose_age_p99": age["p99"] is not None and age["p99"] <= TARGET_AGE_P99_MS,
    }


def counted(values: Sequence[float]) -> dict[str, float | int | None]:
    """p50, p95, p99, the largest, and how many; None of none."""
    most = round(float(max(values)), 3) if values else None
    return {**finite(percentiles(values, 3)), "max": most, "count": len(values)}


def _drops_since(statuses: Sequence[Mapping[str, Any]], first_ns: int) -> dict[str, int]:
    """Drops by reason from the first status of the window to the last one."""
    inside = [status for status in statuses if status["stamp_ns"] >= first_ns]
    if not inside:
        return {}
    before, after = inside[0]["drops"], inside[-1]["drops"]
    since = {reason: count - before.get(reason, 0) for reason, count in after.items()}
    return {reason: count for reason, count in since.items() if count}


def _sent_hz(run: RateRun) -> float:
    if len(run.sent) < 2:
        return 0.0
    return 1e9 * (len(run.sent) - 1) / (run.sent[-1].stamp_ns - run.sent[0].stamp_ns)


def _all(statuses: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [status[name] for status in statuses if status[name] is not None]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _known(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None
