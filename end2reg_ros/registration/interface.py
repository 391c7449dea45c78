"""The interface that every registration method keeps to."""

from __future__ import annotations

from typing import Protocol

from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.network import NetworkObservation, NetworkPass
from end2reg_ros.registration.scene import Scene
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.registration.types import Prior, Registration


class NetworkView(Protocol):
    """What the network says beside a followed track."""

    def of_this_cloud(self) -> NetworkObservation | None:
        """What it says of the cloud that is being followed; waits for it. None where it sees next to nothing."""
        ...

    def newest(self) -> NetworkObservation | None:
        """What it says without delay: of this cloud where each pose waits for it, else of an earlier one, or nothing."""
        ...


class Registrar(Protocol):
    """A registration method, set up once for one case: one cloud and one case -> one pose.

    Attributes:
        method: its name.
        settings: what it was set up with.
        watched: the network that looks at a followed track beside the refinement; None where none does.
        engine, engine_hash: what runs its network, and which network; empty for the classical methods.
        engine_text: the same for a person: version, device, precision, why it was chosen.
        needs_prior: it finds nothing by itself.
    """

    method: str
    settings: RegistrationSettings
    watched: NetworkPass | None
    engine: str
    engine_hash: str
    engine_text: str
    needs_prior: bool

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        """Find the case in one cloud, from a start or from nothing; held against the neighbouring levels.

        Never raises for bad clouds: those give ``success`` False and a reason.
        """
        ...

    def crop(self, cloud: Cloud, expected: Prior) -> Scene:
        """What lies around the pose where a track is expected: thinned once, for ``follow`` and for the network."""
        ...

    def follow(self, scene: Scene, expected: Prior, seen: NetworkView | None = None) -> Registration:
        """Refine a track's next pose from where it is expected, and judge it as a continuation.

        Args:
            scene: of ``crop`` with the same ``expected``.
            expected: pose, its standard deviation, and how the vertebrae stood to one another.
            seen: what the network says beside; the pose is held against it.
        """
        ...

    def warm_up(self) -> None:
        """Do everything that would make the first frame slow."""
        ...
