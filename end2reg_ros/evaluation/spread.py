"""Median, quartiles and counts of a set of figures: how every result here is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Order statistics of ``count`` figures; all but the count are NaN when there are none."""

    count: int
    median: float
    q1: float
    q3: float
    p95: float
    maximum: float

    def text(self, digits: int = 2) -> str:
        """``median [Q1, Q3]``, or a dash."""
        if self.count == 0:
            return "–"
        return f"{self.median:.{digits}f} [{self.q1:.{digits}f}, {self.q3:.{digits}f}]"

    def plain(self) -> dict[str, float]:
        """For JSON: count, median, quartiles, p95, maximum, four digits."""
        told = {
            "median": self.median, "q1": self.q1, "q3": self.q3, "p95": self.p95, "max": self.maximum,
        }  # fmt: skip
        return {"n": self.count, **{name: float(f"{value:.4g}") for name, value in told.items()}}


def spread(values: Iterable[float]) -> Spread:
    """Order statistics; quartiles by linear interpolation. NaN figures are not allowed in."""
    array = np.asarray(list(values), dtype=np.float64)
    if array.size == 0:
        nan = float("nan")
        return Spread(0, nan, nan, nan, nan, nan)
    q1, median, q3, p95 = (float(v) for v in np.percentile(array, [25, 50, 75, 95]))
    return Spread(int(array.size), median, q1, q3, p95, float(array.max()))


def percentiles(values: Iterable[float], digits: int | None = None) -> dict[str, float]:
    """``p50``, ``p95``, ``p99``, rounded to so many digits where these are given; NaN of none."""
    array = np.asarray(list(values), dtype=np.float64)
    found = np.percentile(array, [50, 95, 99]) if array.size else np.full(3, np.nan)
    told = [float(v) if digits is None else round(float(v), digits) for v in found]
    return dict(zip(("p50", "p95", "p99"), told, strict=True))


def share(hits: Iterable[bool]) -> float:
    """Share of true ones; NaN of none."""
    array = np.asarray(list(hits), dtype=np.float64)
    return float(array.mean()) if array.size else float("nan")


def success_interval(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share of ``count`` trials (Wilson 1927).

    Raises:
        ValueError: no trials.
    """
    from scipy.stats import binomtest

    found = binomtest(hits, count).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
