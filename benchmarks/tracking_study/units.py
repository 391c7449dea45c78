"""Long measurements in units: a line of JSON for each finished one, so that a rerun goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import end2reg_ros
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation.tables import finite

# What of a key is told in the log.
NAMED = ("kind", "case", "method", "source", "arm", "scenario", "seed", "value", "tilt_deg", "roll_deg")
MEASURED = ("case", "cloud", "engine", "evaluation", "registration", "simulation", "tracking")


@dataclass(frozen=True)
class Unit:
    """One piece of work.

    Attributes:
        key: what it is, and all that its result follows from; plain values.
        work: gives its result, ready for JSON; ``note`` in it is told in the log.
    """

    key: Mapping[str, Any]
    work: Callable[[], dict[str, Any]]


class UnitStore:
    """Finished units in a file, one JSON line each: key, code, seconds, load, result. A line cut off at the end is left out.

    Raises:
        End2RegError: the file cannot be read, or holds other things.
    """

    def __init__(self, path: Path, code: str, same_code: bool = False) -> None:
        """``same_code``: units that were made by another version of the code count as missing."""
        self.path, self.code, self.same_code = path, code, same_code
        self._done: dict[str, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            self._read()

    def _read(self) -> None:
        text = self.path.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            try:
                unit = json.loads(line)
                self._done[identity(unit["key"])] = unit
            except (ValueError, KeyError, TypeError) as error:
                if number == len(text.splitlines()):
                    break
                raise End2RegError(f"{self.path}: line {number} is no finished unit ({error})") from error
        if text and not text.endswith("\n"):
            self._rewrite()

    def _rewrite(self) -> None:
        lines = [json.dumps(unit, separators=(",", ":")) + "\n" for unit in self._done.values()]
        self.path.write_text("".join(lines), encoding="utf-8")

    def get(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The line of a finished unit."""
        line = self._done.get(identity(key))
        return line if line is not None and self._counts(line) else None

    def _counts(self, line: Mapping[str, Any]) -> bool:
        return not self.same_code or line["code"] == self.code

    def lines(self) -> list[dict[str, Any]]:
        """All finished units, in the order in which they were finished."""
        return [line for line in self._done.values() if self._counts(line)]

    def add(self, key: Mapping[str, Any], seconds: float, result: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a finished unit; its line."""
        # The load tells whether other work has slowed this down.
        load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0
        told = {"code": self.code, "seconds": round(seconds, 2), "load": load}
        unit = {"key": dict(key), **told, "result": finite(result)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(unit, allow_nan=False, separators=(",", ":")) + "\n")
        self._done[identity(key)] = unit
        return unit


def identity(key: Mapping[str, Any]) -> str:
    """The same text for equal keys."""
    return json.dumps(key, sort_keys=True)


def run_units(store: UnitStore, units: Iterable[Unit], limit: int | None = None) -> list[dict[str, Any]]:
    """Lines of all units, in their order; what is there is not run again.

    Args:
        limit: only so many units; None for all.
    """
    log = logging.getLogger(__name__)
    wanted = list(units)[:limit]
    lines, began, ran = [], perf_counter(), 0
    for number, unit in enumerate(wanted, 1):
        line = store.get(unit.key)
        if line is None:
            clock = perf_counter()
            result = unit.work()
            line = store.add(unit.key, perf_counter() - clock, result)
            ran += 1
            left = sum(store.get(other.key) is None for other in wanted[number:])
            rest_min = left * (perf_counter() - began) / ran / 60
            name = " ".join(str(unit.key[each]) for each in NAMED if each in unit.key)
            log.info(
                "%d/%d %s: %s (%.0f s, %.0f min left)", number, len(wanted), name, result.get("note", "done"),
                line["seconds"], rest_min,
            )  # fmt: skip
        lines.append(line)
    codes = {line["code"] for line in lines}
    if len(codes) > 1:
        log.warning("%d units were made by %d versions of the code", len(lines), len(codes))
    return lines


def code_hash(root: Path | None = None) -> str:
    """12 digits over the sources that a measurement follows from."""
    package = root or Path(end2reg_ros.__file__).parent
    digest = hashlib.sha256()
    inside = [path for folder in MEASURED for path in sorted((package / folder).rglob("*.py"))]
    for path in [*sorted(package.glob("*.py")), *inside]:  # frame.py, a cloud's way, lies at the root
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds as in ``0-3`` or ``0,2,7-9``.

    Raises:
        End2RegError: anything else.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise End2RegError(f"seeds '{text}': write them as in 0-3 or 0,2,7-9")
        found += range(int(first), int(last if dash else first) + 1)
    return tuple(dict.fromkeys(found))


def codes_of(lines: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Version of the code -> units that were made by it."""
    codes = [str(line["code"]) for line in lines]
    return {code: codes.count(code) for code in dict.fromkeys(codes)}
