"""A method in a process of its own: its memory and its processor time are then nobody else's, and its cores can be limited.

The process waits for orders on a pipe and does nothing in between; so many of them can take turns on the same frames.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, cast

from end2reg_ros.apps.bench import worker
from end2reg_ros.apps.bench.input import StoredFrame
from end2reg_ros.apps.bench.methods import MethodSpec, engine_options, set_up
from end2reg_ros.apps.bench.runner import Array, Memory, MethodRunner, TimedFrame, TimedRegistration, memory
from end2reg_ros.errors import End2RegError
from end2reg_ros.registration.end2reg import End2RegRegistrar
from end2reg_ros.registration.interface import Registrar
from end2reg_ros.registration.types import Prior

SECONDS_TO_LEAVE = 5.0
Work = Callable[[Connection, int, Path], None]


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
    """A process with a ``MethodRunner`` inside, as it is used from outside.

    Every order raises End2RegError when the process cannot do it, or has ended.
    """

    def __init__(self, spec: MethodSpec, log: Path, work: Work = worker.work) -> None:
        """Start the process.

        Args:
            log: file for what it prints.
            work: what it runs: limits its cores and then calls ``serve``.
        """
        self.spec, self._log = spec, log
        self._pipe, far = Pipe()
        log.touch()
        self._process = get_context("spawn").Process(target=work, args=(far, spec.cores, log), daemon=True)
        self._process.start()
        far.close()

    def set_up(self, case: Path) -> SetUp:
        """Load the case and the method, and warm up."""
        return cast(SetUp, self._ask("set_up", self.spec, case))

    def begin(self, prior: Prior, paced: bool = False) -> None:
        """A new stream that starts from a prior; ``paced``: no frame comes before its stamp says so."""
        self._ask("begin", prior, paced)

    def run(self, frames: Sequence[StoredFrame]) -> list[TimedFrame]:
        """The next frames of the stream; returns when the process is quiet again."""
        return cast(list[TimedFrame], self._ask("run", frames))

    def from_nothing(self, view: StoredFrame) -> TimedRegistration:
        """Register a view without any start."""
        return cast(TimedRegistration, self._ask("from_nothing", view))

    def follow(self, frame: StoredFrame, T_camera_model: Array) -> TimedRegistration:
        """Register a frame as the next one of a track that was last at this pose."""
        return cast(TimedRegistration, self._ask("follow", frame, T_camera_model))

    def memory(self) -> Memory:
        """Resident memory of the process."""
        return cast(Memory, self._ask("memory"))

    def network_parts(self, frame: StoredFrame, repeats: int) -> dict[str, float]:
        """Part of a network's pass -> median milliseconds; empty without a network."""
        return cast(dict[str, float], self._ask("network_parts", frame, repeats))

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(SECONDS_TO_LEAVE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, order: str, *arguments: object) -> Any:
        try:
            self._pipe.send((order, arguments))
            fault, answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(SECONDS_TO_LEAVE)
            raise End2RegError(
                f"the process of {self.spec.label} ended ({self._process.exitcode}): {self._last_words()}"
            ) from None
        if fault is not None:
            raise End2RegError(fault)
        return answer

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"


def serve(pipe: Connection) -> None:
    """Answer orders until the other end is closed. An error of the user's is sent back, any other ends the process."""
    runner: MethodRunner | None = None
    while True:
        try:
            order, arguments = pipe.recv()
        except EOFError:
            return
        try:
            if order == "set_up":
                runner, answer = _set_up(*arguments)
            elif runner is None:
                raise End2RegError("no method is set up")
            else:
                answer = getattr(runner, order)(*arguments)
            pipe.send((None, answer))
        except End2RegError as fault:
            pipe.send((str(fault), None))


def _set_up(spec: MethodSpec, path: Path) -> tuple[MethodRunner, SetUp]:
    from end2reg_ros.case import load_case

    before = memory().rss_mb
    began = time.perf_counter()
    case = load_case(path)
    registrar = set_up(spec, case)
    loaded = time.perf_counter()
    registrar.warm_up()
    warm = time.perf_counter()
    weights = engine_options(spec, case).weights if spec.engine else None
    found = SetUp(loaded - began, warm - loaded, before, engine_document(registrar))
    return MethodRunner(case, registrar, weights), found


def engine_document(registrar: Registrar) -> dict[str, Any]:
    """What a learned method's engine says of itself, without the training record; empty for the others."""
    return registrar.network.engine.info.document() if isinstance(registrar, End2RegRegistrar) else {}
