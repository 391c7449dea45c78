"""The node ``simulated_camera``: clouds as a RealSense driver sends them, and the truth beside them."""

from __future__ import annotations

import array
import threading
from pathlib import Path
from time import monotonic
from typing import Any

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2, PointField
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from end2reg_ros import names
from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.msg import TrackingStatus
from end2reg_ros.reasons import Reason
from end2reg_ros.ros import qos
from end2reg_ros.ros.camera_settings import CameraParameters
from end2reg_ros.ros.conversions import header, pose_with_covariance_stamped, spine_transforms
from end2reg_ros.ros.parameters import declare
from end2reg_ros.simulation.articulation import Articulation
from end2reg_ros.simulation.camera.realsense import (
    FIELDS,
    FLOAT32,
    POINT_STEP,
    EncodedCloud,
    encode_realsense,
)
from end2reg_ros.simulation.camera.sensor import SENSORS
from end2reg_ros.simulation.picks import picked_prior, prior_covariance
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedFrame, SimulatedSequence
from end2reg_ros.tracking.types import State

STOP_S = 1.5


class SimulatedCamera(Node):
    """Renders in a thread of its own; the executor only answers services and parameters."""

    def __init__(self, **options: Any) -> None:
        super().__init__("simulated_camera", **options)
        self.exit_code: int | None = None
        self.parameters = p = declare(self, CameraParameters)
        self._case = load_case(Path(p.case).expanduser() if p.case else bundled_case_path())
        moved = p.articulation_deg > 0 or p.articulation_m > 0
        settings = SequenceSettings(
            seed=p.seed,
            scenario=p.scenario,
            sensor=SENSORS[p.sensor],
            articulation=Articulation(p.articulation_deg, p.articulation_m, p.seed) if moved else None,
        )
        self._sequence = SimulatedSequence(self._case, settings)
        self._cloud = self.create_publisher(PointCloud2, names.SIMULATED_POINTS, qos.result())
        self._truth = self.create_publisher(TrackingStatus, names.TRUTH_STATUS, qos.tf())
        self._tf = self.create_publisher(TFMessage, names.TF, qos.tf())
        self._pose = self.create_publisher(PoseWithCovarianceStamped, names.INITIAL_POSE, qos.prior())
        self.create_service(Trigger, "~/pick", self._on_pick)
        self._pick_wanted = p.simulate_picks
        self._picks_made = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)

    def start(self) -> None:
        """Begin to render."""
        p = self.parameters
        if p.simulate_picks:
            noise = 1e3 * p.pick_rms_m
            self.get_logger().info(
                f"simulated landmark picks with {noise:.0f} mm noise give the tracker its start"
            )
        self.get_logger().info(f"scenario '{p.scenario}', sensor '{p.sensor}', {p.rate:g} Hz, seed {p.seed}")
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def _run(self) -> None:
        p = self.parameters
        self._wait_for_truth_listener()
        began = monotonic()
        tick = 0
        while not self._stop.is_set():
            t_s = tick / p.rate
            if p.duration and t_s >= p.duration:
                self.exit_code = 0
                return
            try:
                self._send(self._sequence.frame(t_s))
            except Exception as fault:  # ends the process with a line instead of leaving a silent camera
                if not self._stop.is_set():
                    self.get_logger().error(f"cannot render: {type(fault).__name__}: {fault}")
                    self.exit_code = 1
                return
            # Time in the scene is real time: a machine too slow for the rate skips frames.
            tick = max(tick + 1, int((monotonic() - began) * p.rate))
            self._stop.wait(max(0.0, began + tick / p.rate - monotonic()))

    def _wait_for_truth_listener(self) -> None:
        """Discovery takes time: with ``truth_wait`` the first cloud waits until somebody hears the truth."""
        until = monotonic() + self.parameters.truth_wait
        truth = (self._truth, self._tf)
        while monotonic() < until and not all(p.get_subscription_count() for p in truth):
            if self._stop.wait(0.05):
                return

    def _send(self, frame: SimulatedFrame) -> None:
        # Rendering stands for the exposure: the stamp is the time at which the picture is complete.
        stamp_ns = int(self.get_clock().now().nanoseconds)
        encoded = encode_realsense(frame.points, frame.colours, ordered=self.parameters.ordered)
        cloud = cloud_message(encoded, self.parameters.frame_id, stamp_ns)
        self._send_truth(frame, stamp_ns)
        self._cloud.publish(cloud)
        if self._pick_wanted and frame.bone_pixels and self._pose.get_subscription_count() > 0:
            self._send_pick(frame, stamp_ns)

    def _send_truth(self, frame: SimulatedFrame, stamp_ns: int) -> None:
        frame_id = self.parameters.frame_id
        if frame.tags["spine"]:  # else there is nothing of which a place could be told
            T, T_levels = frame.T_camera_model, frame.T_camera_levels
            transforms = spine_transforms(names.TRUTH_PREFIX, frame_id, stamp_ns, T, T_levels)
            self._tf.publish(TFMessage(transforms=transforms))
        self._truth.publish(truth_status(frame, header(frame_id, stamp_ns), self._case.name, self._case.hash))

    def _send_pick(self, frame: SimulatedFrame, stamp_ns: int) -> None:
        p = self.parameters
        # Each round of picks has an error of its own.
        seed = p.seed + 1000 * self._picks_made
        prior = picked_prior(self._case, frame.T_camera_model, seed, p.pick_rms_m, frame.T_camera_levels)
        covariance = prior_covariance(prior, self._case.centroid())
        self._pose.publish(
            pose_with_covariance_stamped(p.frame_id, stamp_ns, prior.T_camera_model, covariance)
        )
        self._pick_wanted = False
        self._picks_made += 1
        noise = 1e3 * p.pick_rms_m
        self.get_logger().info(f"initial_pose sent: simulated landmark picks with {noise:.0f} mm noise")

    def _on_pick(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._pick_wanted = True
        response.success, response.message = True, "landmarks are picked in the next cloud that shows bone"
        return response


def truth_status(frame: SimulatedFrame, head: Any, case_name: str, case_hash: str) -> TrackingStatus:
    """What is true of one frame: TRACKING when any of the spine is in view; ``no_spine`` when the scene has none."""
    in_view = frame.bone_pixels > 0
    state = State.TRACKING if in_view else State.SEARCHING
    hidden = Reason.NOT_IN_VIEW if frame.tags["spine"] else Reason.NO_SPINE
    nan = float("nan")
    return TrackingStatus(
        header=head,
        state=int(state),
        state_name=state.name,
        reason_code=Reason.OK if in_view else hidden,
        reason="truth of the simulation" if in_view else "truth of the simulation: no bone is in view",
        method="ground_truth",
        case_name=case_name,
        case_hash=case_hash,
        visible_fraction=frame.visible_fraction,
        inlier_ratio=nan,
        residual_rmse=nan,
        mask_fraction=nan,
        free_space_violation=nan,
        normal_agreement=nan,
        position_stddev=nan,
        rotation_stddev=nan,
    )


def cloud_message(encoded: EncodedCloud, frame_id: str, stamp_ns: int) -> PointCloud2:
    """A PointCloud2 of encoded points."""
    data = array.array("B")
    data.frombytes(memoryview(encoded.data))  # type: ignore[arg-type]
    return PointCloud2(
        header=header(frame_id, stamp_ns),
        height=encoded.height,
        width=encoded.width,
        fields=[
            PointField(name=name, offset=offset, datatype=FLOAT32, count=1) for name, offset in FIELDS.items()
        ],
        is_bigendian=False,
        point_step=POINT_STEP,
        row_step=encoded.row_step,
        data=data,
        is_dense=encoded.is_dense,
    )
