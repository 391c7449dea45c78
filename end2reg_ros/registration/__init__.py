"""One cloud and one case -> one pose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from end2reg_ros.case.model import Case
from end2reg_ros.errors import RegistrationError
from end2reg_ros.registration.settings import AcceptSettings, RegistrationSettings
from end2reg_ros.registration.types import Prior, Quality, Registrar, Registration

__all__ = [
    "CLASSICAL",
    "LEARNED",
    "AcceptSettings",
    "NetworkOptions",
    "Prior",
    "Quality",
    "Registrar",
    "Registration",
    "RegistrationSettings",
    "create_registrar",
]


@dataclass(frozen=True)
class NetworkOptions:
    """Which network the learned methods run.

    Attributes:
        weights: safetensors file; None takes the case's own network when it has one, else the shipped one.
        profile: the profile that the weights must be of; None takes theirs.
        device: cpu or cuda.
        threads: of the CPU.
    """

    weights: Path | None = None
    profile: str | None = None
    device: str = "cpu"
    threads: int = 1


CLASSICAL = ("icp", "ransac_icp", "kiss_matcher_icp")
LEARNED = ("end2reg", "end2reg_alone")


def create_registrar(
    method: str,
    case: Case,
    settings: RegistrationSettings | None = None,
    network: NetworkOptions | None = None,
) -> Registrar:
    """Set up a registration method for a case (seconds; do it once).

    Raises:
        RegistrationError: unknown method, or one whose package is missing.
        EngineError, WeightsError: a network that cannot be run.
    """
    from end2reg_ros.registration.classical import METHODS
    from end2reg_ros.registration.kiss import KissMatcherIcpRegistrar

    settings = settings or RegistrationSettings()
    if method in LEARNED:
        return _learned(method, case, settings, network or NetworkOptions())
    methods = {**METHODS, KissMatcherIcpRegistrar.method: KissMatcherIcpRegistrar}
    if method not in methods:
        known = ", ".join((*CLASSICAL, *LEARNED))
        raise RegistrationError(f"unknown method {method!r}: choose one of {known}")
    return methods[method](case, settings)


def _learned(method: str, case: Case, settings: RegistrationSettings, options: NetworkOptions) -> Registrar:
    from end2reg_ros.engine.load import load_engine
    from end2reg_ros.registration.end2reg import End2RegAloneRegistrar, End2RegRegistrar
    from end2reg_ros.registration.weights_path import choose_weights

    choice = choose_weights(case, options.weights, options.profile or "realtime")
    engine = load_engine(choice.path, options.profile, options.device, options.threads)
    kind = End2RegAloneRegistrar if method == End2RegAloneRegistrar.method else End2RegRegistrar
    return kind(case, engine, settings)
