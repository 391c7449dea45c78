"""A stream of registrations -> a state and poses."""

from __future__ import annotations

from end2reg_ros.tracking.settings import TrackerSettings, UpperThresholds
from end2reg_ros.tracking.types import PUBLISHING_STATES, State, TrackingUpdate

__all__ = ["PUBLISHING_STATES", "State", "TrackerSettings", "TrackingUpdate", "UpperThresholds"]
