"""Real nodes in processes of their own, and an ear in the test's process that hears them over DDS."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "config" / "fastdds.xml"
# A node ends within two seconds of a signal: one test holds it to that. The others allow for a busy machine.
PROMISED_END_S, END_LIMIT_S = 2.0, 6.0
Array = NDArray[np.float64]


def environment(domain: int) -> dict[str, str]:
    """Of a node's process: this machine only, a domain of its own, the transport that users get."""
    return os.environ | {
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(PROFILE),
        "FASTDDS_DEFAULT_PROFILES_FILE": str(PROFILE),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }


def free_domain() -> int:
    """A domain that no other test run on this machine is likely to use."""
    return random.SystemRandom().randint(1, 100)


class Process:
    """A node's process and what it prints."""

    def __init__(self, domain: int, module: str, *arguments: str) -> None:
        self._file = tempfile.NamedTemporaryFile("w+", suffix=".log")  # noqa: SIM115
        command = [sys.executable, "-m", module, "--ros-args", *arguments]
        self.popen = subprocess.Popen(
            command, stdout=self._file, stderr=subprocess.STDOUT, env=environment(domain), cwd=ROOT
        )

    @property
    def output(self) -> str:
        """Everything printed so far."""
        return Path(self._file.name).read_text()

    def end(self, number: int = signal.SIGINT, timeout_s: float = 10.0) -> tuple[int, float]:
        """Send a signal; exit code and seconds until the end. A process that does not end is killed."""
        began = time.monotonic()
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        try:
            code = self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise
        return code, time.monotonic() - began

    def close(self) -> None:
        """Make sure that nothing stays."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        self._file.close()


class Ear:
    """A node in this process. Messages are kept in order of arrival; transforms by stamp."""

    def __init__(self, domain: int) -> None:
        os.environ.update({k: v for k, v in environment(domain).items() if k.endswith("_FILE")})
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        import rclpy
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor

        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node("ear", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.heard: dict[str, list[Any]] = defaultdict(list)
        self.transforms: dict[int, dict[str, tuple[str, Array]]] = defaultdict(dict)
        self.tf_messages: list[list[tuple[int, str]]] = []
        self.detached: list[int] = []  # stamps at which TF was told that there is no pose
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.05)

    def hear(self, kind: type, topic: str, profile: Any, key: str | None = None) -> Any:
        """Keep all messages of a topic under ``key``."""
        store = self.heard[key or topic]
        return self.node.create_subscription(kind, topic, store.append, profile)

    def hear_tf(self) -> None:
        """Keep all transforms of /tf by stamp and child frame."""
        from tf2_msgs.msg import TFMessage

        from end2reg_ros.ros import qos

        self.node.create_subscription(TFMessage, "/tf", self._on_tf, qos.tf())

    def _on_tf(self, message: Any) -> None:
        from end2reg_ros import names
        from end2reg_ros.ros.conversions import matrix_from_transform, ns_from_stamp

        if [t.header.frame_id for t in message.transforms] == [names.UNTRACKED]:
            self.detached.append(ns_from_stamp(message.transforms[0].header.stamp))
            return
        entries = []
        for t in message.transforms:
            stamp_ns = ns_from_stamp(t.header.stamp)
            T = matrix_from_transform(t.transform)
            entries.append((stamp_ns, t.child_frame_id))
            self.transforms[stamp_ns][t.child_frame_id] = (t.header.frame_id, T)
        self.tf_messages.append(entries)

    def call(self, kind: type, service: str, request: Any, timeout_s: float = 10.0) -> Any:
        """Call a service and wait for its answer."""
        client = self.node.create_client(kind, service)
        assert client.wait_for_service(timeout_s), f"no service {service}"
        future = client.call_async(request)
        wait(future.done, timeout_s, lambda: f"no answer from {service}")
        self.node.destroy_client(client)
        return future.result()

    def close(self) -> None:
        """Leave the graph."""
        self._stop.set()
        self._thread.join(5)
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.shutdown()


def wait(condition: Callable[[], bool], timeout_s: float, what: Callable[[], str] = lambda: "") -> None:
    """Wait for a condition; the failure says what was seen instead."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out after {timeout_s:.0f} s: {what()}")
        time.sleep(0.01)
