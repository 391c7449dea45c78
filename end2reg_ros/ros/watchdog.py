"""Notices that clouds stopped, or that none of them can be used. Free of ROS; times are monotonic seconds."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class WatchdogSettings:
    """What the watchdog waits for.

    Attributes:
        first_s: patience for the first cloud after activation, seconds.
        gap_s: patience afterwards, seconds.
        source: where the clouds come from, for its texts.
    """

    first_s: float = 2.0
    gap_s: float = 0.5
    source: str = "points"


@dataclass(frozen=True)
class Silence:
    """What the watchdog noticed: a reason code and a sentence."""

    reason_code: str
    reason: str


class Watchdog:
    """Fed with arrivals and usable clouds; asked whether there is something to complain about."""

    def __init__(self, settings: WatchdogSettings, now_s: float) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._started_s = now_s
        self._arrived_s: float | None = None
        self._used_s: float | None = None
        self._unusable: Silence | None = None

    def arrived(self, now_s: float) -> None:
        """A cloud arrived, whatever it is worth."""
        with self._lock:
            self._arrived_s = now_s

    def used(self, now_s: float) -> None:
        """A cloud went through the registration."""
        with self._lock:
            self._used_s = now_s
            self._unusable = None

    def refused(self, reason_code: str, reason: str) -> None:
        """A cloud could not be used."""
        with self._lock:
            self._unusable = Silence(reason_code, reason)

    def since_arrival_s(self, now_s: float) -> float:
        """Seconds since the newest cloud; -1 before the first."""
        with self._lock:
            return -1.0 if self._arrived_s is None else now_s - self._arrived_s

    def check(self, now_s: float) -> Silence | None:
        """None while usable clouds keep coming."""
        s = self._settings
        with self._lock:
            if self._arrived_s is None:
                waited = now_s - self._started_s
                if waited <= s.first_s:
                    return None
                text = f"nothing has arrived on {s.source} in {waited:.1f} s: does the camera run, is the topic right?"
                return Silence("no_cloud", text)
            gap = now_s - self._arrived_s
            if gap > s.gap_s:
                return Silence(
                    "no_cloud",
                    f"nothing on {s.source} for {gap:.1f} s: the camera stopped, or its connection",
                )
            unused = now_s - (self._used_s if self._used_s is not None else self._started_s)
            return self._unusable if unused > s.gap_s else None
