"""Error against time: ``python benchmarks/accuracy_speed.py --scenes SUITES/standard SUITES/hard --out OUT``.

Variants of the learned method (engine, passes, patch pairs, Sinkhorn iterations, refined or alone) and the classical methods on
the same scenes, taking turns on each. Starts: ``following``: as the next frame of a running track, up to 3 mm and 2 degrees off;
``near``: a start as good; ``none``. Variants whose packages are missing are named and left out. Writes accuracy_speed.json, .md
and a picture for each suite and start. ``--list`` prints the variants.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from end2reg_ros.apps.bench.methods import MethodSpec, engine_options, parse_method, set_up
from end2reg_ros.apps.bench.plots import Dot, write_accuracy_speed
from end2reg_ros.apps.bench.speed import PACKAGES
from end2reg_ros.apps.bench.turns import rotated
from end2reg_ros.case import load_case
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.scene_folder import StoredScene, find_scenes, read_scene
from end2reg_ros.engine.load import load_engine
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.engine.types import Engine
from end2reg_ros.errors import CaseError, End2RegError, EngineError
from end2reg_ros.evaluation.benchmark import (
    BenchmarkSettings,
    CaseBench,
    Given,
    Trial,
    make_prior,
    run_trial,
)
from end2reg_ros.evaluation.host import environment, package_versions
from end2reg_ros.evaluation.scenes import true_pose
from end2reg_ros.evaluation.tables import finite
from end2reg_ros.evaluation.tables_paper import NOTES, PaperRow, paper_row, table_1
from end2reg_ros.registration import CLASSICAL, LEARNED
from end2reg_ros.registration.end2reg import End2RegAloneRegistrar, End2RegRegistrar
from end2reg_ros.registration.find.network_search import SearchSettings
from end2reg_ros.registration.interface import Registrar
from end2reg_ros.registration.kiss import KissMatcherIcpRegistrar, load_kiss_matcher
from end2reg_ros.registration.types import Prior
from end2reg_ros.tracking.track import LAST_FRAME_STDDEV_M

# following: the next frame of a running track; near: a start as good; none: nothing is known.
Start = Literal["following", "near", "none"]
STARTS: tuple[Start, ...] = ("following", "near", "none")
# How far a running track's prediction is taken to be off.
NEAR_M, NEAR_DEG = 0.003, 2.0


@dataclass(frozen=True)
class Variant:
    """One dot of the accuracy-speed picture.

    Attributes:
        label: unique.
        method: with its engine, as ``parse_method`` reads it.
        search: how hard the network is asked; None for the shipped settings.
        pairs, iterations: of the matching, in place of the profile's; None leaves them.
        group: dots of one colour.
    """

    label: str
    method: str
    search: SearchSettings | None = None
    pairs: int | None = None
    iterations: int | None = None
    group: str = ""


def shipped_variants() -> tuple[Variant, ...]:
    """All variants that are known; those that cannot be run where they are asked for are left out there."""
    found = []
    for engine in ("onnxruntime", "torch"):
        for method, words in (("end2reg", "refined"), ("end2reg_alone", "alone")):
            name, group = f"{method}:{engine}", f"{engine}, {words}"
            for passes in (1, 2):
                label = f"{group}, {passes} pass{'es' if passes > 1 else ''}"
                found.append(Variant(label, name, SearchSettings(passes=passes), group=group))
    # Other sizes of the matching are other graphs; torch reads the sizes when it runs.
    for method, words in (("end2reg", "refined"), ("end2reg_alone", "alone")):
        name, group, one = f"{method}:torch", f"torch, {words}", SearchSettings(passes=1)
        for pairs in (32, 128):
            found.append(Variant(f"{group}, 1 pass, {pairs} pairs", name, one, pairs=pairs, group=group))
        for number in (5, 10):
            label = f"{group}, 1 pass, {number} Sinkhorn"
            found.append(Variant(label, name, one, iterations=number, group=group))
    found += [Variant(name, name, group=name) for name in CLASSICAL]
    return tuple(found)


class Engines:
    """Engines by what they run, loaded once: a case's turn only gives them another model side."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[object, ...], Engine] = {}

    def of(self, variant: Variant, spec: MethodSpec, case: Case) -> Engine:
        """The engine of a variant.

        Raises:
            End2RegError: it cannot be run here; EngineError: its sizes are fixed.
        """
        options = engine_options(spec, case)
        key = (options, variant.pairs, variant.iterations)
        if key not in self._loaded:
            engine = load_engine(options)
            if variant.pairs is not None or variant.iterations is not None:
                change_matching(engine, variant)
            self._loaded[key] = engine
        return self._loaded[key]


def change_matching(engine: Engine, variant: Variant) -> None:
    """Other sizes of the matching than the profile's; nothing that was learned changes.

    Raises:
        EngineError: the engine runs a graph of fixed sizes.
    """
    network: Any = getattr(engine, "network", None)
    if network is None:
        raise EngineError(f"{variant.label}: engine {engine.info.name} runs a graph of fixed sizes")
    pairs = network.profile.pairs if variant.pairs is None else variant.pairs
    network.profile = replace(network.profile, pairs=pairs)
    if variant.iterations is not None:
        network.sinkhorn.iterations = variant.iterations


def registrar_of(variant: Variant, case: Case, engines: Engines, threads: int) -> Registrar:
    """A variant set up for a case.

    Raises:
        End2RegError: it cannot be run here.
    """
    spec = parse_method(variant.method, threads)
    if spec.method not in LEARNED:
        return set_up(spec, case)
    kind = End2RegAloneRegistrar if spec.method == End2RegAloneRegistrar.method else End2RegRegistrar
    return kind(case, engines.of(variant, spec, case), spec.settings(), variant.search)


def check(variant: Variant, case: Case, engines: Engines, threads: int) -> None:
    """See that a variant can be run, without setting it up for a case.

    Raises:
        End2RegError: it cannot be run here.
    """
    spec = parse_method(variant.method, threads)
    if spec.method in LEARNED:
        engines.of(variant, spec, case)
    elif spec.method == KissMatcherIcpRegistrar.method:
        load_kiss_matcher()


def by_case(folders: Sequence[Path], given: Path | None) -> dict[Path, list[Path]]:
    """Case folder -> its scenes: only one case's registrars are held at a time.

    Raises:
        CaseError: a scene names no case and none is given.
    """
    found: dict[Path, list[Path]] = {}
    for folder in folders:
        path = given or read_scene(folder).case_path
        if path is None:
            raise CaseError(f"scene {folder.name} names no case: give one with --case")
        found.setdefault(path.resolve(), []).append(folder)
    return found


def run_variants(
    folders: Sequence[Path],
    starts: Sequence[Start],
    case: Path | None,
    labels: Sequence[str],
    create: Callable[[str, Case], Registrar],
) -> Iterator[tuple[Start, Trial]]:
    """Every scene from every start by every variant, the variants taking turns on each; ``method`` is the label.

    Args:
        labels: of the variants, as ``create`` knows them.
        create: makes a registrar from label and case.
    """
    number = 0
    for path, scenes in by_case(folders, case).items():
        bench = CaseBench(load_case(path), labels, create)
        for folder in scenes:
            scene = read_scene(folder)
            for start in starts:
                given = given_of(scene, bench, start, number)
                for label in rotated(labels, number):
                    yield start, run_trial(given, bench, label, true_pose(scene, bench.targets))
            number += 1


def given_of(scene: StoredScene, bench: CaseBench, start: Start, number: int) -> Given:
    """What all variants are given of scene ``number``; the same on every run."""
    if start == "none":
        return Given(scene, "view", scene.cloud, "none", None)
    settings = BenchmarkSettings(max_rotation_rad=float(np.radians(NEAR_DEG)), max_offset_m=NEAR_M)
    prior = make_prior("perturbed", bench, true_pose(scene, bench.targets), settings, number)
    assert prior is not None  # one of kind ``perturbed`` always is
    if start == "following":
        prior = Prior(prior.T_camera_model, "last_frame", LAST_FRAME_STDDEV_M)
    return Given(scene, "view", scene.cloud, "perturbed", prior)


def variant_rows(trials: Sequence[Trial], labels: Sequence[str]) -> list[PaperRow]:
    """One row a variant that was run, in the order of ``labels``."""
    groups = {label: [trial for trial in trials if trial.method == label] for label in labels}
    return [paper_row(group) for group in groups.values() if group]


def dots_of_rows(rows: Sequence[PaperRow], variants: Sequence[Variant]) -> list[Dot]:
    """One dot a row with poses."""
    groups = {variant.label: variant.group for variant in variants}
    return [
        Dot(
            row.method,
            row.wall_ms.median,
            row.tre_mm.median,
            row.tre_mm.q1,
            row.tre_mm.q3,
            groups.get(row.method, ""),
        )
        for row in rows
        if row.poses
    ]


@dataclass(frozen=True)
class Options:
    """What is run."""

    scenes: tuple[Path, ...] = ()
    """Folders of scene folders, one a suite."""
    out: Path | None = None
    """Folder of the results."""
    case: Path | None = None
    """Case folder of all scenes; default: what each scene names."""
    variants: tuple[str, ...] = ()
    """Labels, or parts of labels; default: all."""
    starts: tuple[Start, ...] = ("following",)
    threads: int = EngineOptions.threads
    """Of networks and neighbour searches."""
    limit: int | None = None
    """Only the first N scenes of each suite."""
    list: bool = False
    """Print the variants and end."""


def main() -> int:
    """Run it; returns the exit code."""
    options = tyro.cli(Options, description=__doc__)
    # Many engines in one process: threads of one that spin after its pass would be measured in the next. Read once, by the
    # libraries that are loaded from here on.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    known = shipped_variants()
    if options.list:
        print("\n".join(variant.label for variant in known))
        return 0
    try:
        if not options.scenes or options.out is None:
            raise End2RegError("--scenes and --out are needed")
        return _run(options, options.out, _chosen(known, options.variants))
    except End2RegError as error:
        print(f"accuracy_speed: {error}", file=sys.stderr)
        return 1


def _chosen(known: tuple[Variant, ...], wanted: Sequence[str]) -> list[Variant]:
    chosen = [v for v in known if not wanted or any(word in v.label for word in wanted)]
    if not chosen:
        raise End2RegError(f"no variant is called like {', '.join(wanted)}: --list names them")
    return chosen


def _run(options: Options, out: Path, chosen: Sequence[Variant]) -> int:
    out.mkdir(parents=True, exist_ok=True)
    engines = Engines()
    rows: dict[str, list[PaperRow]] = {}
    trials: dict[str, list[Trial]] = {}
    cases: dict[str, str] = {}
    variants, absent = _usable(options, chosen, engines)
    labels = {variant.label: variant for variant in variants}
    for suite in options.scenes:
        folders = find_scenes(suite)[: options.limit]
        found: dict[Start, list[Trial]] = {start: [] for start in options.starts}
        total = len(folders) * len(options.starts) * len(variants)
        running = run_variants(
            folders,
            options.starts,
            options.case,
            list(labels),
            lambda label, case: registrar_of(labels[label], case, engines, options.threads),
        )
        for number, (start, trial) in enumerate(running, 1):
            found[start].append(trial)
            print(f"\r{suite.name}: {number} of {total}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        for begun, mine in found.items():
            rows[f"{suite.name}, {begun}"] = variant_rows(mine, list(labels))
            trials[f"{suite.name}, {begun}"] = mine
        cases |= {path.name: load_case(path).hash for path in by_case(folders, options.case)}
    _write(out, {"rows": rows, "trials": trials, "absent": absent, "cases": cases}, variants)
    return 0


def _usable(
    options: Options, chosen: Sequence[Variant], engines: Engines
) -> tuple[list[Variant], list[dict[str, str]]]:
    """The variants that can be run here, and why others cannot."""
    folders = find_scenes(options.scenes[0])[:1]
    case = load_case(next(iter(by_case(folders, options.case))))
    usable, absent = [], []
    for variant in chosen:
        try:
            check(variant, case, engines, options.threads)
        except End2RegError as fault:
            absent.append({"label": variant.label, "why": str(fault)})
            print(f"accuracy_speed: without {variant.label}: {fault}", file=sys.stderr)
        else:
            usable.append(variant)
    if not usable:
        raise End2RegError("none of the variants can be run here")
    return usable, absent


def _write(out: Path, found: dict[str, Any], variants: list[Variant]) -> None:
    rows: dict[str, list[PaperRow]] = found["rows"]
    about = environment()
    about["versions"] |= package_versions(PACKAGES)
    content = {
        "command": shlex.join(["python", "benchmarks/accuracy_speed.py", *sys.argv[1:]]),
        "environment": about,
        "cases": found["cases"],
        "variants": [asdict(variant) for variant in variants],
        "absent": found["absent"],
        "rows": {name: [asdict(row) for row in members] for name, members in rows.items()},
        "scenes": {name: [_trial(trial) for trial in members] for name, members in found["trials"].items()},
    }
    (out / "accuracy_speed.json").write_text(json.dumps(finite(content), indent=1) + "\n", encoding="utf-8")
    lines = ["# Error against time", "", *(f"- {note}" for note in NOTES)]
    lines += [f"- Not measured: {row['label']}: {row['why']}." for row in found["absent"]]
    lines += ["", *table_1(rows)]
    text = "\n".join(lines) + "\n"
    (out / "accuracy_speed.md").write_text(text, encoding="utf-8")
    for name, members in rows.items():
        dots = dots_of_rows(members, variants)
        if dots:
            path = out / f"accuracy_speed_{name.replace(', ', '_')}.png"
            write_accuracy_speed(path, dots, name)
    print(text, end="")


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "scene": trial.scene,
        "variant": trial.method,
        "success": trial.success,
        "reason_code": trial.reason_code,
        "tre_mm": None if trial.errors is None else trial.errors.mean_tre_mm,
        "ms": trial.wall_ms,
    }


if __name__ == "__main__":
    raise SystemExit(main())
