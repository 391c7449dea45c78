"""Which methods are measured: their names on the command line, and how they are set up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from end2reg_ros.case.model import Case
from end2reg_ros.engine.options import EngineChoice, EngineOptions
from end2reg_ros.errors import End2RegError
from end2reg_ros.registration import CLASSICAL, LEARNED, RegistrationSettings, create_registrar
from end2reg_ros.registration.interface import Registrar
from end2reg_ros.registration.settings import NetworkPasses
from end2reg_ros.registration.weights_path import choose_weights

ENGINES: tuple[EngineChoice, ...] = get_args(EngineChoice)
PASSES: tuple[NetworkPasses, ...] = get_args(NetworkPasses)


@dataclass(frozen=True)
class MethodSpec:
    """One method as it is measured.

    Attributes:
        name: as typed: ``icp``, ``end2reg:torch``, ``end2reg:onnxruntime:background``.
        method: as ``create_registrar`` knows it.
        engine: of a learned method; empty for the others.
        threads: of its network and its neighbour searches.
        cores: that its process may use.
        device: of a learned method, cpu or cuda.
        weights: of a learned method; None for the case's own or the shipped ones.
        passes: of its network while it follows, see ``RegistrationSettings``; None for the default.
    """

    name: str
    method: str
    engine: str = ""
    threads: int = 2
    device: str = "cpu"
    weights: Path | None = None
    passes: NetworkPasses | None = None
    cores: int = 2

    @property
    def label(self) -> str:
        """What tables and plots call it."""
        if not self.engine:
            return self.method
        words = [
            self.engine,
            self.device if self.device != "cpu" else "",
            (self.passes or "").replace("_", " "),
        ]
        return f"{self.method} ({', '.join(filter(None, words))})"

    def settings(self) -> RegistrationSettings:
        """Of the registration."""
        settings = RegistrationSettings(threads=self.threads)
        return settings if self.passes is None else replace(settings, network_passes=self.passes)


def parse_method(name: str, threads: int, device: str = "cpu", weights: Path | None = None) -> MethodSpec:
    """A method from its name; a learned one may name its engine after a colon, and its passes after another.

    Raises:
        End2RegError: an unknown method, engine or kind of passes, or an engine for a method that has none.
    """
    method, colon, rest = name.partition(":")
    if method not in (*CLASSICAL, *LEARNED):
        known = ", ".join((*CLASSICAL, *LEARNED))
        raise End2RegError(f"unknown method '{method}': choose one of {known}")
    if method in CLASSICAL:
        if colon:
            raise End2RegError(f"method {method} runs no network, so it has no engine '{rest}'")
        return MethodSpec(name, method, threads=threads)
    typed, second, passes = rest.partition(":")
    engine = typed if colon else "auto"
    for what, found, known_names in (("engine", engine, ENGINES), ("kind of passes", passes, PASSES)):
        if found not in known_names and (what == "engine" or second):
            raise End2RegError(
                f"unknown {what} '{found}' in '{name}': choose one of {', '.join(known_names)}"
            )
    chosen = cast(NetworkPasses, passes) if second else None
    return MethodSpec(name, method, engine, threads, device, weights, chosen)


def set_up(spec: MethodSpec, case: Case) -> Registrar:
    """The method's registrar, not yet warm.

    Raises:
        End2RegError: a package, device or file that it needs is missing.
    """
    if not spec.engine:
        return create_registrar(spec.method, case, spec.settings())
    return create_registrar(spec.method, case, spec.settings(), engine_options(spec, case))


def engine_options(spec: MethodSpec, case: Case) -> EngineOptions:
    """Options of a learned method's engine, with the weights that the case is registered with.

    Raises:
        RegistrationError: there are none.
    """
    path = choose_weights(case, spec.weights).path
    engine = cast(EngineChoice, spec.engine)  # ``parse_method`` has seen to it
    return EngineOptions(engine, path, device=spec.device, threads=spec.threads)
