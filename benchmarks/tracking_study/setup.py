"""What is measured: a method set up for one case after the other, and the sequences that it is shown."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from end2reg_ros.case import load_case
from end2reg_ros.case.model import Case
from end2reg_ros.engine.load import load_engine
from end2reg_ros.engine.options import EngineChoice, EngineOptions
from end2reg_ros.engine.types import Engine
from end2reg_ros.frame import Tracker
from end2reg_ros.registration import LEARNED, RegistrationSettings, create_registrar
from end2reg_ros.registration.interface import Registrar
from end2reg_ros.registration.settings import NetworkPasses
from end2reg_ros.registration.weights_path import choose_weights
from end2reg_ros.simulation.camera.sensor import CameraPlacement
from end2reg_ros.simulation.field.settings import Suite, draw_field_settings
from end2reg_ros.simulation.sequence import SequenceSettings, SimulatedSequence

FIRST_SEED = 900_000  # after the sweeps' scenes, before training


@dataclass(frozen=True)
class MethodSettings:
    """The method that is measured.

    Attributes:
        method: as ``create_registrar`` knows it.
        engine, weights, threads: of a learned method; weights None for the case's own or the shipped ones.
        network_passes: see ``RegistrationSettings``.
    """

    method: str = "end2reg"
    engine: EngineChoice = "auto"
    weights: Path | None = None
    network_passes: NetworkPasses = "every_frame"
    threads: int = 1

    def plain(self, case: Case) -> dict[str, Any]:
        """What a result follows from: names and hashes, for the key of a unit."""
        if self.method not in LEARNED:
            return {"method": self.method}
        path = choose_weights(case, self.weights).path
        named = {"method": self.method, "passes": self.network_passes, "engine": self.engine}
        return {**named, "weights": file_hash(path)}


@lru_cache(maxsize=16)
def file_hash(path: Path) -> str:
    """12 digits of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


class Methods:
    """Registrars, set up when they are first asked for; only the last case's are kept.

    Args:
        settings: of the main method.
    """

    def __init__(self, settings: MethodSettings) -> None:
        self.settings = settings
        self._case = ""
        self._registrars: dict[str, Registrar] = {}
        self._engines: dict[EngineOptions, Engine] = {}
        self.engine_text = ""

    def registrar(self, case: Case, method: str | None = None) -> Registrar:
        """A warm registrar for a case.

        Raises:
            End2RegError: it cannot be set up here.
        """
        if case.hash != self._case:
            self._registrars, self._case = {}, case.hash
        name = method or self.settings.method
        if name not in self._registrars:
            found = self._create(name, case)
            found.warm_up()
            self._registrars[name] = found
            self.engine_text = found.engine_text or self.engine_text
        return self._registrars[name]

    def _create(self, name: str, case: Case) -> Registrar:
        settings = RegistrationSettings(
            threads=self.settings.threads, network_passes=self.settings.network_passes
        )
        if name not in LEARNED:
            return create_registrar(name, case, settings)
        # By way of the engine: reading the network anew for each case takes seconds.
        from end2reg_ros.registration.end2reg import End2RegAloneRegistrar, End2RegRegistrar

        weights = choose_weights(case, self.settings.weights).path
        options = EngineOptions(self.settings.engine, weights, threads=self.settings.threads)
        if options not in self._engines:
            self._engines[options] = load_engine(options)
        kind = End2RegAloneRegistrar if name == End2RegAloneRegistrar.method else End2RegRegistrar
        return kind(case, self._engines[options], settings)

    def tracker(self, case: Case, method: str | None = None) -> Tracker:
        """A tracker that knows nothing yet."""
        return Tracker(self.registrar(case, method), case)


class Cases:
    """Case folders, read when they are first asked for; at most a few are kept."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths
        self._load: Callable[[Path], Case] = lru_cache(maxsize=4)(load_case)

    def __iter__(self) -> Any:
        return (self._load(path) for path in self.paths)


@dataclass(frozen=True)
class SequencePlan:
    """One simulated sequence; everything random in it follows from ``seed``.

    Attributes:
        scenario: of the simulation.
        suite: of the wound, drawn by the seed.
        deg, shift_m: motion between neighbouring levels, exactly as large in every joint; 0 for none.
    """

    seed: int
    scenario: str = "theatre"
    suite: Suite = "standard"
    deg: float = 0.0
    shift_m: float = 0.0
    placement: CameraPlacement | None = None
    exposed_levels: tuple[str, ...] | None = None

    def sequence(self, case: Case) -> SimulatedSequence:
        """The sequence, built (a second or two).

        Raises:
            End2RegError: the simulation does not know it.
        """
        from end2reg_ros.simulation.articulation import Articulation

        field = draw_field_settings(case, self.suite, self.seed)
        if self.exposed_levels is not None:
            field = replace(field, exposed_levels=self.exposed_levels)
        moved = self.deg > 0.0 or self.shift_m > 0.0
        return SimulatedSequence(
            case,
            SequenceSettings(
                seed=self.seed,
                scenario=self.scenario,
                field=field,
                placement=self.placement,
                articulation=Articulation(self.deg, self.shift_m, self.seed, exact=True) if moved else None,
            ),
        )


class LastSequence:
    """Builds sequences; the last one is kept, for units that differ by less than a field."""

    def __init__(self) -> None:
        self._what: tuple[str, SequencePlan] | None = None
        self._sequence: SimulatedSequence | None = None

    def of(self, case: Case, plan: SequencePlan) -> SimulatedSequence:
        """The sequence of a plan, as ``SequencePlan.sequence``."""
        if self._sequence is None or self._what != (case.hash, plan):
            self._sequence, self._what = plan.sequence(case), (case.hash, plan)
        return self._sequence


def case_key(case: Case) -> dict[str, Any]:
    """A case by name and hash."""
    return {"case": case.name, "case_hash": case.hash[:12]}
