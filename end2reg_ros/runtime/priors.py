"""Poses that a person or a planner sends as a start: kept until the next cloud, judged with it. Free of ROS."""

from __future__ import annotations

from time import perf_counter

from end2reg_ros.cloud.types import Cloud
from end2reg_ros.frame import Tracker
from end2reg_ros.registration.find.initial_pose import (
    Lookup,
    PriorRefused,
    PriorRequest,
    PriorRules,
    prior_for,
)


class PriorQueue:
    """Holds the newest pose offered, until a cloud comes. For the working thread.

    Attributes:
        waiting: the pose offered, and when (monotonic seconds); None for none.
        refusal: what was wrong with the last pose offered, as a sentence; None when nothing was.
    """

    def __init__(self, tracker: Tracker, rules: PriorRules, lookup: Lookup) -> None:
        self._tracker = tracker
        self._rules = rules
        self._lookup = lookup
        self.waiting: tuple[PriorRequest, float] | None = None
        self.refusal: str | None = None

    def offer(self, request: PriorRequest, received_s: float) -> None:
        """Use this pose with the next cloud."""
        self.waiting = request, received_s

    def forget(self) -> None:
        """Neither a pose nor a refusal."""
        self.waiting = self.refusal = None

    def refuse(self, why: str) -> str:
        """Remember a refusal; returns its sentence."""
        self.refusal = f"initial_pose refused: {why}"
        return self.refusal

    def use(self, cloud: Cloud) -> str | None:
        """Start the tracker with the pose that waits; the refusal's sentence, if it cannot be used."""
        if self.waiting is None:
            return None
        (request, received_s), self.waiting = self.waiting, None
        waited_s, limit_s = perf_counter() - received_s, self._rules.max_age_s
        try:
            # Stamp zero means now: the age of such a pose is seen from here alone.
            if waited_s > limit_s:
                raise PriorRefused(f"it waited {waited_s:.1f} s for a cloud (limit {limit_s:g} s)")
            prior = prior_for(cloud, request, self._tracker.centre, self._rules, self._lookup)
        except PriorRefused as why:
            return self.refuse(str(why))
        self.refusal = None
        self._tracker.set_prior(prior)
        return None
