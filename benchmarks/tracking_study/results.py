"""What of a measurement is kept beside the code: a summary with host, versions, hashes, seeds and command."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tracking_study.units import codes_of
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation.host import environment
from end2reg_ros.evaluation.tables import finite

MOST_BYTES = 300_000


@dataclass(frozen=True)
class Results:
    """A finished measurement.

    Attributes:
        name: of its files; ``title`` of its page.
        summary: plain values; ``lines`` of Markdown.
        pictures: PNG files in the same folder.
        units: that it was made of; ``engine_text``: what ran the network.
        good: nothing was published that must not be.
    """

    name: str
    title: str
    summary: Mapping[str, Any]
    lines: Sequence[str]
    notes: Sequence[str] = ()
    pictures: Sequence[Path] = ()
    units: Sequence[Mapping[str, Any]] = ()
    engine_text: str = ""
    good: bool = True


def about(results: Results, command: Sequence[str]) -> dict[str, Any]:
    """What the results were made with; of at least one unit.

    Args:
        command: words as typed; of paths only the last part is kept, the rest is somebody's machine.
    """
    units = results.units
    cases = {unit["key"]["case"]: unit["key"]["case_hash"] for unit in units if "case" in unit["key"]}
    seeds = sorted({unit["key"]["seed"] for unit in units if "seed" in unit["key"]})
    weights = sorted({unit["key"]["weights"] for unit in units if "weights" in unit["key"]})
    loads = [unit["load"] for unit in units]
    return {
        "command": " ".join(shown(word) for word in command),
        "environment": environment(),
        "engine": results.engine_text,
        "weights_sha256": weights,
        "code_sha256": codes_of(units),
        "cases": cases,
        "seeds": seeds,
        "units": len(units),
        "seconds": round(sum(unit["seconds"] for unit in units), 1),
        "load": {"median": float(np.median(loads)), "max": max(loads)},
    }


def shown(word: str) -> str:
    """A word of the command without folders."""
    return Path(word).name if "/" in word else word


def write_results(folder: Path, results: Results, command: Sequence[str]) -> tuple[Path, Path]:
    """Write NAME.json and NAME.md; their paths. ``command`` as in ``about``.

    Raises:
        End2RegError: the summary is larger than what should be kept beside the code.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made_with = about(results, command)
    plain = finite({"title": results.title, **made_with, "notes": list(results.notes), **results.summary})
    text = json.dumps(plain, indent=1, allow_nan=False) + "\n"
    if len(text) > MOST_BYTES:
        text = json.dumps(plain, allow_nan=False, separators=(",", ":")) + "\n"
    if len(text) > MOST_BYTES:
        raise End2RegError(
            f"{results.name}: a summary of {len(text) // 1000} kB, at most {MOST_BYTES // 1000}"
        )
    paths = folder / f"{results.name}.json", folder / f"{results.name}.md"
    paths[0].write_text(text, encoding="utf-8")
    paths[1].write_text("\n".join(page(results, made_with)) + "\n", encoding="utf-8")
    return paths


def page(results: Results, made_with: Mapping[str, Any]) -> list[str]:
    """The Markdown page."""
    host = made_with["environment"]
    engine = f", {made_with['engine']}" if made_with["engine"] else ""
    seeds = made_with["seeds"]
    lines = [f"# {results.title}", "", f"`{made_with['command']}`", ""]
    lines += [
        f"- {host['processor']}, {host['cpus']} cores, {host['system']}{engine}; simulated unless said."
    ]
    lines += [f"- {made_with['units']} units; cases {', '.join(made_with['cases'])}; seeds {ranges(seeds)}."]
    load = made_with["load"]
    lines += [
        f"- Load of the machine {load['median']:.1f} (median over the units), {load['max']:.1f} at most."
    ]
    lines += [*(f"- {note}" for note in results.notes), "", *results.lines, ""]
    for path in results.pictures:
        lines += [f"![{path.stem}]({path.name})", ""]
    return lines[:-1]


def ranges(numbers: Sequence[int]) -> str:
    """``0-3, 7``; a dash for none."""
    spans: list[list[int]] = []
    for value in sorted(numbers):
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in spans) or "–"
