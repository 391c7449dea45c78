"""A method in a process of its own: its memory and its processor time are then nobody else's, and its cores can be limited.

The process waits for orders on a pipe and does nothing in between; so many of them can take turns on the same frames.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import end2reg_ros
from end2reg_ros.apps.bench.input import StoredFrame
from end2reg_ros.apps.bench.methods import MethodSpec, engine_options, set_up
from end2reg_ros.apps.bench.network import network_parts
from end2reg_ros.apps.bench.runner import Array, FrameRow, Memory, MethodRunner, StepRow, memory
from end2reg_ros.errors import End2RegError
from end2reg_ros.registration.end2reg import End2RegRegistrar
from end2reg_ros.registration.types import Prior, Registrar

SECONDS_TO_LEAVE = 5.0


@dataclass(frozen=True)
class SetUp:
    """How a method was set up.

    Attributes:
        load_s: from nothing but a case folder to a registrar.
        warm_up_s: of its warm-up.
        engine: what the network's engine says of itself; empty for a method without.
        packages_mb: resident memory once the packages were imported, before the case was read.
    """

    load_s: float
    warm_up_s: float
    packages_mb: float
    engine: dict[str, Any] = field(default_factory=dict)


class MethodProcess:
    """The near end: starts the process and sends it orders."""

    def __init__(self, spec: MethodSpec, entry: str, log: Path) -> None:
        """Start the process.

        Args:
            entry: module that limits the process's cores and then calls ``serve``.
            log: file for what it prints.
        """
        self.spec, self._log = spec, log
        self._pipe, far = Pipe()
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # as in the node
        root = str(Path(end2reg_ros.__file__).parents[1])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", entry, str(far.fileno()), str(spec.cores)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                pass_fds=(far.fileno(),),
            )
        far.close()

    def set_up(self, case: Path) -> SetUp:
        """Load the case and the method, and warm up.

        Raises:
            End2RegError: something that the method needs is missing.
        """
        found: SetUp = self._ask("set_up", self.spec, case)
        return found

    def begin(self, prior: Prior, paced: bool = False) -> None:
        """See ``MethodRunner.begin``."""
        self._ask("begin", prior, paced)

    def run(self, frames: Sequence[StoredFrame]) -> list[FrameRow]:
        """See ``MethodRunner.run``."""
        rows: list[FrameRow] = self._ask("run", frames)
        return rows

    def from_nothing(self, view: StoredFrame) -> StepRow:
        """See ``MethodRunner.from_nothing``."""
        row: StepRow = self._ask("from_nothing", view)
        return row

    def follow(self, frame: StoredFrame, T_camera_model: Array) -> StepRow:
        """See ``MethodRunner.follow``."""
        row: StepRow = self._ask("follow", frame, T_camera_model)
        return row

    def memory(self) -> Memory:
        """See ``runner.memory``."""
        found: Memory = self._ask("memory")
        return found

    def network_parts(self, frame: StoredFrame, repeats: int) -> dict[str, float]:
        """See ``speed_network.network_parts``."""
        parts: dict[str, float] = self._ask("network_parts", frame, repeats)
        return parts

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        try:
            self._process.wait(SECONDS_TO_LEAVE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, order: str, *arguments: object) -> Any:
        try:
            self._pipe.send((order, arguments))
            fault, answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.wait(SECONDS_TO_LEAVE)
            raise End2RegError(
                f"the process of {self.spec.label} ended ({self._process.returncode}): {self._last_words()}"
            ) from None
        if fault is not None:
            raise End2RegError(fault)
        return answer

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"


class Server:
    """The far end: one method, set up on order. An error of the user's is sent back, any other ends the process."""

    def __init__(self) -> None:
        self._runner: MethodRunner | None = None
        self._weights: Path | None = None

    def serve(self, pipe: Connection) -> None:
        """Answer until the other end is closed."""
        while True:
            try:
                order, arguments = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send((None, self._orders()[order](*arguments)))
            except End2RegError as fault:
                pipe.send((str(fault), None))

    def _orders(self) -> dict[str, Callable[..., Any]]:
        return {
            "set_up": self.set_up,
            "begin": lambda prior, paced: self.runner.begin(prior, paced),
            "run": lambda frames: self.runner.run(frames),
            "from_nothing": lambda view: self.runner.from_nothing(view),
            "follow": lambda frame, T: self.runner.follow(frame, T),
            "memory": memory,
            "network_parts": self.network_parts,
        }

    @property
    def runner(self) -> MethodRunner:
        """Of the method that was set up."""
        if self._runner is None:
            raise End2RegError("no method is set up")
        return self._runner

    def set_up(self, spec: MethodSpec, path: Path) -> SetUp:
        """See ``MethodProcess.set_up``."""
        from end2reg_ros.case import load_case

        before = memory().rss_mb
        began = time.perf_counter()
        case = load_case(path)
        registrar = set_up(spec, case)
        loaded = time.perf_counter()
        registrar.warm_up()
        self._runner = MethodRunner(case, registrar)
        self._weights = engine_options(spec, case).weights if spec.engine else None
        return SetUp(loaded - began, time.perf_counter() - loaded, before, engine_document(registrar))

    def network_parts(self, frame: StoredFrame, repeats: int) -> dict[str, float]:
        """See ``speed_network.network_parts``."""
        runner = self.runner
        cloud = runner.cloud_of(frame)
        return network_parts(runner.registrar, cloud, frame.T_camera_model, self._weights, repeats)


def serve(descriptor: int) -> None:
    """Answer orders on an inherited pipe until its other end is closed."""
    with Connection(descriptor) as pipe:
        Server().serve(pipe)


def engine_document(registrar: Registrar) -> dict[str, Any]:
    """What a learned method's engine says of itself, without the training record; empty for the others."""
    if not isinstance(registrar, End2RegRegistrar):
        return {}
    info = asdict(registrar.search.engine.info)
    return {name: value for name, value in info.items() if name != "record"}
