"""The rules by which tf2 answers, in few lines: the reference of tests where tf2 itself is not installed.

Of tf2's ``TimeCache`` and ``BufferCore``: "latest" means the newest common time of the chain; a time between two samples is
interpolated where both have one parent, and answered with the older one where not; a time outside is refused.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.ros.conversions import ns_from_stamp

LATEST = 0


class LookupFault(Exception):
    """tf2 would raise."""


class TfRules:
    """Positions of frames in one another; rotations are left out."""

    def __init__(self) -> None:
        self._samples: dict[str, list[tuple[int, str, NDArray[np.float64]]]] = defaultdict(list)

    def set_transform(self, transform: Any, authority: str) -> None:
        """Take one geometry_msgs/TransformStamped; the order of arrival does not matter."""
        t = transform.transform.translation
        sample = ns_from_stamp(transform.header.stamp), transform.header.frame_id, np.array([t.x, t.y, t.z])
        self._samples[transform.child_frame_id].append(sample)
        self._samples[transform.child_frame_id].sort(key=lambda entry: entry[0])

    def position(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        """Of ``source`` in its ancestor ``target``.

        Raises:
            LookupFault: extrapolation, or the frames do not hang together at that time.
        """
        if stamp_ns == LATEST:
            stamp_ns = self._newest_common(target, source)
        total, frame = np.zeros(3), source
        while frame != target:
            if frame not in self._samples:
                raise LookupFault(f"{source} does not hang on {target}")
            frame, offset = self._at(frame, stamp_ns)
            total = total + offset
        return total

    def _newest_common(self, target: str, source: str) -> int:
        stamps, frame = [], source
        while frame != target:
            if frame not in self._samples:
                raise LookupFault(f"{source} does not hang on {target}")
            stamp_ns, frame, _ = self._samples[frame][-1]
            stamps.append(stamp_ns)
        return min(stamps)

    def _at(self, frame: str, stamp_ns: int) -> tuple[str, NDArray[np.float64]]:
        samples = self._samples[frame]
        stamps = [sample[0] for sample in samples]
        if not stamps[0] <= stamp_ns <= stamps[-1]:
            raise LookupFault(f"{frame} at {stamp_ns} would be extrapolated")
        k = bisect_right(stamps, stamp_ns) - 1
        older, newer = samples[k], samples[min(k + 1, len(samples) - 1)]
        if older[0] == stamp_ns or older[1] != newer[1]:
            return older[1], older[2]
        share = (stamp_ns - older[0]) / (newer[0] - older[0])
        return older[1], older[2] + share * (newer[2] - older[2])
