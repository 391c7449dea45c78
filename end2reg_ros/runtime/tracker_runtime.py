"""The tracker at work between configure and clean-up. Free of ROS: what goes out goes through ``Output``.

Two threads meet here. The receiving one calls ``receive``, ``tick`` and the requests, and never waits; the
working one owns the tracker and everything that is published.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.messages import stamp_ns
from end2reg_ros.cloud.period import PeriodMeter
from end2reg_ros.cloud.stream_guard import Restart, StreamGuard
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.frame import Arrival, FrameProcess, Outcome
from end2reg_ros.reasons import Reason
from end2reg_ros.registration.find.initial_pose import Lookup, PriorRequest, no_lookup
from end2reg_ros.registration.types import Registration
from end2reg_ros.runtime.health import Judgement
from end2reg_ros.runtime.priors import Offer, Starts
from end2reg_ros.runtime.runtime_types import Output, RuntimeSettings
from end2reg_ros.runtime.status_publisher import Voice
from end2reg_ros.runtime.watchdog import Silence, Watchdog
from end2reg_ros.runtime.worker import Worker
from end2reg_ros.tracking import PUBLISHING_STATES, Tracker
from end2reg_ros.uncertainty import covariance_at, largest_stddev

# Faults in a row that could not be told.
MAX_UNTOLD = 3


class TrackerRuntime:
    """Receives messages, keeps the tracker working on the newest, tells what it thinks."""

    def __init__(
        self, tracker: Tracker, settings: RuntimeSettings, output: Output, lookup: Lookup = no_lookup
    ) -> None:
        self._tracker = tracker
        self._settings = settings
        self._output = output
        self.voice = Voice(settings.identity, output, self._since_arrival_s, lambda: tracker.history)
        self._watchdog = Watchdog(settings.watchdog, perf_counter())
        self._frames = self._new_frames(settings.limits)
        self._worker: Worker[Arrival] = Worker(self._work, self._superseded, self._fault)
        # Nothing is published once ``deactivate`` or ``enable(False)`` has returned.
        self._gate = threading.Lock()
        self._active = False
        self._enabled = True
        self._starts = Starts(tracker, settings.prior, lookup)
        self._stamps = PeriodMeter()
        self._silence: Reason | None = None  # reason code of the silence told since the last cloud registered
        self._is_asked = False  # the working thread is yet to tell a silence
        self._worker.start()

    def _since_arrival_s(self, now_s: float) -> float:
        return self._watchdog.since_arrival_s(now_s)

    def _new_frames(self, limits: CloudLimits) -> FrameProcess:
        s = self._settings
        return FrameProcess(self._tracker, s.decode, s.data, StreamGuard(s.stream), limits, self._restart)

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
        self._worker.call(partial(self._begin, Reason.INACTIVE, "the node is not active"))

    def enable(self, enabled: bool) -> None:
        """Stop or start the work; a stopped track is LOST. A start that was offered meanwhile is not used."""
        with self._gate:
            self._enabled = enabled
            self._watchdog = Watchdog(self._settings.watchdog, perf_counter())
        told = Silence(Reason.WAITING, "enabled, waiting for a cloud")
        if not enabled:
            told = Silence(Reason.DISABLED, "stopped on request")
        self._worker.call(partial(self._switch, told))

    def close(self, timeout_s: float) -> bool:
        """End the working thread; False when it did not end in time."""
        self.deactivate()
        return self._worker.stop(timeout_s)

    def set_limits(self, limits: CloudLimits, config_hash: str) -> None:
        """Takes effect with the next cloud."""
        self._frames.limits = limits
        self.voice.identity = replace(self.voice.identity, config_hash=config_hash)

    def receive(self, message: Any) -> None:
        """A cloud arrived: store it, nothing more."""
        now = perf_counter()
        self.voice.counters.receive()
        self._watchdog.arrived(now)
        self._stamps.came(1e-9 * stamp_ns(message))
        self.voice.frame_budget_ms = 1e3 * self._stamps.period_s
        self._worker.submit(Arrival(message, now))

    def drop(self, reason_code: Reason, reason: str) -> None:
        """A frame was lost before it was whole (a depth image without its colour image)."""
        self.voice.counters.receive()
        self.voice.counters.drop(reason_code)
        self._watchdog.arrived(perf_counter())
        self._watchdog.refused(reason_code, reason)

    def before_next_cloud(self, job: Callable[[], object]) -> None:
        """Run a job in the working thread, which takes no cloud before it is done."""
        self._worker.call(job)

    @property
    def is_mute(self) -> bool:
        """Whether it fails again and again to tell what goes wrong: nobody hears of it, so the process must end."""
        return self._worker.untold >= MAX_UNTOLD

    def relocalize(self) -> None:
        """Forget track and start, before the next cloud."""
        self._worker.call(self._relocalize)

    def reset(self) -> None:
        """Forget everything that was seen of the stream, before the next cloud."""
        self._worker.call(partial(self._begin, Reason.RESET, "reset on request: everything is forgotten"))

    def offer_prior(self, request: PriorRequest) -> None:
        """Use a pose as the start, with the next cloud; dropped while no work is done."""
        if self._active and self._enabled:
            self._worker.call(partial(self._starts.keep, Offer(request, perf_counter())))
        else:
            self._output.warn(Reason.PRIOR_REFUSED, "initial_pose refused: the tracker is stopped")

    def refuse_prior(self, why: str) -> None:
        """A pose that is no pose."""
        self._worker.call(partial(self._refuse_prior, why))

    def tick(self) -> None:
        """Some forty times a second: has the camera fallen silent, is a status due?"""
        now = perf_counter()
        self._watchdog.tick(now)
        silence = self._watchdog.check(now) if self._active and self._enabled else None
        if silence is not None and self._is_news(silence) and not self._is_asked:
            self._is_asked = True
            self._worker.call(self._tell_silence)
            return
        if self.voice.is_due(now):
            self._worker.call(self.voice.repeat)

    def count_lost(self, total: int) -> None:
        """The middleware lost this many messages so far."""
        self.voice.lost_in_transport = total

    def _superseded(self, arrival: Arrival) -> None:
        self.voice.counters.drop(Reason.SUPERSEDED)

    # In the working thread.

    def _work(self, arrival: Arrival) -> None:
        if not (self._active and self._enabled):
            self.voice.counters.drop(Reason.DISABLED if self._active else Reason.INACTIVE)
            return
        try:
            outcome = self._frames.run(arrival, self._apply_start)
        except Exception:
            self.voice.counters.drop(Reason.INTERNAL_ERROR)
            raise
        if outcome.drop is not None:
            self._refuse(outcome)
        else:
            self._accept(outcome, arrival)

    def _refuse(self, outcome: Outcome) -> None:
        assert outcome.drop is not None
        code, text = outcome.drop.code, str(outcome.drop)
        self.voice.counters.drop(code)
        self._watchdog.refused(code, text)
        self._output.warn(code, text)
        silence = self._watchdog.check(perf_counter())
        if silence is not None and silence.reason_code == code:
            self._silence = code
            self._lose(silence)
        # The state rests on the last cloud registered, so its header stays.
        self._say(code, text, outcome.timings_ms)

    def _accept(self, outcome: Outcome, arrival: Arrival) -> None:
        update, cloud = outcome.update, outcome.cloud
        assert update is not None and cloud is not None
        began = perf_counter()
        network = update.registration.network if update.registration is not None else None
        self.voice.counters.process(cloud.truncated, network.cells_truncated if network is not None else 0)
        self._watchdog.used(began)
        self._silence = None
        self.voice.registrations.tick(began)
        judgement = Judgement(
            update.state,
            update.reason_code,
            update.reason,
            cloud.frame_id,
            cloud.stamp_ns,
            update.registration,
            *self._stddevs(update.registration),
        )
        if update.reason_code == Reason.NO_PRIOR and self._starts.refusal is not None:
            judgement = replace(judgement, reason_code=Reason.PRIOR_REFUSED, reason=self._starts.refusal)
        with self._gate:
            if not (self._active and self._enabled):
                return
            if update.published and update.registration is not None:
                self._output.result(cloud, update.registration)
                self.voice.counters.publish_pose()
                judgement = replace(judgement, pose_age_ms=1e-6 * (self._output.now_ns() - cloud.stamp_ns))
        done = perf_counter()
        timings = outcome.timings_ms | {"publish": 1e3 * (done - began)}
        latency_ms = 1e3 * (done - arrival.received_s)
        if update.published and latency_ms > self.voice.frame_budget_ms:
            self.voice.counters.be_late()
        self.voice.judge(replace(judgement, timings_ms=timings, latency_ms=latency_ms))
        self._output.segmentation(cloud, update.registration)

    def _stddevs(self, registration: Registration | None) -> tuple[float, float]:
        """Largest standard deviations at the spine's middle: metres, radians. The CT's origin may be far from it."""
        if registration is None:
            return float("nan"), float("nan")
        T = registration.T_camera_model
        return largest_stddev(covariance_at(registration.covariance, T, self._tracker.centre))

    def _apply_start(self, cloud: Cloud) -> None:
        why = self._starts.apply(cloud)
        if why is not None:
            self._refuse_prior(why)

    def _refuse_prior(self, why: str) -> None:
        text = self._starts.refuse(why)
        self._output.warn(Reason.PRIOR_REFUSED, text)
        self._say(Reason.PRIOR_REFUSED, text)

    def _restart(self, restart: Restart) -> None:
        self._starts.refusal = None
        self._output.warn(restart.reason_code, restart.reason)
        self._say(restart.reason_code, restart.reason)

    def _relocalize(self) -> None:
        self._starts.forget()
        self._tracker.relocalize()
        self._say(Reason.RELOCALIZE, "track and start forgotten on request")

    def _begin(self, reason_code: Reason, reason: str) -> None:
        self._starts.forget()
        self._tracker.reset(reason_code, reason)
        self._silence = None
        self._frames = self._new_frames(self._frames.limits)
        self.voice.judge(Judgement(self._tracker.state, reason_code, reason))

    def _switch(self, told: Silence) -> None:
        self._starts.drop()
        self._silence = None
        self._fall_silent(told)

    def _is_news(self, silence: Silence) -> bool:
        told = self._silence == silence.reason_code == self.voice.judgement.reason_code
        # A cloud that was still waiting may have taken the track up again after the silence was told.
        return not told or self.voice.judgement.state in PUBLISHING_STATES

    def _tell_silence(self) -> None:
        self._is_asked = False
        silence = self._watchdog.check(perf_counter()) if self._active and self._enabled else None
        if silence is not None and self._is_news(silence):
            self._silence = silence.reason_code
            self._tell(silence)

    def _tell(self, silence: Silence) -> None:
        self._output.warn(silence.reason_code, silence.reason)
        self._fall_silent(silence)

    def _fall_silent(self, silence: Silence) -> None:
        self._lose(silence)
        self._say(silence.reason_code, silence.reason)

    def _lose(self, silence: Silence) -> None:
        last = self.voice.judgement
        self._tracker.silence(last.stamp_ns, last.frame_id, silence.reason, silence.reason_code)

    def _say(self, reason_code: Reason, reason: str, timings_ms: dict[str, float] | None = None) -> None:
        """Something other than a registered cloud has to be told: the last such cloud's stamp and frame stay."""
        last, state = self.voice.judgement, self._tracker.state
        told = Judgement(
            state, reason_code, reason, last.frame_id, last.stamp_ns, timings_ms=timings_ms or {}
        )
        self.voice.judge(told)

    def _fault(self, fault: Exception) -> None:
        self._output.warn(Reason.INTERNAL_ERROR, f"{type(fault).__name__}: {fault}")
        self._tell(Silence(Reason.INTERNAL_ERROR, f"a cloud could not be processed: {type(fault).__name__}"))
