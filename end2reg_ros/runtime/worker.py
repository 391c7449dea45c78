"""One working thread behind a one-slot mailbox: newest frame wins, no command is lost. Free of ROS."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

Frame = TypeVar("Frame")
Job = Callable[[], object]


class Mailbox(Generic[Frame]):
    """Holds the newest frame, and the commands that are to run before it."""

    def __init__(self, work: Callable[[Frame], None]) -> None:
        self._work = work
        self._condition = threading.Condition()
        self._commands: deque[Job] = deque()
        self._frame: Frame | None = None
        self._closed = False

    def put(self, frame: Frame) -> Frame | None:
        """Store a frame; returns the one that it replaced unseen, or ``frame`` itself when closed."""
        with self._condition:
            if self._closed:
                return frame
            superseded, self._frame = self._frame, frame
            self._condition.notify()
            return superseded

    def post(self, command: Job) -> None:
        """Queue a command; it runs before the next frame does. Ignored when the box is closed."""
        with self._condition:
            if not self._closed:
                self._commands.append(command)
                self._condition.notify()

    def close(self) -> Frame | None:
        """Take nothing more; commands already posted still run. Returns a frame that nobody took."""
        with self._condition:
            self._closed = True
            left, self._frame = self._frame, None
            self._condition.notify_all()
            return left

    def take(self) -> Job | None:
        """The next job, commands first; waits for one. None: closed and nothing left."""
        with self._condition:
            while not (self._closed or self._commands or self._frame is not None):
                self._condition.wait()
            if self._commands:
                return self._commands.popleft()
            if self._closed:
                return None
            frame, self._frame = self._frame, None
            assert frame is not None
            return partial(self._work, frame)


class Worker(Generic[Frame]):
    """Runs ``work(frame)`` for the newest frame in a thread of its own.

    Args:
        work: called in the thread with each frame that was not superseded.
        on_superseded: called in the submitting thread with a frame that was never worked on.
        on_fault: called in the thread with an exception that ``work`` or a command let through; the thread
            goes on, also when ``on_fault`` itself fails.

    Attributes:
        untold: faults in a row that ``on_fault`` could not tell.
    """

    def __init__(
        self,
        work: Callable[[Frame], None],
        on_superseded: Callable[[Frame], None],
        on_fault: Callable[[Exception], None],
    ) -> None:
        self._mailbox: Mailbox[Frame] = Mailbox(work)
        self._on_superseded = on_superseded
        self._on_fault = on_fault
        self.untold = 0
        self._thread = threading.Thread(target=self._run, name="tracker_worker", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, frame: Frame) -> None:
        """Hand over a frame; never waits."""
        superseded = self._mailbox.put(frame)
        if superseded is not None:
            self._on_superseded(superseded)

    def call(self, command: Job) -> None:
        """Run ``command`` in the thread before the next frame; never waits."""
        self._mailbox.post(command)

    def stop(self, timeout_s: float) -> bool:
        """Finish the job in hand and the commands posted; False when that took longer than ``timeout_s``."""
        left = self._mailbox.close()
        if left is not None:
            self._on_superseded(left)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._mailbox.take()) is not None:
            try:
                job()
                self.untold = 0
            except Exception as fault:  # a fault in one frame must not end the thread and leave a silent node
                self._tell(fault)

    def _tell(self, fault: Exception) -> None:
        try:
            self._on_fault(fault)
            self.untold = 0
        except Exception:  # whoever owns the worker sees ``untold``
            self.untold += 1
