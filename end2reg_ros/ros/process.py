"""A node's process: one clear line for every fault, ended by SIGINT or SIGTERM within two seconds."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from end2reg_ros.errors import End2RegError
from end2reg_ros.runtime.memory import keep_freed_memory

if TYPE_CHECKING:
    from rclpy.node import Node

WAKE_S = 0.1


class ProcessFault(End2RegError):
    """The process cannot start."""


class Stop(BaseException):
    """SIGINT or SIGTERM came during set-up. Not an ``Exception``: nothing may swallow it."""


class StopSignal:
    """Notes SIGINT and SIGTERM; until ``defer`` it interrupts at once, then it only sets ``requested``."""

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def defer(self) -> None:
        """From now on the caller looks at ``requested``.

        Raises:
            Stop: it came before.
        """
        self._deferred = True
        if self.requested:
            raise Stop

    def ignore(self) -> None:
        """A second Ctrl-C must not break the clean-up."""
        self._deferred = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if not self._deferred:
            self._deferred = True
            raise Stop


class Application(Protocol):
    """A node that can be started and closed; ``exit_code`` is set when the process shall end by itself."""

    @property
    def node(self) -> Node: ...
    @property
    def exit_code(self) -> int | None: ...
    def start(self) -> None: ...
    def close(self) -> None: ...


class SelfEnding(Protocol):
    """A node that ends by itself: ``exit_code`` is None until then."""

    exit_code: int | None

    def start(self) -> None: ...
    def close(self) -> None: ...


class NodeApplication:
    """The ``Application`` of a node that starts, closes and ends by itself."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self._self_ending: SelfEnding = node

    @property
    def exit_code(self) -> int | None:
        """The node's."""
        return self._self_ending.exit_code

    def start(self) -> None:
        """Begin the node's work."""
        self._self_ending.start()

    def close(self) -> None:
        """End the node's threads."""
        self._self_ending.close()


def run(make: Callable[[], Application], arguments: Sequence[str] | None = None) -> int:
    """Set up ROS, make and spin the application in one single-threaded executor; return the exit code."""
    stop = StopSignal()
    keep_freed_memory()
    # OpenBLAS wakes all cores for products of (N, 3) with (3, 3) and lets them spin: on two cores twice the CPU time and
    # twice the latency. It reads this when numpy is first imported, which no module imported so far does.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        return _serve(stop, make, sys.argv if arguments is None else arguments)
    except Stop:
        return 0
    except End2RegError as fault:
        print(f"error: {fault}", file=sys.stderr, flush=True)
        return 1
    except ImportError as fault:
        text = (
            f"error: {fault}: run 'source .venv/bin/activate' in the package's folder ('make setup' makes it)"
        )
        print(text, file=sys.stderr, flush=True)
        return 1
    finally:
        # A lifecycle node is part of a cycle; while it lives, so do its participant's shared memory files.
        gc.collect()


def _serve(stop: StopSignal, make: Callable[[], Application], arguments: Sequence[str]) -> int:
    application: Application | None = None
    executor = _make_executor(arguments)
    try:
        application = make()
        executor.add_node(application.node)
        application.start()
        stop.defer()
        while not stop.requested and application.exit_code is None:
            executor.spin_once(timeout_sec=WAKE_S)
        return application.exit_code or 0
    finally:
        stop.ignore()
        _close(application, executor)


def leave(code: int) -> NoReturn:
    """End the process at once: the destructors of the libraries take a second and have nothing left to do."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _make_executor(arguments: Sequence[str]) -> Any:
    try:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.signals import SignalHandlerOptions
    except ImportError as fault:
        text = f"ROS 2 is not available ({fault}): run 'make setup', or source a ROS 2 installation"
        raise ProcessFault(text) from None
    try:
        rclpy.init(args=list(arguments), signal_handler_options=SignalHandlerOptions.NO)
    except Exception as fault:  # rclpy has a class of its own for each kind of bad argument
        raise ProcessFault(f"ROS 2 cannot start: {str(fault).splitlines()[0]}") from None
    try:
        # Woken by events instead of asking everything in turn, in Python, at each wake: the poses' thread gets the
        # interpreter that this saves (at 30 Hz on two cores: pose age p50 29 ms instead of 50).
        from rclpy.experimental import EventsExecutor
    except ImportError:  # Humble, and early releases of Jazzy
        return SingleThreadedExecutor()
    return EventsExecutor()


def _close(application: Application | None, executor: Any) -> None:
    import rclpy

    if application is not None:
        application.close()
        executor.remove_node(application.node)
        application.node.destroy_node()
    executor.shutdown()
    if rclpy.ok():
        rclpy.shutdown()
