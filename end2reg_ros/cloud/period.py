"""How often something comes, learned from the moments at which it came. Seconds, of any clock."""

from __future__ import annotations

from collections import deque
from statistics import median

WINDOW = 15
LEAST = 3
# A longer pause is a stop, not a rate.
LONGEST_S = 5.0


class PeriodMeter:
    """Median of the last gaps: a few lost or late clouds do not change it. For one thread.

    Attributes:
        period_s: NaN before three gaps are known.
        latest_s: the last gap; NaN before the first.
        longest_s: the longest but one of the last gaps: how irregular the stream is; NaN with ``period_s``.
    """

    def __init__(self) -> None:
        self._gaps: deque[float] = deque(maxlen=WINDOW)
        self._last_s: float | None = None
        self.period_s = self.latest_s = self.longest_s = float("nan")

    def came(self, at_s: float) -> None:
        """It came at this moment; one that does not advance is passed over."""
        before, self._last_s = self._last_s, at_s
        if before is None or at_s <= before:
            return
        self.latest_s = at_s - before
        if self.latest_s <= LONGEST_S:
            self._gaps.append(self.latest_s)
        if len(self._gaps) >= LEAST:
            self.period_s = median(self._gaps)
            self.longest_s = sorted(self._gaps)[-2]
