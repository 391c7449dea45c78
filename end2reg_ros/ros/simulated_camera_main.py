"""Starts the ``simulated_camera`` node: ``python -m end2reg_ros.ros.simulated_camera_main``."""

from __future__ import annotations

import sys

from end2reg_ros.ros.process import NodeApplication, leave, run


def application() -> NodeApplication:
    """The node, imported when it is made: a missing ROS 2 is told in one line."""
    from end2reg_ros.ros.simulated_camera_node import SimulatedCamera

    return NodeApplication(SimulatedCamera())


def main() -> int:
    """Run until SIGINT, SIGTERM or the end of ``duration``; 0 after a clean end."""
    return leave(run(application))


if __name__ == "__main__":
    sys.exit(main())
