"""``end2reg evaluate``: registration methods over scene folders, as tables and pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from end2reg_ros.engine.options import EngineChoice
from end2reg_ros.errors import CaseError, End2RegError

if TYPE_CHECKING:
    from end2reg_ros.case.model import Case
    from end2reg_ros.cloud.scene_folder import Scene
    from end2reg_ros.evaluation.benchmark import BenchmarkSettings, CaseBench, Trial
    from end2reg_ros.registration.types import Registrar


@dataclass
class Evaluate:
    """Register every scene with every method and prior; write tables (Markdown, JSON) and pictures.

    Writes evaluation.md, evaluation.json, tre.png, success_vs_misalignment.png and time.png. Exit code 0: everything
    was run and written (however good or bad the figures are).
    """

    scenes: Path
    """Scene folder, or a folder of them (as `end2reg simulate` writes)."""
    out: Path
    """Folder for the results; made if missing."""
    case: Path | None = None
    """Case folder for all scenes. Default: the case that each scene names."""
    methods: tuple[str, ...] = ("icp", "ransac_icp")
    """Registration methods."""
    priors: tuple[Literal["none", "landmarks", "perturbed"], ...] = ("none", "landmarks")
    """What a method is told beforehand: nothing; all landmarks picked with noise; the truth, turned and shifted."""
    regions: tuple[Literal["view", "found", "bone"], ...] = ("view",)
    """Points a method gets: the whole view; the region that the region finder finds in it; only the true bone (an oracle
    segmentation)."""
    seed: int = 0
    """Of picks and perturbations."""
    pick_noise_mm: float = 3.0
    """Root mean square error of a picked landmark, mm."""
    max_rotation_deg: float = 45.0
    """Largest rotation of the perturbed prior, degrees."""
    max_offset_mm: float = 15.0
    """Largest shift of the perturbed prior, mm."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Only the first N scenes."""
    weights: Path | None = None
    """Weights file of the network (end2reg, end2reg_alone, --regions found). Default: the case's own, else the shipped."""
    engine: EngineChoice = "auto"
    """What runs the network; auto takes the fastest that is there."""
    device: str = ""
    """cpu or cuda; the engine's own choice when not given."""
    json: bool = False
    """Print evaluation.json on standard output instead of the tables."""
    _cases: Annotated[dict[Path, Any], tyro.conf.Suppress] = field(
        default_factory=dict, init=False, repr=False
    )
    _benches: Annotated[dict[Path, Any], tyro.conf.Suppress] = field(
        default_factory=dict, init=False, repr=False
    )

    def run(self) -> int:
        """Run it; returns the exit code."""
        from end2reg_ros.cloud.scene_folder import find_scenes
        from end2reg_ros.evaluation.plots import write_plots
        from end2reg_ros.evaluation.scenes import check_scenes
        from end2reg_ros.evaluation.summary import summarise
        from end2reg_ros.evaluation.tables import document, markdown, paper_markdown
        from end2reg_ros.evaluation.tables_paper import paper_rows

        settings = self._settings()
        folders = find_scenes(self.scenes)[: self.limit]
        check_scenes(folders, self._case, settings.regions)
        self.out.mkdir(parents=True, exist_ok=True)
        trials = self._run_trials(folders, settings)
        summaries = summarise(trials)
        cases = [{"name": b.case.name, "hash": b.case.hash} for b in self._benches.values()]
        about = {"command": self._command(), "scenes": len(folders), "cases": cases}
        content = json.dumps(document(trials, summaries, settings, about), indent=1) + "\n"
        (self.out / "evaluation.json").write_text(content, encoding="utf-8")
        tables = markdown(summaries, f"Evaluation of {len(folders)} scenes", self._notes(settings))
        tables += paper_markdown(paper_rows(trials), self.scenes.resolve().name)
        (self.out / "evaluation.md").write_text(tables, encoding="utf-8")
        write_plots(self.out, trials)
        print(content if self.json else tables, end="")
        return 0

    def _settings(self) -> BenchmarkSettings:
        import numpy as np

        from end2reg_ros.evaluation.benchmark import BenchmarkSettings

        if not self.methods or not self.priors or not self.regions:
            raise End2RegError("--methods, --priors and --regions need at least one name each")
        if self.seed < 0:
            raise End2RegError(f"--seed is {self.seed}, must be at least 0")
        if self.limit is not None and self.limit < 1:
            raise End2RegError(f"--limit is {self.limit}, must be at least 1")
        for name in ("pick_noise_mm", "max_rotation_deg", "max_offset_mm"):
            if not 0.0 <= getattr(self, name) <= 360.0:
                raise End2RegError(
                    f"--{name.replace('_', '-')} is {getattr(self, name):g}, must lie in 0 .. 360"
                )
        return BenchmarkSettings(
            methods=tuple(dict.fromkeys(self.methods)),
            priors=tuple(dict.fromkeys(self.priors)),
            regions=tuple(dict.fromkeys(self.regions)),
            seed=self.seed,
            pick_rms_m=self.pick_noise_mm / 1000.0,
            max_rotation_rad=float(np.radians(self.max_rotation_deg)),
            max_offset_m=self.max_offset_mm / 1000.0,
        )

    def _run_trials(self, folders: list[Path], settings: BenchmarkSettings) -> list[Trial]:
        from rich.console import Console
        from rich.progress import track

        from end2reg_ros.evaluation.benchmark import run_benchmark

        def bench_of(scene: Scene) -> CaseBench:
            return self._bench(scene, settings)

        total = len(folders) * len(settings.methods) * len(settings.priors) * len(settings.regions)
        running = run_benchmark(folders, bench_of, settings)
        return list(track(running, "registrations", total=total, console=Console(stderr=True)))

    def _case(self, scene: Scene) -> Case:
        """The scene's case, read once and kept."""
        from end2reg_ros.case import load_case

        path = self.case or scene.case_path
        if path is None:
            raise CaseError(f"scene {scene.name} names no case: give one with --case")
        key = path.resolve()
        if key not in self._cases:
            try:
                self._cases[key] = load_case(path)
            except CaseError as error:
                where = f"scene {scene.name}: " if self.case is None else ""
                raise CaseError(f"{where}{error}") from None
        case: Case = self._cases[key]
        return case

    def _bench(self, scene: Scene, settings: BenchmarkSettings) -> CaseBench:
        """The scene's case, set up once and kept."""
        from end2reg_ros.evaluation.benchmark import CaseBench
        from end2reg_ros.evaluation.regions import region_finder_of

        case = self._case(scene)
        key = case.path.resolve()
        if key not in self._benches:
            finder = region_finder_of(case, self.weights) if "found" in settings.regions else None
            self._benches[key] = CaseBench(case, settings.methods, self._create, finder)
        bench: CaseBench = self._benches[key]
        return bench

    def _create(self, method: str, case: Case) -> Registrar:
        from end2reg_ros.registration import EngineOptions, create_registrar

        return create_registrar(
            method, case, network=EngineOptions(self.engine, self.weights, device=self.device)
        )

    def _notes(self, settings: BenchmarkSettings) -> list[str]:
        cases = ", ".join(f"{b.case.name} ({b.case.hash[:12]})" for b in self._benches.values())
        notes = [
            f"Case: {cases}. Seed {settings.seed}.",
            "Region, the points given to a method: `view`: the whole view; `found`: what the region finder names (its time "
            "is counted); `bone`: the true bone only (an oracle segmentation).",
            "Spreads are median [Q1, Q3] over scenes; a scene's TRE is the mean over its landmarks. "
            "Shares below 2, 3, 5 mm are of all n.",
            "TRE: distance between T_est p and T_true p at the landmarks. RMSE: root mean square of that distance over "
            "model points; mean_distance: its mean. RTE: at the model's centroid.",
        ]
        if "landmarks" in settings.priors:
            notes.append(
                f"Prior `landmarks`: all landmarks picked with {self.pick_noise_mm:g} mm RMS noise, paired-point fit. "
                "TRE is told at the same anatomical points, with the noise taken away."
            )
        if "perturbed" in settings.priors:
            notes.append(
                f"Prior `perturbed`: truth turned by U(0, {self.max_rotation_deg:g}) degrees about the model's centroid"
                f" and shifted by U(0, {self.max_offset_mm:g}) mm."
            )
        return notes

    def _command(self) -> str:
        import shlex
        import sys

        return shlex.join(["end2reg", *sys.argv[1:]])
