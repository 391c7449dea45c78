"""From a cloud and a rough pose to the network's tables, step by step: ``python benchmarks/tables_speed.py [--json FILE]``.

Simulated standard and hard scenes of the bundled case, 640x480, cropped around their true pose. All steps of a scene take
turns, so that noise of the machine hits all alike. ``search for every row`` is what the tables cost as one sorted search of
a k-d tree a row. ``OMP_WAIT_POLICY=passive`` in the environment keeps the second thread from spinning after the normals,
which otherwise counts as processor time of whatever comes next.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter, process_time
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.cloud.normals import estimate_normals
from end2reg_ros.cloud.pyramid import UNIT_M, build_pyramid, cells_of, counts, point_attributes, tables_of
from end2reg_ros.cloud.pyramid_reference import tables_by_query
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.cloud.voxel import voxel_downsample
from end2reg_ros.evaluation.host import environment
from end2reg_ros.profile import Profile, get_profile
from end2reg_ros.registration.find.network_search import POSED_MARGIN_M, around_pose
from end2reg_ros.registration.fit.surface_build import build_model_surface
from end2reg_ros.registration.network import ModelSide, model_side
from end2reg_ros.registration.scene import VOXEL_M, crop
from end2reg_ros.se3 import apply, inverse
from end2reg_ros.simulation.field.settings import Suite
from end2reg_ros.simulation.random_scenes import SceneSettings, scene_of_frame, simulate_scene

Actions = dict[str, Callable[[], Any]]


def actions(
    cloud: Cloud, T_camera_model: Any, side: ModelSide, profile: Profile
) -> tuple[Actions, dict[str, Any]]:
    """Every step by itself and the whole; sizes of what they work on."""
    scene = around_pose(cloud, T_camera_model, side, profile)
    if scene is None:
        raise SystemExit("no points around the true pose")
    cropped, thinned = scene.scene.dense, scene.scene.thin.points
    colours = None if cloud.colours is None else cloud.colours[scene.scene.index]
    points = apply(inverse(scene.T_camera_local), thinned) / UNIT_M
    attributes = point_attributes(len(points), None, estimate_normals(thinned))
    spec = profile.scene
    cells = cells_of(points, attributes, spec)
    sizes = {
        "points": len(cloud.points), "cropped": len(cropped), "thinned": len(points), "cells": list(counts(cells)),
        "rows_cut": list(scene.pyramids.registration.truncation.neighbours),
    }  # fmt: skip
    return {
        "crop and thin": lambda: crop(cloud, scene.T_camera_local, side.box, POSED_MARGIN_M),
        "thin": lambda: voxel_downsample(cropped, VOXEL_M, colours),
        "normals, 1 thread": lambda: estimate_normals(thinned),
        "normals, 2 threads": lambda: estimate_normals(thinned, threads=2),
        "cells": lambda: cells_of(points, attributes, spec),
        "tables": lambda: tables_of(cells, spec),
        "tables, search for every row": lambda: tables_by_query(cells, spec),
        "pyramid (cells and tables)": lambda: build_pyramid(points, attributes, spec),
        "around_pose, 1 thread": lambda: around_pose(cloud, T_camera_model, side, profile, threads=1),
        "around_pose, 2 threads": lambda: around_pose(cloud, T_camera_model, side, profile, threads=2),
    }, sizes


def measure(steps: Actions, runs: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each step, wall clock and processor, over runs that take turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(runs + 1):
        for name, action in steps.items():
            wall, cpu = perf_counter(), process_time()
            action()
            times[name].append((1e3 * (perf_counter() - wall), 1e3 * (process_time() - cpu)))
    return {name: _figures(np.array(values[1:])) for name, values in times.items()}


def busy_seconds() -> float:
    """Seconds that all cores of the machine were at work since it started, this process not counted (Linux)."""
    jiffies = [int(v) for v in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    return (sum(jiffies) - jiffies[3] - jiffies[4]) / os.sysconf("SC_CLK_TCK") - process_time()


def _figures(values: np.ndarray) -> dict[str, float]:
    low, median, p95 = np.percentile(values[:, 0], [0, 50, 95])
    cpu_low, cpu = np.percentile(values[:, 1], [0, 50])
    names = ("min_ms", "median_ms", "p95_ms", "cpu_min_ms", "cpu_median_ms")
    return {name: round(float(v), 2) for name, v in zip(names, (low, median, p95, cpu_low, cpu), strict=True)}


def over_scenes(scenes: Iterable[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Median over the scenes of each figure."""
    steps = [scene["steps"] for scene in scenes]
    return {
        name: {key: round(float(np.median([s[name][key] for s in steps])), 2) for key in figures}
        for name, figures in steps[0].items()
    }


def main(
    out: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    suites: tuple[Suite, ...] = ("standard", "hard"),
    count: int = 3,
    profile_name: Annotated[Literal["realtime", "paper"], tyro.conf.arg(name="profile")] = "realtime",
    runs: int = 30,
) -> None:
    """Measure, print, write.

    Args:
        out: file for the figures.
        count: scenes of each suite.
        runs: of each step and scene.
    """
    case, profile = load_case(bundled_case_path()), get_profile(profile_name)
    side = model_side(build_model_surface(case), profile)
    results: dict[str, Any] = {"scenes": {}, "all scenes of a suite, median": {}}
    for suite in suites:
        scenes: dict[str, dict[str, Any]] = {}
        for seed in range(1, count + 1):
            simulated = simulate_scene(case, SceneSettings(suite=suite, seed=seed))
            scene = scene_of_frame(suite, simulated.frame, simulated.tags, None)
            steps, sizes = actions(scene.cloud, scene.T_camera_model, side, profile)
            began, busy = perf_counter(), busy_seconds()
            figures = measure(steps, runs)
            others = round((busy_seconds() - busy) / (perf_counter() - began), 2)
            scenes[f"{suite}_{seed:05d}"] = {"sizes": sizes, "cores_used_by_others": others, "steps": figures}
        results["scenes"].update(scenes)
        results["all scenes of a suite, median"][suite] = over_scenes(scenes.values())
        for name, measured in scenes.items():
            print(f"{name}: {measured['sizes']}; {measured['cores_used_by_others']} cores used by others")
        for name, figures in results["all scenes of a suite, median"][suite].items():
            print(f"  {name:<30}" + "".join(f"{key} {value:7.2f}  " for key, value in figures.items()))
    if out is not None:
        command = f"python benchmarks/tables_speed.py --profile {profile_name} --count {count} --runs {runs}"
        waiting = os.environ.get("OMP_WAIT_POLICY", "not set")
        content = {"command": command, "OMP_WAIT_POLICY": waiting, "environment": environment(), **results}
        out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
