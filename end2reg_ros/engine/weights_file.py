"""Weights on disk: one safetensors file with what is needed to refuse it where it does not fit. No torch here.

safetensors holds numbers only: reading a weights file runs no code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.errors import WeightsError
from end2reg_ros.profile import Profile, get_profile, profile_hash

FORMAT = "end2reg_ros weights 1"
NETWORK, REGION = "network.", "region."


@dataclass(frozen=True)
class RawWeights:
    """A weights file in memory.

    Attributes:
        profile: name of the profile that the network was trained in.
        profile_hash: of every number of that profile.
        tensors: by name; those of the network begin with ``network.``, those of the region finder with ``region.``.
        hash: sha256 over names, shapes and values, 16 hex digits.
        record: how they were made: data, seeds, iterations, figures.
    """

    profile: str
    profile_hash: str
    tensors: dict[str, NDArray[np.generic]]
    hash: str
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def has_region(self) -> bool:
        """Whether they hold a region finder."""
        return any(name.startswith(REGION) for name in self.tensors)


def arrays_hash(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    """16 hex digits over names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name], np.float32)
        digest.update(f"{name}{tuple(arrays[name].shape)}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()[:16]


def read_weights(path: Path) -> RawWeights:
    """Read a weights file and check it against its own hash.

    Raises:
        WeightsError: missing, cut short, not one of ours, or altered.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise WeightsError(f"no weights file {path}")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as fault:
        raise WeightsError(
            f"weights {path} cannot be read, the file may be cut short: {' '.join(str(fault).split())}"
        ) from None
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path} holds no weights of this program (format {metadata.get('format')!r})")
    digest = arrays_hash(tensors)
    if digest != metadata.get("hash"):
        raise WeightsError(
            f"weights {path} are not what was saved: hash {digest}, {metadata.get('hash')} expected"
        )
    return RawWeights(
        profile=metadata.get("profile", ""),
        profile_hash=metadata.get("profile_hash", ""),
        tensors=tensors,
        hash=digest,
        record=json.loads(metadata.get("record", "{}")),
    )


def profile_of(name: str, numbers_hash: str, wanted: str | None = None) -> Profile:
    """The profile that weights are of.

    Args:
        wanted: the profile asked for; None takes theirs.

    Raises:
        WeightsError: another profile than wanted, or one whose numbers have changed since.
    """
    if wanted is not None and wanted != name:
        raise WeightsError(f"weights are of profile '{name}', profile '{wanted}' was asked for")
    try:
        own = get_profile(name)
    except ValueError as fault:
        raise WeightsError(f"weights: {fault}") from None
    if profile_hash(own) != numbers_hash:
        raise WeightsError(
            f"weights were trained with other numbers of profile '{name}' "
            f"({numbers_hash}, now {profile_hash(own)}): train again"
        )
    return own
