"""A registration method that the tests of what stands around it fill in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from end2reg_ros.cloud.types import Cloud
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.registration.types import Prior, Registration


class StandInRegistrar:
    """Registers as ``register`` says, a followed cloud like any other; no network looks beside."""

    method, engine, engine_hash, engine_text = "icp", "", "", ""
    needs_prior = True
    settings, watched = RegistrationSettings(), None

    def warm_up(self) -> None:
        """Nothing to warm."""

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        """What comes of a cloud."""
        raise AssertionError("not filled in")

    def crop(self, cloud: Cloud, expected: Prior) -> Any:
        """The whole cloud."""
        return SimpleNamespace(cloud=cloud)

    def follow(self, scene: Any, expected: Prior, seen: Any = None) -> Registration:
        """As ``register``."""
        return self.register(scene.cloud, expected)
