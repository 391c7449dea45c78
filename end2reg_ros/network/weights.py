"""Weights on disk: one safetensors file with what is needed to refuse it where it does not fit.

safetensors holds numbers only: reading a weights file runs no code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from end2reg_ros.errors import End2RegError
from end2reg_ros.network.model import End2Reg
from end2reg_ros.network.profile import Profile, get_profile

FORMAT = "end2reg_ros weights 1"
NETWORK, REGION = "network.", "region."


class WeightsError(End2RegError):
    """A weights file that cannot be used."""


@dataclass(frozen=True)
class Weights:
    """A weights file in memory.

    Attributes:
        profile: name of the profile that the network was trained in.
        profile_hash: of every number of that profile.
        network: state of ``End2Reg``; region: state of the region finder, empty when the file has none.
        hash: sha256 over names, shapes and values, 16 hex digits.
        record: how they were made: data, seeds, iterations, figures.
    """

    profile: str
    profile_hash: str
    network: dict[str, Tensor]
    region: dict[str, Tensor]
    hash: str
    record: dict[str, Any] = field(default_factory=dict)


def profile_hash(profile: Profile) -> str:
    """16 hex digits over every number of a profile that weights depend on: all but the padding."""
    numbers = asdict(profile)
    for side in ("model", "scene", "segmentation"):
        if numbers[side] is not None:
            del numbers[side]["capacities"]
    document = json.dumps(numbers, sort_keys=True)
    return hashlib.sha256(document.encode()).hexdigest()[:16]


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """16 hex digits over names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous().to(torch.float32)
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(np.ascontiguousarray(value.numpy()).tobytes())
    return digest.hexdigest()[:16]


def save_weights(
    path: Path,
    profile: Profile,
    network: Mapping[str, Tensor],
    region: Mapping[str, Tensor],
    record: Mapping[str, Any],
) -> str:
    """Write a weights file; returns its hash."""
    tensors = {NETWORK + name: value.detach().cpu().contiguous() for name, value in network.items()}
    tensors |= {REGION + name: value.detach().cpu().contiguous() for name, value in region.items()}
    digest = tensors_hash(tensors)
    metadata = {
        "format": FORMAT,
        "profile": profile.name,
        "profile_hash": profile_hash(profile),
        "hash": digest,
        "record": json.dumps(dict(record), sort_keys=True),
    }
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata)
    temporary.chmod(0o644)  # safetensors leaves it readable by its owner alone
    temporary.replace(path)
    return digest


def load_weights(path: Path) -> Weights:
    """Read a weights file and check it against its own hash.

    Raises:
        WeightsError: missing, cut short, not one of ours, or altered.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as fault:
        raise WeightsError(
            f"weights {path} cannot be read, the file may be cut short: {' '.join(str(fault).split())}"
        ) from None
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path} holds no weights of this program (format {metadata.get('format')!r})")
    digest = tensors_hash(tensors)
    if digest != metadata.get("hash"):
        raise WeightsError(
            f"weights {path} are not what was saved: hash {digest}, {metadata.get('hash')} expected"
        )
    return Weights(
        profile=metadata.get("profile", ""),
        profile_hash=metadata.get("profile_hash", ""),
        network={n.removeprefix(NETWORK): v for n, v in tensors.items() if n.startswith(NETWORK)},
        region={n.removeprefix(REGION): v for n, v in tensors.items() if n.startswith(REGION)},
        hash=digest,
        record=json.loads(metadata.get("record", "{}")),
    )


def build_network(weights: Weights, profile: str | None = None) -> End2Reg:
    """The network of a weights file, ready to run.

    Args:
        weights: of ``load_weights``.
        profile: the profile wanted; None takes that of the weights.

    Raises:
        WeightsError: another profile than wanted, or one whose numbers have changed since.
    """
    if profile is not None and profile != weights.profile:
        raise WeightsError(f"weights are of profile '{weights.profile}', profile '{profile}' was asked for")
    try:
        own = get_profile(weights.profile)
    except ValueError as fault:
        raise WeightsError(f"weights: {fault}") from None
    if profile_hash(own) != weights.profile_hash:
        raise WeightsError(
            f"weights were trained with other numbers of profile '{weights.profile}' "
            f"({weights.profile_hash}, now {profile_hash(own)}): train again"
        )
    network = End2Reg(own)
    load_into(network, weights.network, "network")
    return network.eval()


def load_into(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Fill a module.

    Raises:
        WeightsError: names or shapes that do not fit.
    """
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as fault:
        lines = [line.strip() for line in str(fault).splitlines()[1:2]]
        raise WeightsError(f"weights do not fit the {what}: {' '.join(lines)[:160]}") from None
