"""Runs a study of tracking: its units, each kept as a line of JSON, and its page of results.

A study names its units by plain keys that tell all that a result follows from; a rerun goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, ClassVar

import numpy as np
import tyro

import end2reg_ros
from benchmarks.paper.suites import procedural_individuals
from benchmarks.tracking_study.setup import FIRST_SEED, Methods, MethodSettings
from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.case.model import Case
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation.host import environment
from end2reg_ros.evaluation.plot_style import save_png, styled
from end2reg_ros.evaluation.tables import finite

RESULTS = Path(__file__).resolve().parent.parent / "results" / "tracking"
MEASURED = ("case", "cloud", "engine", "evaluation", "registration", "simulation", "tracking")
# What of a key is told in the log.
NAMED = ("case", "method", "source", "arm", "scenario", "seed", "value", "tilt_deg", "roll_deg")
Unit = tuple[dict[str, Any], Callable[[], dict[str, Any]]]
"""What a piece of work is, and the work: its result ready for JSON, with a ``note`` for the log."""
Line = Mapping[str, Any]
"""A finished unit: key, code, engine, seconds, load, result."""


@dataclass(frozen=True)
class Report:
    """What a study found.

    Attributes:
        summary: plain values for JSON; ``text``: lines of Markdown.
        pictures: name -> matplotlib figure.
        good: nothing was published that must not be.
    """

    title: str
    summary: Mapping[str, Any]
    text: Sequence[str]
    notes: Sequence[str] = ()
    pictures: Mapping[str, Any] = field(default_factory=dict)
    good: bool = True


@dataclass(frozen=True)
class Study:
    """Options that all studies share."""

    name: ClassVar[str]
    work: Path
    """Folder of the finished units; what is there is not run again."""
    out: Path = RESULTS
    """Folder of the summary and the pictures."""
    cases: tuple[Path, ...] = ()
    """Case folders. Without any, and without procedural ones: the bundled case."""
    procedural: int = 0
    """So many procedural individuals that no training has seen, made in the work folder."""
    seeds: str = "0-3"
    """Seeds, as in 0-3 or 0,2,7-9; sequences are drawn from 900000 + seed."""
    limit: int | None = None
    """Only the first units."""
    suffix: str = ""
    """Added to the names of the files in --out."""
    method: Annotated[MethodSettings, tyro.conf.arg(name="")] = field(default_factory=MethodSettings)

    def units(self, cases: Iterable[Case], methods: Methods) -> Iterator[Unit]:
        """All units, in order."""
        raise NotImplementedError

    def report(self, lines: Sequence[Line]) -> Report:
        """What the finished units tell; at least one."""
        raise NotImplementedError

    def lines(self) -> list[Line]:
        """All finished units; those that are missing are run."""
        methods = Methods(self.method)
        return self.kept().run(list(self.units(self.case_folders(), methods))[: self.limit], methods)

    def kept(self) -> Kept:
        """The units that are there."""
        return Kept(self.work / f"{self.name}.jsonl", code_hash())

    def seed_numbers(self) -> tuple[int, ...]:
        """Seeds of the simulation."""
        return tuple(FIRST_SEED + seed for seed in parse_seeds(self.seeds))

    def case_folders(self) -> list[Case]:
        """The cases, procedural ones made where they are missing."""
        made = procedural_individuals(self.work / "cases", self.procedural, 1)
        paths = [*self.cases, *(individual.case for individual in made)]
        return [load_case(path) for path in paths or [bundled_case_path()]]


@styled
def run_study(study: Study) -> int:
    """Run what is missing, write NAME.json, NAME.md and pictures; 1 where something was published that must not be.

    Raises:
        End2RegError: nothing was asked for, or a unit cannot be run.
    """
    lines = study.lines()
    if not lines:
        raise End2RegError("no units: nothing was asked for")
    report = study.report(lines)
    name = study.name + study.suffix
    about = made_with(lines, sys.argv[1:])
    pictures = [
        save_png(figure, study.out / f"{name}_{what}.png") for what, figure in report.pictures.items()
    ]
    document = finite({"title": report.title, **about, "notes": list(report.notes), **report.summary})
    study.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, allow_nan=False)
    (study.out / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    page = "\n".join(page_lines(report, about, pictures)) + "\n"
    (study.out / f"{name}.md").write_text(page, encoding="utf-8")
    print(page, end="")
    return 0 if report.good else 1


class Kept:
    """Finished units in a file, one JSON line each. A line cut off at the end is left out.

    Raises:
        End2RegError: the file cannot be read, or holds other things.
    """

    def __init__(self, path: Path, code: str) -> None:
        """``code``: version of the code that is kept with each new unit."""
        self.path, self.code = path, code
        self._done: dict[str, Line] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        for number, line in enumerate(text.splitlines(), 1):
            try:
                unit = json.loads(line)
                self._done[identity(unit["key"])] = unit
            except (ValueError, KeyError, TypeError) as error:
                if number < len(text.splitlines()):
                    raise End2RegError(f"{path}: line {number} is no finished unit ({error})") from error
        if text and not text.endswith("\n"):
            path.write_text("".join(map(_line, self._done.values())), encoding="utf-8")

    def lines(self) -> list[Line]:
        """All of them, in the order in which they were finished."""
        return list(self._done.values())

    def run(self, units: Sequence[Unit], methods: Methods | None = None) -> list[Line]:
        """Lines of some units, in their order; what is there is not run again. ``methods`` tell what ran the network."""
        log = logging.getLogger(__name__)
        for number, (key, work) in enumerate(units, 1):
            if identity(key) in self._done:
                continue
            clock = perf_counter()
            result = finite(work())
            unit = {
                "key": key, "code": self.code, "engine": methods.engine_text if methods else "",
                "seconds": round(perf_counter() - clock, 2),
                "load": round(os.getloadavg()[0], 1),  # whether other work has slowed this down
                "result": result,
            }  # fmt: skip
            line = _line(unit)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
            self._done[identity(key)] = json.loads(line)  # as a rerun reads it
            name = " ".join(str(key[each]) for each in NAMED if each in key)
            note = result.get("note", "done")
            log.info("%d/%d %s: %s (%.0f s)", number, len(units), name, note, unit["seconds"])
        return [self._done[identity(key)] for key, _ in units]


def identity(key: Mapping[str, Any]) -> str:
    """Equal text for equal keys."""
    return json.dumps(key, sort_keys=True)


def _line(unit: Line) -> str:
    return json.dumps(unit, allow_nan=False, separators=(",", ":")) + "\n"


def code_hash() -> str:
    """12 digits over the sources that a measurement follows from."""
    package = Path(end2reg_ros.__file__).parent
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


def made_with(lines: Sequence[Line], command: Sequence[str]) -> dict[str, Any]:
    """What the results of some units were made with.

    Args:
        command: words as typed; of paths only the last part is kept, the rest is somebody's machine.
    """
    keys, codes = [line["key"] for line in lines], [line["code"] for line in lines]
    loads = [line["load"] for line in lines]
    return {
        "command": " ".join(Path(word).name if "/" in word else word for word in command),
        "environment": environment(),
        "engine": next((line["engine"] for line in reversed(lines) if line["engine"]), ""),
        "weights_sha256": sorted({key["weights"] for key in keys if "weights" in key}),
        "code_sha256": {code: codes.count(code) for code in dict.fromkeys(codes)},
        "cases": {key["case"]: key["case_hash"] for key in keys if "case" in key},
        "seeds": sorted({key["seed"] for key in keys if "seed" in key}),
        "units": len(lines),
        "seconds": round(sum(line["seconds"] for line in lines), 1),
        "load": {"median": float(np.median(loads)), "max": max(loads)},
    }


def page_lines(report: Report, about: Mapping[str, Any], pictures: Sequence[Path]) -> list[str]:
    """The Markdown page."""
    host, load = about["environment"], about["load"]
    engine = f", {about['engine']}" if about["engine"] else ""
    lines = [
        f"# {report.title}",
        "",
        f"`{about['command']}`",
        "",
        f"- {host['processor']}, {host['cpus']} cores, {host['system']}{engine}; simulated unless said.",
        f"- {about['units']} units; cases {', '.join(about['cases'])}; seeds {ranges(about['seeds'])}.",
        f"- Load of the machine {load['median']:.1f} (median over the units), {load['max']:.1f} at most.",
        *(f"- {note}" for note in report.notes),
        "",
        *report.text,
    ]
    for path in pictures:
        lines += ["", f"![{path.stem}]({path.name})"]
    return lines


def ranges(numbers: Sequence[int]) -> str:
    """``0-3, 7``; a dash for none."""
    spans: list[list[int]] = []
    for value in sorted(numbers):
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in spans) or "–"


def grouped(lines: Sequence[Line], *names: str) -> dict[tuple[Any, ...], list[Line]]:
    """Units that share what ``names`` say of their keys, in order."""
    groups: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        groups.setdefault(tuple(line["key"][name] for name in names), []).append(line)
    return groups
