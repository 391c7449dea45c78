"""Child processes of the demo: real ROS 2 nodes of their own, stopped in order, never left behind."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import yaml

import end2reg_ros
from end2reg_ros.apps.demo.record import Usage
from end2reg_ros.errors import End2RegError

STOP_SECONDS = 3.0


class DemoError(End2RegError):
    """The demo cannot run, or one of its processes failed."""


@dataclass(frozen=True)
class NodeSpec:
    """A node to start: ``python -m module`` with parameters and remappings; ``logs`` is where its output goes."""

    name: str
    module: str
    parameters: dict[str, Any]
    logs: Path
    remappings: dict[str, str] = field(default_factory=dict)
    pipe: bool = False  # standard output comes to the parent instead of the log


class Child:
    """A running node."""

    def __init__(self, spec: NodeSpec, environment: dict[str, str]) -> None:
        self.spec = spec
        self.log = spec.logs / f"{spec.name}.log"
        parameter_file = spec.logs / f"{spec.name}.yaml"
        # A file and not ``-p``: there a path with a blank, a colon or a '#' would be read as YAML.
        parameter_file.write_text(yaml.safe_dump({"/**": {"ros__parameters": spec.parameters}}))
        command = [sys.executable, "-m", spec.module, "--ros-args", "--params-file", str(parameter_file)]
        for source, target in spec.remappings.items():
            command += ["-r", f"{source}:={target}"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if spec.pipe else log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops its nodes in order
                preexec_fn=_die_with_parent(),
            )
        self._interrupted = False
        self._meter = psutil.Process(self.process.pid)
        self._cpu: list[float] = []
        self._rss_mb = 0.0
        self.sample()
        self._cpu.clear()  # psutil's first figure has no interval behind it

    def sample(self) -> None:
        """Take one CPU and memory figure."""
        with contextlib.suppress(psutil.Error):
            self._cpu.append(self._meter.cpu_percent())
            self._rss_mb = max(self._rss_mb, self._meter.memory_info().rss / 1e6)

    def forget_samples(self) -> None:
        """Leave out what was spent on starting."""
        self.sample()
        self._cpu.clear()

    def usage(self) -> Usage:
        """The cost over the samples."""
        if not self._cpu:
            return Usage(rss_mb=self._rss_mb or None)
        return Usage(sum(self._cpu) / len(self._cpu), max(self._cpu), self._rss_mb)

    def check(self) -> None:
        """Raise ``DemoError`` when the process has ended."""
        code = self.process.poll()
        if code is not None:
            raise DemoError(
                f"the {self.spec.name} ended with {exit_text(code)}: {self.last_words()} (see {self.log})"
            )

    def last_words(self) -> str:
        """The last line of its log that says something."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """SIGINT, then SIGKILL after ``seconds``; returns the exit code."""
        self.interrupt()
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def interrupt(self) -> None:
        """SIGINT, once: a second one could hit a process that is already cleaning up."""
        if not self._interrupted and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self._interrupted = True


def exit_text(code: int) -> str:
    """An exit code in words."""
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def stop_all(children: Sequence[Child], announce: Callable[[], None] = lambda: None) -> dict[str, int]:
    """Stop in the given order, all but the last at once; Ctrl-C cannot interrupt it. Returns name -> exit code."""
    with _deaf():
        announce()
        for child in children[:-1]:
            child.interrupt()
        return {child.spec.name: child.stop() for child in children}


class NodeGroup:
    """Nodes that run together, first started first; see ``node_group``.

    Attributes:
        children: those that were started.
        codes: name -> exit code, once the group was stopped.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.children: list[Child] = []
        self.codes: dict[str, int] = {}
        self._environment = environment
        self._sampled = time.monotonic()

    def start(self, spec: NodeSpec) -> Child:
        """Start one more node."""
        with interrupts_held_back():
            self.children.append(Child(spec, self._environment))
        return self.children[-1]

    def check(self) -> None:
        """Raise ``DemoError`` when one of them has ended."""
        for child in self.children:
            child.check()

    def wait(self, ready: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait until ``ready``.

        Raises:
            DemoError: one of the nodes ended, or it took longer than ``seconds``; ``what`` was waited for.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if not wait_until(deadline):
                logs = self.children[0].spec.logs
                raise DemoError(
                    f"nothing was heard of {what} in {seconds:.0f} s; what the nodes said is in {logs}"
                )

    def forget_samples(self) -> None:
        """Leave out of the costs what was spent until now."""
        self._sampled = time.monotonic()
        for child in self.children:
            child.forget_samples()

    def watch(self) -> None:
        """Check that all run; once a second sample their costs."""
        self.check()
        now = time.monotonic()
        if now - self._sampled >= 1.0:
            self._sampled = now
            for child in self.children:
                child.sample()

    def faults(self) -> list[str]:
        """The nodes that did not end cleanly, one sentence each."""
        return [f"the {name} ended with {exit_text(code)}" for name, code in self.codes.items() if code != 0]


@contextlib.contextmanager
def node_group(announce: Callable[[], None] = lambda: None) -> Iterator[NodeGroup]:
    """A group whose nodes are stopped when the block is left, the first started last; Ctrl-C cannot interrupt that.

    SIGTERM and SIGHUP leave the block as Ctrl-C does. ``announce`` is called before the nodes are stopped.
    """
    group = NodeGroup(nodes_environment())
    with terminate_as_interrupt():
        try:
            yield group
        finally:
            group.codes = stop_all(group.children[::-1], announce)


class JsonLines:
    """The JSON lines that a child with ``pipe`` prints, read in a thread."""

    def __init__(self, child: Child) -> None:
        self._queue: queue.SimpleQueue[tuple[float, dict[str, Any]]] = queue.SimpleQueue()
        self._stream = child.process.stdout
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def take(self) -> list[tuple[float, dict[str, Any]]]:
        """All lines that came since, each with the time of its arrival (seconds since the epoch)."""
        lines = []
        while not self._queue.empty():
            lines.append(self._queue.get())
        return lines

    def join(self) -> None:
        """Wait for the end of the output."""
        self._thread.join(timeout=2.0)

    def _read(self) -> None:
        assert self._stream is not None
        for raw in self._stream:
            if raw.startswith(b"{"):
                self._queue.put((time.time(), json.loads(raw)))


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does: with its nodes stopped."""

    def handler(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _signals({signal.SIGTERM: handler, signal.SIGHUP: handler}):
        yield


@contextlib.contextmanager
def interrupts_held_back() -> Iterator[None]:
    """A signal that comes meanwhile interrupts afterwards.

    For the start of a child: Python swallows what is raised in a callback of ``fork``, and a child that is not yet in
    the list would not be stopped.
    """
    noted: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        noted.append(number)

    with _signals(dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), handler)):
        yield
    if noted:
        raise KeyboardInterrupt


def nodes_environment() -> dict[str, str]:
    """Environment of the nodes: our transport profile, a free domain, this machine only.

    Raises:
        DemoError: the transport profile is not where an installation puts it.
    """
    environment = dict(os.environ)
    profile = str(transport_profile())
    environment.update(
        FASTRTPS_DEFAULT_PROFILES_FILE=profile,  # Humble's name
        FASTDDS_DEFAULT_PROFILES_FILE=profile,
        ROS_DOMAIN_ID=str(free_domain()),
        ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
        PYTHONUNBUFFERED="1",
        # Each node has threads of its own; two BLAS pools on few cores only wait for each other.
        OPENBLAS_NUM_THREADS="1",
    )
    if environment.get("ROS_DISTRO") == "humble":
        environment["ROS_LOCALHOST_ONLY"] = "1"
    else:
        environment.pop("ROS_LOCALHOST_ONLY", None)
    root = str(Path(end2reg_ros.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    return environment


def transport_profile() -> Path:
    """``config/fastdds.xml`` of the checkout, of the pip installation or of the ROS workspace.

    Raises:
        DemoError: none of them.
    """
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    package = Path(end2reg_ros.__file__).resolve().parent
    candidates = [package.parent / "config" / "fastdds.xml"]
    candidates += [
        p / "share" / "end2reg_ros" / "config" / "fastdds.xml" for p in (*prefixes, Path(sys.prefix))
    ]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise DemoError(f"config/fastdds.xml is missing: looked at {', '.join(map(str, candidates))}")


def free_domain() -> int:
    """A ROS domain that nobody on this machine uses: the first participant's port of it can be bound."""
    domains = list(range(1, 102))  # above 101 the ports run into Linux's ephemeral ones
    random.SystemRandom().shuffle(domains)
    for domain in domains:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", 7400 + 250 * domain + 10))
            except OSError:
                continue
            return domain
    raise DemoError("every ROS domain from 1 to 101 is in use on this machine")


def wait_until(deadline: float, step: float = 0.05) -> bool:
    """Sleep one step; False once ``deadline`` (``time.monotonic``) has passed."""
    time.sleep(step)
    return time.monotonic() < deadline


def _die_with_parent() -> Callable[[], None] | None:
    """For the child: the kernel kills it when the demo is killed in a way that leaves no time to stop it."""
    if sys.platform != "linux":
        return None
    pr_set_pdeathsig = 1
    prctl = ctypes.CDLL(None).prctl  # looked up here: between fork and exec as little as possible may happen
    return lambda: prctl(pr_set_pdeathsig, signal.SIGKILL)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    with _signals(dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN)):
        yield


@contextlib.contextmanager
def _signals(handlers: dict[signal.Signals, Any]) -> Iterator[None]:
    try:
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    except ValueError:  # not the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
