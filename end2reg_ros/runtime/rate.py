"""How often something happens. Free of ROS; times are monotonic seconds."""

from __future__ import annotations

import threading
from collections import deque


class RateMeter:
    """Events a second over the last ``window_s`` seconds."""

    def __init__(self, window_s: float = 2.0) -> None:
        self._window_s = window_s
        self._lock = threading.Lock()
        self._times: deque[float] = deque()

    def tick(self, now_s: float) -> None:
        """An event happened."""
        with self._lock:
            self._times.append(now_s)
            self._forget(now_s)

    def rate(self, now_s: float) -> float:
        """Hertz."""
        with self._lock:
            self._forget(now_s)
            return len(self._times) / self._window_s

    def _forget(self, now_s: float) -> None:
        while self._times and self._times[0] < now_s - self._window_s:
            self._times.popleft()
