"""The network beside a followed track: it looks at every cloud, or at one now and then while the stream goes on."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.registration.interface import NetworkView, Registrar
from end2reg_ros.registration.network import NetworkObservation, NetworkPass, NetworkPose, Pause, no_pause
from end2reg_ros.registration.scene import Scene
from end2reg_ros.registration.settings import NetworkPasses
from end2reg_ros.registration.types import Registration, Stopwatch

Array = NDArray[np.float64]

THREADS = 2  # of the normals, where each pose waits for the network
MAX_WAIT_S = 0.05  # then a pass in the background goes on: it must not starve


class Watch(Protocol):
    """What a tracker asks of the network."""

    def look(self, scene: Scene) -> NetworkView | None:
        """Before a followed cloud is refined: what the network says, now or later."""
        ...

    def followed(self, scene: Scene, found: Registration) -> None:
        """After it was: where the track is in that cloud."""
        ...

    def forget(self) -> None:
        """The track has ended: what the network still says of it is of no use."""
        ...


class NoNetwork:
    """Stands in where the method has no network."""

    def look(self, scene: Scene) -> None:
        """Sees nothing."""

    def followed(self, scene: Scene, found: Registration) -> None:
        """Takes no note."""

    def forget(self) -> None:
        """Knows nothing."""


@dataclass(frozen=True)
class Look:
    """A pass under way or done, over the cloud of ``stamp_ns``; ``T_followed`` as of ``NetworkObservation``."""

    running: Future[NetworkPose | None]
    clock: Stopwatch
    stamp_ns: int
    T_followed: Array | None = None

    def observation(self) -> NetworkObservation | None:
        """What the network says; waits for it. None where it saw next to nothing."""
        pose = self.running.result()
        beside = "" if self.T_followed is None else " (background)"
        laps = {f"{name}{beside}": ms for name, ms in self.clock.laps.items()}
        return None if pose is None else NetworkObservation(pose, self.T_followed, self.stamp_ns, laps)


@dataclass(frozen=True)
class CloudView:
    """What the network says of the cloud under way, a ``NetworkView``: ``this`` begins or gives its own pass over it."""

    this: Callable[[], Look]
    earlier: Look | None
    waits: bool

    def of_this_cloud(self) -> NetworkObservation | None:
        """What it sees in the cloud that is being followed; waits for it."""
        return self.this().observation()

    def newest(self) -> NetworkObservation | None:
        """What it sees in this cloud where each pose waits for it, else in an earlier one that it has done with."""
        if self.waits:
            return self.of_this_cloud()
        return None if self.earlier is None else self.earlier.observation()


class EveryFrame:
    """Network and refinement of each cloud, side by side: the engine runs outside of Python."""

    def __init__(self, network: NetworkPass) -> None:
        self._network = network
        self._beside = ThreadPoolExecutor(1, "network")

    def look(self, scene: Scene) -> NetworkView:
        """Begin a pass over this cloud.

        Its tables are made here: they need the interpreter, and beside the refinement both would take longer.
        """
        clock = Stopwatch()
        shown = self._network.prepare(scene, clock, THREADS)
        look = Look(self._beside.submit(self._network.run, shown, clock), clock, scene.cloud.stamp_ns)
        return CloudView(lambda: look, None, waits=True)

    def followed(self, scene: Scene, found: Registration) -> None:
        """Nothing to note: the pass was over this very cloud."""

    def forget(self) -> None:
        """Nothing outlives a cloud."""


class Background:
    """One pass after the other in a thread that stands back while a pose is being worked out.

    Both need the interpreter: taking turns at it piece by piece, each would take twice as long, and somebody waits for
    the pose.

    Args:
        network: of the case.
        period_s: least time from one cloud that it sees to the next, by their stamps.
    """

    def __init__(self, network: NetworkPass, period_s: float) -> None:
        self._network = network
        self._period_s = period_s
        self._beside = ThreadPoolExecutor(1, "network", initializer=yield_to_others)
        self._idle = threading.Event()
        self._idle.set()
        self._under_way: Look | None = None
        self._last_pass_ns: int | None = None

    def look(self, scene: Scene) -> NetworkView:
        """What it saw in an earlier cloud, if that has come meanwhile."""
        self._idle.clear()
        done = self._under_way
        if done is not None and done.running.done():
            self._under_way = None
        else:
            done = None
        return CloudView(lambda: self._begin(scene, None, no_pause), done, waits=False)

    def followed(self, scene: Scene, found: Registration) -> None:
        """Begin the next pass, over this cloud, if one is due; a track that is lost ends the one under way."""
        self._idle.set()
        stamp_ns = scene.cloud.stamp_ns
        if not found.success:
            self._under_way = None
        elif self._under_way is None and self._is_due(stamp_ns):
            self._last_pass_ns = stamp_ns
            self._under_way = self._begin(scene, found.T_camera_model, self._stand_back)

    def forget(self) -> None:
        """The pass under way is of a track that has ended."""
        self._under_way = None

    def _begin(self, scene: Scene, T_followed: Array | None, pause: Pause) -> Look:
        if T_followed is None:
            self._idle.set()
        clock = Stopwatch()
        running = self._beside.submit(self._pass, scene, clock, pause)
        return Look(running, clock, scene.cloud.stamp_ns, T_followed)

    def _pass(self, scene: Scene, clock: Stopwatch, pause: Pause) -> NetworkPose | None:
        return self._network.run(self._network.prepare(scene, clock, 1, pause), clock)

    def _stand_back(self) -> None:
        self._idle.wait(MAX_WAIT_S)

    def _is_due(self, stamp_ns: int) -> bool:
        """Whether the last cloud that the network saw is old enough, or of another stream."""
        if self._last_pass_ns is None:
            return True
        return not 0 <= 1e-9 * (stamp_ns - self._last_pass_ns) < self._period_s


def network_watch(registrar: Registrar) -> Watch:
    """How the network of a method looks at a track, as its settings say."""
    network, settings = registrar.watched, registrar.settings
    if network is None:
        return NoNetwork()
    if uses_background(settings.network_passes, network.engine.info.device):
        return Background(network, settings.network_period_s)
    return EveryFrame(network)


def uses_background(passes: NetworkPasses, device: str) -> bool:
    """Whether the network runs beside the stream rather than in step with it."""
    return passes == "background" or (passes == "auto" and device == "cpu")


def yield_to_others() -> None:
    """Let the calling thread have what the others leave: the pose of the next cloud does not wait for it."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
