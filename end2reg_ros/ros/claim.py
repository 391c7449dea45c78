"""One tracker a name: the one that started first keeps it, the other is told who has it.

Counting equal names in the ROS graph cannot tell the two apart, and the graph may take seconds to fill. So
each node latches a claim on a topic under its own name; whoever hears an older claim than its own has to
go, however late. A claim names the very writer that sends it, and counts while that writer is in the graph, under the
node's name: what a recording repeats, or anybody else sends, ends no tracker.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from std_msgs.msg import String

from end2reg_ros.ros import qos

# Most claims arrive within this time of discovery; later ones are obeyed too.
DISCOVERY_S = 1.0
# Claims kept whose writer is not (yet) in the graph.
MAX_HEARD = 32
# Digits of a number in a claim.
MAX_DIGITS = 20


@dataclass(frozen=True, order=True)
class Claim:
    """Ordered by age: the smaller one keeps the name. ``token`` is the writer's id in the graph, hexadecimal."""

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
        if len(parts) != 4 or not (_is_number(parts[0]) and _is_number(parts[3])):
            return None
        return Claim(int(parts[0]), parts[1], parts[2], int(parts[3]))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS


def own_claim(token: str) -> Claim:
    """A claim of this process, now."""
    return Claim(time.time_ns(), token, socket.gethostname().replace(" ", "_"), os.getpid())


class NameClaim:
    """Claims the node's name, and knows who has an older claim."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._name = node.get_fully_qualified_name()
        self._topic = node.resolve_topic_name("~/claim")
        self._heard: dict[str, Claim] = {}
        self._publisher, token = self._writer_and_token()
        self._own = own_claim(token)
        self._subscription = node.create_subscription(String, "~/claim", self._on_claim, qos.claims())
        self._publisher.publish(String(data=self._own.to_text()))

    @property
    def rival(self) -> Claim | None:
        """An older claim whose writer is in the graph; None where there is none."""
        if not self._heard:
            return None
        present = self._tokens()
        return min((claim for claim in self._heard.values() if claim.token in present), default=None)

    def refusal(self) -> str | None:
        """Why this node must not run; None when it may."""
        if (rival := self.rival) is None:
            return None
        other = f"process {rival.process} on {rival.host}"
        return (
            f"a node named {self._name} is already running ({other}): stop it, or give this one another name"
        )

    def _on_claim(self, message: String) -> None:
        claim = Claim.from_text(message.data)
        if claim is None:
            self._node.get_logger().warning(f"{self._topic}: a text that is no claim is ignored", once=True)
            return
        if claim.token == self._own.token or claim > self._own:
            return
        if len(self._heard) >= MAX_HEARD:
            present = self._tokens()
            self._heard = {token: c for token, c in self._heard.items() if token in present}
        self._heard[claim.token] = claim

    def _writer_and_token(self) -> tuple[Any, str]:
        """A writer, and its id: the one that the graph has since."""
        while True:
            before = self._tokens()
            publisher = self._node.create_publisher(String, "~/claim", qos.latched())
            new = self._tokens() - before
            if len(new) == 1:
                return publisher, new.pop()
            self._node.destroy_publisher(publisher)  # another's came to light in the same millisecond

    def _tokens(self) -> set[str]:
        """Ids of all writers of the topic that belong to nodes of this name."""
        infos = self._node.get_publishers_info_by_topic(self._topic)
        names = [f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos]
        return {
            bytes(info.endpoint_gid).hex()
            for info, name in zip(infos, names, strict=True)
            if name == self._name
        }
