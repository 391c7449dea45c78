"""Poses that a person or a planner sends as a start: kept until the next cloud, judged with it. Free of ROS."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.find.initial_pose import (
    Lookup,
    PriorRefused,
    PriorRequest,
    PriorRules,
    prior_for,
)
from end2reg_ros.tracking import Tracker


@dataclass(frozen=True)
class Offer:
    """A pose offered as a start, and when it came (monotonic seconds)."""

    request: PriorRequest
    came_s: float


class Starts:
    """Holds the newest offer. For the working thread.

    Attributes:
        refusal: what was wrong with the last offer; None when nothing was.
    """

    def __init__(self, tracker: Tracker, rules: PriorRules, lookup: Lookup) -> None:
        self._tracker = tracker
        self._rules = rules
        self._lookup = lookup
        self._offer: Offer | None = None
        self.refusal: str | None = None

    def keep(self, offer: Offer) -> None:
        """Use it with the next cloud."""
        self._offer = offer

    def drop(self) -> None:
        """No start waits any more."""
        self._offer = None

    def forget(self) -> None:
        """Neither offer nor refusal."""
        self._offer = self.refusal = None

    def refuse(self, why: str) -> str:
        """Remember a refusal; the sentence that tells it."""
        self.refusal = f"initial_pose refused: {why}"
        return self.refusal

    def apply(self, cloud: Cloud) -> str | None:
        """Start the tracker with the offer, if there is one; what is wrong with it, if it cannot be used."""
        offer, self._offer = self._offer, None
        if offer is None:
            return None
        waited_s, limit_s = perf_counter() - offer.came_s, self._rules.max_age_s
        try:
            # Stamp zero means now: the age of such a pose is seen from here alone.
            if waited_s > limit_s:
                raise PriorRefused(f"it waited {waited_s:.1f} s for a cloud (limit {limit_s:g} s)")
            prior = prior_for(cloud, offer.request, self._tracker.centre, self._rules, self._lookup)
        except PriorRefused as why:
            return str(why)
        self.refusal = None
        self._tracker.set_prior(prior)
        return None
