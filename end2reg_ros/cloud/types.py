"""What is seen: one cloud of a depth camera, decoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Cloud:
    """Valid points of one camera frame.

    Attributes:
        points: (N, 3) float32, metres, camera optical frame (x right, y down, z forward), all finite.
        colours: (N, 3) uint8 red, green, blue; None for a sensor without colour.
        frame_id: frame of the points; never empty for a cloud that may be registered.
        stamp_ns: the sensor's stamp, nanoseconds.
        received: points in the message, valid or not.
        truncated: points, valid or not, that were not looked at: the message had more than the limit.
    """

    points: NDArray[np.float32]
    colours: NDArray[np.uint8] | None
    frame_id: str
    stamp_ns: int
    received: int = 0
    truncated: int = 0
