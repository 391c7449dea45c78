"""The figures of a run as texts: the headline cards of the page, and the whole table (page and terminal)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from end2reg_ros.apps.demo.record import DemoRun, TrackerFacts, Usage
from end2reg_ros.apps.demo.summary import RunSummary
from end2reg_ros.evaluation.figures import CLEAR_VIEW
from end2reg_ros.evaluation.metrics import WRONG_MM
from end2reg_ros.evaluation.rows import IN_VIEW
from end2reg_ros.evaluation.tables import NOTHING, number, percent

Figure = tuple[str, str, str]  # name, value with unit, meaning
STARTS = {"none": "from nothing: no start was given", "landmarks": "from picked landmarks"}


def cards(run: DemoRun) -> list[dict[str, str]]:
    """The headline figures: name, value, unit, more."""
    s = run.summary
    tracker = run.usage.get("tracker", Usage())
    p50, p95, p99 = (number(age, 0) for age in s.pose_age_ms)
    alone = "" if not s.compared_twice else f", network alone {number(s.network_tre_mm.median)} mm"
    tail = f"p95 {number(s.tre_mm.p95)} mm{alone}"
    first = ", ".join(filter(None, [{"none": "from nothing"}.get(run.tracker.start, ""), _times_lost(s)]))
    return [
        _card("median error (TRE)", number(s.tre_mm.median), "mm", tail),
        _card("availability", percent(s.availability), "", "of the clouds that show the spine"),
        _card(f"poses off by > {WRONG_MM:.0f} mm", str(s.false_tracking), "", "published as TRACKING"),
        _card("poses with nothing in view", str(s.blind_poses), "", "must be 0"),
        _card("poses per second", number(s.rate_hz, 1), "Hz", f"camera {number(s.camera_hz, 1)} Hz"),
        _card("pose age", p50, "ms", f"p95 {p95}, p99 {p99} ms"),
        _card("first pose after", number(s.first_pose_heard_s, 2), "s", first),
        _card(
            "tracker's cost",
            number(tracker.cpu_percent, 0),
            "% CPU",
            f"{number(tracker.rss_mb, 0)} MB memory",
        ),
    ]


def figures(run: DemoRun) -> list[Figure]:
    """Every figure."""
    s = run.summary
    return [*_accuracy(s), *_availability(s, run.tracker.start), *_speed(s), *_cost(run)]


def _accuracy(s: RunSummary) -> list[Figure]:
    tail = f"{_slashed((s.tre_mm.p95, s.tre_mm.maximum), 2)} mm"
    false = f"{s.false_tracking} / {s.false_degraded}"
    return [
        ("TRE, median [Q1, Q3]", f"{s.tre_mm.text()} mm", "error at the landmarks, all published poses"),
        ("TRE, p95 / highest", tail, "of the same errors"),
        *_before_and_after(s),
        ("TRE per level, median", _pairs(s.level_tre_median_mm, 2, "mm"), ""),
        ("landmark errors above 10 mm", percent(s.outliers, 2), "share of outliers"),
        ("false poses, TRACKING / DEGRADED", false, "clouds with a published vertebra more than 10 mm off"),
        ("poses with nothing in view", str(s.blind_poses), "must be 0"),
        ("level slips", str(s.level_slips), "poses nearer to the neighbouring vertebrae"),
        (
            "jitter at rest",
            f"{number(s.jitter_mm, 3)} mm",
            "of the vertebrae, while neither camera nor spine moves",
        ),
        ("repeated poses", str(s.repeated_poses), "further messages under a stamp already published"),
        (
            "poses without a cloud",
            str(s.unknown_poses),
            "under a stamp that the camera did not send; must be 0",
        ),
        ("poses without a truth", str(s.uncompared_poses), "could not be compared; must be 0"),
        (
            "late poses / wrong ones",
            f"{s.late_poses} / {s.late_wrong}",
            "no longer waited for; in all other figures, too",
        ),
    ]


def _before_and_after(s: RunSummary) -> list[Figure]:
    if not s.compared_twice:
        return []
    before, after = (
        _slashed((tre.median, tre.p95, tre.maximum), 2) for tre in (s.network_tre_mm, s.refined_tre_mm)
    )
    name, count = "TRE, median / p95 / highest", f"mm ({s.compared_twice} poses)"
    return [
        (f"{name}, network alone", f"{before} {count}", "its own pose, before refinement"),
        (f"{name}, refined", f"{after} {count}", "over the same clouds"),
    ]


def _availability(s: RunSummary, start: str) -> list[Figure]:
    lost = _list((f"{i.start:.1f}-{i.end:.1f}" for i in s.lost), "s", "never")
    in_view = f"published / clouds with at least {IN_VIEW:.0%} of the bone of the rest view in view, after the first pose"
    clouds = f"{s.frames} / {s.judged} / {s.published}"
    share = {name: 100 * value for name, value in s.state_share.items() if value > 0}
    unfinished = f"{s.never_reacquired} ({s.unserved_s:.1f} s)"
    again = _list((f"{t:.2f}" for t in s.reacquisition_s), "s", NOTHING)
    first = ", ".join(filter(None, ["since the first cloud that shows the spine", STARTS.get(start, "")]))
    return [
        ("availability", percent(s.availability), in_view),
        (
            "availability of judged clouds",
            percent(s.availability_judged),
            "the same without superseded clouds",
        ),
        ("clouds sent / judged / with poses", clouds, "the newest cloud wins: those between are superseded"),
        ("first pose heard after", f"{number(s.first_pose_heard_s, 2)} s", first),
        (
            "first pose, by stamps",
            f"{number(s.time_to_first_pose_s, 2)} s",
            "its cloud after the first one that shows the spine",
        ),
        ("LOST", lost, "silent intervals"),
        ("re-acquisition", again, "from visible again to the next pose, one a loss"),
        ("not re-acquired", unfinished, f"silent at the end with {CLEAR_VIEW:.0%} of the bone in view"),
        ("time in each state", _pairs(share, 0, "%"), ""),
    ]


def _speed(s: RunSummary) -> list[Figure]:
    ages, latency = f"{_slashed(s.pose_age_ms, 1)} ms", f"{_slashed(s.latency_ms, 1)} ms"
    return [
        ("rate of poses / of clouds", f"{_slashed((s.rate_hz, s.camera_hz), 1)} Hz", ""),
        ("pose age p50 / p95 / p99", ages, "sensor's stamp to arrival of TF in another process"),
        ("latency p50 / p95", latency, "reception to publication, as the tracker reports it"),
        ("stages, median", _pairs(s.stages_ms, 1, "ms"), "of the clouds that went through them"),
        ("stages, p95", _pairs(s.stages_p95_ms, 1, "ms"), ""),
    ]


def _cost(run: DemoRun) -> list[Figure]:
    dropped = ", ".join(f"{name} {count}" for name, count in run.drops.items() if count) or "none"
    table = [*_engine(run.tracker), ("clouds dropped", dropped, "by the tracker, with the reason")]
    for name, usage in run.usage.items():
        cpu = f"{number(usage.cpu_percent, 0)} % (highest {number(usage.cpu_percent_max, 0)} %)"
        value = f"{cpu}, {number(usage.rss_mb, 0)} MB"
        table.append((f"{name}: CPU, memory", value, "100 % is one core; highest resident memory"))
    return table


def _engine(told: TrackerFacts) -> list[Figure]:
    if not told.engine:
        return []
    truncated = f"{told.points_truncated} / {told.cells_truncated}"
    return [
        ("engine", f"{told.engine}, hash {told.engine_hash[:16]}", "what ran the network, and which network"),
        ("points / cells left out", truncated, "of clouds above the limit / of views above the padding"),
    ]


def verdict(s: RunSummary) -> str:
    """One sentence about a good run."""
    if s.published == 0:
        return "No pose was published, and there was no spine to be seen."
    return (
        f"{s.published} poses published, median error {number(s.tre_mm.median)} mm; none off by more than "
        f"{WRONG_MM:.0f} mm, none while nothing was in view."
    )


def _times_lost(s: RunSummary) -> str:
    return {0: "never LOST", 1: "LOST once"}.get(len(s.lost), f"LOST {len(s.lost)} times")


def _card(name: str, value: str, unit: str, more: str) -> dict[str, str]:
    return {"name": name, "value": value, "unit": unit, "more": more}


def _slashed(values: Iterable[float | None], digits: int) -> str:
    return " / ".join(number(value, digits) for value in values)


def _pairs(values: Mapping[str, float], digits: int, unit: str) -> str:
    return _list((f"{name} {value:.{digits}f}" for name, value in values.items()), unit, NOTHING)


def _list(texts: Iterable[str], unit: str, none: str) -> str:
    joined = ", ".join(texts)
    return f"{joined} {unit}" if joined else none
