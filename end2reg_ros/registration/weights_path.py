"""Which weights a case is registered with: given ones, the case's own, or those of the package. No torch here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from end2reg_ros.case.model import Case
from end2reg_ros.errors import RegistrationError

FOLDER, WEIGHTS = "network", "weights.safetensors"
HEADER_MAX = 16 * 1024 * 1024  # bytes of a safetensors header; ours has a few kilobytes


@dataclass(frozen=True)
class ChosenWeights:
    """A weights file and where it comes from.

    Attributes:
        path: the file.
        source: ``given`` by the user, the ``case``'s own (``end2reg case adapt``), or the ``package``'s.
        note: why the case's own weights were passed over; empty when there is nothing to tell.
    """

    path: Path
    source: Literal["given", "case", "package"]
    note: str = ""


def choose_weights(case: Case | None, given: Path | None = None, profile: str = "realtime") -> ChosenWeights:
    """The weights for a case: ``given``, else its own where they fit, else the package's of that profile.

    Raises:
        RegistrationError: the given file is missing, or none was given and the package holds none.
    """
    if given is not None:
        if not given.is_file():
            raise RegistrationError(f"no weights file {given}")
        return ChosenWeights(given, "given")
    path, note = adapted_weights(case, profile) if case is not None else (None, "")
    if path is not None:
        return ChosenWeights(path, "case")
    try:
        return ChosenWeights(packaged_weights(profile), "package", note)
    except RegistrationError as fault:
        raise RegistrationError(f"{fault}; {note}" if note else str(fault)) from None


def packaged_weights(profile: str = "realtime") -> Path:
    """The weights that come with the package.

    Raises:
        RegistrationError: it holds none of that profile.
    """
    path = Path(str(files("end2reg_ros"))) / "data" / "weights" / f"{profile}.safetensors"
    if not path.is_file():
        raise RegistrationError(
            f"no weights of profile '{profile}' come with this package ({path} is missing): give a weights file"
        )
    return path


def own_weights_path(case_folder: Path) -> Path:
    """Where a case keeps its own weights."""
    return case_folder / FOLDER / WEIGHTS


def adapted_weights(case: Case, profile: str = "realtime") -> tuple[Path | None, str]:
    """The case's own weights, or None and why there are none to use; the text is empty where none were ever made."""
    path = own_weights_path(case.path)
    if not path.is_file():
        return None, ""
    try:
        metadata = weights_metadata(path)
        record = json.loads(metadata.get("record", "{}"))
        made_for = record.get("case_hash") if isinstance(record, dict) else None
    except (RegistrationError, ValueError) as fault:
        return None, f"the case's own weights are passed over: {fault}"
    if metadata.get("profile") != profile:
        named = metadata.get("profile")
        return None, f"the case's own weights are passed over: of profile '{named}', not '{profile}'"
    if made_for != case.hash:
        return None, (
            f"the case's own weights ({path}) are passed over: the case has changed since they were made; "
            "run 'end2reg case adapt' again"
        )
    return path, ""


def weights_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself: its first 8 bytes are the header's length, the header is JSON.

    Raises:
        RegistrationError: unreadable, or not such a file.
    """
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header: Any = json.loads(file.read(size)) if size <= HEADER_MAX else None
    except OSError as fault:
        raise RegistrationError(f"{path} cannot be read ({fault.strerror})") from None
    except ValueError:
        header = None
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        raise RegistrationError(f"{path} is no weights file, or cut short")
    return {str(name): str(value) for name, value in metadata.items()}
