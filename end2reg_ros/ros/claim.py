"""One tracker a name: the one that started first keeps it, the other is told who has it.

Counting equal names in the ROS graph cannot tell the two apart, and the graph may take seconds to fill. So
each node latches a claim on a topic under its own name; whoever hears an older claim than its own has to
go, however late.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from dataclasses import dataclass

from rclpy.node import Node
from std_msgs.msg import String

from end2reg_ros.ros import qos

# Most claims arrive within this time of discovery; later ones are obeyed too.
DISCOVERY_S = 1.0


@dataclass(frozen=True, order=True)
class Claim:
    """Ordered by age: the smaller one keeps the name."""

    started_ns: int
    token: str
    host: str = ""
    process: int = 0

    def to_text(self) -> str:
        """As sent."""
        return f"{self.started_ns} {self.token} {self.host} {self.process}"

    @staticmethod
    def from_text(text: str) -> Claim | None:
        """None for a text that is no claim."""
        parts = text.split(" ")
        if len(parts) != 4 or not (parts[0].isdigit() and parts[3].isdigit()):
            return None
        return Claim(int(parts[0]), parts[1], parts[2], int(parts[3]))


def own_claim() -> Claim:
    """A claim of this process, now."""
    return Claim(time.time_ns(), uuid.uuid4().hex, socket.gethostname().replace(" ", "_"), os.getpid())


class NameClaim:
    """Claims the node's name; ``rival`` is an older claim once one has been heard."""

    def __init__(self, node: Node) -> None:
        self._own = own_claim()
        self._name = node.get_fully_qualified_name()
        self.rival: Claim | None = None
        self._publisher = node.create_publisher(String, "~/claim", qos.latched())
        self._subscription = node.create_subscription(String, "~/claim", self._on_claim, qos.claims())
        self._publisher.publish(String(data=self._own.to_text()))

    def refusal(self) -> str | None:
        """Why this node must not run; None when it may."""
        if self.rival is None:
            return None
        other = f"process {self.rival.process} on {self.rival.host}"
        return (
            f"a node named {self._name} is already running ({other}): stop it, or give this one another name"
        )

    def _on_claim(self, message: String) -> None:
        claim = Claim.from_text(message.data)
        if claim is not None and claim.token != self._own.token and claim < self._own:
            self.rival = claim
