"""A pass of the network that runs beside the stream."""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.registration.find.network_passes import NetworkPose
from end2reg_ros.registration.settings import NetworkPasses
from end2reg_ros.registration.stopwatch import Stopwatch

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BackgroundPass:
    """A pass under way: of the cloud of that stamp, in which the track was at ``T_followed`` (4, 4)."""

    running: Future[NetworkPose | None]
    T_followed: Array
    stamp_ns: int
    clock: Stopwatch


def uses_background(passes: NetworkPasses, device: str) -> bool:
    """Whether the network runs beside the stream rather than in step with it."""
    return passes == "background" or (passes == "auto" and device == "cpu")


class Turn:
    """Lets the network's thread stand back while a pose is being worked out.

    Both need the interpreter: taking turns at it piece by piece, each would take twice as long, and somebody waits for
    the pose.
    """

    MAX_WAIT_S = 0.05  # then the network goes on: it must not starve

    def __init__(self) -> None:
        self._idle = threading.Event()
        self._idle.set()

    def __enter__(self) -> None:
        self._idle.clear()

    def __exit__(self, *_: object) -> None:
        self._idle.set()

    def wait(self) -> None:
        """Returns when no pose is being worked out, at the latest after ``MAX_WAIT_S``."""
        self._idle.wait(self.MAX_WAIT_S)


def yield_to_others() -> None:
    """Let the calling thread have what the others leave: the pose of the next cloud does not wait for it."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
