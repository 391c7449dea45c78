"""How much the optional filter smooths and how far it lags: ``python benchmarks/filter_lag.py [--json FILE]``.

Nothing is rendered: raw poses are a known motion plus the jitter that the tracker was measured to have at rest, stated with
the covariance that it states. Seconds on one core.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from numpy.typing import NDArray

from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.case.model import Case
from end2reg_ros.evaluation.host import environment
from end2reg_ros.evaluation.tables import markdown_table
from end2reg_ros.se3 import apply, from_rotation_translation, move_covariance, rotation_from_vector
from end2reg_ros.tracking.constant_velocity import FilterSettings, PoseFilter

Array = NDArray[np.float64]
Motion = Callable[[float], float]

# Measured with `icp` on the bundled case at rest, 0.5 m from the camera: jitter about the spine's centre, and what the
# covariance states there. Metres, radians; camera axes.
JITTER = np.array([7.5e-5, 4.6e-5, 2.5e-5, *np.radians([0.036, 0.111, 0.038])])
STATED = np.array([5.1e-4, 4.3e-4, 3.3e-4, *np.radians([0.22, 0.54, 0.28])])
BREATH_HZ, BREATH_M = 0.3, 0.003
DRIFT_M_S = 0.005
STEPS_M = (0.0003, 0.0005, 0.001, 0.002, 0.020)
START_S = 3.0  # at rest before anything moves
DIRECTION = np.array([0.36, 0.48, 0.8])
ACCELERATIONS = (0.01, 0.03, 0.1)  # m/s^2; turns in the default's proportion
RATES_HZ = (15.0, 30.0)


class Run(NamedTuple):
    """Places of the spine's centre along the motion, metres: (N,) each but ``t`` in seconds; restarts counted."""

    t: Array
    true: Array
    raw: Array
    smooth: Array
    restarts: int


@cache
def bundled() -> Case:
    """The case that comes with the package."""
    return load_case(bundled_case_path())


def rest(t: float) -> float:
    """Nothing moves."""
    return 0.0


def breathing(t: float) -> float:
    """3 mm to either side, 0.3 times a second."""
    return BREATH_M * float(np.sin(2 * np.pi * BREATH_HZ * t))


def drift(t: float) -> float:
    """The table drives off at 5 mm/s."""
    return DRIFT_M_S * max(0.0, t - START_S)


def step(size_m: float) -> Motion:
    """The camera is knocked between two frames."""
    return lambda t: size_m if t >= START_S else 0.0


def swing(size_m: float, seconds: float) -> Motion:
    """The camera is pushed, smoothly within that time."""

    def at(t: float) -> float:
        u = min(max((t - START_S) / seconds, 0.0), 1.0)
        return size_m * u**3 * (10 - 15 * u + 6 * u**2)

    return at


def follow(
    motion: Motion, rate_hz: float, seconds: float, settings: FilterSettings, seed: int
) -> tuple[Run, Array, Array]:
    """Filter noisy poses of a motion; also the vertebrae's raw and filtered origins, (N, L, 3)."""
    case = bundled()
    origins = np.stack([v.T_model_level[:3, 3] for v in case.vertebrae])
    rng = np.random.default_rng(seed)
    pose_filter = PoseFilter(case.centroid(), origins, settings)
    R = rotation_from_vector(np.array([2.0, 0.3, -0.2]))
    base = np.array([0.02, -0.01, 0.5])
    found = []
    raw_origins, smooth_origins = [], []
    restarts = -1  # the first pose starts the filter
    for k in range(int(seconds * rate_hz)):
        # A camera's stamps are not even.
        t = (k + 0.1 * rng.uniform(-1, 1)) / rate_hz
        noise = rng.normal(size=6) * JITTER
        place = base + motion(t) * DIRECTION + noise[:3]
        turned = rotation_from_vector(noise[3:]) @ R
        T = from_rotation_translation(turned, place - turned @ case.centroid())
        covariance = move_covariance(np.diag(STATED**2), T[:3, 3] - place)
        filtered = pose_filter.update(round(t * 1e9) + 10**9, T, covariance)
        restarts += filtered.restarted
        moved = (apply(filtered.T_camera_model, case.centroid()) - base) @ DIRECTION
        found.append((t, motion(t), (place - base) @ DIRECTION, moved))
        raw_origins.append(apply(T, origins))
        smooth_origins.append(apply(filtered.T_camera_model, origins))
    columns = np.array(found).T
    return Run(*columns, restarts), np.array(raw_origins), np.array(smooth_origins)


def jitter_mm(places: Array) -> float:
    """Root mean square 3-D distance of the vertebrae's origins from their mean."""
    return float(1000 * np.sqrt((np.linalg.norm(places - places.mean(axis=0), axis=-1) ** 2).mean()))


def phase_delay_ms(run: Run) -> float:
    """By how much the filtered sine comes after the true one."""
    wave = np.stack([np.sin(2 * np.pi * BREATH_HZ * run.t), np.cos(2 * np.pi * BREATH_HZ * run.t)], axis=1)
    (a, b), *_ = np.linalg.lstsq(wave, run.smooth, rcond=None)
    return float(-1000 * np.arctan2(b, a) / (2 * np.pi * BREATH_HZ))


def step_delay_ms(runs: list[Run], size_m: float) -> float:
    """Time after the first frame of a step until the mean of the runs stays within a fifth of it; NaN: not in 1.5 s."""
    rate = 1.0 / float(np.diff(runs[0].t).mean())
    starts = [int(np.argmax(run.t >= START_S)) for run in runs]
    left = [(run.smooth - run.true)[k : k + int(1.5 * rate)] for k, run in zip(starts, runs, strict=True)]
    outside = np.flatnonzero(np.abs(np.mean(left, axis=0)) > 0.2 * size_m)
    frames = 0 if len(outside) == 0 else int(outside[-1]) + 1
    return 1000 * frames / rate if frames < len(left[0]) else float("nan")


def rms_um(error: Array) -> float:
    """Root mean square in micrometres."""
    return float(1e6 * np.sqrt((error**2).mean()))


def measure(rate_hz: float, settings: FilterSettings, seeds: int) -> dict[str, Any]:
    """All figures at one rate."""
    still, raw_at_rest, smooth_at_rest = follow(rest, rate_hz, 30.0, settings, 0)
    settled = still.t > 2.0
    breath = follow(breathing, rate_hz, 30.0, settings, 1)[0]
    table = follow(drift, rate_hz, 20.0, settings, 2)[0]
    steady = table.t > START_S + 4.0
    figures: dict[str, Any] = {
        "rate_hz": rate_hz,
        "acceleration_m_s2": settings.acceleration_m_s2,
        "angular_acceleration_rad_s2": round(settings.angular_acceleration_rad_s2, 3),
        "jitter_raw_mm": round(jitter_mm(raw_at_rest[settled]), 3),
        "jitter_filtered_mm": round(jitter_mm(smooth_at_rest[settled]), 3),
        "restarts_at_rest_per_min": round(still.restarts / 30.0 * 60.0, 1),
        "breathing_delay_ms": round(phase_delay_ms(breath), 1),
        "breathing_error_raw_um": round(rms_um(breath.raw - breath.true)),
        "breathing_error_filtered_um": round(rms_um(breath.smooth - breath.true)),
        "breathing_restarts_per_min": round(breath.restarts / 30.0 * 60.0, 1),
        "drift_delay_ms": round(1000 * float((table.raw - table.smooth)[steady].mean()) / DRIFT_M_S, 1),
        "drift_restarts": table.restarts,
    }
    for size in STEPS_M:
        runs = [follow(step(size), rate_hz, START_S + 2.0, settings, 100 + s)[0] for s in range(seeds)]
        figures[f"step_{1000 * size:g}_mm_delay_ms"] = round(step_delay_ms(runs, size))
        figures[f"step_{1000 * size:g}_mm_restarted"] = f"{sum(run.restarts > 0 for run in runs)} of {seeds}"
    for name, push in (("gentle", swing(0.012, 0.5)), ("hard", swing(0.060, 0.3))):
        pushed = [follow(push, rate_hz, START_S + 2.0, settings, 200 + s)[0] for s in range(seeds)]
        figures[f"{name}_push_most_behind_mm"] = round(
            1000 * max(float(np.abs(run.smooth - run.raw).max()) for run in pushed), 2
        )
    return figures


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: one column a setting, one line a figure."""
    body = [[name, *(str(row[name]) for row in rows)] for name in list(rows[0])[1:]]
    return "\n".join(markdown_table(["", *(f"{row['rate_hz']} Hz" for row in rows)], body))


def main(out: Annotated[Path | None, tyro.conf.arg(name="json")] = None, seeds: int = 10) -> None:
    """Measure, print, store.

    Args:
        out: write the figures here, too.
        seeds: runs of every step and push.
    """
    began = perf_counter()
    ratio = FilterSettings().angular_acceleration_rad_s2 / FilterSettings().acceleration_m_s2
    rows = [
        measure(rate, FilterSettings(acceleration_m_s2=a, angular_acceleration_rad_s2=a * ratio), seeds)
        for a in ACCELERATIONS
        for rate in RATES_HZ
    ]
    print(table(rows))
    print(f"{perf_counter() - began:.0f} s")
    if out:
        content = {
            "environment": environment(),
            "jitter": JITTER.tolist(),
            "stated": STATED.tolist(),
            "figures": rows,
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
