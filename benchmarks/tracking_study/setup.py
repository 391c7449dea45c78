"""What is measured: a method set up for one case after the other, and the sequences that it is shown."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from end2reg_ros.case.model import Case
from end2reg_ros.engine.load import load_engine
from end2reg_ros.engine.options import EngineChoice, EngineOptions
from end2reg_ros.engine.types import Engine
from end2reg_ros.frame import Tracker
from end2reg_ros.registration import LEARNED, RegistrationSettings, create_registrar
from end2reg_ros.registration.interface import Registrar
from end2reg_ros.registration.settings import NetworkPasses
from end2reg_ros.registration.weights_path import choose_weights
from end2reg_ros.simulation.articulation import Articulation
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
    """Registrars of the case that is measured, set up when they are first asked for; engines are kept over the cases.

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
            s = self.settings
            settings = RegistrationSettings(threads=s.threads, network_passes=s.network_passes)
            engine = self._engine(case) if name in LEARNED else None
            found = self._registrars[name] = create_registrar(name, case, settings, engine=engine)
            found.warm_up()
            self.engine_text = found.engine_text or self.engine_text
        return self._registrars[name]

    def _engine(self, case: Case) -> Engine:
        """Loaded once for all cases with the same weights: reading the network takes seconds."""
        weights = choose_weights(case, self.settings.weights).path
        options = EngineOptions(self.settings.engine, weights, threads=self.settings.threads)
        if options not in self._engines:
            self._engines[options] = load_engine(options)
        return self._engines[options]

    def tracker(self, case: Case, method: str | None = None) -> Tracker:
        """A tracker that knows nothing yet."""
        return Tracker(self.registrar(case, method), case)


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


def case_key(case: Case) -> dict[str, Any]:
    """A case by name and hash."""
    return {"case": case.name, "case_hash": case.hash[:12]}
