"""Which methods are measured: their names on the command line, and how they are set up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from end2reg_ros.case.model import Case
from end2reg_ros.engine.options import EngineChoice, EngineOptions
from end2reg_ros.errors import End2RegError
from end2reg_ros.registration import (
    CLASSICAL,
    LEARNED,
    RegistrationSettings,
    create_registrar,
)
from end2reg_ros.registration.types import Registrar
from end2reg_ros.registration.weights_path import choose_weights

ENGINES: tuple[EngineChoice, ...] = get_args(EngineChoice)
DEFAULT_METHODS = ("end2reg:onnxruntime", "end2reg:torch", "icp", "ransac_icp", "kiss_matcher_icp")


@dataclass(frozen=True)
class MethodSpec:
    """One method as it is measured.

    Attributes:
        name: as typed: ``icp``, ``end2reg:torch``.
        method: as ``create_registrar`` knows it.
        engine: of a learned method; empty for the others.
        threads: that it may use.
        device: of a learned method, cpu or cuda.
        weights: of a learned method; None for the case's own or the shipped ones.
    """

    name: str
    method: str
    engine: str = ""
    threads: int = 2
    device: str = "cpu"
    weights: Path | None = None

    @property
    def label(self) -> str:
        """What tables and plots call it."""
        on = f", {self.device}" if self.engine and self.device != "cpu" else ""
        return f"{self.method} ({self.engine}{on})" if self.engine else self.method


def parse_method(name: str, threads: int, device: str = "cpu", weights: Path | None = None) -> MethodSpec:
    """A method from its name; a learned one may name its engine after a colon.

    Raises:
        End2RegError: an unknown method or engine, or an engine for a method that has none.
    """
    method, colon, engine = name.partition(":")
    if method not in (*CLASSICAL, *LEARNED):
        known = ", ".join((*CLASSICAL, *LEARNED))
        raise End2RegError(f"unknown method '{method}': choose one of {known}")
    if method in CLASSICAL:
        if colon:
            raise End2RegError(f"method {method} runs no network, so it has no engine '{engine}'")
        return MethodSpec(name, method, threads=threads)
    engine = engine if colon else "auto"
    if engine not in ENGINES:
        raise End2RegError(f"unknown engine '{engine}' in '{name}': choose one of {', '.join(ENGINES)}")
    return MethodSpec(name, method, engine, threads, device, weights)


def set_up(spec: MethodSpec, case: Case) -> Registrar:
    """The method's registrar, not yet warm.

    Raises:
        End2RegError: a package, device or file that it needs is missing.
    """
    settings = RegistrationSettings(threads=spec.threads)
    if not spec.engine:
        return create_registrar(spec.method, case, settings)
    return create_registrar(spec.method, case, settings, engine_options(spec, case))


def engine_options(spec: MethodSpec, case: Case) -> EngineOptions:
    """Options of a learned method's engine, with the weights that the case is registered with.

    Raises:
        RegistrationError: there are none.
    """
    path = choose_weights(case, spec.weights).path
    engine = cast(EngineChoice, spec.engine)  # ``parse_method`` has seen to it
    return EngineOptions(engine, path, device=spec.device, threads=spec.threads)
