"""Times the decoders on the layouts of real drivers: ``python benchmarks/decode.py [--json FILE]``."""

from __future__ import annotations

import array
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Annotated, Any

import numpy as np
import tyro

from end2reg_ros.cloud.depth import decode_depth
from end2reg_ros.cloud.pointcloud2 import decode
from end2reg_ros.cloud.ros_messages import (
    CameraInfo,
    Image,
    PointCloud2,
    PointField,
    RegionOfInterest,
    header,
)
from end2reg_ros.cloud.voxel import voxel_downsample
from end2reg_ros.evaluation.host import environment

HEADER = header("camera_depth_optical_frame", 1_000_000_000)
INVALID = 0.3


def cloud_message(height: int, width: int, point_step: int, rgb_offset: int) -> PointCloud2:
    """x, y, z, rgb as floats; 30 % of the points NaN."""
    rng = np.random.default_rng(0)
    count = height * width
    names, offsets = ["x", "y", "z", "rgb"], [0, 4, 8, rgb_offset]
    dtype = np.dtype({"names": names, "formats": ["<f4"] * 4, "offsets": offsets, "itemsize": point_step})
    table = np.zeros(count, dtype)
    invalid = rng.random(count) < INVALID
    for name in "xyz":
        table[name] = np.where(invalid, np.nan, rng.uniform(0.3, 0.8, count))
    fields = [PointField(name, offset, 7, 1) for name, offset in zip(names, offsets, strict=True)]
    data = array.array("B", table.tobytes())
    return PointCloud2(HEADER, height, width, fields, False, point_step, width * point_step, data, False)


def depth_messages(height: int, width: int) -> tuple[Image, CameraInfo, Image]:
    """16UC1 with 30 % zero, its camera_info, rgb8."""
    rng = np.random.default_rng(0)
    depth = rng.integers(300, 800, (height, width)).astype("<u2")
    depth[rng.random((height, width)) < INVALID] = 0
    colour = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    K = np.array([610.0, 0, width / 2, 0, 610.0, height / 2, 0, 0, 1])
    whole = RegionOfInterest(0, 0, 0, 0, False)
    info = CameraInfo(
        HEADER, height, width, "plumb_bob", np.zeros(5), K, np.eye(3).ravel(), np.zeros(12), 0, 0, whole
    )
    return (
        Image(HEADER, height, width, "16UC1", 0, 2 * width, depth.tobytes()),
        info,
        Image(HEADER, height, width, "rgb8", 0, 3 * width, colour.tobytes()),
    )


def measure(name: str, action: Callable[[], Any], runs: int) -> dict[str, Any]:
    """Milliseconds of ``runs`` calls after one that warms up; CPU time beside, for a machine with other work."""
    action()
    times, cpu = [], []
    for _ in range(runs):
        started, cpu_started = perf_counter(), process_time()
        action()
        times.append(1000.0 * (perf_counter() - started))
        cpu.append(1000.0 * (process_time() - cpu_started))
    low, median, p95 = (round(float(v), 2) for v in np.percentile(times, [0, 50, 95]))
    cpu_median = round(float(np.median(cpu)), 2)
    print(f"{name:<58} min {low:7.2f}  median {median:7.2f}  p95 {p95:7.2f}  CPU {cpu_median:7.2f} ms")
    figures = {"min_ms": low, "median_ms": median, "p95_ms": p95, "cpu_median_ms": cpu_median}
    return {"name": name, "runs": runs, **figures}


def run(runs: int) -> list[dict[str, Any]]:
    """All measurements."""
    results = []
    for height, width in ((480, 640), (720, 1280)):
        for point_step, rgb_offset in ((16, 12), (20, 16), (32, 16)):
            message = cloud_message(height, width, point_step, rgb_offset)
            name = f"PointCloud2 {width}x{height}, point_step {point_step}, 30 % NaN"
            results.append(measure(name, lambda m=message: decode(m), runs))  # type: ignore[misc]
        depth, info, colour = depth_messages(height, width)
        name = f"depth 16UC1 + rgb8 {width}x{height}, 30 % zero"
        results.append(measure(name, lambda d=depth, i=info, c=colour: decode_depth(d, i, c), runs))  # type: ignore[misc]
    for voxel in (0.002, 0.005):
        cloud = decode(cloud_message(480, 640, 16, 12))
        name = f"voxel grid {1000 * voxel:g} mm of {len(cloud.points)} coloured points"
        results.append(measure(name, lambda c=cloud, v=voxel: voxel_downsample(c.points, v, c.colours), runs))  # type: ignore[misc]
    huge = cloud_message(1, 10_000_000, 16, 12)
    results.append(measure("PointCloud2 of 10 000 000 points (thinned)", lambda: decode(huge), 5))
    tracemalloc.start()
    decode(huge)
    results[-1]["peak_mib"] = round(tracemalloc.get_traced_memory()[1] / 2**20, 1)
    tracemalloc.stop()
    print(f"{'':<58} peak {results[-1]['peak_mib']} MiB beside the message")
    return results


def main(out: Annotated[Path | None, tyro.conf.arg(name="json")] = None, runs: int = 40) -> None:
    """Measure, print, write.

    Args:
        out: file for the figures.
        runs: calls of each.
    """
    results = run(runs)
    if out is not None:
        command = f"python benchmarks/decode.py --runs {runs} --json {out.name}"
        content = {"command": command, "environment": environment(), "results": results}
        out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
