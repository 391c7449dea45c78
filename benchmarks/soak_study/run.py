"""One hour of camera through the node's runtime in one process: does it stay as it was? Free of ROS."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import psutil

from benchmarks.camera_rate.stream import Playback, PlaybackFrame
from benchmarks.soak_study.feed import Course, Feeder, SoakStuck
from benchmarks.soak_study.output import SoakOutput
from benchmarks.soak_study.record import Sample, SoakRecord
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.decoding import decoder
from end2reg_ros.frame import Tracker
from end2reg_ros.names import CAMERA_FRAME
from end2reg_ros.reasons import Reason
from end2reg_ros.registration import create_registrar
from end2reg_ros.registration.find.initial_pose import PriorRequest
from end2reg_ros.registration.interface import Registrar
from end2reg_ros.ros.settings import TrackerParameters
from end2reg_ros.runtime.memory import give_back_freed_memory
from end2reg_ros.runtime.status import Counts, Identity
from end2reg_ros.runtime.tracker_runtime import RuntimeSettings, TrackerRuntime
from end2reg_ros.simulation.picks import PICK_RMS_M, picked_prior
from end2reg_ros.tracking import State

START_PATIENCE = 30  # clouds between two starts that are given
NEEDS_START = (Reason.NO_PRIOR, Reason.LOST_TOO_LONG, Reason.PRIOR_EXPIRED, Reason.PRIOR_REFUSED)


class Soak:
    """Sets the runtime up as the node does, feeds it, watches the process.

    Args:
        parameters: of the tracker; the frame of the stored clouds is the only one accepted.
        registrar: None for the one that the parameters name.
    """

    def __init__(
        self,
        case: Case,
        playback: Playback,
        parameters: TrackerParameters,
        course: Course,
        registrar: Registrar | None = None,
    ) -> None:
        self._case, self._playback, self._course = case, playback, course
        if registrar is None:
            registrar = create_registrar(
                parameters.method, case, parameters.registration(), parameters.network()
            )
        self.registrar = registrar
        give_back_freed_memory()
        registrar.warm_up()
        decode, data = decoder("points")
        settings = RuntimeSettings(
            identity=Identity(
                registrar.method, registrar.engine, registrar.engine_hash, case.name, case.hash, ""
            ),
            stream=parameters.stream(),
            watchdog=parameters.watchdog("the stored sequence"),
            limits=parameters.limits(),
            prior=parameters.prior(),
            decode=decode,
            data=data,
        )
        self.output = SoakOutput(case, course.clouds)
        self._runtime = TrackerRuntime(Tracker(registrar, case, parameters.tracker()), settings, self.output)
        self._feeder = Feeder(playback, course, self._runtime, self.output)
        self._process = psutil.Process()
        self._needs_start = registrar.needs_prior
        self._start_given_at = -START_PATIENCE
        self._starts = 0

    def run(self, sample_every: int, warm: int, on_sample: Callable[[Sample], None]) -> SoakRecord:
        """Send the course, or what of it comes before ``stop``.

        Args:
            sample_every: clouds between two samples; one more is taken after ``warm`` clouds and one at the end.
        """
        feeder = self._feeder
        record = SoakRecord(self.output, Counts())
        began = time.monotonic()
        due = iter(sorted({warm, *range(sample_every, self._course.clouds, sample_every)}))
        next_due = next(due, None)

        def sample() -> None:
            record.samples.append(self._sample(feeder.sent, time.monotonic() - began))
            on_sample(record.samples[-1])

        def after(frame: PlaybackFrame) -> None:
            nonlocal next_due
            self._give_start(frame, feeder)
            if next_due is not None and feeder.sent >= next_due:
                sample()
                next_due = next((number for number in due if number > feeder.sent), None)

        self._runtime.activate()
        try:
            self._give_start(self._playback.frames[0], feeder)
            feeder.run(after)
        except SoakStuck as stuck:
            record.faults.append(str(stuck))
        record.interrupted = feeder.stopped
        sample()
        record.wall_s = time.monotonic() - began
        record.ended_in_time = self._runtime.close(10.0)
        record.counters = self._runtime.reporter.counters.counts
        record.events, record.sent = dict(feeder.events), feeder.sent
        record.starts_given, record.silences_noticed = self._starts, feeder.silences_noticed
        return record

    def stop(self) -> None:
        """End early, after the cloud under way; for signal handlers."""
        self._feeder.stopped = True

    def _give_start(self, frame: PlaybackFrame, feeder: Feeder) -> None:
        """Landmarks picked in the frame in view, where the method waits for them: as a user would do."""
        waits = self.output.report.state == State.SEARCHING and (
            feeder.sent == 0 or self.output.report.reason_code in NEEDS_START
        )
        patient = feeder.sent - self._start_given_at >= START_PATIENCE
        if not (self._needs_start and waits and patient):
            return
        self._start_given_at = feeder.sent
        self._starts += 1
        T = picked_prior(self._case, frame.T_camera_model, self._starts, PICK_RMS_M).T_camera_model
        self._runtime.offer_prior(PriorRequest(CAMERA_FRAME, feeder.stamp_ns, T, np.zeros((6, 6))))

    def _sample(self, clouds: int, wall_s: float) -> Sample:
        with self._process.oneshot():
            rss, threads, files = (
                self._process.memory_info().rss,
                self._process.num_threads(),
                self._process.num_fds(),
            )
        state = self.output.report.state.name
        return Sample(clouds, wall_s, rss / 1e6, threads, files, self.output.poses, state)
