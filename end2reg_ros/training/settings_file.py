"""Settings in YAML as dataclasses, each fault in one line. No torch here."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from end2reg_ros.errors import TrainingError

Settings = TypeVar("Settings")


def read_document(path: Path, kind: str) -> dict[str, Any]:
    """The names and values of a YAML file; ``kind`` is what it is called in errors: "training config".

    Raises:
        TrainingError: unreadable, or something else than names and values.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        text = " ".join(str(fault).split())
        raise TrainingError(f"cannot read the {kind} {path}: {text}") from None
    if not isinstance(document, dict):
        raise TrainingError(f"{path}: a {kind} is a list of 'name: value' lines")
    return document


def build_settings(kind: type[Settings], document: dict[str, Any], where: str) -> Settings:
    """A dataclass from names and values, whole numbers staying whole where any number is taken.

    Args:
        kind: the dataclass; its fields may be text, numbers, flags, one of several words, tuples, shares by name, dataclasses.
        where: begins every error, the file for example.

    Raises:
        TrainingError: an unknown or missing name, or a value of the wrong kind.
    """
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(map(str, document)) - set(hints))
    if unknown:
        raise TrainingError(f"{where}: unknown setting '{unknown[0]}'; known: {', '.join(hints)}")
    values = {name: _value(name, value, hints[name], where) for name, value in document.items()}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        optional = (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
        if field.name not in values and not optional:
            raise TrainingError(f"{where}: '{field.name}' is missing")
    return kind(**values)


def _value(name: str, value: Any, hint: Any, where: str) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise TrainingError(f"{where}: '{name}' must be a list of 'name: value' lines")
        return build_settings(typing.cast(type[Any], hint), value, f"{where}: {name}")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise TrainingError(f"{where}: '{name}' must be a list")
        return tuple(_value(name, item, inner[0], where) for item in value)
    if origin is dict:
        if not isinstance(value, dict):
            raise TrainingError(f"{where}: '{name}' must map names to numbers")
        return {str(key): _value(f"{name}: {key}", item, inner[1], where) for key, item in value.items()}
    if origin is Literal:
        if value not in inner:
            raise TrainingError(f"{where}: '{name}' must be one of {', '.join(inner)}")
        return value
    if hint is float and isinstance(value, str):
        try:  # YAML reads 6e-4 as text
            return float(value)
        except ValueError:
            pass
    word, kinds = _KINDS[hint]
    if isinstance(value, kinds) and (hint is bool or not isinstance(value, bool)):
        return value
    raise TrainingError(f"{where}: '{name}' must be {word}, not {value!r}")


_KINDS: dict[type, tuple[str, Any]] = {
    float: ("a number", int | float),
    int: ("a whole number", int),
    bool: ("true or false", bool),
    str: ("text", str),
}
