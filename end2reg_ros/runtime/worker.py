"""One working thread: the newest frame wins, no command is lost. Free of ROS."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

Frame = TypeVar("Frame")
Job = Callable[[], object]


class Worker(Generic[Frame]):
    """Runs ``work(frame)`` for the newest frame in a thread of its own; commands run before it, in order.

    Args:
        work: called in the thread with each frame that was not superseded.
        on_superseded: called in the submitting thread with a frame that was never worked on.
        on_fault: called in the thread with an exception that ``work`` or a command let through; the thread
            goes on, also when ``on_fault`` itself fails.

    Attributes:
        unreported: faults in a row that ``on_fault`` could not report.
    """

    def __init__(
        self,
        work: Callable[[Frame], None],
        on_superseded: Callable[[Frame], None],
        on_fault: Callable[[Exception], None],
    ) -> None:
        self._work = work
        self._on_superseded = on_superseded
        self._on_fault = on_fault
        self._condition = threading.Condition()
        self._commands: deque[Job] = deque()
        self._frame: Frame | None = None
        self._stopped = False
        self.unreported = 0
        self._thread = threading.Thread(target=self._run, name="tracker_worker", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, frame: Frame) -> None:
        """Hand over a frame; never waits."""
        with self._condition:
            # Nothing is worked on after ``stop``: the frame itself counts as superseded then.
            superseded, self._frame = (frame, None) if self._stopped else (self._frame, frame)
            self._condition.notify()
        if superseded is not None:
            self._on_superseded(superseded)

    def call(self, command: Job) -> None:
        """Run ``command`` in the thread before the next frame; never waits. Ignored after ``stop``."""
        with self._condition:
            if not self._stopped:
                self._commands.append(command)
                self._condition.notify()

    def stop(self, timeout_s: float) -> bool:
        """Finish the job in hand and the commands given; False when that took longer than ``timeout_s``."""
        with self._condition:
            self._stopped = True
            left, self._frame = self._frame, None
            self._condition.notify_all()
        if left is not None:
            self._on_superseded(left)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
                self.unreported = 0
            except Exception as fault:  # a fault in one frame must not end the thread and leave a silent node
                self._report(fault)

    def _next(self) -> Job | None:
        """The next job, commands first; waits for one. None: stopped and nothing left."""
        with self._condition:
            while not (self._stopped or self._commands or self._frame is not None):
                self._condition.wait()
            if self._commands:
                return self._commands.popleft()
            frame, self._frame = self._frame, None
            return None if frame is None else partial(self._work, frame)

    def _report(self, fault: Exception) -> None:
        try:
            self._on_fault(fault)
            self.unreported = 0
        except Exception:  # whoever owns the worker sees ``unreported``
            self.unreported += 1
