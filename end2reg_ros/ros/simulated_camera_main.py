"""Starts the ``simulated_camera`` node: ``python -m end2reg_ros.ros.simulated_camera_main``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from end2reg_ros.ros.process import leave, run

if TYPE_CHECKING:
    from end2reg_ros.ros.simulated_camera_node import SimulatedCamera


class CameraApplication:
    """The node, and how it starts."""

    def __init__(self) -> None:
        from end2reg_ros.ros.simulated_camera_node import SimulatedCamera

        self.node: SimulatedCamera = SimulatedCamera()

    @property
    def exit_code(self) -> int | None:
        """Set when the camera has finished."""
        return self.node.exit_code

    def start(self) -> None:
        """Begin to render."""
        self.node.start()

    def close(self) -> None:
        """End the rendering thread."""
        self.node.close()


def main() -> int:
    """Run until SIGINT, SIGTERM or the end of ``duration``; 0 after a clean end."""
    return leave(run(CameraApplication))


if __name__ == "__main__":
    sys.exit(main())
