"""The lifecycle node ``tracker``: only wiring. ``runtime/`` does the work, ``outputs`` publishes."""

from __future__ import annotations

from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from std_srvs.srv import SetBool, Trigger

from end2reg_ros import names
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.case.checks import load_valid_case
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.decoding import decoder
from end2reg_ros.errors import End2RegError
from end2reg_ros.frame import Tracker
from end2reg_ros.registration import Registrar, create_registrar
from end2reg_ros.registration.find.initial_pose import PriorRefused, request_of
from end2reg_ros.ros import qos
from end2reg_ros.ros.claim import DISCOVERY_S, NameClaim
from end2reg_ros.ros.inputs import CameraInput
from end2reg_ros.ros.lifecycle import SteadyLifecycleNode, told
from end2reg_ros.ros.outputs import TopicOutput
from end2reg_ros.ros.parameters import config_hash, declare, guard_changes, read
from end2reg_ros.ros.settings import TrackerParameters
from end2reg_ros.ros.status import StatusPublisher
from end2reg_ros.ros.tf import make_lookup
from end2reg_ros.runtime.memory import give_back_freed_memory
from end2reg_ros.runtime.status import Identity
from end2reg_ros.runtime.tracker_runtime import RuntimeSettings, TrackerRuntime

TICK_S = 0.025  # a camera that stopped is to be noticed within 100 ms
DIAGNOSTICS_S = 1.0
STOP_S = 1.5


class TrackerNode(SteadyLifecycleNode):
    """Point clouds in, the vertebrae's poses out."""

    def __init__(self, **options: Any) -> None:
        super().__init__("tracker", **options)
        self._created_s = monotonic()
        self._runtime: TrackerRuntime | None = None
        self._output: TopicOutput | None = None
        self._camera: CameraInput | None = None
        self._prior: Any = None
        self._activate_when_known = False
        self._claim = NameClaim(self)
        self.parameters = declare(self, TrackerParameters)
        guard_changes(self, TrackerParameters, lambda: self._runtime is not None, self._on_live_change)
        self._lookup = make_lookup(self)
        self._status = StatusPublisher(self)
        self.create_service(Trigger, "relocalize", self._on_relocalize)
        self.create_service(Trigger, "reset", self._on_reset)
        self.create_service(SetBool, "enable", self._on_enable)
        # Steady time: the watchdog must speak also when a simulated clock stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(TICK_S, self._on_tick, clock=steady)
        self.create_timer(DIAGNOSTICS_S, self._on_diagnostics, clock=steady)

    def build(self) -> bool:
        """Make the engine and what is computed of the case, keep them for the next start; False where that failed."""
        return self.attempt(self.trigger_configure)

    def autostart(self) -> bool:
        """Configure now, activate as soon as others of the same name have had time to be heard."""
        self._activate_when_known = self.attempt(self.trigger_configure)
        return self._activate_when_known

    def close(self) -> None:
        """End the worker, whatever state the node is in."""
        self._release()

    # Lifecycle.

    @told
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the case, set the registration up and warm it up; nothing is published before."""
        try:
            self._configure()
        except (End2RegError, OSError) as fault:
            self.get_logger().error(f"cannot configure: {fault}")
            self._release()
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    @told
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen and speak."""
        self._activate_when_known = False
        if (refusal := self._claim.refusal()) is not None:
            self.get_logger().error(f"cannot activate: {refusal}")
            return TransitionCallbackReturn.FAILURE
        assert self._runtime is not None and self._output is not None
        self._output.announce()
        self._runtime.activate()
        self._camera = CameraInput(self, self.parameters, self._runtime)
        self._prior = self.create_subscription(
            PoseWithCovarianceStamped, names.INITIAL_POSE, self._on_initial_pose, qos.prior()
        )
        self.get_logger().info(f"active, waiting for {self._source()}")
        return super().on_activate(state)

    @told
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Fall silent."""
        self._stop_listening()
        if self._runtime is not None:
            self._runtime.deactivate()
        return super().on_deactivate(state)

    @told
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything back."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @told
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything back, and end the process."""
        self._release()
        self.exit_code = 0
        return TransitionCallbackReturn.SUCCESS

    @told
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        parameters = self.parameters = read(self, TrackerParameters)
        limits = parameters.limits()
        began = perf_counter()
        case = load_valid_case(Path(parameters.case).expanduser() if parameters.case else bundled_case_path())
        registrar = create_registrar(parameters.method, case, parameters.registration(), parameters.network())
        give_back_freed_memory()
        registrar.warm_up()
        decode, data = decoder(parameters.input)
        settings = RuntimeSettings(
            identity=_identity(case, registrar, parameters),
            stream=parameters.stream(),
            watchdog=parameters.watchdog(self._source()),
            limits=limits,
            prior=parameters.prior(),
            decode=decode,
            data=data,
        )
        self._output = TopicOutput(self, case, parameters, self._status)
        tracker = Tracker(registrar, case, parameters.tracker())
        self._runtime = TrackerRuntime(tracker, settings, self._output, self._lookup)
        took = perf_counter() - began
        self.get_logger().info(
            f"case '{case.name}' ({', '.join(case.levels)}), {registrar.method}, ready in {took:.1f} s"
        )
        if settings.identity.engine_text:
            self.get_logger().info(f"engine {settings.identity.engine_text}")

    def _source(self) -> str:
        return self.resolve_topic_name(
            names.POINTS if self.parameters.input == "points" else names.DEPTH_IMAGE
        )

    def _stop_listening(self) -> None:
        if self._camera is not None:
            self._camera.close()
            self._camera = None
        if self._prior is not None:
            self.destroy_subscription(self._prior)
            self._prior = None

    def _release(self) -> None:
        self._activate_when_known = False  # whoever cleaned up decides what follows
        self._stop_listening()
        runtime, self._runtime = self._runtime, None
        if runtime is not None and not runtime.close(STOP_S):
            self.get_logger().error("the working thread did not end in time")
        output, self._output = self._output, None
        if output is not None:
            output.close()

    # Callbacks: none of them waits for the worker.

    def _on_tick(self) -> None:
        if self._activate_when_known and monotonic() - self._created_s > DISCOVERY_S:
            self._activate_when_known = False
            if not self.attempt(self.trigger_activate):
                self.exit_code = 1
        elif self._camera is not None and self._claim.rival is not None:
            self.get_logger().error(f"falling silent: {self._claim.refusal()}")
            self.attempt(self.trigger_deactivate)
            self.exit_code = 1
        if self._runtime is not None:
            self._runtime.tick()
            if self._runtime.cannot_report and self.exit_code is None:
                self.get_logger().fatal("results cannot be published: ending")
                self.exit_code = 1

    def _on_diagnostics(self) -> None:
        if self._runtime is not None:
            self._status.publish_diagnostics(self._runtime.reporter.status())

    def _on_live_change(self, parameters: TrackerParameters) -> None:
        limits = parameters.limits()
        if self._runtime is not None:
            self._runtime.set_limits(limits, config_hash(parameters.hashed()))

    def _on_initial_pose(self, message: PoseWithCovarianceStamped) -> None:
        if self._runtime is None:
            return
        try:
            self._runtime.offer_prior(request_of(message))
        except PriorRefused as why:
            self._runtime.refuse_prior(str(why))

    def _on_relocalize(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._ask(
            response,
            "relocalize",
            "the start is forgotten too; a method that needs one waits for a new initial_pose",
        )

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._ask(
            response,
            "reset",
            "everything is forgotten; a method that needs a start waits for a new initial_pose",
        )

    def _ask(self, response: Trigger.Response, action: str, message: str) -> Trigger.Response:
        response.success = self._runtime is not None
        response.message = message if response.success else "the node is not configured"
        if self._runtime is not None:
            getattr(self._runtime, action)()
        return response

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success = self._runtime is not None
        response.message = (
            ("enabled" if request.data else "disabled") if response.success else "the node is not configured"
        )
        if self._runtime is not None:
            self._runtime.enable(request.data)
        return response


def _identity(case: Case, registrar: Registrar, parameters: TrackerParameters) -> Identity:
    return Identity(
        method=registrar.method,
        engine=registrar.engine,
        engine_hash=registrar.engine_hash,
        case_name=case.name,
        case_hash=case.hash,
        config_hash=config_hash(parameters.hashed()),
        engine_text=registrar.engine_text,
    )
