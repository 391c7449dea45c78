"""One cloud and one case -> one pose."""

from __future__ import annotations

from dataclasses import replace

from end2reg_ros.case.model import Case
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.engine.types import Engine
from end2reg_ros.errors import RegistrationError
from end2reg_ros.registration.interface import Registrar
from end2reg_ros.registration.settings import AcceptSettings, RegistrationSettings
from end2reg_ros.registration.types import Prior, Quality, Registration

__all__ = [
    "CLASSICAL",
    "LEARNED",
    "AcceptSettings",
    "EngineOptions",
    "Prior",
    "Quality",
    "Registrar",
    "Registration",
    "RegistrationSettings",
    "create_registrar",
]


CLASSICAL = ("icp", "ransac_icp", "kiss_matcher_icp")
LEARNED = ("end2reg", "end2reg_alone")


def create_registrar(
    method: str,
    case: Case,
    settings: RegistrationSettings | None = None,
    network: EngineOptions | None = None,
    engine: Engine | None = None,
) -> Registrar:
    """Set up a registration method for a case (seconds; do it once).

    Args:
        method: one of ``CLASSICAL`` or ``LEARNED``.
        case: what is registered.
        settings: what is asked of a fit; the defaults when None.
        network: which engine runs the network of a learned method, and with which weights; chosen when None.
        engine: a loaded engine, in place of ``network``.

    Raises:
        RegistrationError: unknown method, one whose package is missing, or an engine for a method without a network.
        EngineError, WeightsError: a network that cannot be run.
    """
    from end2reg_ros.registration.classical import METHODS
    from end2reg_ros.registration.kiss import KissMatcherIcpRegistrar

    settings = settings or RegistrationSettings()
    if method in LEARNED:
        return _learned(method, case, settings, engine or _loaded(case, network or EngineOptions()))
    methods = {**METHODS, KissMatcherIcpRegistrar.method: KissMatcherIcpRegistrar}
    if method not in methods:
        known = ", ".join((*CLASSICAL, *LEARNED))
        raise RegistrationError(f"unknown method {method!r}: choose one of {known}")
    if engine is not None:
        raise RegistrationError(f"method {method!r} has no network: an engine is of no use to it")
    return methods[method](case, settings)


def _loaded(case: Case, options: EngineOptions) -> Engine:
    from end2reg_ros.engine.load import load_engine
    from end2reg_ros.registration.weights_path import choose_weights

    choice = choose_weights(case, options.weights, options.profile or "realtime")
    return load_engine(replace(options, weights=choice.path))


def _learned(method: str, case: Case, settings: RegistrationSettings, engine: Engine) -> Registrar:
    from end2reg_ros.registration.end2reg import End2RegAloneRegistrar, End2RegRegistrar

    kind = End2RegAloneRegistrar if method == End2RegAloneRegistrar.method else End2RegRegistrar
    return kind(case, engine, settings)
