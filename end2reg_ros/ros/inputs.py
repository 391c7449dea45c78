"""The camera topics: subscriptions that hand whole frames to the tracker's runtime, and do nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from end2reg_ros import names
from end2reg_ros.cloud.decoding import DepthFrame
from end2reg_ros.cloud.pairing import ImagePairer
from end2reg_ros.reasons import Reason
from end2reg_ros.ros import qos
from end2reg_ros.ros.settings import TrackerParameters

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks


class Receiver(Protocol):
    """What a camera's topics ask of a ``TrackerRuntime``."""

    def receive(self, message: Any) -> None: ...
    def drop(self, reason_code: Reason, reason: str) -> None: ...
    def count_lost(self, total: int) -> None: ...


class CameraInput:
    """Subscribed from activate to deactivate."""

    def __init__(self, node: Node, parameters: TrackerParameters, receiver: Receiver) -> None:
        self._node = node
        self._receiver = receiver
        self._profile = qos.sensor_input(parameters.input_reliability)
        self._info: Any = None
        self._pairer = ImagePairer()
        self._subscriptions: list[Any] = []
        if parameters.input == "points":
            self._subscribe(PointCloud2, names.POINTS, receiver.receive)
            return
        self._subscribe(CameraInfo, names.DEPTH_INFO, self._on_info)
        if parameters.pair_colour:
            self._subscribe(Image, names.DEPTH_IMAGE, self._on_paired_depth)
            self._subscribe(Image, names.COLOUR_IMAGE, self._on_colour)
        else:
            self._subscribe(Image, names.DEPTH_IMAGE, self._on_depth)

    def _subscribe(self, kind: type, topic: str, callback: Callable[[Any], None]) -> None:
        try:
            events = SubscriptionEventCallbacks(message_lost=self._on_lost)
            made = self._node.create_subscription(
                kind, topic, callback, self._profile, event_callbacks=events
            )
        except Exception:  # a middleware that cannot tell what it lost
            made = self._node.create_subscription(kind, topic, callback, self._profile)
        self._subscriptions.append(made)

    def _on_lost(self, event: Any) -> None:
        self._receiver.count_lost(event.total_count)

    def _on_info(self, info: CameraInfo) -> None:
        self._info = info

    def _on_depth(self, depth: Image) -> None:
        self._receiver.receive(DepthFrame(depth, self._info, None))

    def _on_paired_depth(self, depth: Image) -> None:
        self._give(self._pairer.add_depth(depth))

    def _on_colour(self, colour: Image) -> None:
        self._give(self._pairer.add_colour(colour))

    def _give(self, pair: Any) -> None:
        for _ in range(self._pairer.unpaired_depth):
            self._receiver.drop(
                Reason.NO_COLOUR_IMAGE, "a depth image came without a color/image of its stamp"
            )
        self._pairer.unpaired_depth = 0
        if pair is not None:
            self._receiver.receive(DepthFrame(pair.depth, self._info, pair.colour))

    def close(self) -> None:
        """Hear no more."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
