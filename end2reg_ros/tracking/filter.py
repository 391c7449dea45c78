"""What a published pose goes through before TF shows it: nothing, or a filter over constant velocity."""

from __future__ import annotations

from typing import Literal, Protocol

from end2reg_ros.case.model import Case
from end2reg_ros.registration.types import Registration
from end2reg_ros.tracking.constant_velocity import ConstantVelocity, FilterSettings
from end2reg_ros.tracking.types import State

FilterChoice = Literal["none", "constant_velocity"]


class TrackFilter(Protocol):
    """What stands between a track and those who are told the filtered pose."""

    def smooth(self, stamp_ns: int, registration: Registration) -> Registration:
        """A published registration with the filtered pose; itself where nothing filters."""
        ...

    def show(self, state: State) -> None:
        """Hear of every state of the track, also of those without a pose."""
        ...


class NoFilter:
    """Gives back what it gets."""

    def smooth(self, stamp_ns: int, registration: Registration) -> Registration:
        """See ``TrackFilter.smooth``."""
        return registration

    def show(self, state: State) -> None:
        """Nothing to forget."""


def create_filter(choice: FilterChoice, case: Case, settings: FilterSettings | None = None) -> TrackFilter:
    """The filter of that name for a case."""
    return NoFilter() if choice == "none" else ConstantVelocity(case, settings)
