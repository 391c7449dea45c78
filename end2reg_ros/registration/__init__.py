"""One cloud and one case -> one pose."""

from __future__ import annotations

from end2reg_ros.case.model import Case
from end2reg_ros.errors import RegistrationError
from end2reg_ros.registration.settings import AcceptSettings, RegistrationSettings
from end2reg_ros.registration.types import Prior, Quality, Registrar, Registration

__all__ = [
    "AcceptSettings",
    "Prior",
    "Quality",
    "Registrar",
    "Registration",
    "RegistrationSettings",
    "create_registrar",
]


def create_registrar(method: str, case: Case, settings: RegistrationSettings | None = None) -> Registrar:
    """Set up a registration method for a case (seconds; do it once).

    Raises:
        RegistrationError: unknown method, or one whose package is missing.
    """
    from end2reg_ros.registration.classical import METHODS
    from end2reg_ros.registration.kiss import KissMatcherIcpRegistrar

    methods = {**METHODS, KissMatcherIcpRegistrar.method: KissMatcherIcpRegistrar}
    if method not in methods:
        raise RegistrationError(f"unknown method {method!r}: choose one of {', '.join(methods)}")
    return methods[method](case, settings or RegistrationSettings())
