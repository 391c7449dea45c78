"""Starts the ``tracker`` node: ``python -m end2reg_ros.ros.tracker_main --ros-args -p case:=CASE``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from end2reg_ros.ros.process import leave, run

if TYPE_CHECKING:
    from end2reg_ros.ros.tracker_node import TrackerNode


class TrackerApplication:
    """The node, and how it starts itself."""

    def __init__(self) -> None:
        from end2reg_ros.ros.tracker_node import TrackerNode

        self.node: TrackerNode = TrackerNode()

    @property
    def exit_code(self) -> int | None:
        """Set when the node wants the process to end."""
        return self.node.exit_code

    def start(self) -> None:
        """Configure and activate where ``autostart`` says so; a failure ends the process."""
        if self.node.parameters.autostart and not self.node.autostart():
            self.node.exit_code = 1

    def close(self) -> None:
        """End the worker."""
        self.node.close()


def main() -> int:
    """Run until SIGINT or SIGTERM; 0 after a clean end."""
    return leave(run(TrackerApplication))


if __name__ == "__main__":
    sys.exit(main())
