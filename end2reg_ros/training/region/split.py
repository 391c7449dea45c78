"""Scenes of shards to train and to validate the region network on: no individual is on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

from end2reg_ros.training.data.samples import anatomy_path, load_text

HELD_OUT_EVERY = 8


def held_out(source: str) -> bool:
    """Whether an individual is kept for validation: by its name alone, so that all its variants and scenes are."""
    digits = "".join(c for c in source if c.isdigit())
    return (int(digits) if digits else crc32(source.encode())) % HELD_OUT_EVERY == 0


def split_by_anatomy(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Scenes to train on and to validate on; mixed anatomies with donors on both sides are in neither.

    Scenes without a spine go to either by their number.
    """
    train: list[Path] = []
    validation: list[Path] = []
    sides: dict[tuple[Path, str], set[bool]] = {}
    for path in files:
        anatomy = load_text(path, "anatomy")
        if not anatomy:
            (validation if int(path.stem) % HELD_OUT_EVERY == 0 else train).append(path)
            continue
        key = (path.parent.parent, anatomy)
        if key not in sides:
            sides[key] = {held_out(donor) for donor in _donors(*key)}
        if sides[key] == {True}:
            validation.append(path)
        elif sides[key] == {False}:
            train.append(path)
    return train, validation


def _donors(shards: Path, anatomy: str) -> list[str]:
    """Individuals that an anatomy is made of; its own name where the shard folder lacks it."""
    file = anatomy_path(shards, anatomy)
    return load_text(file, "source").split("+") if file.is_file() else [anatomy]
