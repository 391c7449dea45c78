"""``end2reg bench``: what a frame costs, stage by stage, and how good its pose is; ``end2reg bench demo``: with the nodes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from end2reg_ros.apps.demo.settings import DemoSettings
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.errors import End2RegError

if TYPE_CHECKING:
    from end2reg_ros.apps.bench.speed import SpeedSettings

Scenario = Literal["demo", "still", "stress", "leave", "theatre", "occlude"]


@dataclass
class BenchMethods:
    """Speed, memory and error of methods on a simulated sequence, through the node's own path without ROS, as JSON.

    Every method has a process of its own; they take turns on the same frames. Methods whose packages are missing are
    named and left out. Exit code 0: every method that was measured published poses, and none of those sent as TRACKING
    was off by more than 10 mm. `end2reg bench demo` measures the nodes over ROS 2.
    """

    case: Path | None = None
    """Case folder to track. Default: the simulated anatomy that comes with the package."""
    methods: tuple[str, ...] = (
        "end2reg:onnxruntime",
        "end2reg:torch",
        "icp",
        "ransac_icp",
        "kiss_matcher_icp",
    )
    """Methods; a learned one may name its engine (onnxruntime, tensorrt, torch, auto) and its passes (every_frame, background,
    auto), as in end2reg:onnxruntime:background."""
    frames: int = 150
    """Clouds of the sequence, 640x480."""
    views: int = 8
    """Clouds that are registered from nothing."""
    rate: float = 15.0
    """Clouds per second, Hz."""
    paced: bool = True
    """Clouds come at that rate; else as fast as each method takes them."""
    scenario: Scenario = "demo"
    """What happens in front of the camera."""
    seed: int = 0
    """Of the wound, the picked landmarks, the noise and the motion."""
    points: tuple[int, ...] = (20_000, 100_000, 300_000, 1_000_000)
    """Cloud sizes of the scaling, points; none: no scaling."""
    threads: int = EngineOptions.threads
    """Threads of a method's network and neighbour searches."""
    cores: int = 2
    """Cores that a method may use."""
    thread_counts: tuple[int, ...] = (1, 2)
    """Numbers of threads and of cores that are compared; none: no comparison."""
    device: str = "cpu"
    """Where the network runs: cpu or cuda."""
    weights: Path | None = None
    """Weights file of the network. Default: the case's own, else the shipped."""
    quick: bool = False
    """A few frames, one cloud size, no comparison of threads: to see that it works."""
    out: Path | None = None
    """Folder for bench.json, bench.md and the pictures; made if missing."""
    json: bool = False
    """Print bench.json on standard output instead of the tables."""

    def run(self) -> int:
        """Run it; returns the exit code."""
        from end2reg_ros.apps.bench.speed import bench

        return bench(self.case, self.settings(), self.out, self.json)

    def settings(self) -> SpeedSettings:
        """What is run.

        Raises:
            End2RegError: an option out of its range, or an unknown method.
        """
        from end2reg_ros.apps.bench.input import StreamPlan
        from end2reg_ros.apps.bench.methods import parse_method
        from end2reg_ros.apps.bench.scaling import ScalingPlan
        from end2reg_ros.apps.bench.speed import SpeedSettings

        self._check()
        specs = [
            replace(parse_method(name, self.threads, self.device, self.weights), cores=self.cores)
            for name in dict.fromkeys(self.methods)
        ]
        plan = StreamPlan(self.seed, self.scenario, self.frames, self.views, self.rate)
        scaling = ScalingPlan(tuple(dict.fromkeys(self.points))) if self.points else None
        counts = tuple(dict.fromkeys(self.thread_counts))
        settings = SpeedSettings(tuple(specs), plan, scaling, counts, paced=self.paced)
        if not self.quick:
            return settings
        few = replace(plan, frames=min(self.frames, 6), views=min(self.views, 1))
        one = None if scaling is None else replace(scaling, points=scaling.points[:1], frames=4, views=1)
        return replace(settings, plan=few, scaling=one, threads=(), block=2, repeats=2)

    def _check(self) -> None:
        if not self.methods:
            raise End2RegError("--methods needs at least one name")
        for name, value, least in (
            ("frames", self.frames, 4),
            ("views", self.views, 0),
            ("seed", self.seed, 0),
            ("threads", self.threads, 1),
            ("cores", self.cores, 1),
            *(("points", points, 1000) for points in self.points),
            *(("thread-counts", count, 1) for count in self.thread_counts),
        ):
            if value < least:
                raise End2RegError(f"--{name} is {value}, must be at least {least}")
        if max(self.points, default=0) > 2_000_000:
            raise End2RegError(
                f"--points is {max(self.points)}, must be at most 2000000: larger clouds are thinned"
            )
        if not 0.1 <= self.rate <= 1000.0:
            raise End2RegError(f"--rate is {self.rate:g}, must lie in 0.1 .. 1000")


@dataclass(frozen=True)
class BenchDemo(DemoSettings):
    """Speed, latency, memory and error of the tracker node, heard over ROS 2, as JSON and a Markdown table.

    Runs the demo's nodes once per seed. Exit code 0: every run was good (as in `end2reg demo`). `end2reg bench` measures
    methods stage by stage without ROS.
    """

    seed: tyro.conf.Suppress[int] = 0
    seeds: str = "0"
    """Seeds, as in 0-9 or 0,3,5."""
    out: Path | None = None
    """JSON file to write."""
    json: bool = False
    """Print the JSON on standard output instead of the Markdown table."""

    def run(self) -> int:
        """Run it; returns the exit code."""
        from end2reg_ros.apps.demo.seeds import bench_demo, parse_seeds

        return bench_demo(self, parse_seeds(self.seeds), self.out, self.json)
