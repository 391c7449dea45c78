"""Starts the ``tracker`` node: ``python -m end2reg_ros.ros.tracker_main --ros-args -p case:=CASE``."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

from end2reg_ros.ros.process import leave, run

if TYPE_CHECKING:
    from end2reg_ros.ros.tracker_node import TrackerNode


class TrackerApplication:
    """The node, and how it starts itself."""

    def __init__(self) -> None:
        # Read when OpenMP is loaded: its threads must not spin on the camera's core between two calls.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        # The pose waits for the interpreter when the network's thread or the receiving one holds it: for 1 ms, not for 5.
        sys.setswitchinterval(0.001)
        # What the imports make stays for good: no collection need look at it, neither now (a tenth of their time) nor in
        # the stream (a pause of 20 ms now and then).
        gc.disable()
        try:
            from end2reg_ros.ros.tracker_node import TrackerNode
        finally:
            gc.freeze()
            gc.enable()

        self.node: TrackerNode = TrackerNode()

    @property
    def exit_code(self) -> int | None:
        """Set when the node wants the process to end."""
        return self.node.exit_code

    def start(self) -> None:
        """Configure and activate where ``autostart`` says so; a failure ends the process, and so does ``build_only``."""
        if self.node.parameters.build_only:
            self.node.exit_code = 0 if self.node.build() else 1
        elif self.node.parameters.autostart and not self.node.autostart():
            self.node.exit_code = 1

    def close(self) -> None:
        """End the worker."""
        self.node.close()


def main() -> int:
    """Run until SIGINT or SIGTERM; 0 after a clean end."""
    return leave(run(TrackerApplication))


if __name__ == "__main__":
    sys.exit(main())
