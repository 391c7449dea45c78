"""Variants of the learned method and the baselines over scene folders: error against time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from end2reg_ros.apps.bench.methods import MethodSpec, engine_options, parse_method, set_up
from end2reg_ros.apps.bench.plots import Dot
from end2reg_ros.apps.bench.turns import rotated
from end2reg_ros.case import load_case
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.scene_folder import Scene, read_scene
from end2reg_ros.engine.load import load_engine
from end2reg_ros.engine.types import Engine
from end2reg_ros.errors import CaseError, EngineError
from end2reg_ros.evaluation.benchmark import (
    BenchmarkSettings,
    CaseBench,
    Given,
    Trial,
    make_prior,
    run_trial,
)
from end2reg_ros.evaluation.scenes import true_pose
from end2reg_ros.evaluation.tables_paper import PaperRow, paper_row
from end2reg_ros.registration import CLASSICAL, LEARNED
from end2reg_ros.registration.find.network_search import SearchSettings
from end2reg_ros.registration.kiss import KissMatcherIcpRegistrar, load_kiss_matcher
from end2reg_ros.registration.types import Prior, Registrar
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
    from end2reg_ros.registration.end2reg import End2RegAloneRegistrar, End2RegRegistrar

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


def given_of(scene: Scene, bench: CaseBench, start: Start, number: int) -> Given:
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
