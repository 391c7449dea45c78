"""A patient's own network: the shipped one, tuned on simulated views of this case, kept only where it is not worse."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from end2reg_ros.case.model import Case
from end2reg_ros.case.store import load_case
from end2reg_ros.engine.torch_weights import Weights, build_network, load_weights, save_weights, tensors_hash
from end2reg_ros.errors import TrainingError
from end2reg_ros.registration.weights_path import own_weights_path, packaged_weights
from end2reg_ros.training.adapt.measure import HeldOutBench, HeldOutErrors
from end2reg_ros.training.adapt.report import comparison, write_report
from end2reg_ros.training.adapt.views import (
    HELD_OUT_SEED,
    SEEDS,
    TRAIN_SEED,
    ViewsFolder,
    claim,
    held_out_recipe,
    training_recipe,
)
from end2reg_ros.training.config import TrainingConfig
from end2reg_ros.training.loop import Trainer

DEFAULT_WORK = Path.home() / ".cache" / "end2reg_ros" / "adaptations"
LEARNING_RATE, AVERAGE, TAU = 1e-4, 0.99, 0.5  # TAU: where the shipped weights' training ended
CHECKPOINT_MINUTES = 0.2  # so much at most is lost when a run is cut off
COLLAPSE_AFTER = 300


@dataclass(frozen=True)
class AdaptRequest:
    """What to do.

    Attributes:
        case: the case folder; the result goes into ``network`` in it.
        weights: to start from; None for those of the package.
        profile: that the weights must be of.
        scenes, held_out: views to train on and to measure on.
        iterations: of the tuning.
        minutes: stop simulating and tuning after so many; the same call goes on later. None: to the end.
        seed: of everything random; below 10 000.
        out: work folder, kept; None for one below the user's cache, which is removed when the result was kept.
        threads, workers: of torch, and processes that prepare views ahead.
        progress: show bars.
    """

    case: Path
    weights: Path | None = None
    profile: str = "realtime"
    scenes: int = 240
    held_out: int = 30
    iterations: int = 400
    minutes: float | None = None
    seed: int = 0
    out: Path | None = None
    threads: int = 1
    workers: int = 1
    progress: bool = False


@dataclass(frozen=True)
class AdaptResult:
    """What came of it.

    Attributes:
        stage: ``simulating`` or ``tuning`` when the minutes were up first, else ``done``.
        kept: the case has its own weights now.
        folder: where the report lies, or what is done so far.
        document: of ``adaptation.json``; empty unless done.
    """

    stage: str
    kept: bool
    folder: Path
    document: dict[str, Any]


def adapt(request: AdaptRequest) -> AdaptResult:
    """Simulate, tune, measure, keep. What a cut-off call has done stays; the same call goes on there.

    Raises:
        TrainingError: a value out of range, a folder that cannot be written, a run that went wrong.
        WeightsError: weights that cannot be read, or of another profile.
        RegistrationError: no weights.
        CaseError: the case cannot be loaded.
    """
    check_request(request)
    case = load_case(request.case)
    base = load_weights(packaged_weights(request.profile) if request.weights is None else request.weights)
    build_network(base, request.profile)
    own = own_weights_path(request.case)
    check_writable(request.case)
    return Adaptation(request, case, base, own).run()


def work_folder(request: AdaptRequest, case: Case) -> Path:
    """Where a request's views and runs are kept until it is done."""
    return (request.out or DEFAULT_WORK / case.hash[:16]).resolve()


def check_request(request: AdaptRequest) -> None:
    """See that numbers make sense.

    Raises:
        TrainingError: one that does not; the text names the option.
    """
    for name in ("scenes", "held_out", "iterations"):
        if getattr(request, name) < 1:
            raise TrainingError(
                f"--{name.replace('_', '-')} must be at least 1, not {getattr(request, name)}"
            )
    if max(request.scenes, request.held_out) > SEEDS:
        raise TrainingError(f"--scenes and --held-out must be at most {SEEDS}")
    if not 0 <= request.seed < SEEDS:
        raise TrainingError(f"--seed must be 0 to {SEEDS - 1}, not {request.seed}")
    if request.minutes is not None and not request.minutes > 0:
        raise TrainingError(f"--minutes must be above 0, not {request.minutes:g}")


def check_writable(case_folder: Path) -> None:
    """See, before an hour's work, that the result can be kept.

    Raises:
        TrainingError: the case folder cannot be written to.
    """
    folder = own_weights_path(case_folder).parent
    made = not folder.exists()
    probe = folder / f".probe.{os.getpid()}"
    try:
        folder.mkdir(exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
        if made:
            folder.rmdir()
    except OSError as fault:
        text = f"{folder}: cannot be written ({(fault.strerror or str(fault)).lower()})"
        raise TrainingError(f"{text}; the network is kept in the case folder") from None


@dataclass(frozen=True)
class Adaptation:
    """One request on its way; ``base`` are the weights it starts from, ``own`` the file it may end in."""

    request: AdaptRequest
    case: Case
    base: Weights
    own: Path

    def run(self) -> AdaptResult:
        """Simulate, tune, measure, keep, as far as the minutes go."""
        r = self.request
        until = math.inf if r.minutes is None else time.monotonic() + 60.0 * r.minutes
        work = work_folder(r, self.case)
        claim(work, self.case.hash)
        scenes = work / f"scenes_{r.seed}_{r.scenes}"
        views = work / f"held_out_{r.seed}_{r.held_out}"
        training, held_out = (
            training_recipe(r.case, r.scenes, r.seed),
            held_out_recipe(r.case, r.held_out, r.seed),
        )
        for folder in (
            ViewsFolder("views for training", scenes, training, r.scenes),
            ViewsFolder("views held out", views, held_out, r.held_out, whole=True),
        ):
            if not folder.fill(until, r.progress):
                return AdaptResult("simulating", False, work, {})
        trainer = self.trainer(scenes, work)
        left = (until - time.monotonic()) / 60.0
        if left <= 0 or not trainer.run(left, r.progress):
            return AdaptResult("tuning", False, work, {})
        tuned = self.tuned(trainer)
        bench = HeldOutBench(self.case, views, r.held_out, r.threads)
        before = bench.measure(self.base, "measuring before", r.progress)
        after = bench.measure(tuned, "measuring after", r.progress)
        return self.finish(trainer, tuned, self.document(trainer, before, after))

    def trainer(self, scenes: Path, work: Path) -> Trainer:
        """The run, at its checkpoint where it has one. Runs of other settings or weights have folders of their own."""
        r = self.request
        settings = [r.scenes, r.seed, r.iterations, r.profile, LEARNING_RATE, AVERAGE, TAU, self.base.hash]
        digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
        folder = work / f"run_{digest}"
        folder.mkdir(exist_ok=True)
        start = folder / "base.safetensors"  # so that a run goes on wherever the user's file has gone
        if not start.is_file():
            save_weights(
                start, build_network(self.base).profile, self.base.network, self.base.region, self.base.record
            )
        config = TrainingConfig(
            shards=(str(scenes),),
            start_from=str(start),
            profile=r.profile,
            iterations=r.iterations,
            learning_rate=LEARNING_RATE,
            warm_up=min(30, r.iterations // 10),
            average=AVERAGE,
            tau=TAU,
            tau_end=TAU,
            validate_every=r.iterations,
            checkpoint_minutes=CHECKPOINT_MINUTES,
            collapse_after=COLLAPSE_AFTER,
            seed=r.seed,
            threads=r.threads,
        )
        trainer = Trainer(config, folder, workers=r.workers)
        if trainer.checkpoint.is_file():
            trainer.resume()
        return trainer

    def tuned(self, trainer: Trainer) -> Weights:
        """The averaged weights of the run with the region finder of the weights it began from."""
        state = trainer.averaged().state_dict()
        return Weights(
            self.base.profile, self.base.profile_hash, dict(state), self.base.region, tensors_hash(state), {}
        )

    def document(self, trainer: Trainer, before: HeldOutErrors, after: HeldOutErrors) -> dict[str, Any]:
        """What ``adaptation.json`` says."""
        r = self.request
        return {
            "case": self.case.name,
            "case_hash": self.case.hash,
            "base_hash": self.base.hash,
            "profile": self.base.profile,
            "seed": r.seed,
            "training_first_seed": TRAIN_SEED + SEEDS * r.seed,
            "held_out_first_seed": HELD_OUT_SEED + SEEDS * r.seed,
            "scenes": r.scenes,
            "held_out": r.held_out,
            "iterations": trainer.iteration,
            "seconds": round(trainer.seconds, 1),
            "skipped": trainer.skipped,
            "start": "from nothing" if self.base.region else "prior within 45 degrees and 15 mm",
            "held_out_views": comparison(before.errors_mm, after.errors_mm),
            "crops": {"before": before.crops, "after": after.crops},
            "config": asdict(trainer.config) | {"shards": [], "start_from": self.base.hash},
        }

    def finish(self, trainer: Trainer, tuned: Weights, document: dict[str, Any]) -> AdaptResult:
        """Write the report, and the weights into the case where they are not worse."""
        kept = bool(document["held_out_views"]["not_worse"])
        document = {**document, "kept": kept}
        folder = self.own.parent if kept else trainer.folder
        try:
            folder.mkdir(exist_ok=True)
            if kept:
                record = {**document, "base": self.base.record}
                document["hash"] = save_weights(
                    self.own, trainer.profile, tuned.network, tuned.region, record
                )
            write_report(folder, document)
        except OSError as fault:
            raise TrainingError(f"{folder}: cannot be written ({fault.strerror})") from None
        if kept and self.request.out is None:
            shutil.rmtree(work_folder(self.request, self.case), ignore_errors=True)
        return AdaptResult("done", kept, folder, document)
