"""What a ``TrackerRuntime`` is told, and whom it tells. Free of ROS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.stream_guard import StreamSettings
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.reasons import Reason
from end2reg_ros.registration.find.initial_pose import PriorRules
from end2reg_ros.registration.types import Registration
from end2reg_ros.runtime.health import Health, Identity
from end2reg_ros.runtime.watchdog import WatchdogSettings
from end2reg_ros.tracking import State


class Output(Protocol):
    """Where results go. All calls but ``now_ns`` and ``warn`` come from the working thread."""

    def now_ns(self) -> int: ...
    def result(self, cloud: Cloud, registration: Registration) -> None: ...
    def segmentation(self, cloud: Cloud, registration: Registration | None) -> None: ...
    def show(self, state: State) -> None: ...
    def status(self, health: Health) -> None: ...
    def warn(self, reason_code: Reason, text: str) -> None: ...


@dataclass(frozen=True)
class RuntimeSettings:
    """What a runtime is told at configure; ``decode``: message to cloud, ``data``: message to its bytes."""

    identity: Identity
    stream: StreamSettings
    watchdog: WatchdogSettings
    limits: CloudLimits
    prior: PriorRules
    decode: Callable[[Any, CloudLimits], Cloud]
    data: Callable[[Any], Any]
