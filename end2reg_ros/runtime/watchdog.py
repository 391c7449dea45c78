"""Notices that clouds stopped, or that none of them can be used. Free of ROS; times are monotonic seconds."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from math import isnan

from end2reg_ros.cloud.stream import PeriodMeter
from end2reg_ros.reasons import Reason

# Of the camera's period: a cloud may be late by half of it, and one may be lost, without an alarm.
PATIENCE_PERIODS = 2.5
# Of the longest gap but one of the last fifteen: a camera on a busy machine is irregular.
PATIENCE_LONGEST = 1.5
SHORTEST_GAP_S = 0.1
# For how many periods a cloud may be worked on while a pose is out.
JUDGING_PERIODS = 3.0
# The second picture in a row that repeats the one before is no accident.
FROZEN_CLOUDS = 2
# Ticks further apart than this: the receiving thread itself stood still, and clouds may lie there unread.
AWAKE_S = 0.075


@dataclass(frozen=True)
class WatchdogSettings:
    """What the watchdog waits for.

    Attributes:
        first_s: patience for the first cloud after activation, seconds.
        gap_s: largest patience afterwards, seconds: once the camera's period is known it is 2.5 periods, at least 0.1 s.
        source: where the clouds come from, for its texts.
    """

    first_s: float = 2.0
    gap_s: float = 0.5
    source: str = "points"


@dataclass(frozen=True)
class Silence:
    """What the watchdog noticed: a reason code and a sentence."""

    reason_code: Reason
    reason: str


class Watchdog:
    """Fed with arrivals and usable clouds; asked whether there is something to complain about.

    It is the arrivals that count, not the results: a cloud that is worked on for a second is no silence of the camera
    (whoever owns the working thread asks ``judging_patience_s``).
    """

    def __init__(self, settings: WatchdogSettings, now_s: float) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._started_s = now_s
        self._arrived_s: float | None = None
        self._period = PeriodMeter()
        self._ticked_s: float | None = None
        self._woke_s = now_s
        self._used_s: float | None = None
        self._unusable: Silence | None = None
        self._frozen = 0

    def arrived(self, now_s: float) -> None:
        """A cloud arrived, whatever it is worth."""
        with self._lock:
            self._arrived_s = now_s
            self._period.add(now_s)

    def used(self, now_s: float) -> None:
        """A cloud went through the registration."""
        with self._lock:
            self._used_s = now_s
            self._unusable = None
            self._frozen = 0

    def refused(self, reason_code: Reason, reason: str) -> None:
        """A cloud could not be used."""
        with self._lock:
            self._unusable = Silence(reason_code, reason)
            self._frozen = self._frozen + 1 if reason_code == Reason.FROZEN else 0

    def tick(self, now_s: float) -> None:
        """The receiving thread is alive; to be told some forty times a second."""
        with self._lock:
            if self._ticked_s is not None and now_s - self._ticked_s > AWAKE_S:
                self._woke_s = now_s
            self._ticked_s = now_s

    def since_arrival_s(self, now_s: float) -> float:
        """Seconds since the newest cloud; -1 before the first."""
        with self._lock:
            return -1.0 if self._arrived_s is None else now_s - self._arrived_s

    def judging_patience_s(self) -> float:
        """For how long a pose may stay the newest while a cloud is worked on: three periods, at least ``gap_s``."""
        with self._lock:
            period_s = self._period.period_s
            return (
                self._settings.gap_s
                if isnan(period_s)
                else max(JUDGING_PERIODS * period_s, self._settings.gap_s)
            )

    def check(self, now_s: float) -> Silence | None:
        """None while usable clouds keep coming."""
        s = self._settings
        with self._lock:
            if self._arrived_s is None:
                waited = now_s - self._started_s
                if waited <= s.first_s:
                    return None
                text = f"nothing has arrived on {s.source} in {waited:.1f} s: does the camera run, is the topic right?"
                return Silence(Reason.NO_CLOUD, text)
            gap, patience = now_s - self._arrived_s, self._patience_s()
            awake_for = min(gap, now_s - self._woke_s)  # without the time in which nobody listened
            if gap > s.gap_s or awake_for > patience:
                text = f"nothing on {s.source} for {gap:.2f} s: the camera stopped, or its connection"
                return Silence(Reason.NO_CLOUD, text)
            unused = now_s - (self._used_s if self._used_s is not None else self._started_s)
            return self._unusable if unused > patience or self._frozen >= FROZEN_CLOUDS else None

    def _patience_s(self) -> float:
        """For how long no cloud may come. A camera that has just become slower is given time by its last gap."""
        meter, longest = self._period, self._settings.gap_s
        if isnan(meter.period_s):
            return longest
        patience = max(
            PATIENCE_PERIODS * max(meter.period_s, meter.latest_s), PATIENCE_LONGEST * meter.longest_s
        )
        return min(max(patience, SHORTEST_GAP_S), longest)
