"""A recording tracked from its first cloud to its files: what ``end2reg track`` runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from end2reg_ros.apps.track.files import write_track
from end2reg_ros.apps.track.run import FrameRecord, choose_input, track_recording
from end2reg_ros.apps.track.truth import (
    TrackErrors,
    accuracy_summary,
    read_truth,
    track_errors,
    write_errors,
)
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.recording import Recording
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.errors import CloudError
from end2reg_ros.frame import Tracker
from end2reg_ros.registration import RegistrationSettings, create_registrar
from end2reg_ros.registration.types import Prior


def track_to_files(
    case: Case,
    bag: Path,
    out: Path,
    method: str,
    network: EngineOptions,
    topic: str | None = None,
    prior: Prior | None = None,
    plots: bool = True,
) -> tuple[dict[str, Any], str | None]:
    """Track a case through a rosbag2 and write trajectories, tables, summary and plots into ``out``.

    Every cloud is registered, in order, and the network is waited for: the same recording gives the same poses on every run.
    A truth that the recording carries (TF frames ``ground_truth/...``) is read after the track is done.

    Args:
        topic: of the clouds; the only PointCloud2 topic when None.
        prior: where the search starts.

    Returns:
        The summary, and why the recording was not read to its end (Ctrl-C, damaged): None when it was.

    Raises:
        End2RegError: a recording or a method that cannot be used.
    """
    from rich.console import Console
    from rich.progress import track as progress

    with Recording(bag) as recording:
        chosen = choose_input(recording, topic)
        # In the background, what the network says would come when it comes.
        in_step = RegistrationSettings(network_passes="every_frame")
        registrar = create_registrar(method, case, in_step, network)
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
        errors = _errors(recording, case, records)
    engine = {
        "method": registrar.method,
        "engine": registrar.engine_text,
        "engine_hash": registrar.engine_hash,
    }
    known = errors.frames or errors.without_truth
    summary = write_track(out, records, stopped is None, engine, accuracy_summary(errors) if known else None)
    if known:
        write_errors(out / "errors.csv", errors)
    if plots:
        from end2reg_ros.apps.track.plots import write_track_plots

        write_track_plots(out, records, errors)
    return summary, stopped


def _errors(recording: Recording, case: Case, records: Sequence[FrameRecord]) -> TrackErrors:
    """Errors against the truth that the recording carries; none where it carries none, or the case no landmarks."""
    has_landmarks = any(v.landmarks is not None for v in case.vertebrae)
    truth = read_truth(recording, case.levels) if has_landmarks else {}
    return track_errors(records, truth, case) if truth else TrackErrors()
