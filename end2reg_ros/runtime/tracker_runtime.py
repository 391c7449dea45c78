"""The tracker at work between configure and clean-up. Free of ROS: what goes out goes through ``Output``.

Two threads meet here. The receiving one calls ``receive``, ``tick`` and the requests, and never waits; the
working one owns the tracker and publishes. A cloud's way there: ``run -> publish -> report``. Silence needs no working
thread: the receiving one detaches TF itself, and speaks where the other hangs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any, Protocol

from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.messages import stamp_ns
from end2reg_ros.cloud.stream import PeriodMeter, Restart, StreamGuard, StreamSettings
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import CloudError
from end2reg_ros.frame import Arrival, FrameProcess, Tracker
from end2reg_ros.reasons import Reason
from end2reg_ros.registration.find.initial_pose import Lookup, PriorRequest, PriorRules, no_lookup
from end2reg_ros.registration.types import Registration
from end2reg_ros.runtime.priors import PriorQueue
from end2reg_ros.runtime.status import Identity, StatusOutput, StatusReporter, TrackingReport
from end2reg_ros.runtime.watchdog import Silence, Watchdog, WatchdogSettings
from end2reg_ros.runtime.worker import Worker
from end2reg_ros.tracking import PUBLISHING_STATES, State, TrackingUpdate

# A search of the whole view may take so long on a busy machine.
STALLED_SEARCH_S = 5.0
# Faults in a row that could not be reported.
MAX_UNREPORTED = 3


class Output(StatusOutput, Protocol):
    """Where results go. ``result`` and ``segmentation`` come from the working thread alone, the rest from any.

    ``detach`` ends what outlives its pose (TF); ``result`` begins it anew. It may be called again and again.
    """

    def now_ns(self) -> int: ...
    def result(self, cloud: Cloud, registration: Registration) -> None: ...
    def detach(self) -> None: ...
    def segmentation(self, cloud: Cloud, registration: Registration | None) -> None: ...
    def warn(self, reason_code: str, text: str) -> None: ...


@dataclass(frozen=True)
class RuntimeSettings:
    """What a runtime is given at configure; ``decode``: message to cloud, ``data``: message to its bytes."""

    identity: Identity
    stream: StreamSettings
    watchdog: WatchdogSettings
    limits: CloudLimits
    prior: PriorRules
    decode: Callable[[Any, CloudLimits], Cloud]
    data: Callable[[Any], Any]


class TrackerRuntime:
    """Receives messages, keeps the tracker working on the newest, publishes poses and reports."""

    def __init__(
        self, tracker: Tracker, settings: RuntimeSettings, output: Output, lookup: Lookup = no_lookup
    ) -> None:
        self._tracker = tracker
        self._settings = settings
        self._output = output
        self.reporter = StatusReporter(
            settings.identity,
            output,
            lambda now_s: self._watchdog.since_arrival_s(now_s),
            lambda: tracker.history,
        )
        self._counters = self.reporter.counters
        self._watchdog = Watchdog(settings.watchdog, perf_counter())
        self._frames = self._new_frames(settings.limits)
        self._priors = PriorQueue(tracker, settings.prior, lookup)
        self._stamps = PeriodMeter()
        # Nothing is published once ``deactivate`` or ``enable(False)`` has returned.
        self._gate = threading.Lock()
        self._active = False
        self._enabled = True
        self._reported_silence: str | None = None  # its code; None once a cloud was registered
        # What the working thread is yet to do: one of each, however long it is busy.
        self._silence_is_pending = False
        self._status_is_pending = False
        self._judging_since_s: float | None = None  # the cloud in hand was taken up then
        self._stall_told = False  # of that cloud, or of the one before while none is in hand
        self._worker: Worker[Arrival] = Worker(self._work, self._superseded, self._fault)
        self._worker.start()

    def _new_frames(self, limits: CloudLimits) -> FrameProcess:
        s = self._settings
        return FrameProcess(self._tracker, s.decode, s.data, StreamGuard(s.stream), limits, self._restart)

    @property
    def _works(self) -> bool:
        return self._active and self._enabled

    # From the receiving thread.

    def activate(self) -> None:
        """Begin a stream: whatever was tracked before is forgotten, and so is a stop by ``enable``."""
        with self._gate:
            self._active = self._enabled = True
            self._watchdog = Watchdog(self._settings.watchdog, perf_counter())
        self._worker.call(partial(self._begin, Reason.WAITING, "active, waiting for the first cloud"))

    def deactivate(self) -> None:
        """No pose leaves after this call has returned."""
        with self._gate:
            self._active = False
            self._output.detach()
        self._worker.call(partial(self._begin, Reason.INACTIVE, "the node is not active"))

    def enable(self, enabled: bool) -> None:
        """Stop or start the work; a stopped track is LOST. A start that was offered meanwhile is not used."""
        with self._gate:
            self._enabled = enabled
            self._output.detach()
            self._watchdog = Watchdog(self._settings.watchdog, perf_counter())
        silence = Silence(Reason.WAITING, "enabled, waiting for a cloud")
        if not enabled:
            silence = Silence(Reason.DISABLED, "stopped on request")
        self._worker.call(partial(self._switch, silence))

    def close(self, timeout_s: float) -> bool:
        """End the working thread; False when it did not end in time."""
        self.deactivate()
        return self._worker.stop(timeout_s)

    def set_limits(self, limits: CloudLimits, config_hash: str) -> None:
        """Takes effect with the next cloud."""
        self._frames.limits = limits
        self.reporter.identity = replace(self.reporter.identity, config_hash=config_hash)

    def receive(self, message: Any) -> None:
        """A cloud arrived: store it, nothing more."""
        now_s = perf_counter()
        self._counters.receive()
        self._watchdog.arrived(now_s)
        self._stamps.add(1e-9 * stamp_ns(message))
        self.reporter.frame_budget_ms = 1e3 * self._stamps.period_s
        self._worker.submit(Arrival(message, now_s))

    def drop(self, reason_code: Reason, reason: str) -> None:
        """A frame was lost before it was whole (a depth image without its colour image)."""
        self._counters.receive()
        self._counters.drop(reason_code)
        self._watchdog.arrived(perf_counter())
        self._watchdog.refused(reason_code, reason)

    def run_before_next_cloud(self, job: Callable[[], object]) -> None:
        """Run a job in the working thread, which takes no cloud before it is done."""
        self._worker.call(job)

    @property
    def cannot_report(self) -> bool:
        """Whether it fails again and again to report what goes wrong: nobody sees it, so the process must end."""
        return self._worker.unreported >= MAX_UNREPORTED

    def relocalize(self) -> None:
        """Forget track and start, before the next cloud."""
        self._worker.call(self._relocalize)

    def reset(self) -> None:
        """Forget everything that was seen of the stream, before the next cloud."""
        self._worker.call(partial(self._begin, Reason.RESET, "reset on request: everything is forgotten"))

    def offer_prior(self, request: PriorRequest) -> None:
        """Use a pose as the start, with the next cloud; dropped while no work is done."""
        if self._works:
            self._worker.call(partial(self._priors.offer, request, perf_counter()))
        else:
            self._output.warn(Reason.PRIOR_REFUSED, "initial_pose refused: the tracker is stopped")

    def refuse_prior(self, why: str) -> None:
        """A pose that is no pose."""
        self._worker.call(lambda: self._report_and_warn(Reason.PRIOR_REFUSED, self._priors.refuse(why)))

    def tick(self) -> None:
        """Some forty times a second: does the working thread hang, has the camera fallen silent, is a status due?"""
        now_s = perf_counter()
        self._watchdog.tick(now_s)
        if self._works and self._stall(now_s) is not None:
            self._tell_stall(now_s)
            return
        silence = self._watchdog.check(now_s) if self._works else None
        if silence is not None and self._is_new(silence) and not self._silence_is_pending:
            self._silence_is_pending = True
            self._worker.call(self._check_silence)
        elif self.reporter.is_due(now_s) and not self._status_is_pending:
            self._status_is_pending = True
            self._worker.call(self._repeat)

    def _stall(self, now_s: float) -> Silence | None:
        """What to say of a cloud that is judged for too long; None while none is."""
        since_s = self._judging_since_s
        if since_s is None:
            return None
        is_out = self.reporter.report.state in PUBLISHING_STATES
        patience_s = self._watchdog.judging_patience_s() if is_out else STALLED_SEARCH_S
        waited_s = now_s - since_s
        if waited_s <= patience_s and not self._stall_told:
            return None
        text = f"no cloud was judged for {waited_s:.1f} s: the registration hangs, or the machine is too busy"
        return Silence(Reason.STALLED, text)

    def _tell_stall(self, now_s: float) -> None:
        """In the receiving thread, in place of the working one. The tracker is left as it is: the next cloud ends this."""
        with (
            self._gate
        ):  # no pose goes out meanwhile, and none has since: the cloud in hand is not judged yet
            stall, last = self._stall(now_s), self.reporter.report
            if stall is None or (self._stall_told and not self.reporter.is_due(now_s)):
                return
            self._output.detach()
            if not self._stall_told:
                self._output.warn(stall.reason_code, stall.reason)
            self._stall_told = True
            state = State.LOST if last.state in PUBLISHING_STATES else last.state
            self.reporter.publish(
                TrackingReport(state, stall.reason_code, stall.reason, last.frame_id, last.stamp_ns)
            )

    def count_lost(self, total: int) -> None:
        """The middleware lost this many messages so far."""
        self.reporter.lost_in_transport = total

    def _superseded(self, arrival: Arrival) -> None:
        self._counters.drop(Reason.SUPERSEDED)

    # In the working thread: clouds.

    def _work(self, arrival: Arrival) -> None:
        if not self._works:
            self._counters.drop(Reason.DISABLED if self._active else Reason.INACTIVE)
            return
        self._stall_told = False
        self._judging_since_s = perf_counter()
        try:
            outcome = self._frames.run(arrival, self._use_prior)
        except Exception:
            self._counters.drop(Reason.INTERNAL_ERROR)
            raise
        finally:
            with self._gate:
                self._judging_since_s = None
        if outcome.drop is not None:
            self._refuse(outcome.drop, outcome.timings_ms)
            return
        assert outcome.update is not None and outcome.cloud is not None
        began_s = perf_counter()
        self._count(outcome.update, outcome.cloud, began_s)
        if self._stall_told and outcome.update.published:
            return  # too old to be given; the next cloud's pose ends the stall
        pose_age_ms = self._publish(outcome.update, outcome.cloud)
        if pose_age_ms is not None:
            timings_ms = outcome.timings_ms | {"publish": 1e3 * (perf_counter() - began_s)}
            self._report_cloud(outcome.update, outcome.cloud, arrival.received_s, timings_ms, pose_age_ms)

    def _use_prior(self, cloud: Cloud) -> None:
        """The start that was offered, if there is one, before the tracker sees its first cloud."""
        if self._priors.waiting is not None and (refusal := self._priors.use(cloud)) is not None:
            self._report_and_warn(Reason.PRIOR_REFUSED, refusal)

    def _refuse(self, fault: CloudError, timings_ms: dict[str, float]) -> None:
        self._counters.drop(fault.code)
        self._watchdog.refused(fault.code, str(fault))
        self._output.warn(fault.code, str(fault))
        if self._stall_told:  # only a pose ends what was told
            self._lose(Silence(Reason.STALLED, self.reporter.report.reason))
        silence = self._watchdog.check(perf_counter())
        if silence is not None and silence.reason_code == fault.code:
            self._reported_silence = fault.code
            self._lose(silence)
        # The state rests on the last cloud registered, so its header stays.
        self._report(fault.code, str(fault), timings_ms)

    def _count(self, update: TrackingUpdate, cloud: Cloud, now_s: float) -> None:
        found = update.registration
        network = None if found is None else found.network
        cells = 0 if network is None else network.cells_truncated
        self._counters.process(now_s, cloud.truncated, cells)
        self._watchdog.used(now_s)
        self._reported_silence = None

    def _publish(self, update: TrackingUpdate, cloud: Cloud) -> float | None:
        """Publish the pose, if there is one: its age in ms, NaN without one. None: the work was stopped meanwhile."""
        with self._gate:
            if not self._works:
                return None
            if not update.published or update.registration is None:
                self._output.detach()
                return float("nan")
            self._output.result(cloud, update.registration)
            self.reporter.pose_stamp_ns = cloud.stamp_ns
            return 1e-6 * (self._output.now_ns() - cloud.stamp_ns)

    def _report_cloud(
        self,
        update: TrackingUpdate,
        cloud: Cloud,
        received_s: float,
        timings_ms: dict[str, float],
        pose_age_ms: float,
    ) -> None:
        latency_ms = 1e3 * (perf_counter() - received_s)
        if update.published:
            self._counters.publish_pose(late=latency_ms > self.reporter.frame_budget_ms)
        code, reason = update.reason_code, update.reason
        if code == Reason.NO_PRIOR and self._priors.refusal is not None:
            code, reason = Reason.PRIOR_REFUSED, self._priors.refusal
        self.reporter.publish(
            TrackingReport(
                state=update.state,
                reason_code=code,
                reason=reason,
                frame_id=cloud.frame_id,
                stamp_ns=cloud.stamp_ns,
                registration=update.registration,
                timings_ms=timings_ms,
                latency_ms=latency_ms,
                pose_age_ms=pose_age_ms,
            )
        )
        self._output.segmentation(cloud, update.registration)

    # In the working thread: everything else.

    def _restart(self, restart: Restart) -> None:
        self._priors.refusal = None
        self._report_and_warn(restart.reason_code, restart.reason)

    def _relocalize(self) -> None:
        self._priors.forget()
        self._tracker.relocalize()
        self._report(Reason.RELOCALIZE, "track and start forgotten on request")

    def _begin(self, reason_code: Reason, reason: str) -> None:
        self._priors.forget()
        self._tracker.reset(reason_code, reason)
        self._reported_silence = None
        self._frames = self._new_frames(self._frames.limits)
        self.reporter.publish(TrackingReport(self._tracker.state, reason_code, reason))

    def _switch(self, silence: Silence) -> None:
        self._priors.waiting = None
        self._reported_silence = None
        self._lose(silence)
        self._report(silence.reason_code, silence.reason)

    def _repeat(self) -> None:
        self._status_is_pending = False
        if self.reporter.is_due(perf_counter()):
            self.reporter.publish()

    def _is_new(self, silence: Silence) -> bool:
        """Whether a silence is yet to be reported: also where a cloud that still waited took the track up again since."""
        last = self.reporter.report
        reported = self._reported_silence == silence.reason_code == last.reason_code
        return not reported or last.state in PUBLISHING_STATES

    def _check_silence(self) -> None:
        self._silence_is_pending = False
        silence = self._watchdog.check(perf_counter()) if self._works else None
        if silence is not None and self._is_new(silence):
            self._reported_silence = silence.reason_code
            self._fall_silent(silence)

    def _fault(self, fault: Exception) -> None:
        name = type(fault).__name__
        self._output.warn(Reason.INTERNAL_ERROR, f"{name}: {fault}")
        self._fall_silent(Silence(Reason.INTERNAL_ERROR, f"a cloud could not be processed: {name}"))

    def _fall_silent(self, silence: Silence) -> None:
        self._lose(silence)
        self._report_and_warn(silence.reason_code, silence.reason)

    def _lose(self, silence: Silence) -> None:
        last = self.reporter.report
        self._tracker.silence(last.stamp_ns, last.frame_id, silence.reason, silence.reason_code)

    def _report_and_warn(self, reason_code: Reason, reason: str) -> None:
        self._output.warn(reason_code, reason)
        self._report(reason_code, reason)

    def _report(self, reason_code: str, reason: str, timings_ms: dict[str, float] | None = None) -> None:
        """Report something other than a registered cloud: stamp and frame of the last such cloud stay."""
        last, state = self.reporter.report, self._tracker.state
        self.reporter.publish(
            TrackingReport(
                state, reason_code, reason, last.frame_id, last.stamp_ns, timings_ms=timings_ms or {}
            )
        )
