"""Where every cloud went. Free of ROS; safe to use from the receiving and the working thread."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CounterSnapshot:
    """Counts at one moment. ``received == processed + total_dropped + pending``, always.

    Attributes:
        received: clouds that arrived.
        processed: clouds given to the registration, with or without success.
        pending: clouds that wait or are being worked on.
        dropped: reason code -> clouds that were not registered.
        late: of the processed ones, those whose pose left later than one camera period after their reception.
        poses_published: spine poses that went out.
        points_truncated: points left out because a cloud was larger than the limit.
        cells_truncated: cells left out because a view held more than the network's padding.
    """

    received: int = 0
    processed: int = 0
    pending: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    late: int = 0
    poses_published: int = 0
    points_truncated: int = 0
    cells_truncated: int = 0

    @property
    def total_dropped(self) -> int:
        """Clouds that were not registered, whatever the reason."""
        return sum(self.dropped.values())

    @property
    def judged(self) -> int:
        """Clouds whose fate is known: ``processed + total_dropped``."""
        return self.processed + self.total_dropped


class Counters:
    """Counts clouds. Each received cloud must end in exactly one of ``process`` and ``drop``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._processed = 0
        self._dropped: Counter[str] = Counter()
        self._late = 0
        self._poses = 0
        self._truncated = 0
        self._cells = 0

    def receive(self) -> None:
        """A cloud arrived."""
        with self._lock:
            self._received += 1

    def process(self, truncated: int = 0, cells_truncated: int = 0) -> None:
        """A cloud went through the registration; so many points of it, and of the network's cells, were left out."""
        with self._lock:
            self._processed += 1
            self._truncated += truncated
            self._cells += cells_truncated

    def drop(self, reason_code: str) -> None:
        """A cloud was not registered."""
        with self._lock:
            self._dropped[reason_code] += 1

    def publish_pose(self) -> None:
        """A spine pose went out."""
        with self._lock:
            self._poses += 1

    def be_late(self) -> None:
        """A pose left later than one camera period after its cloud was received."""
        with self._lock:
            self._late += 1

    def snapshot(self) -> CounterSnapshot:
        """The counts now, consistent with one another."""
        with self._lock:
            return CounterSnapshot(
                received=self._received,
                processed=self._processed,
                pending=self._received - self._processed - self._dropped.total(),
                dropped=dict(sorted(self._dropped.items())),
                late=self._late,
                poses_published=self._poses,
                points_truncated=self._truncated,
                cells_truncated=self._cells,
            )
