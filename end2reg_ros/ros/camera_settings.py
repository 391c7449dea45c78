"""The parameters of the simulated camera, as typed settings. Free of rclpy."""

from __future__ import annotations

from dataclasses import dataclass

from end2reg_ros.names import CAMERA_FRAME
from end2reg_ros.ros.parameters import START, parameter
from end2reg_ros.simulation.camera.sensor import SENSORS
from end2reg_ros.simulation.motion import SCENARIOS


@dataclass(frozen=True)
class CameraParameters:
    """Everything that can be set on the ``simulated_camera`` node; all of it is fixed at start."""

    case: str = parameter("", "Case folder (with case.yaml); empty for the bundled demo case.", when=START)
    seed: int = parameter(
        0,
        "Shape of the wound, noise, motion and picks follow from it.",
        minimum=0,
        maximum=2**31 - 1,
        when=START,
    )
    scenario: str = parameter("demo", "Course of events.", choices=tuple(SCENARIOS), when=START)
    sensor: str = parameter("d435", "Depth camera imitated.", choices=tuple(SENSORS), when=START)
    rate: float = parameter(15.0, "Clouds a second.", minimum=0.1, maximum=60.0, when=START)
    duration: float = parameter(
        0.0, "Ends after this long, seconds; 0 for never.", minimum=0.0, maximum=86_400.0, when=START
    )
    truth_wait: float = parameter(
        0.0,
        "Waits this long for somebody to hear the truth before the first cloud, seconds.",
        minimum=0.0,
        maximum=60.0,
        when=START,
    )
    frame_id: str = parameter(CAMERA_FRAME, "Frame of the clouds.", when=START)
    ordered: bool = parameter(False, "Organised clouds with (0, 0, 0) where there is no depth.", when=START)
    articulation_deg: float = parameter(
        0.0,
        "The vertebrae stand turned by up to this against each other, compared with the case, degrees.",
        minimum=0.0,
        maximum=15.0,
        when=START,
    )
    articulation_m: float = parameter(
        0.0,
        "The vertebrae stand shifted by up to this against each other, compared with the case, metres.",
        minimum=0.0,
        maximum=0.01,
        when=START,
    )
    simulate_picks: bool = parameter(
        True, "Publish an initial_pose from simulated landmark picks.", when=START
    )
    pick_rms_m: float = parameter(
        0.003,
        "Root mean square distance of a pick from its landmark, metres.",
        minimum=0.0,
        maximum=0.02,
        when=START,
    )
