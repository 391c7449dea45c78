"""The QoS profiles of every topic, in one place."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSLivelinessPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
)

# A status older than this is void: one goes out every second.
STATUS_LIMIT_S = 1.5


def sensor_input(reliability: str) -> QoSProfile:
    """Camera data, keep last 1: a slow tracker gets the newest frame. ``best_effort`` or ``reliable``."""
    return _profile(1, reliable=reliability == "reliable")


def sensor_output() -> QoSProfile:
    """Big clouds for whoever looks: a slow viewer must not hold the tracker up."""
    return _profile(1, reliable=False)


def result() -> QoSProfile:
    """Poses: reliable, depth 1, volatile. A late joiner gets no old pose."""
    return _profile(1, reliable=True)


def latched() -> QoSProfile:
    """Markers and the truth's status: reliable, depth 1, transient local. A late joiner gets the newest at once."""
    return _profile(1, reliable=True, latched_=True)


def status() -> QoSProfile:
    """Latched; offers a client to be told by the middleware that the tracker speaks no longer, or has died."""
    profile = latched()
    profile.deadline = Duration(seconds=STATUS_LIMIT_S)
    profile.liveliness = QoSLivelinessPolicy.AUTOMATIC
    profile.liveliness_lease_duration = Duration(seconds=STATUS_LIMIT_S)
    return profile


def claims() -> QoSProfile:
    """Latched messages of several writers: one of each is kept."""
    return _profile(10, reliable=True, latched_=True)


def prior() -> QoSProfile:
    """The ``initial_pose`` input: reliable, volatile."""
    return _profile(5, reliable=True)


def tf() -> QoSProfile:
    """/tf as tf2_ros has it."""
    return _profile(100, reliable=True)


def tf_static() -> QoSProfile:
    """/tf_static as tf2_ros has it."""
    return _profile(1, reliable=True, latched_=True)


def diagnostics() -> QoSProfile:
    """/diagnostics as diagnostic_updater has it."""
    return _profile(1, reliable=True)


def _profile(depth: int, *, reliable: bool, latched_: bool = False) -> QoSProfile:
    return QoSProfile(
        depth=depth,
        history=QoSHistoryPolicy.KEEP_LAST,
        reliability=QoSReliabilityPolicy.RELIABLE if reliable else QoSReliabilityPolicy.BEST_EFFORT,
        durability=QoSDurabilityPolicy.TRANSIENT_LOCAL if latched_ else QoSDurabilityPolicy.VOLATILE,
    )
