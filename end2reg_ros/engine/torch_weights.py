"""Weights files into torch and out of it; ``engine.weights_file`` reads them without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from end2reg_ros.engine.weights_file import FORMAT, NETWORK, REGION, arrays_hash, profile_of, read_weights
from end2reg_ros.errors import WeightsError
from end2reg_ros.network.model import End2Reg
from end2reg_ros.profile import Profile, profile_hash


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


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """16 hex digits over names, shapes and values."""
    return arrays_hash({name: value.detach().cpu().float().numpy() for name, value in tensors.items()})


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
    raw = read_weights(path)
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in raw.tensors.items()}
    return Weights(
        profile=raw.profile,
        profile_hash=raw.profile_hash,
        network={n.removeprefix(NETWORK): v for n, v in tensors.items() if n.startswith(NETWORK)},
        region={n.removeprefix(REGION): v for n, v in tensors.items() if n.startswith(REGION)},
        hash=raw.hash,
        record=raw.record,
    )


def build_network(weights: Weights, profile: str | None = None) -> End2Reg:
    """The network of a weights file, ready to run.

    Raises:
        WeightsError: another profile than wanted, or one whose numbers have changed since.
    """
    own = profile_of(weights.profile, weights.profile_hash, profile)
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
