"""The parameters of the tracker node, as typed settings. Free of rclpy."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast, get_args

from end2reg_ros.case.model import Case
from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.stream import StreamSettings
from end2reg_ros.engine.options import EngineChoice, EngineOptions
from end2reg_ros.registration.find.initial_pose import PriorRules
from end2reg_ros.registration.settings import AcceptSettings, NetworkPasses, RegistrationSettings
from end2reg_ros.ros.parameters import LIVE, START, ParameterFault, group, parameter
from end2reg_ros.runtime.watchdog import WatchdogSettings
from end2reg_ros.tracking import TrackerSettings
from end2reg_ros.tracking.constant_velocity import FilterSettings
from end2reg_ros.tracking.filter import FilterChoice, TrackFilter, create_filter

# Ten metres around the camera: no box.
NO_BOX = (-10.0, -10.0, -10.0, 10.0, 10.0, 10.0)


@dataclass(frozen=True)
class TrackerParameters:
    """Everything that can be set on the ``tracker`` node."""

    autostart: bool = parameter(True, "Configure and activate at start, and end when that fails.", when=START)
    case: str = parameter("", "Case folder (with case.yaml); empty for the bundled demo case.")
    method: str = parameter(
        "end2reg",
        "Registration method. end2reg: finds the spine by itself; icp: needs a start; ransac_icp: searches, seldom finds.",
        choices=("end2reg", "icp", "ransac_icp"),
    )
    articulated: bool = parameter(
        True,
        "Each vertebra has a pose of its own, held to its neighbours; false takes the spine as one rigid body.",
    )
    build_only: bool = parameter(
        False,
        "Make the engine and what is computed of the case, keep them for the next start, and end.",
        when=START,
    )
    engine: str = parameter(
        "auto", "What runs the network; auto takes the fastest that is there.", choices=get_args(EngineChoice)
    )
    engine_device: str = parameter(
        "", "cpu or cuda; empty for the engine's own choice.", choices=("", "cpu", "cuda", "tensorrt")
    )
    engine_threads: int = parameter(
        1,
        "CPU threads of the network; a second one pays only where the camera and the rest leave it a core.",
        minimum=1,
        maximum=64,
    )
    engine_precision: str = parameter(
        "fp32",
        "fp32, or mixed: half precision where the graph says so (TensorRT).",
        choices=("fp32", "mixed"),
    )
    network_passes: str = parameter(
        "auto",
        "While a track is followed. every_frame: each pose waits for the network; background: refinement leads to the "
        "pose, and the network checks the newest cloud whenever it is free; auto: background on a CPU.",
        choices=get_args(NetworkPasses),
    )
    weights: str = parameter("", "Weights file; empty for the case's own network, else the shipped one.")
    input: str = parameter(
        "points", "points: a PointCloud2; depth: image and camera_info.", choices=("points", "depth")
    )
    input_reliability: str = parameter(
        "best_effort", "QoS reliability of the camera topics.", choices=("best_effort", "reliable")
    )
    pair_colour: bool = parameter(
        False,
        "Input depth: use only depth images with a color/image of the same stamp (for methods that look at colour).",
    )
    expected_frame: str = parameter("", "The only frame_id accepted; empty for any but an empty one.")
    z_min: float = parameter(0.05, "Smallest depth used, metres.", minimum=0.0, maximum=10.0, when=LIVE)
    z_max: float = parameter(10.0, "Largest depth used, metres.", minimum=0.01, maximum=100.0, when=LIVE)
    crop_box: tuple[float, ...] = parameter(
        NO_BOX,
        "x y z minimum, x y z maximum in the camera frame, metres; ten metres around is no box.",
        minimum=-10.0,
        maximum=10.0,
        when=LIVE,
    )
    max_points: int = parameter(
        2_097_152,
        "A larger cloud is thinned before it is looked at.",
        minimum=1000,
        maximum=20_000_000,
        when=LIVE,
    )
    check_frozen: bool = parameter(
        True, "Refuse a cloud equal to the one before; false for noise-free simulators of a scene at rest."
    )
    jump_back_s: float = parameter(
        1.0,
        "A stamp older by more than this is a restarted recording: tracking starts over; seconds.",
        minimum=0.0,
        maximum=600.0,
    )
    prior_stddev_m: float = parameter(
        0.003,
        "Expected error of an initial_pose that tells no covariance, metres.",
        minimum=0.0001,
        maximum=0.008,
    )
    max_prior_age_s: float = parameter(
        10.0,
        "Largest difference between the stamps of an initial_pose and of the cloud it is used with, seconds.",
        minimum=0.1,
        maximum=600.0,
    )
    watchdog_first_s: float = parameter(
        2.0, "Patience for the first cloud, seconds.", minimum=0.1, maximum=60.0
    )
    watchdog_gap_s: float = parameter(
        0.5,
        "Largest patience with a camera that stopped, seconds; once its period is known: 2.5 periods, at least 0.1 s.",
        minimum=0.05,
        maximum=60.0,
    )
    frame_prefix: str = parameter("", "Put before the names of all TF frames, for example 'patient/'.")
    filter: str = parameter(
        "none",
        "Of the poses on TF and */measured_cp: none, or constant_velocity, which smooths and lags a little; spine/pose and "
        "vertebrae stay raw.",
        choices=get_args(FilterChoice),
    )
    filter_acceleration_m_s2: float = parameter(
        FilterSettings.acceleration_m_s2,
        "Acceleration that the filter expects of the spine, m/s^2: smaller smooths and lags more.",
        minimum=0.0001,
        maximum=100.0,
    )
    filter_angular_acceleration_rad_s2: float = parameter(
        FilterSettings.angular_acceleration_rad_s2,
        "Angular acceleration that the filter expects of the spine, rad/s^2.",
        minimum=0.0001,
        maximum=1000.0,
    )
    publish_tf: bool = parameter(True, "Publish on /tf and /tf_static.")
    tf_on_loss: str = parameter(
        "detach",
        "TF where there is no pose any more. detach: the spine hangs on a frame 'untracked', so every lookup from the camera "
        "fails until the track is back; keep: TF answers with the last pose for ever, and between poses.",
        choices=("detach", "keep"),
    )
    publish_markers: bool = parameter(True, "Publish meshes and screws for rviz.")
    marker_triangles: int = parameter(600, "Triangles of each vertebra's marker.", minimum=50, maximum=20_000)
    tracking: TrackerSettings = group(TrackerSettings(), without=("silence_s",))  # noqa: RUF009
    accept: AcceptSettings = group(AcceptSettings())  # noqa: RUF009

    def limits(self) -> CloudLimits:
        """What of a cloud may be used.

        Raises:
            ParameterFault: an empty range or box.
        """
        low, high = self.crop_box[:3], self.crop_box[3:]
        if not self.z_min < self.z_max:
            raise ParameterFault(
                f"parameter 'z_min' is {self.z_min:g} m, must be below 'z_max', {self.z_max:g} m"
            )
        if not all(a < b for a, b in zip(low, high, strict=True)):
            raise ParameterFault(f"parameter 'crop_box' is empty: minimum {low} must be below maximum {high}")
        box = None if self.crop_box == NO_BOX else (_corner(low), _corner(high))
        return CloudLimits(self.z_min, self.z_max, box, self.max_points, self.expected_frame)

    def stream(self) -> StreamSettings:
        """What a stream must keep to."""
        return StreamSettings(self.jump_back_s, self.check_frozen)

    def prior(self) -> PriorRules:
        """What an initial_pose must keep to."""
        return PriorRules(self.prior_stddev_m, self.max_prior_age_s)

    def watchdog(self, source: str) -> WatchdogSettings:
        """The watchdog's patience with the topic ``source``."""
        return WatchdogSettings(self.watchdog_first_s, self.watchdog_gap_s, source)

    def tracker(self) -> TrackerSettings:
        """Settings of the track; silence is judged by the same period as the node's watchdog."""
        return replace(self.tracking, silence_s=self.watchdog_gap_s)

    def pose_filter(self, case: Case) -> TrackFilter:
        """The filter of the poses that go out on TF and as measured_cp."""
        settings = FilterSettings(self.filter_acceleration_m_s2, self.filter_angular_acceleration_rad_s2)
        return create_filter(cast(FilterChoice, self.filter), case, settings)

    def network(self) -> EngineOptions:
        """What is asked of the engine."""
        return EngineOptions(
            engine=cast(EngineChoice, self.engine),
            weights=Path(self.weights).expanduser() if self.weights else None,
            device=self.engine_device,
            threads=self.engine_threads,
            precision=self.engine_precision,
        )

    def registration(self) -> RegistrationSettings:
        """Settings of the registration."""
        passes = cast(NetworkPasses, self.network_passes)
        settings = RegistrationSettings(accept=self.accept, network_passes=passes)
        return settings if self.articulated else replace(settings, articulation=None)

    def hashed(self) -> dict[str, object]:
        """What decides about poses: everything but how the node is started."""
        return {
            name: value for name, value in asdict(self).items() if name not in ("autostart", "build_only")
        }


def _corner(values: tuple[float, ...]) -> tuple[float, float, float]:
    return values[0], values[1], values[2]
