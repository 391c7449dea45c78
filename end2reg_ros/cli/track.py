"""``end2reg track``: the node's tracker over a recording, without ROS."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from end2reg_ros.cli.start import prior_from_options
from end2reg_ros.engine.options import EngineChoice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from end2reg_ros.apps.track.run import FrameRecord
    from end2reg_ros.apps.track.truth import TrackErrors
    from end2reg_ros.case.model import Case
    from end2reg_ros.cloud.recording import Recording


@dataclass(frozen=True)
class Track:
    """Track a case through a rosbag2. Exit 0 when at least one pose was published."""

    case: Path
    """Case folder."""
    bag: Path
    """rosbag2 folder (mcap or sqlite3)."""
    out: Path
    """Folder for trajectory.tum, trajectory_L1.tum ..., frames.csv, timings.csv, summary.json and plots."""
    topic: str | None = None
    """PointCloud2 or depth image topic; the only PointCloud2 topic when not given."""
    method: Literal["end2reg", "icp", "ransac_icp"] = "end2reg"
    """Registration method. end2reg finds the spine by itself; icp needs a start."""
    engine: EngineChoice = "auto"
    """What runs the network (end2reg); auto takes the fastest that is there."""
    weights: Path | None = None
    """Weights file of the network (end2reg). Default: the case's own network, else the shipped one."""
    init: Path | None = None
    """Start: JSON with T_camera_model, 16 numbers row by row, metres. Poses on a recorded initial_pose topic count too."""
    landmarks: Path | None = None
    """Start: JSON of picked landmarks, {"L3": {"spinous": [x, y, z], ...}}, metres, camera frame; three or more."""
    plots: bool = True
    """Draw state, quality and uncertainty over time (track.png), with a recorded truth the errors too (error.png)."""
    json: bool = False
    """Print the summary as JSON."""

    def run(self) -> int:
        """Track and write the files; 0 when a pose was published, 1 when none was.

        The same recording gives the same poses on every run: every cloud is registered, in order, and the network is waited
        for. A truth that the recording carries (TF frames ``ground_truth/...``) is read after the track is done.

        Stopped by Ctrl-C, or where the recording is damaged, it writes what it has and fails.

        Raises:
            End2RegError: the recording was not read to its end.
        """
        from rich.console import Console
        from rich.progress import track as progress

        from end2reg_ros.apps.track.files import write_track
        from end2reg_ros.apps.track.run import choose_input, track_recording
        from end2reg_ros.apps.track.truth import accuracy_summary, write_errors
        from end2reg_ros.case import load_case
        from end2reg_ros.cloud.limits import CloudLimits
        from end2reg_ros.cloud.recording import Recording
        from end2reg_ros.errors import CloudError, End2RegError
        from end2reg_ros.registration import EngineOptions, RegistrationSettings, create_registrar
        from end2reg_ros.tracking import Tracker

        case = load_case(self.case)
        prior = prior_from_options(case, self.init, self.landmarks)
        with Recording(self.bag) as recording:
            chosen = choose_input(recording, self.topic)
            # In the background, what the network says would come when it comes.
            in_step = RegistrationSettings(network_passes="every_frame")
            registrar = create_registrar(self.method, case, in_step, EngineOptions(self.engine, self.weights))
            tracker = Tracker(registrar, case)
            if prior is not None:
                tracker.set_prior(prior)
            frames = track_recording(recording, chosen, tracker, CloudLimits())
            bar = Console(stderr=True)
            records: list[FrameRecord] = []
            stopped: str | None = None
            try:
                for record in progress(frames, "tracking", total=recording.count(chosen.clouds), console=bar):
                    records.append(record)
            except KeyboardInterrupt:
                stopped = "interrupted"
            except CloudError as fault:
                stopped = str(fault)
            errors = self._errors(recording, case, records)
        told = {
            "method": registrar.method,
            "engine": registrar.engine_text,
            "engine_hash": registrar.engine_hash,
        }
        known = errors.frames or errors.without_truth
        more = accuracy_summary(errors) if known else None
        summary = write_track(self.out, records, stopped is None, told, more)
        if known:
            write_errors(self.out / "errors.csv", errors)
        if self.plots:
            from end2reg_ros.apps.track.plots import write_track_plots

            write_track_plots(self.out, records, errors)
        if self.json:
            print(json.dumps(summary, indent=1))
        else:
            published, received = summary["poses_published"], summary["clouds_received"]
            print(
                f"{published} poses from {received} clouds in {self.out}; states: {summary['frames_by_state']}"
            )
        if stopped is not None:
            raise End2RegError(f"{stopped}; {self.out} holds the {len(records)} clouds before")
        return 0 if summary["poses_published"] else 1

    @staticmethod
    def _errors(recording: Recording, case: Case, records: Sequence[FrameRecord]) -> TrackErrors:
        """Errors against the truth that the recording carries; none where it carries none, or the case no landmarks."""
        from end2reg_ros.apps.track.truth import TrackErrors, read_truth, track_errors

        has_landmarks = any(v.landmarks is not None for v in case.vertebrae)
        truth = read_truth(recording, case.levels) if has_landmarks else {}
        return track_errors(records, truth, case) if truth else TrackErrors()
