"""Registration methods over scene folders, written as tables and pictures: what ``end2reg evaluate`` runs."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from end2reg_ros.case import load_case
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.scene_folder import StoredScene, find_scenes
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.errors import CaseError
from end2reg_ros.evaluation.benchmark import BenchmarkSettings, CaseBench, Trial, run_benchmark
from end2reg_ros.registration import create_registrar
from end2reg_ros.registration.interface import Registrar


@dataclass
class EvaluatedCases:
    """The cases that scenes are of, each read, and set up with its methods, once.

    Attributes:
        path: of the one case of all scenes; None: that which each scene names.
        network: engine and weights of the learned methods and of the region finder.
    """

    path: Path | None
    settings: BenchmarkSettings
    network: EngineOptions
    benches: dict[Path, CaseBench] = field(default_factory=dict)
    _cases: dict[Path, Case] = field(default_factory=dict)

    def case_of(self, scene: StoredScene) -> Case:
        """The scene's case.

        Raises:
            CaseError: none is named, or it cannot be read.
        """
        path = self.path or scene.case_path
        if path is None:
            raise CaseError(f"scene {scene.name} names no case: give one with --case")
        key = path.resolve()
        if key not in self._cases:
            try:
                self._cases[key] = load_case(path)
            except CaseError as error:
                where = f"scene {scene.name}: " if self.path is None else ""
                raise CaseError(f"{where}{error}") from None
        return self._cases[key]

    def bench_of(self, scene: StoredScene) -> CaseBench:
        """The scene's case with its registrars, warm.

        Raises:
            End2RegError: as ``case_of``; a method that is unknown or cannot be set up.
        """
        from end2reg_ros.evaluation.regions import region_finder_of

        case = self.case_of(scene)
        key = case.path.resolve()
        if key not in self.benches:
            found = "found" in self.settings.regions
            finder = region_finder_of(case, self.network.weights) if found else None
            self.benches[key] = CaseBench(case, self.settings.methods, self._registrar, finder)
        return self.benches[key]

    def _registrar(self, method: str, case: Case) -> Registrar:
        return create_registrar(method, case, network=self.network)


def evaluate(
    scenes: Path,
    out: Path,
    settings: BenchmarkSettings,
    case: Path | None = None,
    network: EngineOptions | None = None,
    limit: int | None = None,
) -> tuple[str, str]:
    """Register every scene with every method and prior; write evaluation.md, evaluation.json and pictures into ``out``.

    Args:
        case: of all scenes; None: that which each scene names.

    Returns:
        The written JSON and the written Markdown.

    Raises:
        End2RegError: a scene, case or method that cannot be used; before anything is registered where it can be known.
    """
    from end2reg_ros.evaluation.plots import write_plots
    from end2reg_ros.evaluation.scenes import check_scenes
    from end2reg_ros.evaluation.summary import summarise
    from end2reg_ros.evaluation.tables_paper import paper_rows
    from end2reg_ros.evaluation.trial_tables import document, markdown, paper_markdown

    cases = EvaluatedCases(case, settings, network or EngineOptions())
    folders = find_scenes(scenes)[:limit]
    check_scenes(folders, cases.case_of, settings.regions)
    out.mkdir(parents=True, exist_ok=True)
    trials = _trials(folders, cases)
    summaries = summarise(trials)
    evaluated = [bench.case for bench in cases.benches.values()]
    about = {
        "command": shlex.join(["end2reg", *sys.argv[1:]]),
        "scenes": len(folders),
        "cases": [{"name": one.name, "hash": one.hash} for one in evaluated],
    }
    content = json.dumps(document(trials, summaries, settings, about), indent=1) + "\n"
    (out / "evaluation.json").write_text(content, encoding="utf-8")
    tables = markdown(summaries, f"Evaluation of {len(folders)} scenes", _notes(settings, evaluated))
    tables += paper_markdown(paper_rows(trials), scenes.resolve().name)
    (out / "evaluation.md").write_text(tables, encoding="utf-8")
    write_plots(out, trials)
    return content, tables


def _trials(folders: Sequence[Path], cases: EvaluatedCases) -> list[Trial]:
    from rich.console import Console
    from rich.progress import track

    asked = cases.settings
    total = len(folders) * len(asked.methods) * len(asked.priors) * len(asked.regions)
    running = run_benchmark(folders, cases.bench_of, asked)
    return list(track(running, "registrations", total=total, console=Console(stderr=True)))


def _notes(settings: BenchmarkSettings, evaluated: Sequence[Case]) -> list[str]:
    cases = ", ".join(f"{case.name} ({case.hash[:12]})" for case in evaluated)
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
            f"Prior `landmarks`: all landmarks picked with {1e3 * settings.pick_rms_m:g} mm RMS noise, paired-point fit. "
            "TRE is told at the same anatomical points, with the noise taken away."
        )
    if "perturbed" in settings.priors:
        notes.append(
            f"Prior `perturbed`: truth turned by U(0, {np.degrees(settings.max_rotation_rad):g}) degrees about the model's "
            f"centroid and shifted by U(0, {1e3 * settings.max_offset_m:g}) mm."
        )
    return notes
