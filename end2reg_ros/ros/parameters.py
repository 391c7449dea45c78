"""ROS parameters declared from a typed dataclass: description, range, choices, and when a change takes
effect.

A field made with ``parameter(...)`` becomes one ROS parameter of the same name; a nested dataclass becomes
a group (``tracking.max_jump_m``). Values given in a file are checked here, so that a bad one stops the node
with one line.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from end2reg_ros.errors import End2RegError

if TYPE_CHECKING:
    from rclpy.node import Node

START, CONFIGURE, LIVE = "start", "configure", "live"
_EFFECT = {
    START: "Read-only: fixed when the node starts.",
    CONFIGURE: "Takes effect at configure.",
    LIVE: "Takes effect with the next cloud.",
}
# Largest values in a group, by what the name says of the unit; the first that fits counts.
_MAXIMA = (
    (r"_(ratio|fraction|agreement|violation)(_|$)", 1.0),
    (r"_rad_s$", 100.0),
    (r"_m_s$", 10.0),
    (r"_rad$", math.pi),
    (r"_m$", 1.0),
    (r"_s$", 600.0),
    (r"", 1_000_000.0),
)
Settings = TypeVar("Settings")


class ParameterFault(End2RegError):
    """A parameter with a value that the node refuses."""


@dataclass(frozen=True)
class Spec:
    """What is known of one parameter. ``minimum`` and ``maximum`` include their ends."""

    name: str
    default: Any
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    when: str = CONFIGURE

    def coerce(self, value: Any) -> Any:
        """The value in the type of the default (an integer for a float is welcome).

        Raises:
            ParameterFault: the value is of the wrong type, out of range, or not one of the choices.
        """
        values = list(value) if isinstance(self.default, tuple) and isinstance(value, Iterable) else None
        if values is not None:
            if len(values) != len(self.default):
                raise ParameterFault(
                    f"parameter '{self.name}' needs {len(self.default)} numbers, not {len(values)}"
                )
            return tuple(self._coerce_one(v, self.default[0]) for v in values)
        return self._coerce_one(value, self.default)

    def _coerce_one(self, value: Any, default: Any) -> Any:
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not type(default):
            raise ParameterFault(
                f"parameter '{self.name}' must be of type {type(default).__name__}, not {type(value).__name__}: {value!r}"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ParameterFault(f"parameter '{self.name}' is not a finite number: {value}")
        if self.choices and value not in self.choices:
            raise ParameterFault(
                f"parameter '{self.name}' is '{value}', must be one of {', '.join(self.choices)}"
            )
        if (self.minimum is not None and value < self.minimum) or (
            self.maximum is not None and value > self.maximum
        ):
            raise ParameterFault(
                f"parameter '{self.name}' is {value}, must lie in {_bound(self.minimum, '-inf')} .. {_bound(self.maximum, 'inf')}"
            )
        return value


def _bound(value: float | None, endless: str) -> str:
    return endless if value is None else f"{value:g}"


def parameter(
    default: Any,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    when: str = CONFIGURE,
) -> Any:
    """A dataclass field that is a ROS parameter."""
    spec = Spec("", default, description, minimum, maximum, choices, when)
    return field(default=default, metadata={"ros": spec})


def group(settings: Any, without: tuple[str, ...] = ()) -> Any:
    """A dataclass field whose own fields are parameters ``<field>.<name>``, described by their docstring.

    Nested dataclasses become nested groups. Numbers of a group must not be negative, shares not above 1, lengths not
    above a metre.
    """
    return field(default_factory=lambda: settings, metadata={"ros_group": without})


def attribute_texts(cls: type) -> dict[str, str]:
    """What the ``Attributes:`` section of a class docstring says of each attribute."""
    texts: dict[str, str] = {}
    names: list[str] = []
    section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
    for line in section.splitlines():
        entry = re.match(r"    (\w+(?:, \w+)*): (.*)", line)
        if entry:
            names = entry[1].split(", ")
            texts |= dict.fromkeys(names, entry[2])
        elif line.strip():
            texts |= {name: f"{texts[name]} {line.strip()}" for name in names}
    return texts


def _group_specs(prefix: str, settings: Any, without: tuple[str, ...]) -> list[Spec]:
    texts = attribute_texts(type(settings))
    found: list[Spec] = []
    for f in dataclasses.fields(settings):
        value, name = getattr(settings, f.name), f"{prefix}.{f.name}"
        if f.name in without:
            continue
        if dataclasses.is_dataclass(value):
            found += _group_specs(name, value, without)
        else:
            text = texts.get(f.name, f.name.replace("_", " "))
            bounds = (0.0, group_maximum(f.name)) if _sample(value) is not None else (None, None)
            found.append(Spec(name, value, text[0].upper() + text[1:], *bounds))
    return found


def group_maximum(name: str) -> float:
    """Largest value of a group's number."""
    return next(maximum for pattern, maximum in _MAXIMA if re.search(pattern, name))


def _sample(value: Any) -> int | float | None:
    """A number, or the first of a tuple of numbers; None for anything else."""
    sample = value[0] if isinstance(value, tuple) and value else value
    return sample if isinstance(sample, int | float) and not isinstance(sample, bool) else None


def specs(cls: type) -> list[Spec]:
    """All parameters of a settings class, in order."""
    found: list[Spec] = []
    for f in dataclasses.fields(cls):
        if "ros" in f.metadata:
            found.append(dataclasses.replace(f.metadata["ros"], name=f.name))
        elif "ros_group" in f.metadata:
            found += _group_specs(f.name, _default(f), f.metadata["ros_group"])
    return found


def build(cls: type[Settings], values: dict[str, Any]) -> Settings:
    """A settings object of the values by parameter name.

    Raises:
        ParameterFault: a value that its parameter refuses.
    """
    flat = {spec.name: spec.coerce(values[spec.name]) for spec in specs(cls) if spec.name in values}
    arguments: dict[str, Any] = {name: value for name, value in flat.items() if "." not in name}
    for f in dataclasses.fields(cls):  # type: ignore[arg-type]
        if "ros_group" in f.metadata:
            settings = _default(f)
            for name, value in flat.items():
                if name.startswith(f.name + "."):
                    settings = _replaced(settings, name.split(".")[1:], value)
            arguments[f.name] = settings
    return cls(**arguments)


def _default(group_field: dataclasses.Field[Any]) -> Any:
    make: Any = group_field.default_factory
    return make()


def _replaced(settings: Any, path: list[str], value: Any) -> Any:
    inner = value if len(path) == 1 else _replaced(getattr(settings, path[0]), path[1:], value)
    return dataclasses.replace(settings, **{path[0]: inner})


def config_hash(values: dict[str, Any]) -> str:
    """sha256 over all settings, in hexadecimal: two runs with one hash ran with the same parameters."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def declare(node: Node, cls: type[Settings]) -> Settings:
    """Declare every parameter of ``cls`` on the node and read what was given.

    Raises:
        ParameterFault: a given value that its parameter refuses.
    """
    known = specs(cls)
    for spec in known:
        default = list(spec.default) if isinstance(spec.default, tuple) else spec.default
        try:
            node.declare_parameter(spec.name, default, _descriptor(spec))
        except Exception as fault:  # rclpy raises a different class for each kind of refusal
            spec.coerce(_given(node, spec.name, default))
            raise ParameterFault(f"parameter '{spec.name}': {fault}") from fault
    unknown = sorted(set(getattr(node, "_parameter_overrides", {})) - {spec.name for spec in known})
    for name in unknown:
        if name != "use_sim_time" and not name.startswith("qos_overrides.") and not node.has_parameter(name):
            node.get_logger().warning(
                f"parameter '{name}' is given but unknown to this node: a typing error?"
            )
    return read(node, cls)


def _given(node: Node, name: str, default: Any) -> Any:
    override = getattr(node, "_parameter_overrides", {}).get(name)
    return default if override is None else override.value


def _descriptor(spec: Spec) -> Any:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    sample = spec.default[0] if isinstance(spec.default, tuple) else spec.default
    descriptor = ParameterDescriptor(
        name=spec.name,
        description=f"{spec.description} {_EFFECT[spec.when]}",
        additional_constraints=f"one of {', '.join(spec.choices)}" if spec.choices else "",
        read_only=spec.when == START,
        # an integer in a file for a float is welcome; rclpy would refuse it as a change of type
        dynamic_typing=isinstance(sample, float),
    )
    if spec.minimum is None or spec.maximum is None:
        return descriptor
    if isinstance(sample, float):
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(spec.minimum), to_value=float(spec.maximum))
        ]
    elif isinstance(sample, int):
        descriptor.integer_range = [
            IntegerRange(from_value=int(spec.minimum), to_value=int(spec.maximum), step=1)
        ]
    return descriptor


def read(node: Node, cls: type[Settings]) -> Settings:
    """The parameters as they stand on the node."""
    return build(cls, {spec.name: node.get_parameter(spec.name).value for spec in specs(cls)})


def guard_changes(
    node: Node, cls: type[Any], is_configured: Callable[[], bool], on_live: Callable[[Any], None]
) -> None:
    """Refuse changes that would not take effect; hand the others to ``on_live`` as one settings object."""
    from rcl_interfaces.msg import SetParametersResult

    by_name = {spec.name: spec for spec in specs(cls)}

    def check(changes: list[Any]) -> Any:
        mine = {p.name: p.value for p in changes if p.name in by_name}
        try:
            for name, value in mine.items():
                by_name[name].coerce(value)
            late = [n for n in mine if by_name[n].when == CONFIGURE] if is_configured() else []
            if late:
                raise ParameterFault(
                    f"parameter '{late[0]}' takes effect at configure: deactivate and clean up first"
                )
            if mine:
                now = {name: node.get_parameter(name).value for name in by_name}
                on_live(build(cls, now | mine))
        except ParameterFault as fault:
            return SetParametersResult(successful=False, reason=str(fault))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(check)
