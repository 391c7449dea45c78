"""Renders the sequences that the rate benchmark and the one-hour run play; one that is there is used again."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.camera_rate.stream import (
    Playback,
    PlaybackError,
    PlaybackFrame,
    Recipe,
    read_playback,
    write_playback,
)
from end2reg_ros.case.model import Case
from end2reg_ros.simulation.camera.realsense import encode_realsense
from end2reg_ros.simulation.camera.sensor import SENSORS
from end2reg_ros.simulation.motion import SCENARIOS, Pass
from end2reg_ros.simulation.picks import PICK_RMS_M, picked_prior
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence

WORK = Path(tempfile.gettempdir()) / "end2reg_rate"  # unless another folder is asked for
CALM = "calm"
# Breathing, drift and vibration until the camera of "leave" turns away at 6 s, and one hand over a part of the spine.
CALM_SCENARIO, CALM_SECONDS = "leave", 5.5
CALM_HAND = Pass("hand_suction", 1.5, 4.5, over_m=(-0.01, -0.05), above_m=0.006, side=-1.0)


def quiet(done: int, total: int) -> None:
    """Tells nobody."""


def show_progress(done: int, total: int) -> None:
    """Rendering takes a minute."""
    if done % 30 == 0 or done == total:
        print(f"rendered {done} of {total}", file=sys.stderr, flush=True)


def recipe_of(case: Case, events: str, seconds: float, seed: int, sensor: str, pixel_step: int = 1) -> Recipe:
    """A sequence of ``seconds`` at 30 Hz; ``calm`` is never longer than its calm.

    Raises:
        PlaybackError: unknown events or sensor.
    """
    known = (CALM, *SCENARIOS)
    if events not in known:
        raise PlaybackError(f"unknown events '{events}': choose one of {', '.join(known)}")
    if sensor not in SENSORS:
        raise PlaybackError(f"unknown sensor '{sensor}': choose one of {', '.join(SENSORS)}")
    length = min(seconds, CALM_SECONDS) if events == CALM else seconds
    return Recipe(case.hash, seed, events, max(2, round(30.0 * length)), 30.0, sensor, pixel_step)


def folder_of(recipe: Recipe, work: Path) -> Path:
    """Where a sequence is kept."""
    name = f"{recipe.case_hash[:8]}_{recipe.events}_{recipe.sensor}_{recipe.frames}_s{recipe.seed}"
    return work / (name if recipe.pixel_step == 1 else f"{name}_every{recipe.pixel_step}")


def playback_of(
    case: Case, recipe: Recipe, work: Path, progress: Callable[[int, int], None] = quiet
) -> tuple[Path, Playback]:
    """The sequence of a recipe and its folder under ``work``; rendered when it is not there yet.

    A 640x480 frame takes 4-6 MB of disk and 0.1 s, a 1280x720 one three times that.

    Raises:
        End2RegError: as ``SimulatedSequence``; RegistrationError: fewer than three landmarks in the case.
    """
    folder = folder_of(recipe, work)
    try:
        return folder, read_playback(folder, recipe)
    except PlaybackError:
        shutil.rmtree(folder, ignore_errors=True)  # cut off half way, or of an older format
    folder.mkdir(parents=True)
    playback = _render(case, recipe, folder, progress)
    write_playback(folder, playback)
    return folder, playback


def _render(case: Case, recipe: Recipe, folder: Path, progress: Callable[[int, int], None]) -> Playback:
    calm = recipe.events == CALM
    settings = SequenceSettings(
        seed=recipe.seed,
        scenario=CALM_SCENARIO if calm else recipe.events,
        sensor=SENSORS[recipe.sensor],
        extra_passes=(CALM_HAND,) if calm else (),
    )
    sequence = SimulatedSequence(case, settings)
    step = recipe.pixel_step
    digest = hashlib.sha256()
    frames = []
    for number in range(recipe.frames):
        seen = sequence.frame(number / recipe.rate_hz)
        encoded = encode_realsense(seen.points[::step, ::step], seen.colours[::step, ::step])
        path = folder / f"frame_{number:04d}.bin"
        data = encoded.data.tobytes()
        path.write_bytes(data)
        digest.update(data)
        frames.append(
            PlaybackFrame(
                path, encoded.width, seen.T_camera_model, seen.T_camera_levels, seen.visible_fraction
            )
        )
        progress(number + 1, recipe.frames)
    start = picked_prior(case, frames[0].T_camera_model, recipe.seed, PICK_RMS_M)
    return Playback(recipe, tuple(frames), start.T_camera_model, digest.hexdigest())
