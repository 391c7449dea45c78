"""The order and the rhythm of a stream of clouds: change of frame, stamps, repeated data, how often one comes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Any

from end2reg_ros.cloud.messages import same_bytes
from end2reg_ros.errors import CloudError
from end2reg_ros.reasons import Reason

PERIOD_WINDOW = 15
LEAST_GAPS = 3
# A longer pause is a stop, not a rate.
LONGEST_S = 5.0


@dataclass(frozen=True)
class StreamSettings:
    """What a stream must keep to.

    Attributes:
        jump_back_s: a stamp older by more than this many seconds is a restarted recording or clock, not a
            late cloud.
        check_frozen: refuse a cloud whose data equal those of the cloud before, byte by byte.
    """

    jump_back_s: float = 1.0
    check_frozen: bool = True


@dataclass(frozen=True)
class Restart:
    """The stream began anew: what was tracked before does not hold any more."""

    reason_code: Reason
    reason: str


class StreamGuard:
    """Remembers the last accepted cloud of a stream. For one thread."""

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings
        self._stamp_ns: int | None = None
        self._frame_id = ""
        self._data: Any = None

    def check_order(self, frame_id: str, stamp_ns: int) -> Restart | None:
        """Judge a header; a ``Restart`` tells that the track must be given up before this cloud is used.

        Raises:
            CloudError: ``frozen`` (the stamp of the cloud before) or ``stamp_backwards`` (a little older
                than it).
        """
        restart = None
        if self._stamp_ns is not None:
            restart = self._compare(frame_id, stamp_ns, self._stamp_ns)
        self._stamp_ns = stamp_ns
        self._frame_id = frame_id
        return restart

    def _compare(self, frame_id: str, stamp_ns: int, before_ns: int) -> Restart | None:
        if frame_id != self._frame_id:
            return Restart(
                Reason.FRAME_CHANGED, f"the frame_id changed from '{self._frame_id}' to '{frame_id}'"
            )
        back_s = (before_ns - stamp_ns) * 1e-9
        if back_s > self._settings.jump_back_s:
            return Restart(
                Reason.CLOCK_JUMPED_BACK,
                f"stamps jumped back by {back_s:.1f} s: a recording or clock restarted",
            )
        if back_s > 0:
            raise CloudError(
                Reason.STAMP_BACKWARDS,
                f"the stamp is {back_s * 1e3:.0f} ms older than that of the cloud before",
            )
        if back_s == 0:
            raise CloudError(
                Reason.FROZEN, "the stamp equals that of the cloud before: the camera repeats itself"
            )
        return None

    def check_data(self, data: Any) -> None:
        """Judge the bytes of a cloud that decoded well (so that an empty cloud is called empty, not frozen).

        Raises:
            CloudError: ``frozen``.
        """
        before, self._data = self._data, data
        if self._settings.check_frozen and before is not None and same_bytes(data, before):
            raise CloudError(
                Reason.FROZEN, "the data equal those of the cloud before: the camera's picture is frozen"
            )


class PeriodMeter:
    """Median of the last gaps: a few lost or late clouds do not change it. For one thread.

    Attributes:
        period_s: NaN before three gaps are known.
        latest_s: the last gap; NaN before the first.
        longest_s: the longest but one of the last gaps: how irregular the stream is; NaN with ``period_s``.
    """

    def __init__(self) -> None:
        self._gaps: deque[float] = deque(maxlen=PERIOD_WINDOW)
        self._last_s: float | None = None
        self.period_s = self.latest_s = self.longest_s = float("nan")

    def add(self, at_s: float) -> None:
        """Something came at this moment; one that does not advance is passed over."""
        before, self._last_s = self._last_s, at_s
        if before is None or at_s <= before:
            return
        self.latest_s = at_s - before
        if self.latest_s <= LONGEST_S:
            self._gaps.append(self.latest_s)
        if len(self._gaps) >= LEAST_GAPS:
            self.period_s = median(self._gaps)
            self.longest_s = sorted(self._gaps)[-2]
